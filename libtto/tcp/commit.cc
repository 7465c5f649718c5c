// on_emitted(): what changes because a segment has left.
#include <algorithm>

#include "libtto/tcp/connection.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::tcp {
namespace {

constexpr int64_t kSendLogGrains = 32;  // records per round trip: far finer than RACK's min_RTT/4

}  // namespace

void Connection::on_emitted(const Output& output, StreamOffset sent_to, Instant now) {
  const SegmentOut& out = output.segment;
  if (output.kind != Output::Kind::kEmit) return;
  if (!out.payload.empty() && sent_to <= out.payload.begin) return;  // nothing left after all
  const uint64_t bytes = out.payload.empty() ? 0 : std::min(sent_to, out.payload.end) - out.payload.begin;
  segments_sent_ += bytes <= out.mss_bytes ? 1 : (bytes + out.mss_bytes - 1) / out.mss_bytes;
  if (out.flags & wire::kRst) {
    if (has_reply_reset_) {
      has_reply_reset_ = false;
    } else {
      has_final_reset_ = false;
    }
    return;
  }
  if (state_ == State::kClosed) return;
  if (out.flags & wire::kSyn) {
    on_syn_emitted(now);
  } else if (bytes != 0 || (out.flags & wire::kFin)) {
    on_payload_emitted(out, out.payload.begin + bytes, now);
  } else if (out.seq < snd_.una) {
    probe_due_ = false;
  }
  if (out.flags & wire::kAck) on_ack_emitted(out);
  rearm(now);
}

void Connection::on_syn_emitted(Instant now) {
  syn_due_ = false;
  if (snd_.nxt == snd_.iss) {
    snd_.nxt = timed_end_ = snd_.iss + 1;
    timed_at_ = now;
  } else {
    timed_end_ = 0;
    ++retransmitted_segments_;
  }
  // A peer that repeats its SYN gets its answer, but does not put off the end of our patience.
  if (!timers_.is_set(Timer::kRetransmit)) arm_retransmit(now);
}

void Connection::on_payload_emitted(const SegmentOut& out, StreamOffset sent_to, Instant now) {
  const bool has_fin = (out.flags & wire::kFin) && sent_to == out.payload.end;
  const ByteRange sent{out.payload.begin, sent_to + (has_fin ? 1 : 0)};
  const bool is_probe = tail_probe_due_ && recovery_.is_open();
  tail_probe_due_ = false;
  if (is_probe) probe_.on_sent(std::max(snd_.nxt, sent.end), out.is_retransmission);
  if (is_probe) timers_.clear(Timer::kRetransmit);  // rearm() starts it anew: the probe has a full RTO to be answered
  if (out.is_retransmission) {
    retransmitted_segments_ += 1;
    recovery_.on_retransmitted(sent, now);
    if (!is_probe) undo_.on_resent(sent, timestamp_now(now));
    if (sent.begin < timed_end_) timed_end_ = 0;
    resent_ts_ = timestamp_now(now);
    return;
  }
  if (out.flags & wire::kCwr) ecn_.on_reduced_sent();
  if (out.mss_bytes > mss_ && sent.size() == out.mss_bytes) path_mtu_.on_probe_sent(sent);
  on_new_data_sent(sent, out.mss_bytes, now);
}

void Connection::on_new_data_sent(ByteRange sent, uint32_t mss_bytes, Instant now) {
  const uint64_t bytes = sent.size();
  if (snd_.nxt == snd_.una) timers_.clear(Timer::kRetransmit);
  snd_.nxt = std::max(snd_.nxt, sent.end);
  recovery_.on_sent(sent, now, rtt_.srtt() / kSendLogGrains);
  if (bytes < mss_bytes || static_cast<uint32_t>(bytes) % mss_bytes != 0) snd_.sml = sent.end;
  if (timed_end_ == 0 && recovery_.is_open()) {
    // Two segments at most: their acknowledgement is not delayed, and a long burst's own length is not measured.
    timed_end_ = sent.begin + std::min<uint64_t>(bytes, 2 * uint64_t{mss_bytes});
    timed_at_ = now;
  }
  if (recovery_.pipe(snd_.una, snd_.nxt) + mss_ > congestion_.cwnd()) cwnd_limited_until_ = snd_.nxt;
  last_sent_at_ = now;
  force_partial_ = false;
  ack_policy_.on_data_sent(config_.delayed_ack, now);
  arm_tail_probe(now);
}

// Every segment but the first SYN acknowledges: nothing is owed any more, and the right edge is where it says.
void Connection::on_ack_emitted(const SegmentOut& out) {
  ack_due_ = ack_may_ride_ = false;
  timers_.clear(Timer::kDelayedAck);
  ack_policy_.on_ack_sent();
  reassembly_.on_ack_sent();
  const uint8_t scale = (out.flags & wire::kSyn) ? 0 : rcv_.scale;
  const StreamOffset edge = out.ack + (StreamOffset{out.window} << scale);
  if (edge >= rcv_.edge + (StreamOffset{1} << scale)) rcv_.granted = edge;  // opened, not only rounded
  rcv_.edge = std::max(rcv_.edge, edge);
  rcv_.last_ack_sent = out.ack;
}

}  // namespace tto::tcp
