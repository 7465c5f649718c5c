// Two frame ports in one process, joined by a link that is a pure function of what is sent and when.
//
//   end(0).tx_burst ─▶ [ tx ring ] ─kick─▶ queue ▶ rate ▶ delay ─▶ [ rx ring ] ─▶ end(1).rx_burst     and back
//
// Frames are copied between the two pools, as a kernel would. Time is the `now` handed in. Rings and chunks have real
// limits: a frame that finds the fill ring empty or the rx ring full is lost and counted. For tests and simulations.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "libtto/memory/frame_pool.hh"
#include "libtto/port/frame_port.hh"

namespace tto::port {

struct LinkConfig {
  uint32_t mtu_bytes = 1500;
  uint32_t max_slices = 1;
  uint32_t ring_entries = 1024;   // each of the four rings of each end
  uint32_t headroom_bytes = 256;  // received data starts here in its chunk, as XDP's does
  bool accepts_partial_checksum = false;
  Duration delay{};                   // one way
  uint64_t bytes_per_second = 0;      // 0: no limit
  uint64_t queue_bytes = UINT64_MAX;  // waiting for the rate limit; what does not fit is lost
};

class MemoryLink {
 public:
  /// The pools must outlive the link; both ends may share one.
  MemoryLink(const LinkConfig& config, memory::FramePool& pool0, memory::FramePool& pool1);
  /// Frames that the ends still hold go back to their pools.
  ~MemoryLink();

  FramePort& end(int which);
  /// Frames lost because the queue before the rate limit was full, sent by end `which`.
  uint64_t queue_drops(int which) const;
  /// Frames on their way to end `which`.
  size_t in_transit(int which) const;

 private:
  class End;
  std::unique_ptr<End> ends_[2];
};

}  // namespace tto::port
