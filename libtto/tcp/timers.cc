// Deadlines: when each is set, and what happens when it runs out.
#include <algorithm>
#include <cerrno>

#include "libtto/tcp/connection.hh"

namespace tto::tcp {
namespace {

constexpr Duration kCorkLimit = milliseconds(200);
constexpr Duration kPeerAckDelay = milliseconds(200);  // as long as other stacks may delay one (RFC 8985 §7.2)

uint8_t saturating_next(uint8_t n) { return n == 255 ? n : static_cast<uint8_t>(n + 1); }

}  // namespace

void Connection::on_deadline(Instant now) {
  if (timers_.take_expired(Timer::kLastState, now)) finish(0);
  if (state_ == State::kClosed) return;
  if (timers_.take_expired(Timer::kDelayedAck, now)) {
    owe_ack();
    ack_policy_.on_delay_expired();
  }
  if (timers_.take_expired(Timer::kCork, now)) cork_until_ = snd_.end;
  if (timers_.take_expired(Timer::kReordering, now)) on_reordering_timeout(now);
  if (timers_.take_expired(Timer::kTailProbe, now)) on_tail_probe_timeout(now);
  if (timers_.take_expired(Timer::kRetransmit, now)) on_retransmit_timeout(now);
  if (timers_.take_expired(Timer::kPersist, now)) on_persist_timeout(now);
  if (timers_.take_expired(Timer::kKeepalive, now)) on_keepalive_timeout(now);
  rearm(now);
}

// Called after everything that changes what is in flight or waiting.
void Connection::rearm(Instant now) {
  if (!is_synchronized() || state_ == State::kTimeWait) return;
  if (snd_.una < snd_.nxt) {
    timers_.clear(Timer::kPersist);
    if (!timers_.is_set(Timer::kRetransmit)) arm_retransmit(now);
    timers_.set(Timer::kReordering, recovery_.lost_check_at());
  } else {
    timers_.clear(Timer::kRetransmit);
    timers_.clear(Timer::kReordering);
    timers_.clear(Timer::kTailProbe);
    tail_probe_due_ = false;
    if (!is_window_blocked()) {
      timers_.clear(Timer::kPersist);
    } else if (!timers_.is_set(Timer::kPersist) && !probe_due_) {
      timers_.set(Timer::kPersist, now + rtt_.backed_off(persist_backoff_));
    }
  }
  const bool is_corked = (config_.cork || more_) && snd_.unsent() != 0 && snd_.end > cork_until_ && !snd_.fin_queued;
  if (!is_corked) {
    timers_.clear(Timer::kCork);
  } else if (!timers_.is_set(Timer::kCork)) {
    timers_.set(Timer::kCork, now + kCorkLimit);
  }
}

// With nothing in flight only the peer's window can hold us back (Nagle and cork aside): then we must probe.
bool Connection::is_window_blocked() const {
  const StreamOffset edge = snd_.window_end();
  const uint64_t usable = edge > snd_.nxt ? edge - snd_.nxt : 0;
  const uint64_t unsent = snd_.unsent();
  if (unsent == 0) return is_fin_pending() && usable == 0;
  return usable < std::min<uint64_t>(unsent, mss_) && sendable_bytes(mss_) == 0;
}

void Connection::arm_retransmit(Instant now) {
  Instant at = now + rtt_.rto();
  if (config_.user_timeout.ns > 0 && unanswered_since_ != kNever) {
    at = std::min(at, std::max(unanswered_since_ + config_.user_timeout, now));
  }
  timers_.set(Timer::kRetransmit, at);
}

// RFC 8985 §7.2. Where the timeout is nearer than the probe, the probe goes out in its place, so that a lost tail of
// one segment does not collapse the window; the timer then runs once more.
void Connection::arm_tail_probe(Instant now) {
  timers_.clear(Timer::kTailProbe);
  if (!config_.rack_tail_probe || !agreed_.sack || !is_synchronized() || snd_.una == snd_.nxt) return;
  if (probe_.is_out() || !recovery_.is_open() || !recovery_.scoreboard().empty() || rtt_.backoff() != 0) return;
  const Duration wait = TailProbe::timeout(rtt_.has_sample(), rtt_.srtt(), snd_.flight() <= mss_, kPeerAckDelay);
  timers_.set(Timer::kTailProbe, std::min(now + wait, now + rtt_.rto()));
}

void Connection::on_tail_probe_timeout(Instant now) {
  if (!recovery_.is_open() || snd_.una == snd_.nxt || snd_.wnd == 0 || !is_synchronized()) return;
  tail_probe_due_ = true;
  if (timers_.at(Timer::kRetransmit) > now) return;
  if (unanswered_since_ == kNever) unanswered_since_ = last_sent_at_;
  arm_retransmit(now);
}

void Connection::on_reordering_timeout(Instant now) {
  if (!is_synchronized() || snd_.una == snd_.nxt) return;
  if (recovery_.on_lost_check(snd_.una, snd_.nxt, mss_, rack_clock(now)) == Recovery::Change::kEnteredFast) {
    reduce_window(now);
    if (recovery_.phase() != Recovery::Phase::kFast) return;  // an MTU probe: the window stays
    congestion_.set_cwnd(recovery_.reduced_window(recovery_.pipe(snd_.una, snd_.nxt), 0, mss_));
  }
}

// R39: the user timeout, or R2 counted as the time that `retries2` doublings of the least RTO take (as Linux does).
bool Connection::is_out_of_patience(Instant now) const {
  if (unanswered_since_ == kNever) return false;
  const Duration elapsed = now - unanswered_since_;
  if (config_.user_timeout.ns > 0) return elapsed >= config_.user_timeout;
  Duration limit{}, step = config_.min_rto;
  const uint32_t retries = is_orphan_ ? config_.orphan_retries : config_.retries2;
  for (uint32_t i = 0; i <= retries; ++i) {
    limit = limit + std::min(step, RttEstimator::kMaxRto);
    if (step < RttEstimator::kMaxRto) step = step * 2;
  }
  return elapsed >= limit;
}

void Connection::on_syn_timeout(Instant now) {
  ++rto_expirations_;
  if (unanswered_since_ == kNever) unanswered_since_ = now - rtt_.rto();
  const uint8_t limit = is_passive_ ? config_.synack_retries : config_.syn_retries;
  const bool is_over = config_.user_timeout.ns > 0 ? is_out_of_patience(now) : syn_retries_done_ >= limit;
  if (is_over) return finish(is_passive_ ? 0 : (events_.soft_error != 0 ? events_.soft_error : ETIMEDOUT));
  syn_retries_done_ = saturating_next(syn_retries_done_);
  rtt_.on_timeout();
  syn_due_ = true;
}

void Connection::on_retransmit_timeout(Instant now) {
  if (!is_synchronized()) return on_syn_timeout(now);
  if (snd_.una == snd_.nxt) return;
  ++rto_expirations_;
  if (unanswered_since_ == kNever) unanswered_since_ = now - rtt_.rto();
  if (is_out_of_patience(now)) return finish(events_.soft_error != 0 ? events_.soft_error : ETIMEDOUT);
  rtt_.on_timeout();
  timed_end_ = 0;
  tail_probe_due_ = false;
  probe_.clear();
  timers_.clear(Timer::kTailProbe);
  if (snd_.wnd == 0) {  // it took its window back: ask for it, resend when it opens (R47)
    probe_due_ = true;
  } else {
    if (recovery_.phase() == Recovery::Phase::kTimeout) {
      congestion_.on_repeated_timeout();
      undo_.stop_test();
    } else {
      const uint64_t flight = std::min<uint64_t>(snd_.flight(), Congestion::kMaxWindowBytes);
      const bool may_test = !agreed_.timestamps && recovery_.is_open() && recovery_.scoreboard().empty() &&
                            recovery_.duplicate_acks() == 0;
      undo_.begin(congestion_, {snd_.una, snd_.nxt}, may_test);
      congestion_.on_loss({static_cast<uint32_t>(flight), true, now});
    }
    look_for_black_hole(now);
    recovery_.on_timeout(snd_.una, snd_.nxt);
    ecn_.on_reduced(snd_.nxt);
    is_easing_ = false;
  }
  arm_retransmit(now);
}

void Connection::on_persist_timeout(Instant now) {
  if (!is_window_blocked()) return;
  if (unanswered_since_ == kNever) unanswered_since_ = now - rtt_.backed_off(persist_backoff_);
  const bool is_silent = probes_unanswered_ != 0;
  if (is_silent && is_out_of_patience(now)) return finish(events_.soft_error != 0 ? events_.soft_error : ETIMEDOUT);
  // A window that stays closed keeps a living program for ever (RFC 6429), but not what a dead one left behind.
  // Linux's bound: what was written before close() has some minutes to get a window (R53).
  const bool is_slow = rtt_.backed_off(persist_backoff_) >= RttEstimator::kMaxRto;
  if (is_orphan_ && is_slow && persist_backoff_ >= config_.orphan_retries) return abort(ETIMEDOUT);
  persist_backoff_ = saturating_next(persist_backoff_);
  probes_unanswered_ = saturating_next(probes_unanswered_);
  if (snd_.window_end() > snd_.nxt) {
    force_partial_ = true;  // silly window avoidance gives way
  } else {
    probe_due_ = true;
  }
}

void Connection::arm_keepalive(Instant now) {
  if (!config_.keepalive || !is_synchronized()) return timers_.clear(Timer::kKeepalive);
  timers_.set(Timer::kKeepalive, std::max(now, last_received_at_ + config_.keepalive_idle));
}

void Connection::on_keepalive_timeout(Instant now) {
  if (!config_.keepalive || state_ == State::kTimeWait) return;
  const Duration idle = now - last_received_at_;
  if (snd_.flight() != 0 || snd_.unsent() != 0) {  // the retransmission timer watches already
    return timers_.set(Timer::kKeepalive, now + config_.keepalive_idle);
  }
  if (idle < config_.keepalive_idle) return timers_.set(Timer::kKeepalive, last_received_at_ + config_.keepalive_idle);
  const bool is_dead = config_.user_timeout.ns > 0 ? probes_unanswered_ != 0 && idle >= config_.user_timeout
                                                   : probes_unanswered_ >= config_.keepalive_probes;
  if (is_dead) return abort(events_.soft_error != 0 ? events_.soft_error : ETIMEDOUT);
  probe_due_ = true;
  probes_unanswered_ = saturating_next(probes_unanswered_);
  timers_.set(Timer::kKeepalive, now + config_.keepalive_interval);
}

}  // namespace tto::tcp
