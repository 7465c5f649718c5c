// Reno's congestion avoidance and reduction (RFC 5681 §3.1), in bytes.
#pragma once

#include <algorithm>
#include <cstdint>

namespace tto::tcp {

class Reno {
 public:
  /// Bytes to add to cwnd for `acked_bytes` acknowledged: one SMSS per window acknowledged.
  uint32_t increase(uint32_t acked_bytes, uint32_t cwnd_bytes, uint32_t mss_bytes) {
    acked_ += acked_bytes;
    if (acked_ < cwnd_bytes) return 0;
    acked_ -= cwnd_bytes;
    return mss_bytes;
  }
  /// ssthresh after a loss with `flight_bytes` outstanding.
  static uint32_t reduced(uint32_t flight_bytes, uint32_t mss_bytes) {
    return std::max(flight_bytes / 2, 2 * mss_bytes);
  }
  void reset() { acked_ = 0; }

 private:
  uint64_t acked_ = 0;
};

}  // namespace tto::tcp
