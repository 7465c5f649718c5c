#include <cstring>

#include "libtto/memory/region_mapping.hh"

namespace tto::memory {
namespace {

constexpr uint64_t kPageBytes = 4096;

constexpr uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

}  // namespace

RegionLayout region_layout_compute(uint32_t frame_count, uint32_t connection_count) {
  if (frame_count == 0 || frame_count > kMaxRegionFrames || connection_count > kMaxRegionConnections) return {};
  RegionLayout l;
  l.connections_offset = round_up(sizeof(tto_region_header), alignof(tto_connection_slot));
  l.frame_descs_offset =
      round_up(l.connections_offset + uint64_t{connection_count} * sizeof(tto_connection_slot), kPageBytes);
  l.frames_offset = round_up(l.frame_descs_offset + uint64_t{frame_count} * sizeof(tto_frame_desc), kPageBytes);
  l.total_bytes = l.frames_offset + uint64_t{frame_count} * kFrameBytes;
  return l;
}

void region_init_header(tto_region_header* header, uint32_t region_id, uint32_t frame_count,
                        uint32_t connection_count) {
  const RegionLayout l = region_layout_compute(frame_count, connection_count);
  tto_region_header h{};
  h.magic = TTO_REGION_MAGIC;
  h.version = TTO_REGION_VERSION;
  h.region_id = region_id;
  h.total_bytes = l.total_bytes;
  h.frame_bytes = kFrameBytes;
  h.frame_count = frame_count;
  h.connection_count = connection_count;
  h.connections_offset = l.connections_offset;
  h.frame_descs_offset = l.frame_descs_offset;
  h.frames_offset = l.frames_offset;
  std::memcpy(header, &h, sizeof h);
}

bool region_header_is_sound(const tto_region_header& h, uint64_t mapped_bytes) {
  if (h.magic != TTO_REGION_MAGIC || h.version != TTO_REGION_VERSION || h.frame_bytes != kFrameBytes) return false;
  // A version has exactly one layout for its counts: comparing with it leaves no offset arithmetic to get wrong.
  const RegionLayout l = region_layout_compute(h.frame_count, h.connection_count);
  return l.total_bytes != 0 && h.total_bytes == l.total_bytes && h.total_bytes <= mapped_bytes &&
         h.connections_offset == l.connections_offset && h.frame_descs_offset == l.frame_descs_offset &&
         h.frames_offset == l.frames_offset;
}

Region region_view(std::byte* base, const tto_region_header& header) {
  Region r;
  r.base = base;
  r.header = &header;
  r.connections = reinterpret_cast<tto_connection_slot*>(base + header.connections_offset);
  r.descs = reinterpret_cast<tto_frame_desc*>(base + header.frame_descs_offset);
  r.frames = base + header.frames_offset;
  return r;
}

}  // namespace tto::memory
