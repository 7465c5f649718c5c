// CUBIC (RFC 9438): the window grows as a cubic of the time since the last reduction. Windows are in segments here, as
// in the RFC's formulas; congestion.hh converts.
#pragma once

#include <cstdint>

#include "libtto/base/time.hh"

namespace tto::tcp {

class Cubic {
 public:
  static constexpr double kBeta = 0.7;
  static constexpr double kC = 0.4;

  /// New cwnd in segments after `acked` segments were acknowledged in congestion avoidance (§4.2–4.5).
  double on_ack(double acked, double cwnd, Duration srtt, Instant now);
  /// ssthresh in segments after a loss at `flight` segments outstanding (§4.6, §4.7 fast convergence).
  double on_loss(double flight, double cwnd);
  /// §4.8: the epoch begins anew with the next congestion avoidance.
  void on_timeout();
  /// §4.9 and R73: time without sending is not part of the epoch.
  void on_idle(Duration idle);

  double w_max() const { return w_max_; }
  double k() const { return k_; }

 private:
  void begin_epoch(double cwnd, Instant now);

  double w_max_ = 0;
  double k_ = 0;
  double w_est_ = 0;       // what Reno would have (§4.3)
  double cwnd_prior_ = 0;  // at the last reduction
  Instant epoch_start_{};
  bool in_epoch_ = false;
};

}  // namespace tto::tcp
