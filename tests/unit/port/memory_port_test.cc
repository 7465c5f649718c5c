#include "libtto/port/memory_port.hh"

#include <gtest/gtest.h>

#include <memory>

#include "tests/support/port_frames.hh"
#include "tests/support/test_region.hh"

namespace tto::port {
namespace {

using testing::Bytes;
using testing::pattern;
using testing::PortUser;
using testing::TestPool;

struct Pair {
  explicit Pair(const LinkConfig& config, uint32_t frames = 256)
      : a_pool(frames),
        b_pool(frames),
        link(std::make_unique<MemoryLink>(config, *a_pool, *b_pool)),
        a(link->end(0), *a_pool),
        b(link->end(1), *b_pool),
        total(frames) {}
  /// Ends the link; then every frame must be free again.
  void expect_conserved() {
    link.reset();
    EXPECT_TRUE(a_pool->check_consistency());
    EXPECT_TRUE(b_pool->check_consistency());
    EXPECT_EQ(a_pool->free_count(), total);
    EXPECT_EQ(b_pool->free_count(), total);
  }
  TestPool a_pool, b_pool;
  std::unique_ptr<MemoryLink> link;
  PortUser a, b;
  size_t total;
};

TEST(MemoryPort, tx_burst__every_byte_arrives_both_ways) {
  Pair p({});
  p.a.post(64);
  p.b.post(64);
  for (const size_t size : {14u, 60u, 1000u, 1514u}) {
    ASSERT_TRUE(p.a.send(pattern(size, size)));
    ASSERT_TRUE(p.b.send(pattern(size, size + 1)));
    EXPECT_EQ(p.b.receive(), std::vector<Bytes>{pattern(size, size)});
    EXPECT_EQ(p.a.receive(), std::vector<Bytes>{pattern(size, size + 1)});
  }
  EXPECT_EQ(p.a.reclaim(), 4u);
  EXPECT_EQ(p.b.reclaim(), 4u);
  p.expect_conserved();
}

TEST(MemoryPort, tx_burst__a_jumbo_frame_is_a_chain) {
  Pair p({.mtu_bytes = 65535, .max_slices = 18});
  p.b.post(200);
  for (const size_t size : {4096u, 9014u, 65549u}) {
    ASSERT_TRUE(p.a.send(pattern(size, 1)));
    EXPECT_EQ(p.b.receive(), std::vector<Bytes>{pattern(size, 1)});
    p.a.reclaim();
    p.b.post(64);
  }
  p.expect_conserved();
}

TEST(MemoryPort, kick__nothing_leaves_before_it) {
  Pair p({});
  p.b.post(8);
  ASSERT_TRUE(p.a.queue(pattern(100, 1)));
  EXPECT_TRUE(p.b.receive().empty());
  EXPECT_EQ(p.a.reclaim(), 0u);
  p.link->end(0).kick(false);
  EXPECT_EQ(p.b.receive().size(), 1u);
  p.a.reclaim();
  p.expect_conserved();
}

TEST(MemoryPort, tx_burst__what_exceeds_the_mtu_or_the_chain_is_counted_and_given_back) {
  Pair p({.mtu_bytes = 9000, .max_slices = 2});
  p.b.post(8);
  EXPECT_TRUE(p.a.send(pattern(9019, 1)));
  EXPECT_TRUE(p.a.send(pattern(8500, 1)));
  EXPECT_TRUE(p.b.receive().empty());
  EXPECT_EQ(p.link->end(0).figures().tx_invalid, 2u);
  EXPECT_EQ(p.a.reclaim(), 6u);
  p.expect_conserved();
}

TEST(MemoryPort, tx_burst__takes_whole_chains_only) {
  Pair p({.mtu_bytes = 9000, .max_slices = 3, .ring_entries = 4});
  EXPECT_TRUE(p.a.queue(pattern(9000, 1)));
  EXPECT_FALSE(p.a.queue(pattern(9000, 2)));
  EXPECT_EQ(p.link->end(0).tx_space(), 1u);
  p.link->end(0).kick(false);
  p.a.reclaim();
  p.expect_conserved();
}

TEST(MemoryPort, rx_burst__waits_for_room_for_the_whole_chain) {
  Pair p({.mtu_bytes = 9000, .max_slices = 3});
  p.b.post(8);
  ASSERT_TRUE(p.a.send(pattern(9000, 1)));
  FrameSlice two[2], three[3];
  EXPECT_EQ(p.link->end(1).rx_burst(two, {}), 0u);
  ASSERT_EQ(p.link->end(1).rx_burst(three, {}), 3u);
  EXPECT_TRUE(three[0].more && three[1].more && !three[2].more);
  EXPECT_EQ(three[0].offset, 256);
  for (const FrameSlice& s : three) p.b_pool->drop(s.frame, TTO_FRAME_POSTED);
  p.a.reclaim();
  p.expect_conserved();
}

TEST(MemoryPort, rx_burst__empty_fill_ring_loses_and_counts) {
  Pair p({});
  p.b.post(1);
  p.a.send(pattern(100, 1));
  p.a.send(pattern(100, 2));
  EXPECT_EQ(p.b.receive(), std::vector<Bytes>{pattern(100, 1)});
  EXPECT_EQ(p.link->end(1).figures().fill_ring_empty, 1u);
  p.a.reclaim();
  p.expect_conserved();
}

TEST(MemoryPort, rx_burst__full_ring_loses_and_counts) {
  Pair p({.ring_entries = 4});
  p.b.post(4);
  for (uint64_t i = 0; i < 4; ++i) p.a.send(pattern(100, i));
  FrameSlice none[1];
  EXPECT_EQ(p.link->end(1).rx_burst(std::span(none).first(0), {}), 0u);  // arrived, not taken
  p.a.reclaim();
  p.b.post(4);
  p.a.send(pattern(100, 5));
  EXPECT_EQ(p.b.receive().size(), 4u);
  EXPECT_EQ(p.link->end(1).figures().rx_ring_full, 1u);
  p.a.reclaim();
  p.expect_conserved();
}

TEST(MemoryPort, kick__full_completion_ring_holds_frames_back) {
  Pair p({.ring_entries = 4});
  p.b.post(4);
  for (uint64_t i = 0; i < 4; ++i) p.a.send(pattern(100, i));
  EXPECT_TRUE(p.a.send(pattern(100, 4)));
  EXPECT_EQ(p.b.receive().size(), 4u);
  EXPECT_EQ(p.a.reclaim(), 4u);
  p.b.post(4);
  p.link->end(0).kick(false);
  EXPECT_EQ(p.b.receive().size(), 1u);
  EXPECT_EQ(p.a.reclaim(), 1u);
  p.expect_conserved();
}

TEST(MemoryPort, next_event__is_the_arrival_and_no_earlier_call_sees_the_frame) {
  Pair p({.delay = milliseconds(5)});
  p.b.post(8);
  const Instant sent{1000};
  EXPECT_EQ(p.link->end(1).next_event(), kNever);
  p.a.send(pattern(100, 1), sent);
  EXPECT_EQ(p.link->end(1).next_event(), sent + milliseconds(5));
  EXPECT_TRUE(p.b.receive(sent + milliseconds(5) - nanoseconds(1)).empty());
  EXPECT_EQ(p.b.receive(sent + milliseconds(5)).size(), 1u);
  p.a.reclaim();
  p.expect_conserved();
}

TEST(MemoryPort, rate__frames_queue_behind_each_other_and_the_queue_drops_its_tail) {
  Pair p({.bytes_per_second = 1'000'000, .queue_bytes = 3000});
  p.b.post(16);
  for (uint64_t i = 0; i < 5; ++i) p.a.send(pattern(1000, i), Instant{0});
  EXPECT_EQ(p.link->queue_drops(0), 2u);
  EXPECT_EQ(p.link->in_transit(1), 3u);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(p.link->end(1).next_event(), Instant{} + milliseconds(static_cast<int64_t>(i) + 1));
    EXPECT_EQ(p.b.receive(p.link->end(1).next_event()), std::vector<Bytes>{pattern(1000, i)});
  }
  p.a.reclaim();
  p.expect_conserved();
}

}  // namespace
}  // namespace tto::port
