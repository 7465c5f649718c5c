// The only place where libtto reads a clock. CLOCK_MONOTONIC through the vdso: about 20 ns, no system call.
#pragma once

#include "libtto/base/sys.hh"
#include "libtto/base/time.hh"

namespace tto::stack {

inline Instant read_clock() {
  timespec t;
  sys::clock_gettime(CLOCK_MONOTONIC, &t);
  return {int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec};
}

}  // namespace tto::stack
