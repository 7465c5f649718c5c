#include "libtto/tcp/recovery.hh"

#include <algorithm>

namespace tto::tcp {

void Recovery::init(StreamOffset iss, bool sack) {
  *this = Recovery{};
  recover_ = iss;
  sack_ = sack;
  log_.reset(iss + 1);
  rack_.init(iss + 1);
}

// --- what arrived ----------------------------------------------------------------------------------------------------

/// Calls visit(part) for every part of `range` that is not SACKed.
template <typename Visit>
static void for_each_hole(const SackScoreboard& scoreboard, ByteRange range, Visit&& visit) {
  while (true) {
    const ByteRange hole = scoreboard.first_hole(range);
    if (hole.empty()) return;
    visit(hole);
    range.begin = hole.end;
  }
}

void Recovery::deliver(ByteRange range, const Rack::Clock& clock) {
  log_.for_each(range, [&](ByteRange part, const SendLog::Record& record) { rack_.on_delivered(part, record, clock); });
}

Recovery::SackNews Recovery::on_sack_blocks(const wire::TcpOptions& options, StreamOffset una, StreamOffset nxt,
                                            const Rack::Clock& clock) {
  SackNews news;
  if (!sack_) return news;
  const uint32_t count = std::min<uint32_t>(options.sack_count, static_cast<uint32_t>(options.sack.size()));
  ByteRange second;
  if (count > 1) second = {options.sack[1].left.widen_near(una), options.sack[1].right.widen_near(una)};
  for (uint32_t i = 0; i < count; ++i) {
    const ByteRange block{options.sack[i].left.widen_near(una), options.sack[i].right.widen_near(una)};
    if (block.empty() || block.end > nxt) continue;  // reversed, or never sent (R69)
    // RFC 2883: only the first block, below the acknowledgement or inside the second block.
    if (i == 0 && (block.end <= una || (block.begin >= second.begin && block.end <= second.end))) {
      news.duplicate = block;
      continue;
    }
    if (block.begin <= una) continue;
    for_each_hole(scoreboard_, block, [&](ByteRange part) { deliver(part, clock); });
    news.bytes += scoreboard_.add(block);
    unmark_lost(block);
  }
  if (!news.duplicate.empty()) rack_.on_duplicate(una, nxt);
  return news;
}

// --- what is lost ----------------------------------------------------------------------------------------------------

void Recovery::mark_lost(ByteRange range) {
  // What does not fit is found again at the next acknowledgement.
  for_each_hole(scoreboard_, range, [&](ByteRange part) { (void)lost_.add(part); });
}

void Recovery::unmark_lost(ByteRange range) {
  if (!lost_.remove(range)) (void)lost_.remove({range.begin, ~StreamOffset{0}});  // no room to split: found again
}

void Recovery::detect_late(StreamOffset una, StreamOffset nxt, uint32_t mss_bytes, const Rack::Clock& clock) {
  lost_check_at_ = kNever;
  if (una == nxt || (is_open() && scoreboard_.empty())) return;
  const bool is_certain =
      !is_open() || duplicate_acks_ >= SackScoreboard::kDupThresh || scoreboard_.lost_edge(mss_bytes) != 0;
  const Duration tolerance = rack_.tolerance(is_certain, clock);
  Instant check_at{INT64_MIN};
  log_.for_each({una, nxt}, [&](ByteRange part, const SendLog::Record& record) {
    const ByteRange late = rack_.sent_before_newest(part, record);
    if (late.empty()) return;
    for_each_hole(scoreboard_, late, [&](ByteRange hole) {
      const ByteRange unknown = lost_.first_gap(hole);
      if (unknown.empty()) return;
      const Instant lost_at = rack_.lost_at(record, tolerance);
      if (lost_at <= clock.now) {
        (void)lost_.add(hole);
      } else {
        check_at = std::max(check_at, lost_at);
      }
    });
  });
  if (check_at.ns != INT64_MIN) lost_check_at_ = check_at;
}

void Recovery::find_lost(const Acked& acked) {
  if (sack_) return detect_late(acked.una, acked.nxt, acked.mss_bytes, acked.clock);
  if (phase_ != Phase::kFast) return;
  const StreamOffset from = std::max(acked.una, high_rxt_);
  mark_lost({from, std::min({acked.una + acked.mss_bytes, recover_, acked.nxt})});
}

Recovery::Change Recovery::enter_fast(StreamOffset una, StreamOffset nxt) {
  phase_ = Phase::kFast;
  recover_ = nxt;
  high_rxt_ = una;
  return Change::kEnteredFast;
}

// snd.una moved; returns the bytes that had not been SACKed, or counted as duplicates, before.
uint64_t Recovery::advance(const Acked& acked) {
  const ByteRange acknowledged{acked.una_before, acked.una};
  uint64_t known = 0;
  if (scoreboard_.empty()) {
    deliver(acknowledged, acked.clock);
  } else {
    known = scoreboard_.sacked_in(acknowledged);
    for_each_hole(scoreboard_, acknowledged, [&](ByteRange part) { deliver(part, acked.clock); });
    scoreboard_.advance(acked.una);
  }
  log_.on_acked(acked.una);
  lost_.trim_below(acked.una);
  high_rxt_ = std::max(high_rxt_, acked.una);
  duplicate_acks_ = 0;
  if (!sack_ && phase_ == Phase::kFast) retransmission_owed_ = true;  // a partial one (RFC 6582 §3.2 step 5)
  const uint64_t advanced = acknowledged.size();
  if (emulated_sacked_ != 0) {
    // One segment of what was acknowledged filled the hole, the rest had been counted as duplicates.
    const uint64_t counted = advanced > acked.mss_bytes ? advanced - acked.mss_bytes : 0;
    known = std::min(emulated_sacked_, counted);
    emulated_sacked_ = acked.una == acked.nxt ? 0 : emulated_sacked_ - known;
  }
  return advanced - known;
}

Recovery::Outcome Recovery::on_ack(const Acked& acked) {
  const Outcome outcome = take_ack(acked);
  rack_.on_ack_over();
  return outcome;
}

Recovery::Outcome Recovery::take_ack(const Acked& acked) {
  uint64_t delivered = acked.newly_sacked_bytes;
  if (acked.una != acked.una_before) {
    delivered += advance(acked);
    if (phase_ != Phase::kOpen && acked.una >= recover_) {
      const bool was_fast = phase_ == Phase::kFast;
      undo();
      rack_.on_recovered();
      // What was sent since may have lost something too: that is another loss event.
      if (sack_) detect_late(acked.una, acked.nxt, acked.mss_bytes, acked.clock);
      if (!lost_.empty()) return {enter_fast(acked.una, acked.nxt), delivered};
      return {was_fast ? Change::kLeftFast : Change::kLeftTimeout, delivered};
    }
  } else if (acked.duplicates != 0) {
    duplicate_acks_ += acked.duplicates;
    if (!sack_) delivered += uint64_t{acked.duplicates} * acked.mss_bytes;
    if (!sack_ && phase_ != Phase::kTimeout) {
      const uint64_t flight = acked.nxt - acked.una;
      const uint64_t most = flight > acked.mss_bytes ? flight - acked.mss_bytes : 0;
      emulated_sacked_ = std::min(emulated_sacked_ + uint64_t{acked.duplicates} * acked.mss_bytes, most);
    }
  } else if (acked.newly_sacked_bytes == 0) {
    return {};
  }
  find_lost(acked);
  return {detect_loss(acked), delivered};
}

Recovery::Change Recovery::detect_loss(const Acked& acked) {
  if (phase_ != Phase::kOpen || acked.una == acked.nxt) return Change::kNone;
  if (sack_) return lost_.empty() ? Change::kNone : enter_fast(acked.una, acked.nxt);
  // RFC 6582 §3.2 step 2: duplicates that do not reach beyond `recover` come from what we resent ourselves.
  if (duplicate_acks_ < SackScoreboard::kDupThresh || acked.una <= recover_) return Change::kNone;
  const Change change = enter_fast(acked.una, acked.nxt);
  find_lost(acked);
  return change;
}

Recovery::Change Recovery::on_lost_check(StreamOffset una, StreamOffset nxt, uint32_t mss_bytes,
                                         const Rack::Clock& clock) {
  detect_late(una, nxt, mss_bytes, clock);
  return is_open() && !lost_.empty() ? enter_fast(una, nxt) : Change::kNone;
}

void Recovery::on_timeout(StreamOffset una, StreamOffset nxt) {
  phase_ = Phase::kTimeout;
  recover_ = nxt;
  high_rxt_ = una;
  scoreboard_.clear();
  lost_.clear();
  (void)lost_.add({una, nxt});
  lost_check_at_ = kNever;
  rack_.forget_highest(una);
  emulated_sacked_ = 0;
  duplicate_acks_ = 0;
}

void Recovery::resend_only(ByteRange range, StreamOffset nxt) {
  phase_ = Phase::kTimeout;
  recover_ = nxt;
  high_rxt_ = range.begin;
  lost_.clear();
  emulated_sacked_ = 0;
  mark_lost(range);
}

void Recovery::undo() {
  phase_ = Phase::kOpen;
  emulated_sacked_ = 0;
  lost_.clear();
  lost_check_at_ = kNever;
}

// --- what left -------------------------------------------------------------------------------------------------------

void Recovery::on_sent(ByteRange range, Instant now, Duration grain) {
  prr_out_ += range.size();
  log_.on_sent(range.end, now, grain);
}

void Recovery::on_retransmitted(ByteRange range, Instant now) {
  high_rxt_ = std::max(high_rxt_, range.end);
  retransmission_owed_ = false;
  prr_out_ += range.size();
  log_.on_resent(range, now);
  unmark_lost(range);
}

void Recovery::begin_rate_reduction(uint64_t flight_bytes, uint32_t ssthresh_bytes) {
  prr_delivered_ = prr_out_ = 0;
  recover_fs_ = std::max<uint64_t>(flight_bytes, 1);
  ssthresh_ = ssthresh_bytes;
  retransmission_owed_ = !is_open();
}

uint64_t Recovery::reduced_window(uint64_t pipe_bytes, uint64_t delivered_bytes, uint32_t mss_bytes) {
  prr_delivered_ += delivered_bytes;
  uint64_t allowance;
  if (pipe_bytes > ssthresh_) {
    const uint64_t due = (prr_delivered_ * ssthresh_ + recover_fs_ - 1) / recover_fs_;
    allowance = due > prr_out_ ? due - prr_out_ : 0;
  } else {
    const uint64_t unspent = prr_delivered_ > prr_out_ ? prr_delivered_ - prr_out_ : 0;
    allowance = std::min<uint64_t>(ssthresh_ - pipe_bytes, std::max(unspent, delivered_bytes) + mss_bytes);
  }
  if (retransmission_owed_) allowance = std::max<uint64_t>(allowance, mss_bytes);
  return pipe_bytes + allowance;
}

uint64_t Recovery::pipe(StreamOffset una, StreamOffset nxt) const {
  const uint64_t flight = nxt - una;
  if (scoreboard_.empty() && lost_.empty()) return flight - std::min(flight, emulated_sacked_);
  const uint64_t gone = scoreboard_.sacked_in({una, nxt}) + lost_.bytes_in({una, nxt}) + emulated_sacked_;
  return flight - std::min(flight, gone);
}

ByteRange Recovery::next_retransmission(StreamOffset una, StreamOffset nxt) const {
  if (phase_ == Phase::kOpen || lost_.empty()) return {};
  return {std::max(lost_.front().begin, una), std::min(lost_.front().end, nxt)};
}

}  // namespace tto::tcp
