// Round-trip time and retransmission timeout (RFC 6298). Samples come from segments sent once, or from timestamps
// (Karn).
#pragma once

#include <algorithm>
#include <cstdint>

#include "libtto/base/time.hh"

namespace tto::tcp {

class RttEstimator {
 public:
  static constexpr Duration kInitialRto = seconds(1);
  static constexpr Duration kAfterSynLossRto = seconds(3);  // RFC 6298 5.7
  static constexpr Duration kMaxRto = seconds(120);
  static constexpr Duration kGranularity = milliseconds(1);

  void init(Duration min_rto) {
    *this = RttEstimator{};
    min_rto_ = min_rto;
  }

  /// A valid sample; ends any backoff (5.7's note: it is kept until here).
  void on_sample(Duration r) {
    if (r < nanoseconds(1)) r = nanoseconds(1);
    if (!has_sample_) {
      srtt_ = r;
      rttvar_ = r / 2;
      has_sample_ = true;
    } else {
      const Duration difference = r < srtt_ ? srtt_ - r : r - srtt_;
      rttvar_ = rttvar_ + (difference - rttvar_) / 4;  // before SRTT: it uses the old one
      srtt_ = srtt_ + (r - srtt_) / 8;
    }
    base_ = std::clamp(srtt_ + std::max(kGranularity, rttvar_ * 4), min_rto_, kMaxRto);
    backoff_ = 0;
  }

  void on_timeout() {
    if (backoff_ < 31) ++backoff_;
  }
  /// Data transmission begins after a SYN was lost.
  void restart_after_syn_loss() {
    if (!has_sample_) base_ = kAfterSynLossRto;
    backoff_ = 0;
  }
  /// The peer is alive (it answered a probe): begin the backoff anew without a sample.
  void clear_backoff() { backoff_ = 0; }

  Duration rto() const { return backed_off(backoff_); }
  /// The timeout after `doublings` doublings, at most kMaxRto.
  Duration backed_off(uint32_t doublings) const {
    Duration d = base_;
    for (uint32_t i = 0; i < doublings && d < kMaxRto; ++i) d = d * 2;
    return std::min(d, kMaxRto);
  }
  /// The least of the last minutes, as our own clock measures it.
  void on_clocked_sample(Duration r, Instant now) {
    on_sample(r);
    if (now - window_since_ > kMinWindow / 2) {
      previous_min_ = window_min_;
      window_min_ = r;
      window_since_ = now;
    }
    window_min_ = std::min(window_min_, r);
  }
  Duration min_rtt() const {
    const Duration least = std::min(window_min_, previous_min_);
    return least == kNone ? srtt_ : least;
  }
  Duration srtt() const { return srtt_; }
  Duration rttvar() const { return rttvar_; }
  bool has_sample() const { return has_sample_; }
  uint32_t backoff() const { return backoff_; }

 private:
  static constexpr Duration kMinWindow = seconds(300);
  static constexpr Duration kNone{INT64_MAX};
  Duration window_min_ = kNone, previous_min_ = kNone;
  Instant window_since_{INT64_MIN / 2};
  Duration srtt_{};
  Duration rttvar_{};
  Duration base_ = kInitialRto;
  Duration min_rto_ = milliseconds(200);
  uint32_t backoff_ = 0;
  bool has_sample_ = false;
};

}  // namespace tto::tcp
