#include "libtto/stack/waiting.hh"

#include <pthread.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <new>

#include "libtto/base/fd_map.hh"
#include "libtto/stack/clock.hh"
#include "libtto/stack/signal_deferral.hh"
#include "libtto/stack/stack_impl.hh"

namespace tto::stack {
namespace {

constinit std::atomic<ThreadWaiter*> g_waiters{nullptr};
constinit thread_local ThreadWaiter* t_waiter = nullptr;

// An answer's end often follows within this: one acknowledgement for both. A wait that sleeps does not wait for it.
constexpr Duration kAckRide = microseconds(20);
constexpr Duration kSleepWithoutEvent = milliseconds(1);

/// Has `at_exit(value)` called when this thread ends. Without a key the value is simply not reused.
void at_thread_exit(void (*at_exit)(void*), void* value) {
  static constinit std::atomic<uint64_t> key_plus_one{0};
  uint64_t known = key_plus_one.load(std::memory_order_acquire);
  if (known == 0) {
    pthread_key_t key = 0;
    if (pthread_key_create(&key, at_exit) != 0) return;
    if (key_plus_one.compare_exchange_strong(known, uint64_t{key} + 1)) {
      known = uint64_t{key} + 1;
    } else {
      pthread_key_delete(key);
    }
  }
  pthread_setspecific(static_cast<pthread_key_t>(known - 1), value);
}

timespec timespec_of(Duration d) {
  return {static_cast<time_t>(d.ns / 1'000'000'000), static_cast<long>(d.ns % 1'000'000'000)};
}

}  // namespace

// --- threads -------------------------------------------------------------------------------------------------------

ThreadWaiter& ThreadWaiter::of_this_thread() {
  if (t_waiter == nullptr) t_waiter = claim();
  return *t_waiter;
}

ThreadWaiter* ThreadWaiter::claim() {
  ThreadWaiter* found = nullptr;
  for (ThreadWaiter* w = g_waiters.load(std::memory_order_acquire); w != nullptr; w = w->next_waiter_) {
    bool expected = false;
    if (w->in_use_.compare_exchange_strong(expected, true, std::memory_order_acquire)) {
      found = w;
      break;
    }
  }
  if (found == nullptr) {
    constexpr size_t kBytes = (sizeof(ThreadWaiter) + 4095) / 4096 * 4096;
    void* memory = sys::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys::is_error(memory)) __builtin_trap();  // a thread that cannot have a page cannot wait
    found = new (memory) ThreadWaiter();
    found->follower_link_.waiter = found;
    found->in_use_.store(true, std::memory_order_relaxed);
    found->next_waiter_ = g_waiters.load(std::memory_order_relaxed);
    while (!g_waiters.compare_exchange_weak(found->next_waiter_, found, std::memory_order_release)) {
    }
  }
  found->armed_ = found->signaled_ = found->notified_ = false;
  found->spin_.reset();
  at_thread_exit(release_at_thread_exit, found);
  return found;
}

void ThreadWaiter::release_at_thread_exit(void* waiter) {
  t_waiter = nullptr;
  static_cast<ThreadWaiter*>(waiter)->in_use_.store(false, std::memory_order_release);
}

void forget_waiters_after_fork() {
  for (ThreadWaiter* w = g_waiters.load(std::memory_order_acquire); w != nullptr; w = w->next_waiter_) {
    if (w->wake_fd_ >= 0) close_internal_fd(w->wake_fd_);
    w->wake_fd_ = -1;
    w->armed_ = w->signaled_ = w->notified_ = false;
    new (&w->follower_link_) ThreadWaiter::FollowerLink();
    w->follower_link_.waiter = w;
    if (w != t_waiter) w->in_use_.store(false, std::memory_order_relaxed);
  }
}

int ThreadWaiter::wake_fd() {
  if (wake_fd_ >= 0) return wake_fd_;
  const int fd = sys::eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd >= 0) wake_fd_ = make_internal_fd(fd);
  return wake_fd_;
}

void ThreadWaiter::notify(uint32_t /*events*/) {
  notified_ = true;
  if (armed_) wake();
}

void ThreadWaiter::wake() {
  if (signaled_ || wake_fd_ < 0) return;
  signaled_ = true;
  const uint64_t one = 1;
  sys::write(wake_fd_, &one, sizeof one);
}

void ThreadWaiter::disarm() {
  armed_ = false;
  follower_link_.unlink();
  if (!signaled_) return;
  signaled_ = false;
  uint64_t count;
  sys::read(wake_fd_, &count, sizeof count);
}

// --- the stack's list ----------------------------------------------------------------------------------------------

bool WaitList::try_lead(ThreadWaiter& waiter) {
  if (leader != nullptr && leader != &waiter) return false;
  leader = &waiter;
  if (progress_thread_leads) {
    progress_thread_leads = false;
    const uint64_t one = 1;
    sys::write(progress_wake_fd, &one, sizeof one);
  }
  return true;
}

void WaitList::leave(ThreadWaiter& waiter) {
  if (leader != &waiter) return;
  leader = nullptr;
  IntrusiveNode* node = followers.pop_front();
  if (node == nullptr) return;
  static_cast<ThreadWaiter::FollowerLink*>(node)->waiter->wake();
}

void WaitList::unpark() {
  if (parked.load(std::memory_order_relaxed) == kAwake) return;
  if (parked.exchange(kAwake, std::memory_order_relaxed) == kParkedAtDescriptor) {
    const uint64_t one = 1;
    sys::write(progress_wake_fd, &one, sizeof one);
    return;
  }
  sys::futex(reinterpret_cast<uint32_t*>(&parked), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
}

void WaitList::note_deadline(Instant deadline) {
  if (deadline >= led_until) return;
  led_until = {};
  const uint64_t one = 1;
  sys::write(progress_wake_fd, &one, sizeof one);
}

// --- one wait ------------------------------------------------------------------------------------------------------

int Sleeper::poll_both(int wait_fd, int wake_fd, Duration timeout, const sigset_t* mask) {
  pollfd fds[2] = {{wait_fd, POLLIN, 0}, {wake_fd, POLLIN, 0}};  // negative ones are ignored
  timespec t = timespec_of(timeout);
  const int n = sys::ppoll(fds, 2, timeout == kForever ? nullptr : &t, mask);
  return n == -EINTR ? -EINTR : 0;
}

class Wait {
 public:
  Wait(Stack& stack, Sleeper& sleeper, Instant until, const sigset_t* mask)
      : stack_(stack),
        list_(stack.impl().waiters),
        self_(ThreadWaiter::of_this_thread()),
        sleeper_(sleeper),
        until_(until),
        mask_(mask),
        handlers_(handlers_run()) {}

  WaitResult run() {
    flush_acks_at_ = read_clock() + kAckRide;
    if (turn()) return result_;
    if (mask_ == nullptr && stack_.config().spin_budget.ns > 0 && self_.spin_.pays() && spin()) return result_;
    sigset_t old;
    block_signals(&old);
    while (!sleep_once(mask_ != nullptr ? mask_ : &old)) {
    }
    // The lock stays held: a handler that runs now is deferred until the caller has released it.
    sys::rt_sigprocmask(SIG_SETMASK, &old, nullptr);
    return result_;
  }

 private:
  /// One turn of the stack; true if the wait is over.
  bool turn() {
    now_ = read_clock();
    stack_.run_once(now_);
    if (sleeper_.is_ready()) return done(WaitResult::kReady);
    if (now_ >= flush_acks_at_) stack_.flush_acks(now_);
    if (handlers_run() != handlers_) return done(WaitResult::kInterrupted);
    return now_ >= until_ && done(WaitResult::kTimeout);
  }

  bool done(WaitResult result) {
    result_ = result;
    return true;
  }

  bool spin() {
    stats::Counters& counters = stack_.counters();
    const Instant end = now_ + stack_.config().spin_budget;
    for (uint32_t turns = 1; now_ < end; ++turns) {
      const bool make_room = stack_.lock().is_contended() || self_.spin_.yields_after(turns);
      const Instant before = now_;
      stack_.lock().unlock();
      if (make_room) {
        sys::sched_yield();
      } else {
        __builtin_ia32_pause();
      }
      stack_.lock().lock();
      const bool is_over = turn();
      self_.spin_.on_turn(now_ - before, make_room, is_over);
      if (!is_over) continue;
      self_.spin_.on_end(result_ == WaitResult::kReady);
      if (result_ == WaitResult::kReady) counters.add_owned(stats::Counter::wait_spin_useful);
      return true;
    }
    self_.spin_.on_end(false);
    counters.add_owned(stats::Counter::wait_spin_wasted);
    return false;
  }

  static void block_signals(sigset_t* old) {
    sigset_t all;
    __builtin_memset(&all, 0xff, sizeof all);
    // A fault of the application's own must still kill it where it happens.
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP}) sigdelset(&all, fault);
    __builtin_memset(old, 0, sizeof *old);
    sys::rt_sigprocmask(SIG_BLOCK, &all, old);
  }

  /// True if the wait is over.
  bool sleep_once(const sigset_t* mask) {
    if (turn()) return true;
    const bool leads = list_.try_lead(self_);
    Instant wake_at = until_;
    if (leads) {
      wake_at = std::min(wake_at, stack_.next_deadline());
      if (wake_at <= now_) return false;
    }
    const int wake_fd = self_.wake_fd();
    const int wait_fd = leads ? stack_.wait_fd() : -1;  // now: without the lock another thread may replace the port
    if (wake_fd < 0 || (leads && wait_fd < 0)) wake_at = std::min(wake_at, now_ + kSleepWithoutEvent);
    stack_.flush_acks(now_);
    self_.armed_ = true;
    if (!leads) list_.followers.push_back(self_.follower_link_);
    stack_.counters().add_owned(stats::Counter::wait_sleep);
    stack_.lock().unlock();
    const Duration timeout = wake_at == kNever ? Sleeper::kForever : wake_at - now_;
    const int slept = sleeper_.sleep(wait_fd, wake_fd, timeout, mask);
    stack_.lock().lock();
    self_.disarm();
    stack_.impl().has_slept = true;
    if (slept != -EINTR) return false;
    if (turn()) return true;
    return done(WaitResult::kInterrupted);
  }

  Stack& stack_;
  WaitList& list_;
  ThreadWaiter& self_;
  Sleeper& sleeper_;
  const Instant until_;
  const sigset_t* mask_;
  const uint32_t handlers_;
  Instant now_{}, flush_acks_at_{};
  WaitResult result_ = WaitResult::kTimeout;
};

WaitResult wait(Stack& stack, Sleeper& sleeper, Instant until, const sigset_t* mask) {
  Wait one(stack, sleeper, until, mask);
  const WaitResult result = one.run();
  stack.impl().waiters.leave(ThreadWaiter::of_this_thread());
  return result;
}

}  // namespace tto::stack
