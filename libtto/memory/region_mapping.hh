// State regions as a whole: how large the parts are, how one is made, how one is mapped. Used by ttod, which makes
// them, and by the process, which gets the descriptor; both check before they follow an offset.
#pragma once

#include <cstddef>
#include <cstdint>

#include "libtto/base/result.hh"
#include "libtto/memory/frame_pool.hh"
#include "libtto/memory/region_layout.h"

namespace tto::memory {

inline constexpr uint32_t kMaxRegionFrames = 1u << 22;  // 16 GiB; handles could name 2^24
inline constexpr uint32_t kMaxRegionConnections = 1u << 20;

/// Where the parts of a region lie; total_bytes 0: no such region can be.
struct RegionLayout {
  uint64_t connections_offset = 0;
  uint64_t frame_descs_offset = 0;
  uint64_t frames_offset = 0;
  uint64_t total_bytes = 0;  // a multiple of the page size
};
RegionLayout region_layout_compute(uint32_t frame_count, uint32_t connection_count);

/// Writes the header of a new region. The rest of it must be zero (a new memfd is).
void region_init_header(tto_region_header* header, uint32_t region_id, uint32_t frame_count, uint32_t connection_count);

/// True if the header describes a region that lies wholly in `mapped_bytes`. Give it a private copy: what was checked
/// in shared memory may have changed since.
bool region_header_is_sound(const tto_region_header& header, uint64_t mapped_bytes);

/// The parts of a region mapped at `base`, for a sound header that outlives the result.
Region region_view(std::byte* base, const tto_region_header& header);

/// A new sealed memfd (no shrinking, no growing, no more seals) with its header written; close-on-exec. Or an errno.
Expected<int, int> make_region_fd(uint32_t region_id, uint32_t frame_count, uint32_t connection_count);

/// Maps a region's memfd, shared and writable, and unmaps it at the end. Not movable: region().header points into it.
class RegionMapping {
 public:
  RegionMapping() = default;
  ~RegionMapping();
  RegionMapping(const RegionMapping&) = delete;
  RegionMapping& operator=(const RegionMapping&) = delete;

  /// Returns 0 or an errno: EPROTO if it is no region of this version, or could still shrink under us. The descriptor
  /// stays the caller's and may be closed afterwards.
  int map(int fd);
  void unmap();

  bool is_mapped() const { return region_.base != nullptr; }
  const Region& region() const { return region_; }
  /// As read once, checked, and then used for everything.
  const tto_region_header& header() const { return header_; }

 private:
  tto_region_header header_{};
  Region region_;
};

}  // namespace tto::memory
