#include "libtto/base/range_set.hh"

#include <gtest/gtest.h>

#include <vector>

#include "libtto/base/rng.hh"

namespace tto {
namespace {

template <size_t N>
std::vector<ByteRange> list(const RangeSet<N>& set) {
  return {set.begin(), set.end()};
}
using Ranges = std::vector<ByteRange>;

TEST(RangeSet, add__keeps_order_and_merges_what_touches) {
  RangeSet<4> set;
  EXPECT_TRUE(set.add({30, 40}));
  EXPECT_TRUE(set.add({10, 20}));
  EXPECT_EQ(list(set), (Ranges{{10, 20}, {30, 40}}));
  EXPECT_TRUE(set.add({20, 25}));
  EXPECT_EQ(list(set), (Ranges{{10, 25}, {30, 40}}));
  EXPECT_TRUE(set.add({24, 30}));
  EXPECT_EQ(list(set), (Ranges{{10, 40}}));
  EXPECT_TRUE(set.add({0, 100}));
  EXPECT_EQ(list(set), (Ranges{{0, 100}}));
}

TEST(RangeSet, add__refuses_without_change_when_full_but_still_merges) {
  RangeSet<2> set;
  ASSERT_TRUE(set.add({10, 20}) && set.add({30, 40}));
  EXPECT_FALSE(set.add({50, 60}));
  EXPECT_EQ(list(set), (Ranges{{10, 20}, {30, 40}}));
  EXPECT_TRUE(set.add({15, 35}));
  EXPECT_EQ(list(set), (Ranges{{10, 40}}));
}

TEST(RangeSet, remove__splits_only_where_there_is_room) {
  RangeSet<2> set;
  ASSERT_TRUE(set.add({10, 40}));
  EXPECT_TRUE(set.remove({20, 30}));
  EXPECT_EQ(list(set), (Ranges{{10, 20}, {30, 40}}));
  EXPECT_FALSE(set.remove({12, 13}));
  EXPECT_EQ(list(set), (Ranges{{10, 20}, {30, 40}}));
  EXPECT_TRUE(set.remove({15, 35}));
  EXPECT_EQ(list(set), (Ranges{{10, 15}, {35, 40}}));
}

TEST(RangeSet, first_gap__stops_at_the_next_range_and_at_the_limit) {
  RangeSet<4> set;
  ASSERT_TRUE(set.add({10, 20}) && set.add({30, 40}));
  EXPECT_EQ(set.first_gap({0, 100}), (ByteRange{0, 10}));
  EXPECT_EQ(set.first_gap({10, 100}), (ByteRange{20, 30}));
  EXPECT_EQ(set.first_gap({35, 100}), (ByteRange{40, 100}));
  EXPECT_EQ(set.first_gap({12, 18}), (ByteRange{18, 18}));
  EXPECT_EQ(set.first_gap({12, 25}), (ByteRange{20, 25}));
  EXPECT_EQ(set.first_gap({22, 25}), (ByteRange{22, 25}));
}

// Every operation against a plain bitmap.
TEST(RangeSet, random_operations__agree_with_a_bitmap) {
  constexpr uint64_t kSeed = 20260101;
  constexpr size_t kBytes = 200;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Rng rng(kSeed);
  RangeSet<6> set;
  std::vector<bool> model(kBytes);
  for (int step = 0; step < 50'000; ++step) {
    ByteRange r{rng.below(kBytes), 0};
    r.end = std::min<uint64_t>(kBytes, r.begin + rng.below(12));
    const auto before = list(set);
    const uint64_t kind = rng.below(20);
    bool done = true;
    std::vector<bool> wanted = model;
    if (kind < 12) {
      for (auto i = r.begin; i < r.end; ++i) wanted[i] = true;
      done = set.add(r);
    } else if (kind < 19) {
      for (auto i = r.begin; i < r.end; ++i) wanted[i] = false;
      done = set.remove(r);
    } else {
      for (StreamOffset i = 0; i < r.begin / 2; ++i) wanted[i] = false;
      set.trim_below(r.begin / 2);
    }
    if (done)
      model = wanted;
    else
      ASSERT_EQ(list(set), before);
    uint64_t bytes = 0, inside = 0;
    for (size_t i = 0; i < kBytes; ++i) {
      ASSERT_EQ(set.contains(StreamOffset{i}), model[i]) << "step " << step << " byte " << i;
      bytes += model[i];
      inside += model[i] && i >= r.begin && i < r.end;
    }
    ASSERT_EQ(set.bytes(), bytes);
    ASSERT_EQ(set.bytes_in(r), inside);
    ASSERT_EQ(set.contains(r), inside == r.size());
    ASSERT_EQ(set.intersects(r), inside > 0);
    for (size_t i = 1; i < set.size(); ++i) ASSERT_LT(set[i - 1].end, set[i].begin);
  }
}

}  // namespace
}  // namespace tto
