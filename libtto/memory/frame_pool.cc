#include "libtto/memory/frame_pool.hh"

#include "libtto/base/check.hh"

namespace tto::memory {

uint32_t FramePool::add_region(const Region& region) {
  if (!TTO_SOUND(region_count_ < kMaxRegions)) return kMaxRegions;
  const uint32_t number = region_count_++;
  const uint32_t count = region.header->frame_count;
  regions_[number] = region;
  for (uint32_t i = 0; i < count; ++i) {
    region.descs[i] = tto_frame_desc{};
    region.descs[i].next = i + 1 < count ? FrameHandle::make(number, i + 1).raw : TTO_FRAME_NULL;
    region.descs[i].owner = ~0u;
  }
  free_head_[number] = count > 0 ? FrameHandle::make(number, 0) : FrameHandle{};
  free_in_region_[number] = count;
  free_count_ += count;
  frame_count_ += count;
  return number;
}

FrameHandle FramePool::take(tto_frame_state state) {
  for (uint32_t number = 0; number < region_count_; ++number) {
    if (free_in_region_[number] > 0) return take_from(number, state);
  }
  return {};
}

FrameHandle FramePool::take_from(uint32_t number, tto_frame_state state) {
  const FrameHandle frame = free_head_[number];
  tto_frame_desc& d = desc(frame);
  free_head_[number] = FrameHandle{d.next};
  --free_in_region_[number];
  --free_count_;
  d = tto_frame_desc{};
  d.next = TTO_FRAME_NULL;
  d.owner = ~0u;
  d.state = static_cast<uint8_t>(state);
  return frame;
}

size_t FramePool::take_for_fill(uint32_t region, FrameHandle* out, size_t count) {
  size_t taken = 0;
  while (taken < count && free_in_region_[region] > 0) out[taken++] = take_from(region, TTO_FRAME_POSTED);
  return taken;
}

void FramePool::drop(FrameHandle frame, uint8_t state_bits) {
  if (!TTO_SOUND(is_known(frame))) return;
  tto_frame_desc& d = desc(frame);
  // A frame that is free already would enter its free list twice and then have two owners.
  if (!TTO_SOUND(d.state != TTO_FRAME_FREE || d.refs != 0)) return;
  d.state = static_cast<uint8_t>(d.state & ~state_bits);
  if (d.state == TTO_FRAME_FREE && d.refs == 0) put_back(frame);
}

void FramePool::drop_ref(FrameHandle frame) {
  if (!TTO_SOUND(is_known(frame))) return;
  tto_frame_desc& d = desc(frame);
  if (!TTO_SOUND(d.refs > 0)) return;
  --d.refs;
  if (d.state == TTO_FRAME_FREE && d.refs == 0) put_back(frame);
}

void FramePool::put_back(FrameHandle frame) {
  const uint32_t number = frame.region();
  desc(frame).next = free_head_[number].raw;
  free_head_[number] = frame;
  ++free_in_region_[number];
  ++free_count_;
}

void FramePool::drop_chain(FrameHandle head, uint8_t state_bits) {
  // Counting bounds the walk: a chain that loops is our bug, and must not hang the application as well.
  for (size_t walked = 0; head && TTO_SOUND(walked < frame_count_) && TTO_SOUND(is_known(head)); ++walked) {
    const FrameHandle next{desc(head).next};
    drop(head, state_bits);
    head = next;
  }
}

bool FramePool::is_known(FrameHandle frame) const {
  return frame.region() < region_count_ && frame.index() < regions_[frame.region()].header->frame_count;
}

bool FramePool::check_consistency() const {
  size_t total_free = 0;
  for (uint32_t number = 0; number < region_count_; ++number) {
    const Region& region = regions_[number];
    size_t unowned = 0;
    for (uint32_t i = 0; i < region.header->frame_count; ++i) {
      if (region.descs[i].state == TTO_FRAME_FREE && region.descs[i].refs == 0) ++unowned;
    }
    size_t listed = 0;
    for (FrameHandle f = free_head_[number]; f; f = FrameHandle{region.descs[f.index()].next}) {
      if (f.region() != number || !is_known(f) || listed >= unowned) return false;
      const tto_frame_desc& d = region.descs[f.index()];
      if (d.state != TTO_FRAME_FREE || d.refs != 0) return false;
      ++listed;
    }
    if (listed != unowned || listed != free_in_region_[number]) return false;
    total_free += listed;
  }
  return total_free == free_count_;
}

}  // namespace tto::memory
