// Signals while the stack's lock is held. Whoever interposes sigaction() wraps the application's handlers:
//
//   wrapper(sig, info, ucontext) {
//     if (defer_signal_if_locked(sig, info, ucontext)) return;   // comes again when the lock is released
//     note_handler_ran();
//     application_handler(sig, info, ucontext);                  // may call libtto, may longjmp
//   }
//
// Without a wrapper (tto.h used directly) a handler must not call libtto, and must not longjmp out of a libtto call.
// All of it is async-signal-safe and concerns the calling thread only.
#pragma once

#include <signal.h>

#include <cstdint>

namespace tto::stack {

/// True: queued, do not run the handler now; StackLock::unlock() raises the signal again, its siginfo kept. False: no
/// lock is held, or the signal is a fault (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP of the kernel's), which cannot wait.
bool defer_signal_if_locked(int sig, const siginfo_t* info, void* ucontext);
/// A handler of the application runs in this thread: a blocking call in progress returns EINTR (or goes on, by
/// SA_RESTART: the caller decides).
void note_handler_ran();
uint32_t handlers_run();

/// For StackLock.
void begin_deferral();
void end_deferral();

}  // namespace tto::stack
