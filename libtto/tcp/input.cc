// Segment arrival (RFC 9293 §3.10.7): one function per step, called in the RFC's order.
#include <algorithm>
#include <cerrno>

#include "libtto/tcp/arrival.hh"

namespace tto::tcp {
namespace {

constexpr Duration kPawsIdle = seconds(24LL * 86400);  // RFC 7323 §5.5: TS.Recent says nothing after this
constexpr Duration kChallengeRefill = milliseconds(100);
constexpr uint8_t kChallengeTokens = 10;

}  // namespace

Verdict Connection::on_segment(const SegmentIn& segment, Instant now) {
  Verdict v;
  segments_received_ += std::max<uint32_t>(segment.segments_merged, 1);
  switch (state_) {
    case State::kClosed:
    case State::kListen:
      v.fate = Fate::kClosed;
      return v;
    case State::kSynSent:
      v = in_syn_sent(segment, now);
      break;
    default:
      v = in_later_states(segment, now);
      break;
  }
  rearm(now);
  return v;
}

// --- §3.10.7.3 SYN-SENT ----------------------------------------------------------------------------------------------

Verdict Connection::in_syn_sent(const SegmentIn& segment, Instant now) {
  Verdict v;
  const StreamOffset ack = segment.ack.widen_near(snd_.una);
  const bool has_ack = (segment.flags & wire::kAck) != 0, is_rst = (segment.flags & wire::kRst) != 0;
  const bool is_good_ack = has_ack && ack > snd_.iss && ack <= snd_.nxt;
  if (has_ack && !is_good_ack) {
    if (!is_rst) {
      has_reply_reset_ = true;
      reset_seq_ = ack;
    }
    v.fate = Fate::kBadAck;
    return v;
  }
  if (is_rst) {
    v.fate = Fate::kBadAck;
    if (!is_good_ack) return v;
    v.fate = Fate::kReset;
    finish(ECONNREFUSED);
    return v;
  }
  if (!(segment.flags & wire::kSyn)) {
    v.fate = Fate::kNoAck;
    return v;
  }
  last_received_at_ = now;
  adopt(negotiate(config_, segment.options), segment, now);
  // What answers a SYN that asked for nothing (RFC 3168 §6.1.1.1: the resent ones) agrees to nothing.
  if (config_.ecn && has_ack && syn_retries_done_ == 0 && Ecn::agrees(segment.flags)) ecn_.agree();
  if (!has_ack) {  // simultaneous open
    state_ = State::kSynReceived;
    syn_due_ = true;
    return v;
  }
  Arrival a{segment, rcv_.nxt, snd_.una, now};
  take_rtt_sample(a);
  snd_.una = snd_.wl2 = ack;
  enter_established(syn_retries_done_ > 0, now);
  owe_quick_ack();
  trim(a);
  if (take_payload(a, v)) check_fin(a);
  return v;
}

// --- §3.10.7.4 other states ------------------------------------------------------------------------------------------

Verdict Connection::in_later_states(const SegmentIn& segment, Instant now) {
  Verdict v;
  Arrival a{segment, rcv_.nxt, snd_.una, now};
  if (!check_paws(a, v)) return v;
  if (!check_syn(a, v)) return v;
  if (!check_sequence(a, v)) return v;
  if (!check_rst(a, v)) return v;
  if (!check_ack(a, v)) return v;
  check_urgent(a);
  trim(a);
  if (!take_payload(a, v)) return v;
  check_fin(a);
  return v;
}

// RFC 7323 §5.3 R1: an older timestamp marks an old duplicate. A RST is never tested.
bool Connection::check_paws(const Arrival& a, Verdict& v) {
  const wire::TcpOptions& o = a.segment.options;
  if (!agreed_.timestamps || !o.has_timestamps || a.has(wire::kRst)) return true;
  if (static_cast<int32_t>(o.ts_val - rcv_.ts_recent) >= 0 || a.now - rcv_.ts_recent_at > kPawsIdle) return true;
  if (state_ == State::kSynReceived && a.has(wire::kSyn)) return true;  // a SYN from before ours: answered below
  refuse(a);
  v.fate = Fate::kPaws;
  return false;
}

// RFC 9293 step 4 comes first here, because RFC 5961 §4 answers a SYN whatever its sequence number is.
bool Connection::check_syn(Arrival& a, Verdict& v) {
  if (!a.has(wire::kSyn) || a.has(wire::kRst)) return true;
  if (state_ == State::kSynReceived && a.seq == rcv_.irs) {
    if (!a.has(wire::kAck)) {  // our SYN-ACK was lost (R15)
      if (agreed_.timestamps && a.segment.options.has_timestamps) rcv_.ts_recent = a.segment.options.ts_val;
      syn_due_ = true;
      v.fate = Fate::kTrimmed;
      return false;
    }
    a.seq = a.payload.begin;  // simultaneous open: the peer's SYN-ACK, whose SYN we have seen
    return true;
  }
  challenge(a.now);
  v.fate = Fate::kChallenged;
  return false;
}

// Table 6 of RFC 9293.
bool Connection::is_acceptable(const Arrival& a) const {
  const uint64_t window = rcv_.window();
  if (a.length() == 0) {
    // Differs from RFC: the right edge itself is accepted too. A peer that filled our window acknowledges from there,
    // and dropping that would lose its acknowledgement.
    return a.seq >= rcv_.nxt && a.seq <= rcv_.nxt + window;
  }
  if (window == 0) return false;
  const StreamOffset edge = rcv_.nxt + window;
  return (a.seq >= rcv_.nxt && a.seq < edge) || (a.end - 1 >= rcv_.nxt && a.end - 1 < edge) ||
         (a.seq < rcv_.nxt && a.end > edge);  // an aggregate may cover the window on both sides
}

bool Connection::check_sequence(Arrival& a, Verdict& v) {
  if (is_acceptable(a)) {
    last_received_at_ = a.now;
    const wire::TcpOptions& o = a.segment.options;
    if (agreed_.timestamps && o.has_timestamps && a.seq <= rcv_.last_ack_sent && !a.has(wire::kRst) &&
        (static_cast<int32_t>(o.ts_val - rcv_.ts_recent) >= 0 || a.now - rcv_.ts_recent_at > kPawsIdle)) {
      rcv_.ts_recent = o.ts_val;
      rcv_.ts_recent_at = a.now;
    }
    return true;
  }
  v.fate = Fate::kOutOfWindow;
  if (a.has(wire::kRst)) {
    // MUST-66: a closed window still takes an exact RST.
    if (rcv_.window() == 0 && a.seq == rcv_.nxt) return true;
    return false;
  }
  if (rcv_.window() == 0 && a.seq == rcv_.nxt && state_ != State::kTimeWait) {
    // MUST-66: and a valid acknowledgement; trim() takes the payload away and has it answered.
    last_received_at_ = a.now;
    v.fate = Fate::kTrimmed;
    return true;
  }
  if (state_ == State::kTimeWait && a.fin && a.end == rcv_.nxt) {  // our ACK of its FIN was lost
    timers_.set(Timer::kLastState, a.now + config_.time_wait);
  }
  last_received_at_ = a.now;
  refuse(a);
  return false;
}

// An old or strange segment is answered with an ACK and has no other effect. Those without data are answered at a
// limited rate, since two confused ends could answer each other for ever.
void Connection::refuse(const Arrival& a) {
  if (a.length() == 0) return challenge(a.now);
  if (agreed_.sack && !a.payload.empty() && a.payload.end <= rcv_.nxt) reassembly_.note_duplicate(a.payload);
  owe_ack();
}

// RFC 5961 §7, R28: per connection, so that nobody else can watch the limit being reached.
void Connection::challenge(Instant now) {
  const int64_t refills = (now - challenge_refilled_at_).ns / kChallengeRefill.ns;
  if (refills > 0) {
    challenge_tokens_ = static_cast<uint8_t>(std::min<int64_t>(challenge_tokens_ + refills, kChallengeTokens));
    challenge_refilled_at_ = now;
  }
  if (challenge_tokens_ == 0) return;
  --challenge_tokens_;
  owe_ack();
}

// RFC 9293 step 2 with RFC 5961 §3.2: only the exact next number resets.
bool Connection::check_rst(const Arrival& a, Verdict& v) {
  if (!a.has(wire::kRst)) return true;
  if (a.seq != rcv_.nxt) {
    challenge(a.now);
    v.fate = Fate::kChallenged;
    return false;
  }
  v.fate = Fate::kReset;
  on_reset();
  return false;
}

void Connection::on_reset() {
  switch (state_) {
    case State::kSynReceived:
      return finish(is_passive_ ? 0 : ECONNREFUSED);
    case State::kCloseWait:
      return finish(EPIPE);
    case State::kTimeWait:
      return finish(0);
    default:
      return finish(ECONNRESET);
  }
}

bool Connection::check_ack(Arrival& a, Verdict& v) {
  if (!a.has(wire::kAck)) {
    v.fate = Fate::kNoAck;
    return false;
  }
  if (state_ == State::kSynReceived && !check_ack_in_syn_received(a, v)) return false;
  // RFC 5961 §5.2.
  if (a.ack > snd_.nxt || a.ack + snd_.max_wnd < snd_.una) {
    challenge(a.now);
    v.fate = Fate::kBadAck;
    return false;
  }
  on_acknowledgement(a);
  return state_ != State::kClosed;
}

bool Connection::check_ack_in_syn_received(const Arrival& a, Verdict& v) {
  if (a.ack <= snd_.una || a.ack > snd_.nxt) {
    has_reply_reset_ = true;
    reset_seq_ = a.ack;
    v.fate = Fate::kBadAck;
    return false;
  }
  take_rtt_sample(a);
  snd_.una = snd_.iss + 1;
  snd_.wnd = uint64_t{a.segment.window} << snd_.scale;
  snd_.max_wnd = std::max(snd_.max_wnd, snd_.wnd);
  snd_.wl1 = a.seq;
  snd_.wl2 = a.ack;
  enter_established(syn_retries_done_ > 0, a.now);
  return true;
}

// What lies outside the window goes, a FIN too; a duplicate or an overlong segment is answered at once (R30, R44).
void Connection::trim(Arrival& a) {
  ByteRange& p = a.payload;
  const StreamOffset edge = rcv_.nxt + rcv_.window();
  if (p.begin < rcv_.nxt && !p.empty()) {
    if (agreed_.sack) reassembly_.note_duplicate({p.begin, std::min(p.end, rcv_.nxt)});
    owe_ack();
    p.begin = std::min(rcv_.nxt, p.end);
  }
  if (p.end > edge || (a.fin && p.end >= edge)) {
    owe_ack();
    a.fin = false;
    p.end = std::max(p.begin, std::min(p.end, edge));
  }
  if (rcv_.fin_at != 0) {
    p.end = std::max(p.begin, std::min(p.end, rcv_.fin_at));
  }
}

// RFC 9293 step 6. The pointer names the octet after the urgent byte, as everybody but the RFC long had it (RFC 6093
// §2); a mark on what has been received, or before the one known, says nothing new.
void Connection::check_urgent(const Arrival& a) {
  if (!a.has(wire::kUrg) || !may_receive_data()) return;
  const uint16_t pointer = a.segment.urgent_pointer;
  const StreamOffset at = a.seq + (pointer != 0 ? pointer - 1 : 0);
  if (at >= rcv_.nxt && at > rcv_.urgent_at) rcv_.urgent_at = at;
}

// RFC 9293 step 7.
bool Connection::take_payload(Arrival& a, Verdict& v) {
  ByteRange& p = a.payload;
  if (p.empty()) return true;
  if (!may_receive_data()) return true;
  if (ecn_.on_data(a.segment.ip_tos, a.segment.flags)) owe_ack();  // its window may be as small as one segment
  if (is_orphan_) {                                                      // nobody will ever read it (RFC 2525 §2.17)
    abort(0);
    v.fate = Fate::kReset;
    return false;
  }
  if (p.begin > rcv_.nxt) {
    ++out_of_order_segments_;
    owe_ack();
    if (reassembly_.insert(p)) {
      v.keep = p;
    } else {
      a.fin = false;
      v.fate = Fate::kTrimmed;
    }
    return true;
  }
  v.keep = p;
  if (!reassembly_.empty()) {
    rcv_.nxt = reassembly_.advance(p);
    owe_ack();
  } else {
    rcv_.nxt = p.end;
  }
  const uint32_t bytes = static_cast<uint32_t>(p.size());
  const uint32_t segments = std::max<uint32_t>(a.segment.segments_merged, 1);
  const uint32_t largest = segments == 1 ? a.segment.payload_bytes : a.segment.largest_segment_bytes;
  if (ack_policy_.on_data(bytes, segments, largest, a.has(wire::kPsh), rtt_.rto(), a.now)) {
    ack_policy_.has_two_full() ? owe_ack() : owe_quick_ack();
  } else if (!timers_.is_set(Timer::kDelayedAck)) {
    timers_.set(Timer::kDelayedAck, a.now + config_.delayed_ack);
  }
  return true;
}

// RFC 9293 step 8. A FIN beyond a hole is remembered and acts when the hole is filled (R31).
void Connection::check_fin(const Arrival& a) {
  if (!may_receive_data()) return;
  if (a.fin && rcv_.fin_at == 0 && a.payload.end >= rcv_.nxt) {
    rcv_.fin_at = a.payload.end;
    if (rcv_.fin_at != rcv_.nxt) owe_ack();
  }
  if (rcv_.fin_at == 0 || rcv_.nxt != rcv_.fin_at) return;
  ++rcv_.nxt;
  rcv_.fin_received = true;
  events_.peer_closed = true;
  state_ == State::kEstablished ? owe_quick_ack() : owe_ack();
  switch (state_) {
    case State::kEstablished:
      state_ = State::kCloseWait;
      break;
    case State::kFinWait1:
      state_ = State::kClosing;
      break;
    case State::kFinWait2:
      enter_time_wait(a.now);
      break;
    default:
      break;
  }
}

}  // namespace tto::tcp
