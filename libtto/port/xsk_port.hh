// An AF_XDP socket as a frame port. The socket arrives bound, its UMEM registered over a state region (xsk_setup.hh,
// run by ttod); this side needs no privilege: it maps the rings and moves descriptors.
//
//   UMEM address = index * 4096 + offset, because the UMEM is the region's frames. Received data start behind the
//   kernel's headroom (256 bytes), not at the start of the frame.
//
// System calls: none but the one of kick(), and figures().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kmod-helper/protocol/helper_protocol.h"
#include "libtto/memory/frame_pool.hh"
#include "libtto/port/frame_port.hh"
#include "libtto/port/xsk_rings.hh"

namespace tto::port {

class XskPort final : public FramePort {
 public:
  XskPort() = default;
  ~XskPort() override;
  XskPort(const XskPort&) = delete;
  XskPort& operator=(const XskPort&) = delete;

  /// Maps the rings that `port` describes. `region` is where the UMEM lies and `region_number` its number in the pool.
  /// On success (0) the port owns `xsk_fd`; else an errno, and the descriptor stays the caller's.
  int open(int xsk_fd, const tto_helper_port& port, const memory::Region& region, uint32_t region_number);
  /// Unmaps and closes. Frames that the kernel or the rings still held are named by their POSTED and IN_FLIGHT states.
  void close();

  const PortCaps& caps() const override { return caps_; }
  size_t post_fill(std::span<const memory::FrameHandle> frames) override;
  size_t fill_space() const override;
  size_t rx_burst(std::span<FrameSlice> out, Instant now) override;
  size_t tx_burst(std::span<const FrameSlice> slices, Instant now) override;
  size_t tx_space() const override;
  size_t reclaim(std::span<memory::FrameHandle> out) override;
  void kick(bool receive) override;
  int wait_fd() const override { return fd_; }
  PortFigures figures() const override;

 private:
  /// A stack of frames that the port itself has to hand on, with one place per frame of the region.
  struct FrameStack {
    std::unique_ptr<uint32_t[]> frame;
    uint32_t count = 0;
    void push(uint32_t f) { frame[count++] = f; }
  };
  struct Mapping {
    void* base = nullptr;
    size_t bytes = 0;
  };

  template <typename T>
  int map_ring(Mapping* mapping, int fd, const tto_helper_ring& ring, uint32_t entries, uint64_t page_offset,
               RingPlace<T>* place);
  void flush_recycled();
  uint32_t rx_chain_length(uint32_t from, uint32_t available) const;
  bool take_chain(uint32_t from, uint32_t length, FrameSlice* out) const;
  void recycle_chain(uint32_t from, uint32_t length);
  bool is_sendable(std::span<const FrameSlice> chain) const;

  int fd_ = -1;
  bool busy_polls_ = false;
  PortCaps caps_;
  PortFigures own_;
  memory::Region region_;
  uint32_t region_number_ = 0;
  uint32_t frame_count_ = 0;
  ProducerRing<uint64_t> fill_;
  ConsumerRing<uint64_t> completion_;
  ConsumerRing<xdp_desc> rx_;
  ProducerRing<xdp_desc> tx_;
  FrameStack recycled_;  // indexes, of refused received chains: back to the fill ring
  FrameStack refused_;   // handles, never sent: back to the caller, through reclaim
  Mapping mappings_[4];
};

}  // namespace tto::port
