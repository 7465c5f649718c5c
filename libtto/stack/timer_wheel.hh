// Deadlines of connections: a hierarchical wheel of intrusive lists. Arming, re-arming and cancelling are O(1); nothing is
// allocated; no clock is read.
//
// Level k has 64 places of 2^(17+6k) ns: 131 µs, 8.4 ms, 537 ms, 34 s, 37 min. A timer never fires early and fires in the
// first expire() after its time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "libtto/base/intrusive_list.hh"
#include "libtto/base/time.hh"
#include "libtto/socket/stream_socket.hh"

namespace tto::stack {

class TimerWheel {
 public:
  using Timer = socket::SocketTimer;

  explicit TimerWheel(Instant now) : tick_(tick_of(now)) {}

  /// Sets or moves it; kNever cancels.
  void arm(Timer& timer, Instant at);
  void cancel(Timer& timer);
  /// Takes the next timer that is due, null if there is none; the caller asks until then, or until it had enough.
  Timer* take_expired(Instant now);
  /// No timer fires before; it may be earlier than the first one's time, and then moves on with the next expiry.
  Instant next() const;

 private:
  static constexpr int kTickBits = 17, kPlaceBits = 6, kLevels = 5;
  static constexpr uint64_t kPlaces = 1u << kPlaceBits;
  static constexpr uint64_t tick_of(Instant at) { return static_cast<uint64_t>(at.ns) >> kTickBits; }

  void place(Timer& timer);
  Timer* take_due(Instant now);
  void advance(uint64_t to);
  void cascade(int level);

  IntrusiveList lists_[kLevels][kPlaces];
  uint64_t occupied_[kLevels] = {};
  uint64_t tick_;
};

}  // namespace tto::stack
