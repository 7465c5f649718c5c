// How a thread waits inside a libtto call: inline progress, a budgeted spin, then a real sleep (DESIGN 2.10).
//
//   lock; loop { run_once; if ready: done; spin while it pays; arm; unlock; sleep; lock; disarm }
//
// The API layer brings what it waits for as a Sleeper; this file owns budget, arming and hand-off to the progress thread.
#pragma once

#include <signal.h>

#include "libtto/base/time.hh"
#include "libtto/socket/readiness.hh"
#include "libtto/stack/stack.hh"

namespace tto::stack {

enum class WaitResult : uint8_t { kReady, kTimeout, kInterrupted };

/// One per thread, in thread-local storage (never on the stack: a signal handler may longjmp out of a sleep). Its
/// eventfd is made with the first sleep and written only while the thread is armed.
class ThreadWaiter final : public socket::Watcher {
 public:
  static ThreadWaiter& of_this_thread();
  void notify(uint32_t events) override;   // under the lock; wakes the thread if it is armed
  int wake_fd();
  bool was_notified() const { return notified_; }
  void clear() { notified_ = false; }

 private:
  friend class WaitScope;
  bool notified_ = false;
  bool armed_ = false;
  int wake_fd_ = -1;
};

/// What one blocking call waits for.
class Sleeper {
 public:
  /// True: stop waiting. Under the lock, after every turn.
  virtual bool is_ready() = 0;
  /// Sleeps until `wait_fd` (the stack's), `wake_fd` (this thread's) or something of the caller's own is readable, or
  /// until `timeout`; without the lock. `mask` as for ppoll. Returns 0 or -EINTR. The default polls just the two.
  virtual int sleep(int wait_fd, int wake_fd, Duration timeout, const sigset_t* mask);

 protected:
  ~Sleeper() = default;
};

/// Waits with the stack's lock held on entry and exit. `until`: kNever waits for ever; an instant in the past polls once.
/// Spinning, arming, deadlines of the stack and the progress thread are handled here.
WaitResult wait(Stack& stack, Sleeper& sleeper, Instant until, const sigset_t* mask);

}  // namespace tto::stack
