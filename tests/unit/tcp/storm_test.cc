// Millions of random segments: nothing that a peer sends, in whatever order, breaks an invariant.
#include "tests/unit/tcp/storm.hh"

#include <gtest/gtest.h>

#include <random>

namespace tto::tcp {
namespace {

struct Seeded {
  std::mt19937 rng;
  uint32_t next() { return static_cast<uint32_t>(rng()); }
  bool empty() const { return false; }
};

TEST(StormTest, invariants_hold) {
  for (uint32_t seed = 1; seed <= 300; ++seed) {
    Seeded choices{std::mt19937(seed)};
    Storm<Seeded> storm(choices);
    const char* broken = storm.run(10'000);
    ASSERT_EQ(broken, nullptr) << broken << ", seed " << seed;
  }
}

TEST(StormTest, a_connection_fits_in_its_slot) { EXPECT_LE(sizeof(Connection), 3584u); }

}  // namespace
}  // namespace tto::tcp
