#include "libtto/memory/frame_pool.hh"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/support/test_region.hh"

namespace tto::memory {
namespace {

using testing::TestPool;
using testing::TestRegion;

TEST(FramePool, add_region__all_frames_are_free) {
  TestPool pool(8);
  EXPECT_EQ(pool->free_count(), 8u);
  EXPECT_EQ(pool->frame_count(), 8u);
  EXPECT_TRUE(pool->check_consistency());
}

TEST(FramePool, take__gives_each_frame_once_and_then_null) {
  TestPool pool(8);
  std::vector<bool> seen(8);
  for (int i = 0; i < 8; ++i) {
    const FrameHandle f = pool->take(TTO_FRAME_TX_QUEUED);
    ASSERT_TRUE(f);
    EXPECT_FALSE(seen[f.index()]);
    seen[f.index()] = true;
    EXPECT_EQ(pool->desc(f).state, TTO_FRAME_TX_QUEUED);
    EXPECT_EQ(pool->desc(f).next, TTO_FRAME_NULL);
  }
  EXPECT_FALSE(pool->take(TTO_FRAME_TX_QUEUED));
  EXPECT_TRUE(pool->check_consistency());
}

TEST(FramePool, take__clears_what_the_last_owner_left_in_the_descriptor) {
  TestPool pool(1);
  FrameHandle f = pool->take(TTO_FRAME_TX_QUEUED);
  pool->desc(f).data_bytes = 100;
  pool->desc(f).transmissions = 3;
  pool->desc(f).owner = 7;
  pool->drop(f, TTO_FRAME_TX_QUEUED);
  f = pool->take(TTO_FRAME_HEADER);
  EXPECT_EQ(pool->desc(f).data_bytes, 0);
  EXPECT_EQ(pool->desc(f).transmissions, 0);
  EXPECT_EQ(pool->desc(f).owner, ~0u);
}

TEST(FramePool, drop__frees_only_after_the_last_owner_and_reference) {
  TestPool pool(1);
  const FrameHandle f = pool->take(TTO_FRAME_TX_QUEUED);
  pool->desc(f).state |= TTO_FRAME_IN_FLIGHT;
  pool->desc(f).refs = 1;
  pool->drop(f, TTO_FRAME_TX_QUEUED);
  EXPECT_EQ(pool->free_count(), 0u);
  pool->drop(f, TTO_FRAME_IN_FLIGHT);
  EXPECT_EQ(pool->free_count(), 0u);
  pool->drop_ref(f);
  EXPECT_EQ(pool->free_count(), 1u);
  EXPECT_TRUE(pool->check_consistency());
}

TEST(FramePool, drop__twice_is_reported_and_corrupts_nothing) {
  TestPool pool(4);
  const FrameHandle f = pool->take(TTO_FRAME_HEADER);
  pool->drop(f, TTO_FRAME_HEADER);
#ifdef NDEBUG
  pool->drop(f, TTO_FRAME_HEADER);
  pool->drop(FrameHandle::make(3, 0), TTO_FRAME_HEADER);
  pool->drop(FrameHandle::make(0, 4), TTO_FRAME_HEADER);
#else
  EXPECT_DEATH(pool->drop(f, TTO_FRAME_HEADER), "");
  EXPECT_DEATH(pool->drop(FrameHandle::make(3, 0), TTO_FRAME_HEADER), "");
  EXPECT_DEATH(pool->drop(FrameHandle::make(0, 4), TTO_FRAME_HEADER), "");
#endif
  EXPECT_EQ(pool->free_count(), 4u);
  EXPECT_TRUE(pool->check_consistency());
}

TEST(FramePool, drop_chain__frees_every_frame_of_it) {
  TestPool pool(5);
  FrameHandle head;
  for (int i = 0; i < 4; ++i) {
    const FrameHandle f = pool->take(TTO_FRAME_RX_QUEUED);
    pool->desc(f).next = head.raw;
    head = f;
  }
  pool->drop_chain(head, TTO_FRAME_RX_QUEUED);
  EXPECT_EQ(pool->free_count(), 5u);
  EXPECT_TRUE(pool->check_consistency());
}

TEST(FramePool, take_for_fill__keeps_to_its_region) {
  TestRegion first(4), second(6);
  FramePool pool;
  ASSERT_EQ(pool.add_region(first), 0u);
  ASSERT_EQ(pool.add_region(second), 1u);
  FrameHandle out[16];
  EXPECT_EQ(pool.take_for_fill(1, out, 16), 6u);
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(out[i].region(), 1u);
    EXPECT_EQ(pool.desc(out[i]).state, TTO_FRAME_POSTED);
  }
  EXPECT_EQ(pool.take_for_fill(0, out, 3), 3u);
  EXPECT_EQ(pool.free_count(), 1u);
  EXPECT_TRUE(pool.check_consistency());
}

TEST(FramePool, take__goes_on_to_the_next_region_when_one_is_empty) {
  TestRegion first(1), second(1);
  FramePool pool;
  pool.add_region(first);
  pool.add_region(second);
  EXPECT_EQ(pool.take(TTO_FRAME_HEADER).region(), 0u);
  EXPECT_EQ(pool.take(TTO_FRAME_HEADER).region(), 1u);
  EXPECT_FALSE(pool.take(TTO_FRAME_HEADER));
}

TEST(FramePool, data__frames_lie_one_after_the_other_in_the_umem) {
  TestPool pool(3);
  EXPECT_EQ(pool->data(FrameHandle::make(0, 0)), pool.region().frames);
  EXPECT_EQ(pool->data(FrameHandle::make(0, 2)), pool.region().frames + 2 * 4096);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(pool->data(FrameHandle::make(0, 1))) % 4096, 0u);
}

TEST(FramePool, check_consistency__sees_a_lost_frame_and_a_loop) {
  TestPool lost(4);
  const FrameHandle f = lost->take(TTO_FRAME_HEADER);
  lost->desc(f).state = TTO_FRAME_FREE;  // as if the owner had forgotten to drop it
  EXPECT_FALSE(lost->check_consistency());

  TestPool loop(4);
  loop->desc(FrameHandle::make(0, 1)).next = FrameHandle::make(0, 0).raw;
  EXPECT_FALSE(loop->check_consistency());
}

TEST(FramePool, random_owners__every_frame_comes_back) {
  const unsigned seed = 20260101;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  TestPool pool(64);
  std::vector<FrameHandle> held;
  for (int step = 0; step < 20000; ++step) {
    if (random() % 2 == 0) {
      if (const FrameHandle f = pool->take(TTO_FRAME_TX_QUEUED)) {
        EXPECT_EQ(pool->desc(f).refs, 0);
        held.push_back(f);
      } else {
        EXPECT_EQ(held.size(), 64u);
      }
    } else if (!held.empty()) {
      const size_t i = random() % held.size();
      pool->drop(held[i], TTO_FRAME_TX_QUEUED);
      held[i] = held.back();
      held.pop_back();
    }
    ASSERT_EQ(pool->free_count(), 64 - held.size());
  }
  for (const FrameHandle f : held) pool->drop(f, TTO_FRAME_TX_QUEUED);
  EXPECT_EQ(pool->free_count(), 64u);
  EXPECT_TRUE(pool->check_consistency());
}

}  // namespace
}  // namespace tto::memory
