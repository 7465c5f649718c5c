// The timers of one connection: a set of instants and the earliest of them. Nothing here runs by itself.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "libtto/base/time.hh"

namespace tto::tcp {

enum class Timer : uint8_t {
  kRetransmit,  // RFC 6298; SYN and FIN too
  kTailProbe,   // RFC 8985 §7
  kReordering,  // RFC 8985 §6: what is late becomes lost
  kPersist,     // the window keeps us from sending and nothing is in flight (RFC 9293 §3.8.6.1)
  kDelayedAck,
  kCork,  // TCP_CORK and MSG_MORE hold a partial segment this long
  kKeepalive,
  kLastState,  // FIN-WAIT-2 of an orphan, TIME-WAIT
  kCount,
};

class Deadlines {
 public:
  Deadlines() { at_.fill(kNever); }

  void set(Timer timer, Instant at) { at_[index(timer)] = at; }
  void clear(Timer timer) { at_[index(timer)] = kNever; }
  void clear_all() { at_.fill(kNever); }
  bool is_set(Timer timer) const { return at_[index(timer)] != kNever; }
  Instant at(Timer timer) const { return at_[index(timer)]; }
  /// True once when `timer` has run out; it is cleared by that.
  bool take_expired(Timer timer, Instant now) {
    if (at_[index(timer)] > now) return false;
    clear(timer);
    return true;
  }
  Instant earliest() const {
    Instant first = at_[0];
    for (size_t i = 1; i < at_.size(); ++i)
      if (at_[i] < first) first = at_[i];
    return first;
  }

 private:
  static constexpr size_t index(Timer timer) { return static_cast<size_t>(timer); }
  std::array<Instant, static_cast<size_t>(Timer::kCount)> at_;
};

}  // namespace tto::tcp
