// A test body run in a network namespace of its own: made by unshare() in a thread, gone with it. Needs root.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>

namespace tto::control {

/// Runs `body` in a thread with a new, empty network namespace. False: not permitted; skip the test, loudly.
template <typename F>
bool in_fresh_namespace(F&& body) {
  bool is_permitted = false;
  std::thread thread([&] {
    is_permitted = ::unshare(CLONE_NEWNET) == 0;
    if (is_permitted) body();
  });
  thread.join();
  return is_permitted;
}

/// A shell command in the calling thread's namespace; must succeed.
inline void run(const std::string& command) { ASSERT_EQ(std::system(command.c_str()), 0) << command; }

#define TTO_IN_FRESH_NAMESPACE(...) \
  if (!::tto::control::in_fresh_namespace(__VA_ARGS__)) GTEST_SKIP() << "NOT TESTED: needs root to make a namespace"

}  // namespace tto::control
