// The three classes of failure, and there is no fourth: what a peer did is a DropReason or an RST; what the application
// did is an errno; what we did wrong is a bug: abort in debug builds, and in release builds the caller gives up that
// connection only. We run inside somebody else's process.
#pragma once

#include <cstdint>

namespace tto {

/// Counts and, in debug builds, aborts with `what`. Async-signal-safe; logs at most once per site to standard error.
void report_bug(const char* what, const char* file, int line);

/// How many were reported since the process started.
uint64_t bug_count();

}  // namespace tto

/// True if `condition` holds; otherwise reports our bug and is false: `if (!TTO_SOUND(x <= y)) return give_up();`
#define TTO_SOUND(condition) \
  (__builtin_expect(static_cast<bool>(condition), 1) || (::tto::report_bug(#condition, __FILE__, __LINE__), false))
