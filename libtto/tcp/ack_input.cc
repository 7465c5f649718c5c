// What a valid acknowledgement does: send window, RTT, loss recovery, congestion window, and the closing states.
#include <algorithm>

#include "libtto/tcp/arrival.hh"

namespace tto::tcp {

void Connection::on_acknowledgement(const Arrival& a) {
  probes_unanswered_ = 0;
  events_.soft_error = 0;  // something got through
  const StreamOffset una_before = snd_.una;
  const uint64_t flight_before = snd_.flight();
  const bool was_limited = una_before < cwnd_limited_until_;

  Recovery::Acked acked;
  acked.una_before = una_before;
  acked.nxt = snd_.nxt;
  acked.mss_bytes = mss_;
  Recovery::SackNews news;
  if (a.segment.options.sack_count != 0) {
    acked.clock = rack_clock(a);
    news = recovery_.on_sack_blocks(a.segment.options, std::max(a.ack, snd_.una), snd_.nxt, acked.clock);
    acked.newly_sacked_bytes = news.bytes;
  } else if (flight_before != 0) {
    acked.clock = rack_clock(a);
  }
  acked.duplicates = duplicates_in(a, acked.newly_sacked_bytes);
  duplicate_acks_ += acked.duplicates;
  if (a.ack > snd_.una) {
    take_rtt_sample(a);
    snd_.una = a.ack;
    on_newly_acked(a);
  }
  acked.una = snd_.una;
  update_send_window(a, a.ack > una_before);
  look_for_needless_loss(a, news, una_before);
  if (flight_before != 0) {
    const Recovery::Outcome outcome = recovery_.on_ack(acked);
    if (a.has(wire::kEce) && a.ack >= una_before) on_congestion_echo(flight_before, a.now);
    adjust_window(outcome, snd_.una - una_before, was_limited, a.now);
    on_probe_news(a, news, una_before);
    if (snd_.una != una_before) arm_tail_probe(a.now);
  }
  if (snd_.fin_acked()) on_fin_acked(a.now);
}

Rack::Clock Connection::rack_clock(Instant now) const { return {now, kNever, rtt_.min_rtt(), rtt_.srtt()}; }

// An echo of our clock, in ms, bounds when what it acknowledges was sent.
Rack::Clock Connection::rack_clock(const Arrival& a) const {
  Rack::Clock clock = rack_clock(a.now);
  const wire::TcpOptions& o = a.segment.options;
  if (agreed_.timestamps && o.has_timestamps && o.ts_ecr != 0) {
    const int32_t elapsed_ms = static_cast<int32_t>(timestamp_now(a.now) - o.ts_ecr);
    if (elapsed_ms >= 0) clock.echo_before = {(a.now.ns / 1'000'000 - elapsed_ms + 1) * 1'000'000};
  }
  return clock;
}

// RFC 8985 §7.4: a loss that a probe repaired unseen still lowers the window.
void Connection::on_probe_news(const Arrival& a, const Recovery::SackNews& news, StreamOffset una_before) {
  if (!probe_.is_out()) return;
  const bool is_bare = snd_.una == una_before && a.length() == 0 && a.segment.options.sack_count == 0;
  if (probe_.on_ack(a.ack, news.duplicate, is_bare) != TailProbe::Verdict::kRepaired || !recovery_.is_open()) return;
  const uint64_t flight = std::min<uint64_t>(snd_.nxt - una_before, Congestion::kMaxWindowBytes);
  congestion_.on_loss({static_cast<uint32_t>(flight), false, a.now});
  congestion_.set_cwnd(std::min(congestion_.cwnd(), congestion_.ssthresh()));
  ecn_.on_reduced(snd_.nxt);
}

// R63. With SACK a duplicate is what brings SACK news (RFC 6675 §2), else the five conditions of RFC 5681 §2.
uint32_t Connection::duplicates_in(const Arrival& a, uint64_t newly_sacked) const {
  if (a.ack != snd_.una || snd_.una == snd_.nxt) return 0;
  if (agreed_.sack) return newly_sacked != 0 ? 1 : 0;
  const bool same_window = uint64_t{a.segment.window} << snd_.scale == snd_.wnd;
  return a.length() == 0 && same_window ? 1 : 0;
}

void Connection::on_newly_acked(const Arrival& a) {
  unanswered_since_ = kNever;
  persist_backoff_ = 0;
  path_mtu_.on_time(a.now);
  // RFC 6298 5.2, 5.3: only new data restarts the timer; rearm() starts it if something is still out.
  timers_.clear(Timer::kRetransmit);
  if (snd_.flight() != 0) arm_retransmit(a.now);
}

// RFC 9293 §3.10.7.4, R48.
void Connection::update_send_window(const Arrival& a, bool acks_new_data) {
  if (a.ack < snd_.una) return;
  // Differs from RFC: what acknowledges new data is news whatever its sequence number, since the peer may have resent
  // it. With the old window from the new SND.UNA we would send beyond the edge that it announced.
  if (!acks_new_data && !(snd_.wl1 < a.seq || (snd_.wl1 == a.seq && snd_.wl2 <= a.ack))) return;
  const bool was_closed = snd_.wnd == 0;
  snd_.wnd = uint64_t{a.segment.window} << snd_.scale;
  snd_.max_wnd = std::max(snd_.max_wnd, snd_.wnd);
  snd_.wl1 = a.seq;
  snd_.wl2 = a.ack;
  if (snd_.wnd == 0) {
    unanswered_since_ = kNever;  // it closed its window, but it is there
  } else if (was_closed) {
    persist_backoff_ = 0;
    timers_.clear(Timer::kPersist);
    if (snd_.flight() != 0) {  // what it had no room for waits for the timer: not for a backed-off one
      rtt_.clear_backoff();
      unanswered_since_ = kNever;
      arm_retransmit(a.now);
    }
  }
}

// One range of new data is timed with our own clock. What was resent is measured by its timestamp only (Karn), and only
// if the echo shows that the resent copy is the one acknowledged: an older echo also comes when the acknowledgement of
// the first copy was lost, and then it measures our own timeout.
void Connection::take_rtt_sample(const Arrival& a) {
  if (timed_end_ != 0) {
    if (a.ack < timed_end_) return;
    timed_end_ = 0;
    rtt_.on_clocked_sample(a.now - timed_at_, a.now);
    return;
  }
  const wire::TcpOptions& o = a.segment.options;
  if (!agreed_.timestamps || !o.has_timestamps || o.ts_ecr == 0) return;
  if (!is_synchronized() || static_cast<int32_t>(o.ts_ecr - resent_ts_) < 0) return;
  const int32_t elapsed_ms = static_cast<int32_t>(timestamp_now(a.now) - o.ts_ecr);
  if (elapsed_ms < 0 || elapsed_ms > RttEstimator::kMaxRto.millis()) return;
  // The clock ticks in ms: below that the estimate we have is better, but the sample ends the backoff.
  const Duration r = elapsed_ms > 1 || !rtt_.has_sample() ? milliseconds(std::max(elapsed_ms, 1))
                                                          : std::min(rtt_.srtt(), milliseconds(1));
  rtt_.on_sample(r);
}

void Connection::adjust_window(const Recovery::Outcome& outcome, uint64_t acked_bytes, bool was_limited, Instant now) {
  if (path_mtu_.is_probing() && snd_.una >= path_mtu_.probe().end) on_mtu_probe_acked(now);
  if (outcome.change == Recovery::Change::kEnteredFast) {
    reduce_window(now);
  } else if (outcome.change == Recovery::Change::kLeftFast) {
    // RFC 6582 §3.2 step 3: no burst, however much of the flight has gone; slow start leads back to ssthresh.
    const uint64_t room = std::max<uint64_t>(outcome.delivered_bytes, uint64_t{mss_} * config_.initial_window_segments);
    congestion_.set_cwnd(std::min<uint64_t>(congestion_.ssthresh(), recovery_.pipe(snd_.una, snd_.nxt) + room));
    return;
  }
  if (is_easing_ && snd_.una >= ecn_.reduced_until()) {
    is_easing_ = false;
    congestion_.set_cwnd(congestion_.ssthresh());
    return;
  }
  if (recovery_.phase() == Recovery::Phase::kFast || is_easing_) {
    congestion_.set_cwnd(recovery_.reduced_window(recovery_.pipe(snd_.una, snd_.nxt), outcome.delivered_bytes, mss_));
    return;
  }
  if (acked_bytes == 0) return;
  AckEvent event;
  event.newly_acked_bytes = static_cast<uint32_t>(std::min<uint64_t>(acked_bytes, Congestion::kMaxWindowBytes));
  event.srtt = rtt_.srtt();
  event.now = now;
  event.is_cwnd_limited = was_limited || !recovery_.is_open();
  congestion_.on_ack(event);
}

// R74: RFC 4015 with the three ways to notice (undo.hh).
void Connection::look_for_needless_loss(const Arrival& a, const Recovery::SackNews& news, StreamOffset una_before) {
  if (!news.duplicate.empty() && undo_.on_duplicate(news.duplicate)) return undo_loss();
  if (recovery_.is_open()) return;
  if (snd_.una == una_before) {
    if (news.bytes != 0 || duplicates_in(a, news.bytes) != 0) undo_.stop_test();
    return;
  }
  const wire::TcpOptions& o = a.segment.options;
  const bool has_echo = agreed_.timestamps && o.has_timestamps && o.ts_ecr != 0;
  if (undo_.on_advance(snd_.una, has_echo ? &o.ts_ecr : nullptr)) {
    if (has_echo) {  // how long it took, so that the same timeout does not follow again
      const int32_t elapsed_ms = static_cast<int32_t>(timestamp_now(a.now) - o.ts_ecr);
      if (elapsed_ms > 0 && elapsed_ms <= RttEstimator::kMaxRto.millis()) rtt_.on_sample(milliseconds(elapsed_ms));
    }
    return undo_loss();
  }
  if (undo_.holds_retransmissions() && sendable_bytes(mss_) == 0) undo_.stop_test();
}

void Connection::undo_loss() {
  congestion_.undo(undo_.before());
  recovery_.undo();
  rtt_.clear_backoff();
  undo_.end();
}

// R75: as for a loss, but nothing is resent (RFC 3168 §6.1.2).
void Connection::on_congestion_echo(uint64_t flight_before, Instant now) {
  if (!recovery_.is_open() || !ecn_.on_echo(snd_.una, snd_.nxt)) return;
  const uint32_t flight = static_cast<uint32_t>(std::min<uint64_t>(flight_before, Congestion::kMaxWindowBytes));
  congestion_.on_loss({flight, false, now});
  recovery_.begin_rate_reduction(flight, congestion_.ssthresh());
  is_easing_ = true;
}

// Fast recovery begins. A window that sinks because of ECN has been reduced for this flight already.
void Connection::reduce_window(Instant now) {
  const uint64_t flight = snd_.flight();
  if (const ByteRange probe = path_mtu_.probe(); is_mtu_probe_lost(now)) {
    recovery_.resend_only(probe, snd_.nxt);
    return;
  }
  undo_.begin(congestion_, {snd_.una, snd_.nxt}, false);
  if (!is_easing_) {
    congestion_.on_loss({static_cast<uint32_t>(std::min<uint64_t>(flight, Congestion::kMaxWindowBytes)), false, now});
  }
  is_easing_ = false;
  ecn_.on_reduced(snd_.nxt);
  recovery_.begin_rate_reduction(flight, congestion_.ssthresh());
  timers_.clear(Timer::kTailProbe);
  tail_probe_due_ = false;
  probe_.clear();  // what it found out counts once
}

void Connection::on_fin_acked(Instant now) {
  switch (state_) {
    case State::kFinWait1:
      state_ = State::kFinWait2;
      if (is_orphan_) timers_.set(Timer::kLastState, now + config_.fin_timeout);
      break;
    case State::kClosing:
      enter_time_wait(now);
      break;
    case State::kLastAck:
      finish(0);
      break;
    default:
      break;
  }
}

}  // namespace tto::tcp
