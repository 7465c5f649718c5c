// How a thread waits inside a libtto call: inline progress, a budgeted spin, then a real sleep (DESIGN 2.10).
//
//   lock; loop { run_once; if ready: done; spin while it pays; arm; unlock; sleep; lock; disarm }
//
// One sleeper at a time, the *leader*, sleeps on the stack's wait_fd and progresses the stack for all; the others sleep
// on their own eventfd and are woken when what they watch happens, or to lead when the leader leaves. When no
// application thread leads or progresses, the progress thread (progress_thread.hh) does.
//
// The API layer brings what it waits for as a Sleeper; this file owns budget, arming and hand-off.
#pragma once

#include <signal.h>

#include <atomic>

#include "libtto/base/time.hh"
#include "libtto/socket/readiness.hh"
#include "libtto/stack/spin_policy.hh"
#include "libtto/stack/stack.hh"

namespace tto::stack {

enum class WaitResult : uint8_t { kReady, kTimeout, kInterrupted };

/// One per thread, never on the stack (a signal handler may longjmp out of a sleep), never freed (a dead thread's may
/// still be linked somewhere; it is reused). Its eventfd is made with the first sleep and written only while armed.
class ThreadWaiter final : public socket::Watcher {
 public:
  static ThreadWaiter& of_this_thread();
  /// Under the lock: remembers it, and wakes the thread if it is armed. A Watcher of the caller's own (one per socket
  /// of a poll) calls it too.
  void notify(uint32_t events) override;
  /// -1 if no descriptor could be made; then a sleep is at most a millisecond.
  int wake_fd();
  bool was_notified() const { return notified_; }
  void clear() { notified_ = false; }

 private:
  friend struct WaitList;
  friend class Wait;
  friend void forget_waiters_after_fork();

  static ThreadWaiter* claim();
  static void release_at_thread_exit(void* waiter);
  void wake();
  void disarm();

  struct FollowerLink : IntrusiveNode {
    ThreadWaiter* waiter = nullptr;
  };
  FollowerLink follower_link_;   // of the stack it sleeps on
  bool armed_ = false;
  bool signaled_ = false;        // the eventfd was written and not yet read
  bool notified_ = false;
  int wake_fd_ = -1;
  SpinPolicy spin_;
  std::atomic<bool> in_use_{false};
  ThreadWaiter* next_waiter_ = nullptr;  // of all that were ever made
};

/// In a forked child: the eventfds are shared with the parent and must not be used.
void forget_waiters_after_fork();

/// What one blocking call waits for.
class Sleeper {
 public:
  /// True: stop waiting. Under the lock, after every turn.
  virtual bool is_ready() = 0;
  /// Sleeps until `wait_fd` (the stack's; -1 for a follower), `wake_fd` (this thread's) or something of the caller's own
  /// is readable, or until `timeout` (kForever: none); without the lock. `mask` as for ppoll, never null: all signals
  /// are blocked on entry, so that none is lost between the last look and the sleep. Returns 0 or -EINTR. The default
  /// polls just the two.
  virtual int sleep(int wait_fd, int wake_fd, Duration timeout, const sigset_t* mask) {
    return poll_both(wait_fd, wake_fd, timeout, mask);
  }
  static int poll_both(int wait_fd, int wake_fd, Duration timeout, const sigset_t* mask);

  static constexpr Duration kForever{INT64_MAX};

 protected:
  ~Sleeper() = default;
};

/// Waits with the stack's lock held on entry and exit. `until`: kNever waits for ever; an instant in the past polls once.
/// `mask`: the signal mask while waiting, as for ppoll; null: the thread's own.
/// Spinning, arming, deadlines of the stack and the progress thread are handled here.
WaitResult wait(Stack& stack, Sleeper& sleeper, Instant until, const sigset_t* mask);

}  // namespace tto::stack
