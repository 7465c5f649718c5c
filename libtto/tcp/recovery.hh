// Loss detection and recovery: which bytes are lost, what to resend next, how much is in the pipe.
//
// With SACK losses are found by time (RACK, RFC 8985 §6; DupThresh only ends its tolerance for reordering); without,
// duplicate acknowledgements stand for one segment each and the first unacknowledged segment is the lost one
// (RFC 6582). How much may be sent during fast recovery is proportional rate reduction (RFC 6937). After a timeout
// everything up to `recover` is lost and is resent as the window allows (RFC 5681 §3.1, RFC 6675 §5.1; what was SACKed
// is forgotten, so that reneging is survived).
//
// Limited transmit (RFC 3042) needs no code of its own: each duplicate acknowledgement takes a segment out of the pipe.
#pragma once

#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/base/range_set.hh"
#include "libtto/base/time.hh"
#include "libtto/tcp/rack.hh"
#include "libtto/tcp/sack_scoreboard.hh"
#include "libtto/tcp/send_log.hh"
#include "libtto/wire/tcp_options.hh"

namespace tto::tcp {

class Recovery {
 public:
  enum class Phase : uint8_t { kOpen, kFast, kTimeout };

  /// What one acknowledgement did; see on_ack.
  struct Acked {
    StreamOffset una_before = 0;
    StreamOffset una = 0;
    StreamOffset nxt = 0;
    uint64_t newly_sacked_bytes = 0;
    uint32_t duplicates = 0;  // duplicate acknowledgements it stands for (R63)
    uint32_t mss_bytes = 0;
    Rack::Clock clock;
  };
  enum class Change : uint8_t { kNone, kEnteredFast, kLeftFast, kLeftTimeout };
  struct Outcome {
    Change change = Change::kNone;
    uint64_t delivered_bytes = 0;  // what left the network: acknowledged or SACKed for the first time
  };
  struct SackNews {
    uint64_t bytes = 0;   // SACKed for the first time
    ByteRange duplicate;  // D-SACK: arrived twice (RFC 2883); empty: none
  };

  void init(StreamOffset iss, bool sack);
  /// Takes the blocks that lie in (una, nxt]; others and reversed ones are ignored. `ack` is the segment's own.
  SackNews on_sack_blocks(const wire::TcpOptions& options, StreamOffset una, StreamOffset nxt,
                          const Rack::Clock& clock);
  /// After snd.una moved (or did not). kEnteredFast: the caller lowers ssthresh and calls begin_rate_reduction.
  Outcome on_ack(const Acked& acked);
  /// Looks again for what is lost by now, when lost_check_at() has passed. kEnteredFast as above.
  Change on_lost_check(StreamOffset una, StreamOffset nxt, uint32_t mss_bytes, const Rack::Clock& clock);
  /// When what is late, but not late enough, must be looked at again; kNever: nothing is.
  Instant lost_check_at() const { return lost_check_at_; }
  /// The retransmission timer ran out: everything below `nxt` is lost.
  void on_timeout(StreamOffset una, StreamOffset nxt);
  /// The path's MTU fell: what is in flight must go again in smaller pieces; not a sign of congestion (R79).
  void on_path_mtu(StreamOffset una, StreamOffset nxt) { on_timeout(una, nxt); }
  /// A segment larger than the path takes was lost: it goes again, and the window stays.
  void resend_only(ByteRange range, StreamOffset nxt);
  /// Nothing was lost after all.
  void undo();
  /// New data was sent; what is sent within `grain` of each other counts as sent together.
  void on_sent(ByteRange range, Instant now, Duration grain);
  /// `range` was resent.
  void on_retransmitted(ByteRange range, Instant now);

  /// The first retransmission of a recovery goes out whatever the rate.
  void begin_rate_reduction(uint64_t flight_bytes, uint32_t ssthresh_bytes);
  /// The window for now (fast recovery only); `delivered` is what this acknowledgement took out of the network.
  uint64_t reduced_window(uint64_t pipe_bytes, uint64_t delivered_bytes, uint32_t mss_bytes);

  /// Bytes believed to be in the network (RFC 6675 SetPipe).
  uint64_t pipe(StreamOffset una, StreamOffset nxt) const;
  /// What to resend next, at most one hole; empty: nothing.
  ByteRange next_retransmission(StreamOffset una, StreamOffset nxt) const;

  Phase phase() const { return phase_; }
  bool is_open() const { return phase_ == Phase::kOpen; }
  uint32_t duplicate_acks() const { return duplicate_acks_; }
  StreamOffset recover() const { return recover_; }
  const SackScoreboard& scoreboard() const { return scoreboard_; }
  const Rack& rack() const { return rack_; }

 private:
  // Islands that a scoreboard can hold, the gaps between them, and what resending cuts off.
  static constexpr uint32_t kMaxLostRanges = SackScoreboard::kMaxRanges + 4;

  void deliver(ByteRange range, const Rack::Clock& clock);
  void mark_lost(ByteRange range);
  void unmark_lost(ByteRange range);
  void detect_late(StreamOffset una, StreamOffset nxt, uint32_t mss_bytes, const Rack::Clock& clock);
  void find_lost(const Acked& acked);
  uint64_t advance(const Acked& acked);
  Outcome take_ack(const Acked& acked);
  Change detect_loss(const Acked& acked);
  Change enter_fast(StreamOffset una, StreamOffset nxt);

  SackScoreboard scoreboard_;
  SendLog log_;
  Rack rack_;
  RangeSet<kMaxLostRanges> lost_;  // and not resent since
  StreamOffset recover_ = 0;       // snd.nxt when the loss was found
  StreamOffset high_rxt_ = 0;      // without SACK: resent up to here in this recovery
  Instant lost_check_at_ = kNever;
  uint64_t emulated_sacked_ = 0;  // without SACK: what duplicate acknowledgements stand for
  uint64_t prr_delivered_ = 0, prr_out_ = 0, recover_fs_ = 0;
  uint32_t ssthresh_ = 0;
  uint32_t duplicate_acks_ = 0;
  Phase phase_ = Phase::kOpen;
  bool sack_ = false;
  bool retransmission_owed_ = false;
};

}  // namespace tto::tcp
