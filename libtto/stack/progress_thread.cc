#include "libtto/stack/progress_thread.hh"

#include <linux/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "libtto/base/fd_map.hh"
#include "libtto/stack/clock.hh"
#include "libtto/stack/sharing.hh"
#include "libtto/stack/stack_impl.hh"

namespace tto::stack {
namespace {

constexpr size_t kStackBytes = 256 * 1024;  // thread-local storage of the application's libraries lies in it too
constexpr Duration kParkedWithChildren = seconds(1);
constexpr int64_t kMaxTickFactor = 8;  // while the leader sleeps and nothing happens, looking less often will do

class Progress {
 public:
  explicit Progress(Stack& stack) : stack_(stack), list_(stack.impl().waiters) {}

  [[noreturn]] void run() {
    while (true) {
      serve_sharing_requests();
      stack_.lock().lock();
      if (is_unused()) {
        park();
        continue;
      }
      const uint64_t progress_before = stack_.progress_count();
      stack_.lock().unlock();
      sleep(-1, stack_.config().progress_tick * factor_);
      stack_.lock().lock();
      if (stack_.progress_count() != progress_before) {
        factor_ = 1;
      } else if (list_.leader != nullptr && !has_work()) {
        factor_ = std::min(factor_ * 2, kMaxTickFactor);
      } else {
        lead();
        factor_ = 1;
      }
      stack_.lock().unlock();
    }
  }

 private:
  bool is_unused() {
    const Stack::Impl& i = stack_.impl();
    return stack_.connection_count() == 0 && i.listener_count == 0 && i.environment.next_event() == kNever;
  }

  void park() {
    list_.parked.store(WaitList::kParked, std::memory_order_relaxed);
    stack_.lock().unlock();
    if (has_living_children()) {  // one may ask for what is gone
      uint32_t parked = WaitList::kParked;
      if (list_.parked.compare_exchange_strong(parked, WaitList::kParkedAtDescriptor)) sleep(-1, kParkedWithChildren);
      return;
    }
    sys::futex(reinterpret_cast<uint32_t*>(&list_.parked), FUTEX_WAIT | FUTEX_PRIVATE_FLAG, WaitList::kParked);
  }

  bool has_work() {
    if (stack_.next_deadline() <= read_clock()) return true;
    pollfd fd{stack_.wait_fd(), POLLIN, 0};
    return fd.fd >= 0 && sys::poll(&fd, 1, 0) > 0;
  }

  /// Until somebody else progresses or wants to lead. A leader that is set is gone: it did not see what there was to
  /// do.
  void lead() {
    stack_.counters().add_owned(stats::Counter::progress_takeover);
    list_.leader = nullptr;
    list_.progress_thread_leads = true;
    while (list_.progress_thread_leads && !is_unused() && !has_sharing_requests()) {
      const Instant now = read_clock();
      stack_.run_once(now);
      stack_.flush_acks(now);
      const uint64_t progress = stack_.progress_count();
      const Instant deadline = stack_.next_deadline();
      Duration timeout = deadline == kNever ? kForever : deadline - now;
      const int wait_fd = stack_.wait_fd();  // now: without the lock another thread may replace the port
      if (wait_fd < 0) timeout = std::min(timeout, milliseconds(1));
      list_.led_until = deadline;
      stack_.lock().unlock();
      if (timeout > Duration{}) sleep(wait_fd, timeout);
      stack_.lock().lock();
      list_.led_until = {};
      stack_.impl().has_slept = true;
      if (stack_.progress_count() != progress) break;
    }
    list_.progress_thread_leads = false;
  }

  void sleep(int wait_fd, Duration timeout) {
    pollfd fds[2] = {{list_.progress_wake_fd, POLLIN, 0}, {wait_fd, POLLIN, 0}};
    timespec t{static_cast<time_t>(timeout.ns / 1'000'000'000), static_cast<long>(timeout.ns % 1'000'000'000)};
    sys::ppoll(fds, 2, timeout == kForever ? nullptr : &t, nullptr);
    uint64_t count;
    if ((fds[0].revents & POLLIN) != 0) sys::read(list_.progress_wake_fd, &count, sizeof count);
  }

  static constexpr Duration kForever{INT64_MAX};
  Stack& stack_;
  WaitList& list_;
  int64_t factor_ = 1;
};

void* progress_main(void* stack) {
  sys::call(SYS_prctl, PR_SET_NAME, "tto-progress");
  Progress(*static_cast<Stack*>(stack)).run();
}

}  // namespace

bool start_progress_thread(Stack& stack) {
  const int fd = sys::eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return false;
  WaitList& list = stack.impl().waiters;
  list.progress_wake_fd = make_internal_fd(fd);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
  pthread_attr_setschedpolicy(&attributes, SCHED_OTHER);
  const sched_param priority{};
  pthread_attr_setschedparam(&attributes, &priority);
  // The new thread starts with the creator's mask: every signal is the application's.
  sigset_t all, old;
  __builtin_memset(&all, 0xff, sizeof all);
  __builtin_memset(&old, 0, sizeof old);
  sys::rt_sigprocmask(SIG_SETMASK, &all, &old);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, progress_main, &stack);
  sys::rt_sigprocmask(SIG_SETMASK, &old, nullptr);
  pthread_attr_destroy(&attributes);
  if (error == 0) return true;
  close_internal_fd(list.progress_wake_fd);
  list.progress_wake_fd = -1;
  return false;
}

}  // namespace tto::stack
