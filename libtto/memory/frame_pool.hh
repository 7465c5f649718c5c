// The frames of a stack: fixed 4 KiB pieces of the state region, each with an owner state (region_layout.h).
//
// Threads: all calls under the stack's lock. No call allocates, blocks or makes a system call.
// Payload of frames we send starts at kTxDataOffset (cache-line aligned), leaving room in front for
// Ethernet + VLAN + IPv6 + a full TCP header, so (re)transmission writes headers in front of bytes that never move.
#pragma once

#include <cstddef>
#include <cstdint>

#include "libtto/memory/frame_handle.hh"
#include "libtto/memory/region_layout.h"

namespace tto::memory {

inline constexpr uint32_t kFrameBytes = 4096;
inline constexpr uint16_t kTxDataOffset = 128;
inline constexpr uint32_t kMaxRegions = 8;

/// A mapped state region. Does not own the mapping (RegionMapping does).
struct Region {
  std::byte* base = nullptr;                  // of the whole memfd
  const tto_region_header* header = nullptr;  // RegionMapping's private copy, which nobody else can change
  tto_connection_slot* connections = nullptr;
  tto_frame_desc* descs = nullptr;
  std::byte* frames = nullptr;  // = the UMEM's address 0
};

class FramePool {
 public:
  /// Adds a region whose frames are all free; returns its number, the `region` of its handles. At most kMaxRegions.
  uint32_t add_region(const Region& region);

  /// Takes a free frame and sets its state; null when none is left (counted by the caller).
  FrameHandle take(tto_frame_state state);
  /// Takes up to `count` frames of one region for the port's fill ring. Returns how many.
  size_t take_for_fill(uint32_t region, FrameHandle* out, size_t count);
  /// Drops `state` bits from a frame; it returns to the free list when no bit and no reference is left.
  void drop(FrameHandle frame, uint8_t state_bits);
  /// Drops a whole chain linked by desc.next.
  void drop_chain(FrameHandle head, uint8_t state_bits);
  /// Gives back one reference (desc.refs) held beyond the owner states.
  void drop_ref(FrameHandle frame);

  tto_frame_desc& desc(FrameHandle frame) { return regions_[frame.region()].descs[frame.index()]; }
  std::byte* data(FrameHandle frame) { return regions_[frame.region()].frames + size_t{frame.index()} * kFrameBytes; }
  const Region& region(uint32_t number) const { return regions_[number]; }

  size_t free_count() const { return free_count_; }
  size_t frame_count() const { return frame_count_; }
  /// Walks every descriptor and checks that owner states and the free list agree; tests call it after every run.
  bool check_consistency() const;

 private:
  FrameHandle take_from(uint32_t number, tto_frame_state state);
  void put_back(FrameHandle frame);
  bool is_known(FrameHandle frame) const;

  Region regions_[kMaxRegions];
  uint32_t region_count_ = 0;
  FrameHandle free_head_[kMaxRegions];
  size_t free_in_region_[kMaxRegions] = {};
  size_t free_count_ = 0;
  size_t frame_count_ = 0;
};

}  // namespace tto::memory
