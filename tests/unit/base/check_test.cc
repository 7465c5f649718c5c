#include "libtto/base/check.hh"

#include <gtest/gtest.h>

namespace tto {
namespace {

TEST(Check, sound__a_true_condition_is_silent) {
  const uint64_t before = bug_count();
  EXPECT_TRUE(TTO_SOUND(1 + 1 == 2));
  EXPECT_EQ(bug_count(), before);
}

#ifdef NDEBUG
TEST(Check, sound__a_bug_in_a_release_build_is_counted_and_logged_once) {
  const uint64_t before = bug_count();
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(TTO_SOUND(i < 0));
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(bug_count(), before + 3);
  EXPECT_NE(log.find("i < 0"), std::string::npos);
  EXPECT_EQ(log.find("i < 0"), log.rfind("i < 0"));
}
#else
TEST(CheckDeathTest, sound__a_bug_in_a_debug_build_aborts_with_the_condition) {
  EXPECT_DEATH((void)TTO_SOUND(1 + 1 == 3), "libtto: bug: 1 \\+ 1 == 3 at .*check_test.cc:[0-9]+");
}
#endif

}  // namespace
}  // namespace tto
