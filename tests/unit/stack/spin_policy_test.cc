// CONFORMANCE B5: spinning gives way where it does not pay.
#include "libtto/stack/spin_policy.hh"

#include <gtest/gtest.h>

namespace tto::stack {
namespace {

uint32_t turns_between_yields(const SpinPolicy& p) {
  for (uint32_t turn = 1;; ++turn)
    if (p.yields_after(turn)) return turn;
}

TEST(SpinPolicy, B5_spins_that_bring_nothing_end_but_for_a_probe_now_and_then) {
  SpinPolicy p;
  int spins = 0;
  for (int i = 0; i < 1000; ++i) {
    if (!p.pays()) continue;
    ++spins;
    p.on_end(false);
  }
  EXPECT_LT(spins, 50);
  EXPECT_GT(spins, 20);
}

TEST(SpinPolicy, B5_who_needs_our_cpu_gets_it_at_once) {
  SpinPolicy p;
  EXPECT_EQ(turns_between_yields(p), 16u);
  for (int i = 0; i < 4; ++i) p.on_turn(microseconds(5), true, true);  // the yield let it run
  EXPECT_EQ(turns_between_yields(p), 1u);
  for (int i = 0; i < 4; ++i) p.on_turn(nanoseconds(400), true, true);  // it runs elsewhere now
  EXPECT_EQ(turns_between_yields(p), 16u);
}

TEST(SpinPolicy, B5_a_busy_neighbour_makes_us_sleep) {
  SpinPolicy p;
  for (int i = 0; i < 20; ++i) p.on_end(true);
  int spins = 0;
  for (int i = 0; i < 100; ++i) {
    if (!p.pays()) continue;
    ++spins;
    p.on_turn(milliseconds(3), true, true);  // what we waited for had long been there
    p.on_end(true);
  }
  EXPECT_LT(spins, 20);
}

TEST(SpinPolicy, B5_one_interruption_changes_nothing) {
  SpinPolicy p;
  for (int i = 0; i < 20; ++i) p.on_end(true);
  p.on_turn(milliseconds(3), false, false);
  p.on_end(false);
  EXPECT_TRUE(p.pays());
}

}  // namespace
}  // namespace tto::stack
