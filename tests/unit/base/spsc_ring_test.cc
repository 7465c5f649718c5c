#include "libtto/base/spsc_ring.hh"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

namespace tto {
namespace {

TEST(SpscRing, stage__is_invisible_before_publish) {
  SpscRing<int, 4> ring;
  EXPECT_TRUE(ring.stage(1) && ring.stage(2));
  int out = 0;
  EXPECT_FALSE(ring.pop(out));
  ring.publish();
  EXPECT_TRUE(ring.pop(out));
  EXPECT_EQ(out, 1);
  EXPECT_TRUE(ring.pop(out));
  EXPECT_EQ(out, 2);
  EXPECT_TRUE(ring.empty());
}

TEST(SpscRing, push__takes_only_what_fits) {
  SpscRing<int, 4> ring;
  const int batch[] = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(ring.push(std::span<const int>(batch)), 4u);
  EXPECT_EQ(ring.space(), 0u);
  EXPECT_FALSE(ring.push(7));
  int out[8] = {};
  EXPECT_EQ(ring.pop(std::span<int>(out, 3)), 3u);
  EXPECT_EQ(out[2], 3);
  EXPECT_EQ(ring.space(), 3u);
  EXPECT_TRUE(ring.push(5));
  EXPECT_EQ(ring.pop(std::span<int>(out)), 2u);
  EXPECT_EQ(out[0], 4);
  EXPECT_EQ(out[1], 5);
}

TEST(SpscRing, two_threads__lose_and_reorder_nothing) {
  constexpr uint64_t kCount = 300'000;
  auto ring = std::make_unique<SpscRing<uint64_t, 64>>();
  std::thread producer([&] {
    for (uint64_t i = 0; i < kCount;) {
      if (ring->push(i))
        ++i;
      else
        std::this_thread::yield();
    }
  });
  uint64_t expected = 0, batch[7];
  while (expected < kCount) {
    const size_t n = ring->pop(std::span<uint64_t>(batch));
    if (n == 0) std::this_thread::yield();
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(batch[i], expected++);
  }
  producer.join();
  EXPECT_TRUE(ring->empty());
}

}  // namespace
}  // namespace tto
