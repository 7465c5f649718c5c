// Tail loss probe (RFC 8985 §7): when the end of a flight stays unacknowledged, one segment is sent early, so that the
// answer shows a loss that fast recovery can mend before the retransmission timer runs out. One probe at a time; after
// it only that timer is left.
#pragma once

#include <algorithm>
#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/base/time.hh"

namespace tto::tcp {

class TailProbe {
 public:
  enum class Verdict : uint8_t {
    kNone,      // no probe is out, or no news of it
    kOver,      // it was not needed, or it was new data
    kRepaired,  // the resent segment filled a hole: the loss counts as congestion
  };

  /// How long to wait (PTO). `max_ack_delay` counts when one segment is all there is, since its answer may be delayed.
  static Duration timeout(bool has_sample, Duration srtt, bool is_single, Duration max_ack_delay) {
    if (!has_sample) return seconds(1);
    return std::max(srtt * 2 + (is_single ? max_ack_delay : Duration{}), milliseconds(2));
  }

  bool is_out() const { return end_ != 0; }
  void on_sent(StreamOffset nxt, bool is_resend) {
    end_ = nxt;
    is_resend_ = is_resend;
  }
  /// `duplicate`: the acknowledgement's D-SACK. `is_bare_duplicate`: it moved nothing and SACKed nothing.
  Verdict on_ack(StreamOffset ack, ByteRange duplicate, bool is_bare_duplicate) {
    if (end_ == 0 || ack < end_) return Verdict::kNone;
    const bool needless =
        !is_resend_ || (!duplicate.empty() && duplicate.end == end_) || (ack == end_ && is_bare_duplicate);
    if (needless) {
      end_ = 0;
      return Verdict::kOver;
    }
    // Exactly at its end both copies look alike: a D-SACK or a duplicate may still come.
    if (ack == end_) return Verdict::kNone;
    end_ = 0;
    return Verdict::kRepaired;
  }
  void clear() { end_ = 0; }

 private:
  StreamOffset end_ = 0;  // TLP.end_seq: snd.nxt when it was sent; 0: none is out
  bool is_resend_ = false;
};

}  // namespace tto::tcp
