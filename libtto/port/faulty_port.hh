// A bad link in front of any port: loss, duplication, reordering, corruption, delay and a rate limit, for each
// direction by its own seeded plan. The same seed and the same calls give the same faults. For tests and simulations:
// it copies and allocates.
//
// What is sent is copied into frames of the pool first, because the originals must stay as they are for retransmission;
// the originals are complete at once. Frames held back are let go by the next call with a late enough `now`, so drive
// it by next_event().
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "libtto/base/rng.hh"
#include "libtto/memory/frame_pool.hh"
#include "libtto/port/frame_port.hh"

namespace tto::port {

/// Probabilities are per frame, from 0 to 1.
struct Faults {
  double loss = 0;
  double duplicate = 0;
  double corrupt = 0;  // one bit, anywhere in the frame
  double reorder = 0;  // such a frame is late by reorder_delay; those behind it overtake
  Duration reorder_delay = milliseconds(1);
  Duration delay{};
  uint64_t bytes_per_second = 0;  // 0: no limit
};

struct FaultyConfig {
  uint64_t seed = 1;
  Faults rx, tx;
};

struct FaultFigures {
  uint64_t frames = 0, lost = 0, duplicated = 0, corrupted = 0, reordered = 0;
  uint64_t no_frame = 0;  // lost or not duplicated because the pool was empty
};

class FaultyPort final : public FramePort {
 public:
  /// Neither is owned; both must outlive this port.
  FaultyPort(const FaultyConfig& config, FramePort& inner, memory::FramePool& pool);
  /// Frames it still holds go back to the pool. What the inner port still holds of it stays there: reclaim first.
  ~FaultyPort() override;

  const FaultFigures& rx_faults() const { return rx_.figures; }
  const FaultFigures& tx_faults() const { return tx_.figures; }
  /// Replaces the plan from now on, keeping what is held.
  void set_faults(const Faults& rx, const Faults& tx);

  const PortCaps& caps() const override { return inner_.caps(); }
  size_t post_fill(std::span<const memory::FrameHandle> frames) override { return inner_.post_fill(frames); }
  size_t fill_space() const override { return inner_.fill_space(); }
  size_t rx_burst(std::span<FrameSlice> out, Instant now) override;
  size_t tx_burst(std::span<const FrameSlice> slices, Instant now) override;
  size_t tx_space() const override;
  size_t reclaim(std::span<memory::FrameHandle> out) override;
  void kick(bool receive) override;
  int wait_fd() const override { return inner_.wait_fd(); }
  Instant next_event() const override;
  PortFigures figures() const override { return inner_.figures(); }

 private:
  using Chain = std::vector<FrameSlice>;
  struct Direction {
    Faults plan;
    FaultFigures figures;
    std::multimap<Instant, Chain> held;  // by release time; equal times stay in order
    Instant busy_until{INT64_MIN};
  };

  bool chance(double probability);
  void apply(Direction& direction, Chain chain, Instant now, tto_frame_state owner);
  Chain copy(const Chain& chain, tto_frame_state owner);
  void corrupt(const Chain& chain);
  void discard(const Chain& chain, tto_frame_state owner);
  void pull_inner(Instant now);
  void reclaim_inner();
  bool release_tx(Instant now);

  FramePort& inner_;
  memory::FramePool& pool_;
  Rng rng_;
  Direction rx_, tx_;
  std::vector<Chain> staged_;  // copies that wait for kick()
  size_t staged_slices_ = 0;
  std::deque<memory::FrameHandle> completed_;
  Instant now_{};
};

}  // namespace tto::port
