// Whether a thread that waits spins first, and how often it lets others onto its CPU meanwhile. It learns from what its
// last spins brought; times are told to it.
#pragma once

#include <algorithm>
#include <cstdint>

#include "libtto/base/time.hh"

namespace tto::stack {

class SpinPolicy {
 public:
  /// Spinning has paid lately, or it is time to find out whether it does again.
  bool pays() {
    if (score_ > 0) return true;
    if (++skipped_ < kProbeEvery) return false;
    skipped_ = 0;
    return true;
  }
  /// The turn-th turn of a spin is followed by a yield.
  bool yields_after(uint32_t turn) const { return turn % yield_every_ == 0; }

  /// From one turn to the next `took` passed; `yielded` in between; the wait is over now, or not.
  void on_turn(Duration took, bool yielded, bool is_ready) {
    // Somebody else had the CPU for long: a sleeper would have been put back onto it when there was something to do.
    if (took >= kHeldUp || (took >= kLongTurn && !is_ready)) {
      score_ = std::max(score_ - kHeldUpCosts, 0);
      was_held_up_ = true;
    }
    if (!is_ready) return;
    // Did what we wait for need this CPU? Then it gets it at once; else a yield only costs time.
    const bool was_let_run = yielded && took >= kSwitch;
    yield_every_ = was_let_run ? std::max(yield_every_ / 2, 1u) : std::min(yield_every_ * 2, kMostTurns);
  }
  void on_end(bool was_useful) {
    if (!was_held_up_) score_ = was_useful ? std::min(score_ + 2, kMaxScore) : std::max(score_ - 1, 0);
    was_held_up_ = false;
  }
  void reset() { *this = SpinPolicy{}; }

 private:
  static constexpr int kMaxScore = 16, kHeldUpCosts = 4;
  static constexpr uint32_t kProbeEvery = 32;  // waits without a spin before one is tried again
  static constexpr uint32_t kMostTurns = 16;   // between yields
  static constexpr Duration kSwitch = microseconds(2);
  static constexpr Duration kLongTurn = microseconds(100);
  static constexpr Duration kHeldUp = microseconds(500);

  int score_ = kMaxScore / 2;
  uint32_t skipped_ = 0;
  uint32_t yield_every_ = kMostTurns;
  bool was_held_up_ = false;  // in this spin
};

}  // namespace tto::stack
