// Loss detection and recovery: which bytes are lost, what to resend next, how much is in the pipe.
//
// One model for both kinds of peer. With SACK it is RFC 6675; without, duplicate acknowledgements stand for one segment
// each and the first unacknowledged segment is the lost one (RFC 6582). How much may be sent during fast recovery is
// proportional rate reduction (RFC 6937). After a timeout everything up to `recover` is lost and is resent as the
// window allows (RFC 5681 §3.1, RFC 6675 §5.1; what was SACKed is forgotten, so that reneging is survived).
//
// Limited transmit (RFC 3042) needs no code of its own: each duplicate acknowledgement takes a segment out of the pipe.
#pragma once

#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/tcp/sack_scoreboard.hh"
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
  };
  enum class Change : uint8_t { kNone, kEnteredFast, kLeftFast, kLeftTimeout };
  struct Outcome {
    Change change = Change::kNone;
    uint64_t delivered_bytes = 0;  // what left the network: acknowledged or SACKed for the first time
  };

  void init(StreamOffset iss, bool sack);
  /// Takes the blocks that lie in (una, nxt]; others, reversed and D-SACK ones, are ignored. Returns the bytes that are
  /// news.
  uint64_t on_sack_blocks(const wire::TcpOptions& options, StreamOffset una, StreamOffset nxt);
  /// After snd.una moved (or did not). kEnteredFast: the caller lowers ssthresh and calls begin_rate_reduction.
  Outcome on_ack(const Acked& acked);
  /// The retransmission timer ran out: everything below `nxt` is lost.
  void on_timeout(StreamOffset una, StreamOffset nxt);
  /// The path's MTU fell: what is in flight must go again in smaller pieces; not a sign of congestion (R79).
  void on_path_mtu(StreamOffset una, StreamOffset nxt) { on_timeout(una, nxt); }
  /// `range` was resent.
  void on_retransmitted(ByteRange range);
  void on_sent(uint64_t bytes) { prr_out_ += bytes; }

  void begin_rate_reduction(uint64_t flight_bytes, uint32_t ssthresh_bytes);
  /// The window for now (fast recovery only); `delivered` is what this acknowledgement took out of the network.
  uint64_t reduced_window(uint64_t pipe_bytes, uint64_t delivered_bytes, uint32_t mss_bytes);

  /// Bytes believed to be in the network (RFC 6675 SetPipe).
  uint64_t pipe(StreamOffset una, StreamOffset nxt) const;
  /// What to resend next, at most one hole; empty: nothing (NextSeg rules 1 and 3 are one: below the lost edge).
  ByteRange next_retransmission(StreamOffset una, StreamOffset nxt) const;

  Phase phase() const { return phase_; }
  bool is_open() const { return phase_ == Phase::kOpen; }
  uint32_t duplicate_acks() const { return duplicate_acks_; }
  StreamOffset recover() const { return recover_; }
  const SackScoreboard& scoreboard() const { return scoreboard_; }

 private:
  void update_lost_edge(StreamOffset una, StreamOffset nxt, uint32_t mss_bytes);
  uint64_t advance(const Acked& acked);
  Change detect_loss(const Acked& acked);
  Change enter_fast(const Acked& acked);

  SackScoreboard scoreboard_;
  StreamOffset recover_ = 0;      // snd.nxt when the loss was found
  StreamOffset high_rxt_ = 0;     // resent up to here in this recovery
  StreamOffset lost_edge_ = 0;    // what is not SACKed below is lost
  uint64_t emulated_sacked_ = 0;  // without SACK: what duplicate acknowledgements stand for
  uint64_t prr_delivered_ = 0, prr_out_ = 0, recover_fs_ = 0;
  uint32_t ssthresh_ = 0;
  uint32_t duplicate_acks_ = 0;
  Phase phase_ = Phase::kOpen;
  bool sack_ = false;
  bool retransmission_owed_ = false;
};

}  // namespace tto::tcp
