#include "libtto/base/settings.hh"

#include <gtest/gtest.h>

#include <cstdlib>

namespace tto {
namespace {

// One test: a process remembers once.
TEST(Settings, setting__survives_a_cleared_environment) {
  setenv("TTO_HELPER", "/run/somewhere", 1);
  unsetenv("TTO_PROFILE");
  remember_settings();
  clearenv();
  setenv("TTO_PROFILE", "latency", 1);
  EXPECT_STREQ(setting("TTO_HELPER"), "/run/somewhere");
  EXPECT_EQ(setting("TTO_PROFILE"), nullptr);
  EXPECT_EQ(setting("PATH"), nullptr);
}

}  // namespace
}  // namespace tto
