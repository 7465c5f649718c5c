// Opening, the application's calls, the ends of a connection, and what can be read from it.
#include "libtto/tcp/connection.hh"

#include <algorithm>
#include <cerrno>

#include "libtto/wire/tcp_flags.hh"

namespace tto::tcp {
namespace {

constexpr uint32_t kLeastMss = 48;  // a peer may not make us send crumbs
constexpr uint8_t kChallengeTokens = 10;

}  // namespace

// --- opening ---------------------------------------------------------------------------------------------------------

void Connection::begin(const ConnectionConfig& config, Instant now) {
  *this = Connection{};
  config_ = config;
  agreed_.peer_mss = default_mss(config.is_v6);
  snd_.iss = snd_.una = snd_.nxt = first_offset(config.iss);
  snd_.end = snd_.push_end = snd_.iss + 1;
  rcv_.buffer_bytes = config.receive_buffer_bytes;
  rtt_.init(config.min_rto);
  recovery_.init(snd_.iss, false);
  challenge_tokens_ = kChallengeTokens;
  challenge_refilled_at_ = last_received_at_ = last_sent_at_ = now;
  syn_due_ = true;
  resent_ts_ = timestamp_now(now);
  update_mss();
}

void Connection::open_active(const ConnectionConfig& config, Instant now) {
  begin(config, now);
  state_ = State::kSynSent;
}

void Connection::open_passive(const ConnectionConfig& config, const SegmentIn& syn, Instant now) {
  begin(config, now);
  is_passive_ = true;
  adopt(negotiate(config, syn.options), syn, now);
  if (config.ecn && Ecn::asks(syn.flags)) ecn_.agree();
  state_ = State::kSynReceived;
  segments_received_ = 1;
}

// The peer's SYN (or SYN-ACK) fixes its sequence space and the options.
void Connection::adopt(const Agreed& agreed, const SegmentIn& syn, Instant now) {
  agreed_ = agreed;
  snd_.scale = agreed.snd_scale;
  rcv_.scale = agreed.rcv_scale;
  rcv_.irs = first_offset(syn.seq.raw);
  rcv_.nxt = rcv_.read = rcv_.edge = rcv_.last_ack_sent = rcv_.irs + 1;
  if (state_ == State::kSynSent) rcv_.edge += std::min<uint32_t>(rcv_.buffer_bytes, 65535);  // our SYN said so
  rcv_.granted = rcv_.edge;
  if (agreed.timestamps) {
    rcv_.ts_recent = syn.options.ts_val;
    rcv_.ts_recent_at = now;
  }
  snd_.wnd = snd_.max_wnd = syn.window;  // never scaled in a SYN (R6)
  snd_.wl1 = rcv_.irs;
  snd_.wl2 = snd_.una;
  recovery_.init(snd_.iss, agreed.sack);
  begin_mtu_search();
  update_mss();
}

void Connection::enter_established(bool syn_was_resent, Instant now) {
  // Differs from RFC 6928: ten segments whatever their size, as Linux; its 14 600 bytes would be two jumbo segments.
  const uint32_t segments = syn_was_resent ? 1 : config_.initial_window_segments;
  congestion_.init(config_.congestion, mss_, mss_ * std::max(segments, 1u));
  if (syn_was_resent) rtt_.restart_after_syn_loss();
  timers_.clear(Timer::kRetransmit);
  unanswered_since_ = kNever;
  syn_due_ = false;
  state_ = State::kEstablished;
  events_.established = true;
  if (snd_.fin_queued) state_ = State::kFinWait1;
  arm_keepalive(now);
}

void Connection::update_mss() {
  const uint32_t headers = config_.is_v6 ? 60 : 40;
  const uint32_t path = config_.path_mtu_bytes > headers ? config_.path_mtu_bytes - headers : 0;
  const uint32_t mss = std::min<uint32_t>(path, agreed_.peer_mss);
  const uint32_t options = agreed_.timestamps ? kTimestampOptionBytes : 0;
  mss_ = mss > kLeastMss + options ? mss - options : kLeastMss;
}

// --- ends ------------------------------------------------------------------------------------------------------------

void Connection::finish(int error) {
  state_ = State::kClosed;
  events_.closed = true;
  if (error != 0 && events_.error == 0) events_.error = error;
  timers_.clear_all();
  has_reply_reset_ = syn_due_ = ack_due_ = ack_may_ride_ = probe_due_ = false;
}

void Connection::abort(int error) {
  has_final_reset_ = state_ != State::kSynSent && state_ != State::kTimeWait && state_ != State::kClosed;
  finish(error);
}

void Connection::enter_time_wait(Instant now) {
  state_ = State::kTimeWait;
  events_.closed = true;
  timers_.clear_all();
  timers_.set(Timer::kLastState, now + config_.time_wait);
}

// --- the application -------------------------------------------------------------------------------------------------

void Connection::app_write(uint64_t bytes, bool more, Instant now) {
  if (state_ == State::kClosed || snd_.fin_queued) return;
  if (bytes != 0 && is_synchronized() && snd_.una == snd_.nxt && snd_.nxt == snd_.end) {
    const Duration idle = now - last_sent_at_;
    if (idle > rtt_.rto()) {
      congestion_.on_idle(idle, config_.slow_start_after_idle ? mss_ * config_.initial_window_segments : 0);
    }
  }
  snd_.end += bytes;
  more_ = more;
  if (!more) snd_.push_end = snd_.end;
  rearm(now);
}

void Connection::app_mark_urgent(Instant now) {
  if (state_ == State::kClosed || snd_.fin_queued || snd_.end <= snd_.una) return;
  snd_.up = snd_.end;
  // The pointer goes ahead of the byte where the byte cannot go (RFC 9293 §3.8.5).
  if (is_synchronized() && sendable_bytes(mss_) == 0) owe_ack();
  rearm(now);
}

void Connection::app_consumed(uint64_t bytes, Instant) {
  rcv_.read = std::min(rcv_.read + bytes, rcv_.data_end());
  if (!may_receive_data()) return;
  // An update pays when it at least doubles what the peer may send (R49, and nothing while the window is wide).
  const uint64_t current = rcv_.window();
  const uint64_t offered = next_edge() - rcv_.nxt;
  if (offered > current && offered >= 2 * current &&
      offered - current >= std::min<uint64_t>(2 * mss_, rcv_.buffer_bytes / 2)) {
    owe_ack();
  }
}

void Connection::start_fin() {
  if (snd_.fin_queued) return;
  snd_.fin_queued = true;
  snd_.push_end = snd_.end;
  if (state_ == State::kEstablished) state_ = State::kFinWait1;
  if (state_ == State::kCloseWait) state_ = State::kLastAck;
}

void Connection::app_shutdown_write(Instant now) {
  if (state_ == State::kClosed) return;
  if (state_ == State::kSynSent) return finish(0);
  start_fin();
  rearm(now);
}

void Connection::app_close(bool unread_data, Instant now) {
  is_orphan_ = true;
  if (state_ == State::kClosed || state_ == State::kTimeWait) return;
  if (state_ == State::kSynSent) return finish(0);
  if (unread_data) return abort(0);
  start_fin();
  if (state_ == State::kFinWait2) timers_.set(Timer::kLastState, now + config_.fin_timeout);
  rearm(now);
}

void Connection::app_abort(Instant) { abort(0); }

// --- news from below -------------------------------------------------------------------------------------------------

void Connection::on_icmp_error(int error, bool is_hard, wire::Seq32 quoted, Instant) {
  if (state_ == State::kClosed) return;
  const StreamOffset seq = quoted.widen_near(snd_.una);
  if (seq < snd_.una || seq >= std::max(snd_.nxt, snd_.una + 1)) return;  // not about anything in flight
  if (state_ == State::kSynSent && is_hard) return finish(error);
  events_.soft_error = error;
}

void Connection::on_unreachable(int error) {
  if (state_ != State::kClosed) events_.soft_error = error;
}

void Connection::on_path_mtu(uint16_t mtu_bytes, wire::Seq32 quoted, Instant now) {
  const StreamOffset seq = quoted.widen_near(snd_.una);
  if (seq >= snd_.una && seq < snd_.nxt) on_route_mtu(mtu_bytes, now);
}

void Connection::on_route_mtu(uint16_t mtu_bytes, Instant now) {
  if (state_ == State::kClosed) return;
  const uint16_t floor = config_.is_v6 ? 1280 : 552;
  const uint16_t mtu = std::max(mtu_bytes, floor);
  path_mtu_.limit(mtu);
  if (mtu >= config_.path_mtu_bytes) return;
  config_.path_mtu_bytes = mtu;
  update_mss();
  if (!is_synchronized()) return;
  congestion_.set_mss(mss_);
  if (snd_.una == snd_.nxt) return;
  timed_end_ = 0;
  recovery_.on_path_mtu(snd_.una, snd_.nxt);
  undo_.end();
  rearm(now);
}

// --- settings --------------------------------------------------------------------------------------------------------

void Connection::set_nodelay(bool on) { config_.nodelay = on; }

void Connection::set_cork(bool on) {
  if (config_.cork && !on) {
    cork_until_ = snd_.end;
    more_ = false;
    snd_.push_end = snd_.end;
    timers_.clear(Timer::kCork);
  }
  config_.cork = on;
}

void Connection::set_keepalive(bool on, Duration idle, Duration interval, uint8_t probes, Instant now) {
  config_.keepalive = on;
  config_.keepalive_idle = idle;
  config_.keepalive_interval = interval;
  config_.keepalive_probes = probes;
  arm_keepalive(now);
}

void Connection::set_user_timeout(Duration timeout) { config_.user_timeout = timeout; }
void Connection::set_receive_buffer(uint32_t bytes) { rcv_.buffer_bytes = bytes; }
void Connection::set_receive_overhead(uint32_t bytes) { rcv_.overhead_bytes = bytes; }

void Connection::set_receive_window_limit(uint64_t bytes) { rcv_.window_limit = bytes; }
uint64_t Connection::receive_window() const { return rcv_.window(); }

// --- what can be read ------------------------------------------------------------------------------------------------

State Connection::state() const { return state_; }
Events Connection::events() const { return events_; }

int Connection::take_error() {
  const int error = events_.error;
  events_.error = 0;
  return error;
}

int Connection::take_soft_error() {
  const int error = events_.soft_error;
  events_.soft_error = 0;
  return error;
}

StreamOffset Connection::snd_una() const { return snd_.una; }
StreamOffset Connection::snd_nxt() const { return snd_.nxt; }
StreamOffset Connection::snd_end() const { return snd_.end; }
StreamOffset Connection::first_send_byte() const { return snd_.iss + 1; }
StreamOffset Connection::first_receive_byte() const { return rcv_.irs + 1; }
StreamOffset Connection::receive_end() const { return rcv_.data_end(); }
StreamOffset Connection::rcv_nxt() const { return rcv_.nxt; }
StreamOffset Connection::urgent_mark() const { return rcv_.urgent_at; }
uint32_t Connection::effective_mss() const { return mss_; }
bool Connection::fin_acked() const { return snd_.fin_acked(); }
bool Connection::quick_ack_pending() const { return ack_due_; }

bool Connection::may_receive_data() const {
  return state_ == State::kEstablished || state_ == State::kFinWait1 || state_ == State::kFinWait2;
}

bool Connection::accepts_new_syn(const SegmentIn& syn) const {
  if (state_ != State::kTimeWait) return false;
  if ((syn.flags & (wire::kSyn | wire::kAck | wire::kRst)) != wire::kSyn) return false;
  if (agreed_.timestamps && syn.options.has_timestamps && syn.options.ts_val != rcv_.ts_recent) {
    return static_cast<int32_t>(syn.options.ts_val - rcv_.ts_recent) > 0;
  }
  return syn.seq.widen_near(rcv_.nxt) > rcv_.nxt;
}

Figures Connection::figures() const {
  Figures f;
  f.srtt = rtt_.srtt();
  f.rttvar = rtt_.rttvar();
  f.rto = rtt_.rto();
  f.cwnd_bytes = congestion_.cwnd();
  f.ssthresh_bytes = congestion_.ssthresh();
  f.mss_bytes = mss_;
  f.path_mtu_bytes = config_.path_mtu_bytes;
  f.snd_wnd_bytes = static_cast<uint32_t>(snd_.wnd);
  f.rcv_wnd_bytes = static_cast<uint32_t>(rcv_.window());
  f.segments_sent = segments_sent_;
  f.segments_received = segments_received_;
  f.retransmitted_segments = retransmitted_segments_;
  f.rto_expirations = rto_expirations_;
  f.out_of_order_segments = out_of_order_segments_;
  f.duplicate_acks = duplicate_acks_;
  f.is_ecn_agreed = ecn_.is_agreed();
  return f;
}

void Connection::fill_record(tto_connection_record& record) const {
  record.tcp_state = static_cast<uint8_t>(state_);
  record.snd_wscale = agreed_.snd_scale;
  record.rcv_wscale = agreed_.rcv_scale;
  uint32_t flags = record.flags & TTO_REC_SHARED;
  if (agreed_.sack) flags |= TTO_REC_SACK;
  if (agreed_.timestamps) flags |= TTO_REC_TIMESTAMPS;
  if (snd_.fin_sent()) flags |= TTO_REC_FIN_SENT;
  if (rcv_.fin_received) flags |= TTO_REC_FIN_RECEIVED;
  record.flags = static_cast<uint8_t>(flags);
  record.peer_mss = agreed_.peer_mss;
  record.snd_una = snd_.una;
  record.snd_nxt = snd_.nxt;
  record.snd_end = snd_.end;
  record.rcv_nxt = rcv_.nxt;
  record.rcv_read = rcv_.read;
  record.rcv_wnd_edge = rcv_.edge;
  record.snd_wl1 = snd_.wl1;
  record.snd_wnd = static_cast<uint32_t>(snd_.wnd);
  record.snd_wnd_max = static_cast<uint32_t>(snd_.max_wnd);
  record.ts_offset = config_.ts_offset;
  record.ts_recent = rcv_.ts_recent;
}

uint32_t Connection::timestamp_now(Instant now) const {
  return static_cast<uint32_t>(now.ns / 1'000'000) + config_.ts_offset;
}

}  // namespace tto::tcp
