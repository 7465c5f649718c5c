// The congestion window: acknowledgements and losses in, cwnd out, all in bytes (RFC 5681, RFC 9438). It knows nothing
// of sequence numbers; what is in flight and what was lost is recovery.hh's business.
#pragma once

#include <cstdint>

#include "libtto/base/time.hh"
#include "libtto/tcp/connection_config.hh"
#include "libtto/tcp/cubic.hh"
#include "libtto/tcp/reno.hh"

namespace tto::tcp {

struct AckEvent {
  uint32_t newly_acked_bytes = 0;
  Duration srtt{};
  bool is_cwnd_limited = false;  // cwnd, not the application or the peer's window, held us back (R62)
  Instant now{};
};

struct LossEvent {
  uint32_t flight_bytes = 0;  // outstanding when the loss was found
  bool is_timeout = false;
  Instant now{};
};

class Congestion {
 public:
  using Kind = ConnectionConfig::Congestion;
  static constexpr uint32_t kMaxWindowBytes = uint32_t{1} << 30;

  void init(Kind kind, uint32_t mss_bytes, uint32_t initial_window_bytes);
  /// New data was acknowledged outside fast recovery.
  void on_ack(const AckEvent& event);
  /// Once per loss event: lowers ssthresh; after a timeout cwnd is one segment, else the caller's recovery sets it.
  void on_loss(const LossEvent& event);
  /// The timer ran out again for the same loss event: only the window collapses (R38).
  void on_repeated_timeout() { cwnd_ = mss_; }
  /// Proportional rate reduction and the end of recovery set the window.
  void set_cwnd(uint64_t bytes);
  /// The last loss event was none: back to `before`, or beyond.
  void undo(const Congestion& before);
  /// Nothing was sent for `idle`. `restart_window_bytes` limits cwnd, 0: keep it (tcp_slow_start_after_idle off).
  void on_idle(Duration idle, uint32_t restart_window_bytes);
  void set_mss(uint32_t mss_bytes) { mss_ = mss_bytes; }

  uint32_t cwnd() const { return cwnd_; }
  uint32_t ssthresh() const { return ssthresh_; }
  bool is_slow_start() const { return cwnd_ < ssthresh_; }

 private:
  uint32_t cwnd_ = 0;
  uint32_t ssthresh_ = ~0u;
  uint32_t mss_ = 536;
  Kind kind_ = Kind::kCubic;
  Reno reno_;
  Cubic cubic_;
};

}  // namespace tto::tcp
