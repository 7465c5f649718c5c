// When to acknowledge received data (RFC 9293 §3.8.6.3, RFC 5681 §4.2): at once for the first segments and whatever
// tells the sender of loss, else at every second full-sized segment or after the delay. Merged segments count one by
// one.
#pragma once

#include <algorithm>
#include <cstdint>

#include "libtto/base/time.hh"

namespace tto::tcp {

class AckPolicy {
 public:
  static constexpr uint32_t kQuickAcks = 16;

  /// In-order payload arrived. True: acknowledge at once; false: after the delay.
  bool on_data(uint32_t bytes, uint32_t segments, uint32_t largest_bytes, bool push, Duration rto, Instant now) {
    learn_full_size(largest_bytes, push);
    if (now - last_data_at_ > rto) quick_acks_ = kQuickAcks;  // a new burst: let the sender's window open fast
    last_data_at_ = now;
    pending_bytes_ += bytes;
    if (!is_interactive_ && quick_acks_ > 0) {
      quick_acks_ -= std::min(quick_acks_, segments);
      return true;
    }
    return has_two_full();
  }
  /// What RFC 5681 §4.2 wants acknowledged, whatever else is said.
  bool has_two_full() const { return pending_bytes_ >= 2 * uint64_t{full_bytes_}; }
  void on_ack_sent() { pending_bytes_ = 0; }
  /// We answer soon after we are asked: acknowledgements ride on the answers.
  void on_data_sent(Duration delay, Instant now) {
    if (now - last_data_at_ < delay) is_interactive_ = true;
  }
  /// The delay ran out: no answer came to ride on.
  void on_delay_expired() { is_interactive_ = false; }
  bool has_pending() const { return pending_bytes_ != 0; }

 private:
  // The sender's full size is the largest seen; two equal unpushed segments show that it became smaller.
  void learn_full_size(uint32_t largest, bool push) {
    if (largest >= full_bytes_) {
      full_bytes_ = largest;
    } else if (!push && largest >= kMinFullBytes && largest == last_largest_) {
      full_bytes_ = largest;
    }
    last_largest_ = largest;
  }

  static constexpr uint32_t kMinFullBytes = 500;
  Instant last_data_at_{INT64_MIN / 2};
  uint64_t pending_bytes_ = 0;
  uint32_t full_bytes_ = kMinFullBytes;
  uint32_t last_largest_ = 0;
  uint32_t quick_acks_ = kQuickAcks;
  bool is_interactive_ = false;
};

}  // namespace tto::tcp
