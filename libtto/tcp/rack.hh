// RACK (RFC 8985 §6): what was sent before something that has been delivered, and longer ago than a round trip and a
// tolerance for reordering, is lost. Resent bytes are judged by the time of their last copy, so that a lost
// retransmission is found too.
#pragma once

#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/base/time.hh"
#include "libtto/tcp/send_log.hh"

namespace tto::tcp {

class Rack {
 public:
  /// What an acknowledgement tells about time.
  struct Clock {
    Instant now{};
    Instant echo_before = kNever;  // what it acknowledges was sent before this (its TSecr); kNever: it does not say
    Duration min_rtt{}, srtt{};
  };

  void init(StreamOffset first) {
    *this = Rack{};
    highest_ = highest_in_ack_ = first;
  }
  /// `part` of `record` was acknowledged or SACKed for the first time.
  void on_delivered(ByteRange part, const SendLog::Record& record, const Clock& clock);
  /// A D-SACK: something was resent for nothing. The tolerance grows, once per round trip.
  void on_duplicate(StreamOffset una, StreamOffset nxt);
  /// A recovery ended; after 16 without a D-SACK the tolerance shrinks back.
  void on_recovered();
  /// After a timeout nothing is known about what the peer holds.
  void forget_highest(StreamOffset una) { highest_ = highest_in_ack_ = una; }
  /// The acknowledgement is taken in. What it tells at once, cumulatively and by SACK, is not out of order.
  void on_ack_over() { highest_ = highest_in_ack_; }

  /// How long a segment may come late. `is_certain`: in recovery, or as many segments SACKed as make a loss.
  Duration tolerance(bool is_certain, const Clock& clock) const;
  /// The part of `part` that was sent before the newest delivery; empty: none.
  ByteRange sent_before_newest(ByteRange part, const SendLog::Record& record) const;
  /// When what `record` holds is lost, if it is still out then.
  Instant lost_at(const SendLog::Record& record, Duration tolerance) const { return record.last + rtt_ + tolerance; }

  bool has_seen_reordering() const { return has_seen_reordering_; }

 private:
  static constexpr uint8_t kRecoveriesKept = 16;
  static constexpr uint8_t kMostQuarters = 255;

  Instant newest_at_{INT64_MIN};  // RACK.xmit_ts: of what was delivered, the part sent last …
  StreamOffset newest_end_ = 0;   // RACK.end_seq
  StreamOffset highest_ = 0;      // RACK.fack, before this acknowledgement
  StreamOffset highest_in_ack_ = 0;
  StreamOffset round_end_ = 0;    // RACK.dsack_round
  Duration rtt_{};                // RACK.rtt: … took this long
  uint8_t quarters_ = 1;          // RACK.reo_wnd_mult, of min_RTT/4
  uint8_t recoveries_left_ = 0;
  bool has_seen_reordering_ = false;
};

}  // namespace tto::tcp
