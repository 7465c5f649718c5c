// next_output(): the only place that decides what is sent. It changes nothing; commit.cc does, once a segment has left.
#include <algorithm>

#include "libtto/tcp/connection.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::tcp {
namespace {

constexpr uint64_t kMaxPseudoFrameBytes = 65536;
constexpr uint64_t kMostRoundings = 64;
constexpr uint32_t kMaxOptionBytes = 40;
constexpr uint32_t kSackHeaderBytes = 4;  // kind, length and two NOPs
constexpr uint32_t kSackBlockBytes = 8;
constexpr uint32_t kLeastMssWithSack = 64;  // a tiny MSS keeps its payload and lets the segment grow

}  // namespace

Output Connection::next_output(Instant now) const {
  Output o;
  if (next_segment(o.segment, now)) {
    if (snd_.is_urgent()) mark_urgent(o.segment);
    o.kind = Output::Kind::kEmit;
    return o;
  }
  o.at = timers_.earliest();
  o.kind = o.at == kNever ? Output::Kind::kIdle : Output::Kind::kWaitUntil;
  return o;
}

bool Connection::next_segment(SegmentOut& out, Instant now) const {
  if (has_reply_reset_ || has_final_reset_) {
    fill_reset(out);
    return true;
  }
  if (state_ == State::kClosed) return false;
  if (syn_due_) {
    fill_syn(out, now);
    return true;
  }
  if (is_synchronized()) {
    if (next_tail_probe(out, now) || next_retransmission(out, now) || next_new_data(out, now)) return true;
    if (probe_due_) {
      fill_header(out, now);
      out.seq = snd_.una - 1;  // old by one: the peer must answer with what it expects and its window
      return true;
    }
  }
  if (!ack_due_) return false;
  fill_header(out, now);
  out.seq = acceptable_seq();
  return true;
}

// A reply to a segment with a bad ACK leaves the connection alive; the final one ends it.
void Connection::fill_reset(SegmentOut& out) const {
  if (has_reply_reset_) {
    out.seq = reset_seq_;
    out.flags = wire::kRst;
    return;
  }
  out.seq = acceptable_seq();
  out.ack = rcv_.nxt;
  out.flags = wire::kRst | wire::kAck;
}

void Connection::fill_syn(SegmentOut& out, Instant now) const {
  out.seq = snd_.iss;
  out.flags = wire::kSyn;
  const bool asks_for_ecn = config_.ecn && state_ == State::kSynSent && syn_retries_done_ == 0;
  if (asks_for_ecn) out.flags |= wire::kEce | wire::kCwr;
  out.mss_bytes = mss_;
  out.is_retransmission = syn_retries_done_ != 0;
  if (state_ == State::kSynSent) {
    out.window = static_cast<uint16_t>(std::min<uint32_t>(rcv_.buffer_bytes, 65535));
    out.options = syn_options(config_, timestamp_now(now));
    return;
  }
  out.flags |= wire::kAck;
  if (ecn_.is_agreed()) out.flags |= wire::kEce;
  out.ack = rcv_.nxt;
  out.window = static_cast<uint16_t>(std::min<uint64_t>(next_edge() - rcv_.nxt, 65535));
  out.options = syn_ack_options(config_, agreed_, timestamp_now(now), rcv_.ts_recent);
}

// What every later segment carries: ACK, window, timestamps (R7), SACK blocks while a hole exists (R67).
void Connection::fill_header(SegmentOut& out, Instant now) const {
  out.flags = wire::kAck;
  if (ecn_.is_echo_due()) out.flags |= wire::kEce;
  out.ack = rcv_.nxt;
  out.window = window_field();
  uint32_t room = kMaxOptionBytes;
  if (agreed_.timestamps) {
    out.options.has_timestamps = true;
    out.options.ts_val = timestamp_now(now);
    out.options.ts_ecr = rcv_.ts_recent;
    room -= kTimestampOptionBytes;
  }
  out.mss_bytes = mss_;
  if (agreed_.sack && reassembly_.has_blocks()) {
    reassembly_.fill_blocks(out.options, (room - kSackHeaderBytes) / kSackBlockBytes);
    const uint32_t bytes = kSackHeaderBytes + kSackBlockBytes * out.options.sack_count;
    if (mss_ >= kLeastMssWithSack + bytes) out.mss_bytes = mss_ - bytes;
  }
}

bool Connection::next_retransmission(SegmentOut& out, Instant now) const {
  if (recovery_.is_open() || undo_.holds_retransmissions()) return false;
  const ByteRange hole = recovery_.next_retransmission(snd_.una, snd_.nxt);
  const StreamOffset limit = snd_.window_end();
  if (hole.empty() || hole.begin >= limit) return false;  // inside the window only (R47)
  fill_header(out, now);
  const StreamOffset end = std::min({hole.end, limit, hole.begin + out.mss_bytes});
  if (recovery_.pipe(snd_.una, snd_.nxt) + (end - hole.begin) > congestion_.cwnd()) {
    out = SegmentOut{};
    return false;
  }
  // A FIN after a full segment fits: it takes no payload.
  fill_resent(out, {hole.begin, end == snd_.end && hole.end > end && limit > end ? end + 1 : end});
  return true;
}

void Connection::fill_resent(SegmentOut& out, ByteRange range) const {
  out.seq = range.begin;
  out.payload = {range.begin, std::min(range.end, snd_.end)};
  out.is_retransmission = true;
  if (snd_.fin_sent() && range.end > snd_.end) out.flags |= wire::kFin;
  if (out.payload.end == snd_.push_end && !out.payload.empty()) out.flags |= wire::kPsh;
}

// RFC 8985 §7.3: a new segment if there is one and the peer has room, else the last one again; cwnd does not count.
bool Connection::next_tail_probe(SegmentOut& out, Instant now) const {
  if (!tail_probe_due_ || !recovery_.is_open() || snd_.una == snd_.nxt) return false;
  fill_header(out, now);
  const StreamOffset limit = snd_.window_end();
  const uint64_t room = limit > snd_.nxt ? limit - snd_.nxt : 0;
  const uint64_t fresh = std::min<uint64_t>(snd_.unsent(), out.mss_bytes);
  if (fresh != 0 && fresh <= room && (fresh == out.mss_bytes || may_send_partial(fresh, fresh == snd_.unsent()))) {
    out.seq = snd_.nxt;
    out.payload = {snd_.nxt, snd_.nxt + fresh};
    if (fresh == snd_.unsent() && is_fin_pending() && fresh < room) out.flags |= wire::kFin;
    if (snd_.nxt < snd_.push_end && snd_.push_end <= out.payload.end) out.flags |= wire::kPsh;
    mark_new_data(out);
    return true;
  }
  // The FIN goes with the last segment.
  const StreamOffset data_end = std::min(snd_.nxt, snd_.end);
  const StreamOffset from = std::max(snd_.una, data_end > out.mss_bytes ? data_end - out.mss_bytes : 0);
  if (snd_.nxt > limit) {
    out = SegmentOut{};
    return false;
  }
  fill_resent(out, {std::min(from, data_end), snd_.nxt});
  return true;
}

bool Connection::next_new_data(SegmentOut& out, Instant now) const {
  const uint64_t unsent = snd_.unsent();
  if (unsent == 0 && !is_fin_pending()) return false;
  if (!recovery_.is_open() && !undo_.holds_retransmissions() &&
      !recovery_.next_retransmission(snd_.una, snd_.nxt).empty()) {
    return false;  // first things first
  }
  fill_header(out, now);
  if (const uint32_t probe = next_mtu_probe(); probe != 0 && out.mss_bytes == mss_) {
    out.seq = snd_.nxt;
    out.mss_bytes = probe;
    out.payload = {snd_.nxt, snd_.nxt + probe};
    mark_new_data(out);
    return true;
  }
  const uint64_t bytes = sendable_bytes(out.mss_bytes);
  const StreamOffset end = snd_.nxt + bytes;
  const bool has_fin = bytes == unsent && is_fin_pending() && end < snd_.window_end();
  if (bytes == 0 && !has_fin) {
    out = SegmentOut{};
    return false;
  }
  out.seq = snd_.nxt;
  out.payload = {snd_.nxt, end};
  if (has_fin) out.flags |= wire::kFin;
  if (bytes != 0 && snd_.nxt < snd_.push_end && snd_.push_end <= end) out.flags |= wire::kPsh;
  if (bytes != 0) mark_new_data(out);
  return true;
}

// R75: only new data is ECN-capable, and only new data says that the window was reduced.
void Connection::mark_new_data(SegmentOut& out) const {
  if (!ecn_.is_agreed()) return;
  out.ecn = wire::kEct0;
  if (ecn_.is_reduced_due()) out.flags |= wire::kCwr;
}

// R52: every segment before SND.UP says where it is, as soon as 16 bits can.
void Connection::mark_urgent(SegmentOut& out) const {
  if ((out.flags & (wire::kSyn | wire::kRst)) != 0 || out.seq >= snd_.up || snd_.up - out.seq > 65535) return;
  out.flags |= wire::kUrg;
  out.urgent_pointer = static_cast<uint16_t>(snd_.up - out.seq);
}

// How much new data may go now: the peer's window, the congestion window, Nagle and silly window avoidance.
uint64_t Connection::sendable_bytes(uint64_t mss) const {
  const uint64_t unsent = snd_.unsent();
  const StreamOffset edge = snd_.window_end();
  const uint64_t usable = edge > snd_.nxt ? edge - snd_.nxt : 0;
  uint64_t bytes = std::min({unsent, usable, kMaxPseudoFrameBytes});
  if (bytes == 0) return 0;
  const uint64_t pipe = recovery_.pipe(snd_.una, snd_.nxt), cwnd = congestion_.cwnd();
  const uint64_t room = cwnd > pipe ? cwnd - pipe : 0;
  if (bytes > room) bytes = room < mss ? 0 : room;
  const uint64_t tail = bytes < mss ? bytes : static_cast<uint32_t>(bytes) % static_cast<uint32_t>(mss);
  if (tail == 0) return bytes;
  // Only a tail that ends the data or fills the window may be less than a full segment.
  const bool may = (bytes == unsent || (bytes == usable && bytes < mss)) && may_send_partial(tail, bytes == unsent);
  return may ? bytes : bytes - tail;
}

// RFC 9293 §3.8.6.2.1 and §3.7.4 (Nagle, with Minshall's change: only a small segment holds back the next one).
bool Connection::may_send_partial(uint64_t bytes, bool ends_data) const {
  if (force_partial_) return true;
  if (!ends_data) return 2 * bytes >= snd_.max_wnd;
  if (snd_.fin_queued || snd_.is_urgent()) return true;
  if (config_.cork || more_) return snd_.end <= cork_until_;
  if (config_.nodelay) return true;
  return snd_.sml <= snd_.una;
}

// SND.NXT, or the peer's right edge if it moved left of that: beyond it our ACK would not be accepted.
StreamOffset Connection::acceptable_seq() const { return std::max(snd_.una, std::min(snd_.nxt, snd_.window_end())); }

// Where the right edge would be announced now (R46, R49).
StreamOffset Connection::next_edge() const {
  const uint64_t unread = rcv_.data_end() - rcv_.read;
  const uint64_t taken = unread + rcv_.overhead_bytes;
  const uint64_t unit_mask = (uint64_t{1} << rcv_.scale) - 1;
  const uint64_t limit = std::max(rcv_.window_limit, 2 * (unit_mask + 1));
  const uint64_t most = uint64_t{65535} << rcv_.scale;
  uint64_t free = taken < rcv_.buffer_bytes ? (rcv_.buffer_bytes - taken) & ~unit_mask : 0;
  // A buffer smaller than what the scale can say opens by one unit when it is empty, or it never would.
  if (free == 0 && rcv_.buffer_bytes <= unit_mask && unread == 0) free = unit_mask + 1;
  const StreamOffset candidate = rcv_.nxt + std::min({free, most, limit & ~unit_mask});
  const StreamOffset current = std::max(rcv_.edge, rcv_.nxt);
  if (candidate >= current + std::min<uint64_t>(mss_, rcv_.buffer_bytes / 2)) return candidate;
  // Keep the edge. In units of the scale that means rounding up, again and again while small segments arrive; after
  // kMostRoundings units the field reads a little less than what we still accept (RFC 7323 §2.4).
  const StreamOffset rounded = rcv_.nxt + std::min((current - rcv_.nxt + unit_mask) & ~unit_mask, most);
  return rounded <= rcv_.granted + kMostRoundings * unit_mask ? rounded : current;
}

uint16_t Connection::window_field() const {
  return static_cast<uint16_t>(std::min<uint64_t>((next_edge() - rcv_.nxt) >> rcv_.scale, 65535));
}

}  // namespace tto::tcp
