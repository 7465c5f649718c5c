// A state region in plain memory, with the real layout: what a FramePool of a test stands on.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>

#include "libtto/memory/frame_pool.hh"
#include "libtto/memory/region_mapping.hh"

namespace tto::testing {

class TestRegion {
 public:
  explicit TestRegion(uint32_t frame_count, uint32_t connection_count = 16) {
    const memory::RegionLayout layout = memory::region_layout_compute(frame_count, connection_count);
    memory_.reset(static_cast<std::byte*>(::operator new (layout.total_bytes, std::align_val_t{4096})));
    std::memset(memory_.get(), 0, layout.total_bytes);
    memory::region_init_header(&header_, 1, frame_count, connection_count);
    std::memcpy(memory_.get(), &header_, sizeof header_);
    region_ = memory::region_view(memory_.get(), header_);
  }
  TestRegion(const TestRegion&) = delete;
  TestRegion& operator=(const TestRegion&) = delete;

  const memory::Region& region() const { return region_; }
  operator const memory::Region&() const { return region_; }  // NOLINT: implicit on purpose

 private:
  struct Free {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{4096}); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  tto_region_header header_{};
  memory::Region region_;
};

/// A pool of one such region.
class TestPool {
 public:
  explicit TestPool(uint32_t frame_count, uint32_t connection_count = 16) : region_(frame_count, connection_count) {
    pool_.add_region(region_);
  }
  memory::FramePool& operator*() { return pool_; }
  memory::FramePool* operator->() { return &pool_; }
  memory::FramePool& pool() { return pool_; }
  const memory::Region& region() const { return region_.region(); }

 private:
  TestRegion region_;
  memory::FramePool pool_;
};

}  // namespace tto::testing
