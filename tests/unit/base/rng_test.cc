#include "libtto/base/rng.hh"

#include <gtest/gtest.h>

#include <array>

namespace tto {
namespace {

TEST(Rng, next__same_seed_same_numbers_other_seed_others) {
  Rng a(7), b(7), c(8);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const uint64_t x = a.next();
    ASSERT_EQ(x, b.next());
    differs |= x != c.next();
  }
  EXPECT_TRUE(differs);
}

TEST(Rng, below__reaches_every_value_about_equally) {
  Rng rng(1);
  std::array<int, 10> hits{};
  for (int i = 0; i < 100'000; ++i) ++hits.at(rng.below(hits.size()));
  for (int h : hits) EXPECT_NEAR(h, 10'000, 500);
}

TEST(Rng, between__includes_both_ends) {
  Rng rng(2);
  bool low = false, high = false;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t x = rng.between(3, 5);
    ASSERT_TRUE(x >= 3 && x <= 5);
    low |= x == 3;
    high |= x == 5;
  }
  EXPECT_TRUE(low && high);
}

}  // namespace
}  // namespace tto
