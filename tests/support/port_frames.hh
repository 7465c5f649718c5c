// Frames for tests of ports: filled with a pattern, sent, collected, compared, and given back to the pool.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "libtto/memory/frame_pool.hh"
#include "libtto/port/frame_port.hh"

namespace tto::testing {

using Bytes = std::vector<std::byte>;

/// `size` bytes that depend on `number`, so that frames taken for one another are noticed.
inline Bytes pattern(size_t size, uint64_t number) {
  Bytes bytes(size);
  uint64_t x = number * 0x9e3779b97f4a7c15u + 1;
  for (std::byte& b : bytes) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    b = static_cast<std::byte>(x >> 56);
  }
  return bytes;
}

/// A user of a port that follows the ownership rules: what a device does, without the device.
class PortUser {
 public:
  PortUser(port::FramePort& port, memory::FramePool& pool, uint32_t region = 0)
      : port_(port), pool_(pool), region_(region) {}

  /// Posts as many free frames as the port takes, at most `limit`; returns how many.
  size_t post(size_t limit) {
    size_t posted = 0;
    std::array<memory::FrameHandle, 64> frames;
    while (posted < limit) {
      const size_t want = std::min({limit - posted, frames.size(), port_.fill_space()});
      const size_t n = pool_.take_for_fill(region_, frames.data(), want);
      const size_t taken = port_.post_fill({frames.data(), n});
      for (size_t i = taken; i < n; ++i) pool_.drop(frames[i], TTO_FRAME_POSTED);
      posted += taken;
      if (taken == 0) break;
    }
    posted_ += static_cast<ptrdiff_t>(posted);
    return posted;
  }
  /// Posts what has been received since, so that `target` frames are posted again.
  void top_up(size_t target) {
    if (posted_ < static_cast<ptrdiff_t>(target)) post(static_cast<size_t>(static_cast<ptrdiff_t>(target) - posted_));
  }

  /// Puts one frame, in as many slices as it needs, on the transmit ring. False: no frame or no space.
  bool queue(const Bytes& bytes, Instant now = {}, uint16_t offset = memory::kTxDataOffset) {
    std::vector<port::FrameSlice> slices;
    const size_t room = memory::kFrameBytes - offset;
    for (size_t at = 0; at < bytes.size(); at += room) {
      const memory::FrameHandle f = pool_.take(TTO_FRAME_IN_FLIGHT);
      if (!f) break;
      const size_t n = std::min(room, bytes.size() - at);
      std::memcpy(pool_.data(f) + offset, bytes.data() + at, n);
      slices.push_back({f, offset, static_cast<uint16_t>(n), at + n < bytes.size()});
    }
    const bool whole = !slices.empty() && !slices.back().more;
    if (whole && port_.tx_burst(slices, now) == slices.size()) return true;
    for (const auto& s : slices) pool_.drop(s.frame, TTO_FRAME_IN_FLIGHT);
    return false;
  }
  bool send(const Bytes& bytes, Instant now = {}) {
    const bool queued = queue(bytes, now);
    port_.kick(false);
    return queued;
  }

  /// Received frames, joined; their pool frames are free again.
  std::vector<Bytes> receive(Instant now = {}) {
    std::vector<Bytes> frames;
    std::array<port::FrameSlice, 64> slices;
    while (const size_t n = port_.rx_burst(slices, now)) {
      Bytes frame;
      for (size_t i = 0; i < n; ++i) {
        const port::FrameSlice& s = slices[i];
        const std::byte* data = pool_.data(s.frame) + s.offset;
        frame.insert(frame.end(), data, data + s.length);
        pool_.drop(s.frame, TTO_FRAME_POSTED);
        --posted_;
        if (s.more) continue;
        frames.push_back(std::move(frame));
        frame.clear();
      }
    }
    return frames;
  }

  size_t reclaim() {
    size_t total = 0;
    std::array<memory::FrameHandle, 64> frames;
    while (const size_t n = port_.reclaim(frames)) {
      for (size_t i = 0; i < n; ++i) pool_.drop(frames[i], TTO_FRAME_IN_FLIGHT);
      total += n;
    }
    return total;
  }

 private:
  port::FramePort& port_;
  memory::FramePool& pool_;
  uint32_t region_;
  ptrdiff_t posted_ = 0;
};

}  // namespace tto::testing
