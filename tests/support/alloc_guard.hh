// Shows that a stretch of code does not allocate: while an AllocGuard lives, calls of operator new and delete in its
// thread are counted. A test that uses it compiles tests/support/alloc_guard.cc in, which replaces the global
// operators.
#pragma once

#include <cstddef>

namespace tto::testing {

class AllocGuard {
 public:
  AllocGuard();
  ~AllocGuard();
  AllocGuard(const AllocGuard&) = delete;
  AllocGuard& operator=(const AllocGuard&) = delete;

  /// Since this guard was made.
  size_t allocations() const;
};

}  // namespace tto::testing
