#include "libtto/port/faulty_port.hh"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace tto::port {

using memory::FrameHandle;
using memory::kFrameBytes;

namespace {

constexpr size_t kTxSlices = 4096;  // held, staged or waiting for reclaim()
constexpr size_t kBatch = 64;

size_t bytes_of(const std::vector<FrameSlice>& chain) {
  size_t bytes = 0;
  for (const FrameSlice& s : chain) bytes += s.length;
  return bytes;
}

}  // namespace

FaultyPort::FaultyPort(const FaultyConfig& config, FramePort& inner, memory::FramePool& pool)
    : inner_(inner), pool_(pool), rng_(config.seed) {
  set_faults(config.rx, config.tx);
}

FaultyPort::~FaultyPort() {
  reclaim_inner();
  for (auto& [at, chain] : rx_.held) discard(chain, TTO_FRAME_POSTED);
  for (auto& [at, chain] : tx_.held) discard(chain, TTO_FRAME_IN_FLIGHT);
  for (auto& chain : staged_) discard(chain, TTO_FRAME_IN_FLIGHT);
  for (const FrameHandle f : completed_) pool_.drop(f, TTO_FRAME_IN_FLIGHT | TTO_FRAME_HEADER);
}

void FaultyPort::set_faults(const Faults& rx, const Faults& tx) {
  rx_.plan = rx;
  tx_.plan = tx;
}

bool FaultyPort::chance(double probability) {
  // One number is drawn whatever the probability, so that changing one fault leaves the others' dice alone.
  const double drawn = static_cast<double>(rng_.next() >> 11) * 0x1p-53;
  return drawn < probability;
}

FaultyPort::Chain FaultyPort::copy(const Chain& chain, tto_frame_state owner) {
  Chain result;
  for (const FrameSlice& s : chain) {
    const FrameHandle f = pool_.take(owner);
    if (!f) {
      for (const FrameSlice& taken : result) pool_.drop(taken.frame, static_cast<uint8_t>(owner));
      return {};
    }
    const size_t length = std::min<size_t>(s.length, kFrameBytes - std::min<size_t>(s.offset, kFrameBytes));
    std::memcpy(pool_.data(f) + s.offset, pool_.data(s.frame) + s.offset, length);
    result.push_back({f, s.offset, s.length, s.more});
  }
  return result;
}

void FaultyPort::corrupt(const Chain& chain) {
  const size_t bytes = bytes_of(chain);
  if (bytes == 0) return;
  size_t at = rng_.below(bytes);
  const auto bit = static_cast<uint8_t>(1u << rng_.below(8));
  for (const FrameSlice& s : chain) {
    if (at < s.length) {
      pool_.data(s.frame)[s.offset + at] ^= std::byte{bit};
      return;
    }
    at -= s.length;
  }
}

void FaultyPort::discard(const Chain& chain, tto_frame_state owner) {
  for (const FrameSlice& s : chain) {
    // A received frame that is lost was never the device's: it goes back to where it can be received into.
    if (owner == TTO_FRAME_POSTED && inner_.post_fill({&s.frame, 1}) == 1) continue;
    pool_.drop(s.frame, static_cast<uint8_t>(owner));
  }
}

void FaultyPort::apply(Direction& direction, Chain chain, Instant now, tto_frame_state owner) {
  const Faults& plan = direction.plan;
  FaultFigures& figures = direction.figures;
  ++figures.frames;
  const bool lose = chance(plan.loss), duplicate = chance(plan.duplicate), damage = chance(plan.corrupt),
             late = chance(plan.reorder);
  if (lose) {
    ++figures.lost;
    discard(chain, owner);
    return;
  }
  Instant release = std::max(now, direction.busy_until);
  if (plan.bytes_per_second > 0) {
    const double seconds_on_wire = static_cast<double>(bytes_of(chain)) / static_cast<double>(plan.bytes_per_second);
    release = release + nanoseconds(static_cast<int64_t>(seconds_on_wire * 1e9));
    direction.busy_until = release;
  }
  release = release + plan.delay;
  if (late) {
    ++figures.reordered;
    release = release + plan.reorder_delay;
  }
  if (duplicate) {
    Chain second = copy(chain, owner);
    if (second.empty()) {
      ++figures.no_frame;
    } else {
      ++figures.duplicated;
      direction.held.emplace(release, std::move(second));
    }
  }
  if (damage) {
    ++figures.corrupted;
    corrupt(chain);
  }
  direction.held.emplace(release, std::move(chain));
}

void FaultyPort::pull_inner(Instant now) {
  std::array<FrameSlice, kBatch> slices;
  for (;;) {
    const size_t n = inner_.rx_burst(slices, now);
    if (n == 0) return;
    Chain chain;
    for (size_t i = 0; i < n; ++i) {
      chain.push_back(slices[i]);
      if (!slices[i].more) apply(rx_, std::exchange(chain, {}), now, TTO_FRAME_POSTED);
    }
  }
}

size_t FaultyPort::rx_burst(std::span<FrameSlice> out, Instant now) {
  now_ = now;
  reclaim_inner();
  if (release_tx(now)) inner_.kick(false);
  pull_inner(now);
  size_t n = 0;
  while (!rx_.held.empty() && rx_.held.begin()->first <= now) {
    const Chain& chain = rx_.held.begin()->second;
    if (n + chain.size() > out.size()) break;
    std::copy(chain.begin(), chain.end(), out.begin() + static_cast<ptrdiff_t>(n));
    n += chain.size();
    rx_.held.erase(rx_.held.begin());
  }
  return n;
}

size_t FaultyPort::tx_space() const {
  const size_t used = staged_slices_ + completed_.size();
  return used < kTxSlices ? kTxSlices - used : 0;
}

size_t FaultyPort::tx_burst(std::span<const FrameSlice> slices, Instant now) {
  now_ = now;
  reclaim_inner();
  size_t taken = 0;
  while (taken < slices.size()) {
    size_t length = 1;
    while (taken + length <= slices.size() && slices[taken + length - 1].more) ++length;
    if (taken + length > slices.size() || length > tx_space()) break;
    const Chain original(slices.begin() + static_cast<ptrdiff_t>(taken),
                         slices.begin() + static_cast<ptrdiff_t>(taken + length));
    Chain ours = copy(original, TTO_FRAME_IN_FLIGHT);
    if (ours.empty()) {
      ++tx_.figures.no_frame;
    } else {
      staged_slices_ += ours.size();
      staged_.push_back(std::move(ours));
    }
    for (const FrameSlice& s : original) completed_.push_back(s.frame);
    taken += length;
  }
  return taken;
}

bool FaultyPort::release_tx(Instant now) {
  bool released = false;
  while (!tx_.held.empty() && tx_.held.begin()->first <= now) {
    const Chain& chain = tx_.held.begin()->second;
    if (inner_.tx_burst(chain, now) == 0) break;
    tx_.held.erase(tx_.held.begin());
    released = true;
  }
  return released;
}

void FaultyPort::kick(bool receive) {
  for (Chain& chain : staged_) apply(tx_, std::move(chain), now_, TTO_FRAME_IN_FLIGHT);
  staged_.clear();
  staged_slices_ = 0;
  release_tx(now_);
  inner_.kick(receive);
  reclaim_inner();
}

void FaultyPort::reclaim_inner() {
  std::array<FrameHandle, kBatch> frames;
  while (const size_t n = inner_.reclaim(frames)) {
    for (size_t i = 0; i < n; ++i) pool_.drop(frames[i], TTO_FRAME_IN_FLIGHT);
  }
}

size_t FaultyPort::reclaim(std::span<FrameHandle> out) {
  reclaim_inner();
  const size_t n = std::min(out.size(), completed_.size());
  std::copy_n(completed_.begin(), n, out.begin());
  completed_.erase(completed_.begin(), completed_.begin() + static_cast<ptrdiff_t>(n));
  return n;
}

Instant FaultyPort::next_event() const {
  Instant next = inner_.next_event();
  if (!rx_.held.empty()) next = std::min(next, rx_.held.begin()->first);
  if (!tx_.held.empty()) next = std::min(next, tx_.held.begin()->first);
  return next;
}

}  // namespace tto::port
