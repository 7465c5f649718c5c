#include "libtto/tcp/recovery.hh"

#include <algorithm>

namespace tto::tcp {

void Recovery::init(StreamOffset iss, bool sack) {
  *this = Recovery{};
  recover_ = iss;
  sack_ = sack;
}

uint64_t Recovery::on_sack_blocks(const wire::TcpOptions& options, StreamOffset una, StreamOffset nxt) {
  if (!sack_) return 0;
  uint64_t fresh = 0;
  const uint32_t count = std::min<uint32_t>(options.sack_count, static_cast<uint32_t>(options.sack.size()));
  for (uint32_t i = 0; i < count; ++i) {
    const StreamOffset left = options.sack[i].left.widen_near(una), right = options.sack[i].right.widen_near(una);
    if (left >= right || left <= una || right > nxt) continue;  // reversed, D-SACK, or never sent (R69)
    fresh += scoreboard_.add({left, right});
  }
  return fresh;
}

void Recovery::update_lost_edge(StreamOffset una, StreamOffset nxt, uint32_t mss_bytes) {
  switch (phase_) {
    case Phase::kTimeout:
      lost_edge_ = std::max(recover_, scoreboard_.lost_edge(mss_bytes));
      break;
    case Phase::kFast:
      if (sack_) {
        // The first segment is known to be lost, however few bytes were SACKed (three duplicates said so).
        lost_edge_ = std::max({lost_edge_, scoreboard_.lost_edge(mss_bytes), std::min(una + mss_bytes, nxt)});
      } else {
        lost_edge_ = std::min(una + mss_bytes, recover_);
      }
      break;
    case Phase::kOpen:
      lost_edge_ = scoreboard_.empty() ? 0 : scoreboard_.lost_edge(mss_bytes);
      break;
  }
}

Recovery::Change Recovery::enter_fast(const Acked& acked) {
  phase_ = Phase::kFast;
  recover_ = acked.nxt;
  high_rxt_ = acked.una;
  update_lost_edge(acked.una, acked.nxt, acked.mss_bytes);
  return Change::kEnteredFast;
}

// snd.una moved; returns the bytes that had not been SACKed, or counted as duplicates, before.
uint64_t Recovery::advance(const Acked& acked) {
  const uint64_t advanced = acked.una - acked.una_before;
  uint64_t known = scoreboard_.empty() ? 0 : scoreboard_.sacked_in({acked.una_before, acked.una});
  scoreboard_.advance(acked.una);
  high_rxt_ = std::max(high_rxt_, acked.una);
  duplicate_acks_ = 0;
  if (!sack_ && phase_ == Phase::kFast) retransmission_owed_ = true;  // a partial one (RFC 6582 §3.2 step 5)
  if (emulated_sacked_ != 0) {
    // One segment of what was acknowledged filled the hole, the rest had been counted as duplicates.
    const uint64_t counted = advanced > acked.mss_bytes ? advanced - acked.mss_bytes : 0;
    known = std::min(emulated_sacked_, counted);
    emulated_sacked_ = acked.una == acked.nxt ? 0 : emulated_sacked_ - known;
  }
  return advanced - known;
}

Recovery::Outcome Recovery::on_ack(const Acked& acked) {
  uint64_t delivered = acked.newly_sacked_bytes;
  if (acked.una != acked.una_before) {
    delivered += advance(acked);
    if (phase_ != Phase::kOpen && acked.una >= recover_) {
      const bool was_fast = phase_ == Phase::kFast;
      phase_ = Phase::kOpen;
      emulated_sacked_ = 0;
      update_lost_edge(acked.una, acked.nxt, acked.mss_bytes);
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
  update_lost_edge(acked.una, acked.nxt, acked.mss_bytes);
  return {detect_loss(acked), delivered};
}

Recovery::Change Recovery::detect_loss(const Acked& acked) {
  if (phase_ != Phase::kOpen || acked.una == acked.nxt) return Change::kNone;
  const bool enough = duplicate_acks_ >= SackScoreboard::kDupThresh;
  if (sack_) return lost_edge_ > acked.una || (enough && !scoreboard_.empty()) ? enter_fast(acked) : Change::kNone;
  // RFC 6582 §3.2 step 2: duplicates that do not reach beyond `recover` come from what we resent ourselves.
  return enough && acked.una > recover_ ? enter_fast(acked) : Change::kNone;
}

void Recovery::on_timeout(StreamOffset una, StreamOffset nxt) {
  phase_ = Phase::kTimeout;
  recover_ = nxt;
  high_rxt_ = una;
  lost_edge_ = nxt;
  scoreboard_.clear();
  emulated_sacked_ = 0;
  duplicate_acks_ = 0;
}

void Recovery::on_retransmitted(ByteRange range) {
  high_rxt_ = std::max(high_rxt_, range.end);
  retransmission_owed_ = false;
  prr_out_ += range.size();
}

void Recovery::begin_rate_reduction(uint64_t flight_bytes, uint32_t ssthresh_bytes) {
  prr_delivered_ = prr_out_ = 0;
  recover_fs_ = std::max<uint64_t>(flight_bytes, 1);
  ssthresh_ = ssthresh_bytes;
  retransmission_owed_ = true;
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
  if (phase_ == Phase::kOpen && scoreboard_.empty()) {
    const uint64_t flight = nxt - una;
    return flight - std::min(flight, emulated_sacked_);
  }
  // Every byte counts once if it is neither lost nor SACKed, and once more if it was resent.
  const StreamOffset lost = std::clamp(lost_edge_, una, nxt);
  const StreamOffset resent = phase_ == Phase::kOpen ? una : std::clamp(high_rxt_, una, nxt);
  const uint64_t alive = (nxt - lost) - scoreboard_.sacked_in({lost, nxt});
  const uint64_t again = (resent - una) - scoreboard_.sacked_in({una, resent});
  const uint64_t all = alive + again;
  return all - std::min(all, emulated_sacked_);
}

ByteRange Recovery::next_retransmission(StreamOffset una, StreamOffset nxt) const {
  if (phase_ == Phase::kOpen) return {};
  return scoreboard_.first_hole({std::max(high_rxt_, una), std::min(lost_edge_, nxt)});
}

}  // namespace tto::tcp
