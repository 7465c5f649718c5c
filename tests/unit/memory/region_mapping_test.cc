#include "libtto/memory/region_mapping.hh"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tto::memory {
namespace {

TEST(RegionLayout, compute__parts_do_not_overlap_and_frames_start_on_a_page) {
  for (const uint32_t frames : {1u, 127u, 2048u, kMaxRegionFrames}) {
    for (const uint32_t connections : {0u, 1u, 1000u, kMaxRegionConnections}) {
      const RegionLayout l = region_layout_compute(frames, connections);
      EXPECT_GE(l.connections_offset, sizeof(tto_region_header));
      EXPECT_EQ(l.connections_offset % 64, 0u);
      EXPECT_GE(l.frame_descs_offset, l.connections_offset + uint64_t{connections} * sizeof(tto_connection_slot));
      EXPECT_GE(l.frames_offset, l.frame_descs_offset + uint64_t{frames} * sizeof(tto_frame_desc));
      EXPECT_EQ(l.frames_offset % 4096, 0u);
      EXPECT_EQ(l.total_bytes, l.frames_offset + uint64_t{frames} * 4096);
    }
  }
}

TEST(RegionLayout, compute__refuses_counts_that_a_handle_cannot_name) {
  EXPECT_EQ(region_layout_compute(0, 1).total_bytes, 0u);
  EXPECT_EQ(region_layout_compute(kMaxRegionFrames + 1, 1).total_bytes, 0u);
  EXPECT_EQ(region_layout_compute(1, kMaxRegionConnections + 1).total_bytes, 0u);
}

TEST(RegionMapping, map__shares_frames_between_two_mappings) {
  const auto fd = make_region_fd(9, 16, 4);
  ASSERT_TRUE(fd);
  RegionMapping a, b;
  ASSERT_EQ(a.map(*fd), 0);
  ASSERT_EQ(b.map(*fd), 0);
  close(*fd);
  EXPECT_EQ(a.header().region_id, 9u);
  EXPECT_EQ(a.header().frame_count, 16u);
  std::memset(a.region().frames + 15 * 4096, 0x5a, 4096);
  EXPECT_EQ(b.region().frames[16 * 4096 - 1], std::byte{0x5a});
  b.unmap();
  EXPECT_FALSE(b.is_mapped());
  EXPECT_TRUE(a.is_mapped());
}

TEST(RegionMapping, map__keeps_its_own_copy_of_the_header) {
  const auto fd = make_region_fd(9, 16, 4);
  ASSERT_TRUE(fd);
  RegionMapping mapping;
  ASSERT_EQ(mapping.map(*fd), 0);
  std::memset(mapping.region().base, 0xff, sizeof(tto_region_header));
  EXPECT_EQ(mapping.region().header->frame_count, 16u);
  RegionMapping second;
  EXPECT_EQ(second.map(*fd), EPROTO);
  close(*fd);
}

TEST(RegionMapping, make_region_fd__can_neither_shrink_nor_grow) {
  const auto fd = make_region_fd(1, 4, 4);
  ASSERT_TRUE(fd);
  EXPECT_EQ(ftruncate(*fd, 4096), -1);
  EXPECT_EQ(ftruncate(*fd, 1 << 24), -1);
  EXPECT_EQ(fcntl(*fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  close(*fd);
}

TEST(RegionMapping, map__refuses_what_could_shrink) {
  const int fd = memfd_create("x", MFD_ALLOW_SEALING);
  tto_region_header header{};
  region_init_header(&header, 1, 4, 4);
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(header.total_bytes)), 0);
  ASSERT_EQ(pwrite(fd, &header, sizeof header, 0), ssize_t{sizeof header});
  RegionMapping mapping;
  EXPECT_EQ(mapping.map(fd), EPROTO);
  ASSERT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
  EXPECT_EQ(mapping.map(fd), 0);
  close(fd);
  EXPECT_EQ(RegionMapping().map(-1), EPROTO);
}

TEST(RegionMapping, region_header_is_sound__refuses_every_changed_field) {
  tto_region_header good{};
  region_init_header(&good, 1, 64, 8);
  ASSERT_TRUE(region_header_is_sound(good, good.total_bytes));
  EXPECT_FALSE(region_header_is_sound(good, good.total_bytes - 1));
  const auto refused = [&](auto change) {
    tto_region_header bad = good;
    change(bad);
    return !region_header_is_sound(bad, good.total_bytes);
  };
  EXPECT_TRUE(refused([](auto& h) { h.magic ^= 1; }));
  EXPECT_TRUE(refused([](auto& h) { ++h.version; }));
  EXPECT_TRUE(refused([](auto& h) { h.frame_bytes = 2048; }));
  EXPECT_TRUE(refused([](auto& h) { h.frame_count = 65; }));
  EXPECT_TRUE(refused([](auto& h) { h.frame_count = 0; }));
  EXPECT_TRUE(refused([](auto& h) { h.frame_count = 0xffffffff; }));
  EXPECT_TRUE(refused([](auto& h) { h.connection_count = 0xffffffff; }));
  EXPECT_TRUE(refused([](auto& h) { h.connections_offset = ~0ull; }));
  EXPECT_TRUE(refused([](auto& h) { h.connections_offset = 0; }));
  EXPECT_TRUE(refused([](auto& h) { h.frame_descs_offset += 32; }));
  EXPECT_TRUE(refused([](auto& h) { h.frames_offset = ~0ull - 4095; }));
  EXPECT_TRUE(refused([](auto& h) { h.total_bytes = ~0ull; }));
}

}  // namespace
}  // namespace tto::memory
