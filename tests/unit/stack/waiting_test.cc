// The lock, deferred signals and waiting, with real threads and signals but nothing that depends on speed.
#include "libtto/stack/waiting.hh"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "libtto/stack/clock.hh"
#include "libtto/stack/signal_deferral.hh"
#include "tests/unit/stack/stack_pair.hh"

namespace tto::stack {
namespace {

TEST(StackLock, lock__is_exclusive) {
  StackLock lock;
  int counter = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20000; ++i) {
        StackLockGuard guard(lock);
        ++counter;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(counter, 80000);
}

TEST(StackLock, try_lock__and_holder) {
  StackLock lock;
  EXPECT_FALSE(lock.is_held_by_this_thread());
  ASSERT_TRUE(lock.try_lock());
  EXPECT_TRUE(lock.is_held_by_this_thread());
  std::thread([&] {
    EXPECT_FALSE(lock.try_lock());
    EXPECT_FALSE(lock.is_held_by_this_thread());
  }).join();
  lock.unlock();
  EXPECT_TRUE(lock.try_lock());
  lock.unlock();
}

int g_handled = 0;
int g_value = 0;
StackLock* g_lock = nullptr;

void wrapper(int sig, siginfo_t* info, void* context) {
  if (defer_signal_if_locked(sig, info, context)) return;
  note_handler_ran();
  ++g_handled;
  g_value = info->si_value.sival_int;
  StackLockGuard guard(*g_lock);  // the handler may use what the lock protects
}

class Signals : public ::testing::Test {
 protected:
  void SetUp() override {
    g_handled = g_value = 0;
    g_lock = &lock_;
    struct sigaction action {};
    action.sa_sigaction = wrapper;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &action, &old_);
  }
  void TearDown() override { sigaction(SIGUSR1, &old_, nullptr); }
  StackLock lock_;
  struct sigaction old_ {};
};

/// ThreadSanitizer keeps a queued signal back until the next call that it knows.
void let_signals_arrive() { usleep(0); }

TEST_F(Signals, handler__runs_when_the_lock_is_released_and_keeps_its_siginfo) {
  const uint32_t before = handlers_run();
  lock_.lock();
  sigval value{};
  value.sival_int = 4711;
  ASSERT_EQ(sigqueue(getpid(), SIGUSR1, value), 0);
  let_signals_arrive();
  raise(SIGUSR1);  // one of a kind is enough, as in the kernel
  EXPECT_EQ(g_handled, 0);
  lock_.unlock();
  let_signals_arrive();
  EXPECT_EQ(g_handled, 1);
  EXPECT_EQ(g_value, 4711);
  EXPECT_EQ(handlers_run(), before + 1);
}

TEST_F(Signals, handler__runs_at_once_without_the_lock) {
  raise(SIGUSR1);
  EXPECT_EQ(g_handled, 1);
}

// --- wait ----------------------------------------------------------------------------------------------------------

class Flag final : public Sleeper {
 public:
  bool is_ready() override { return ready.load(); }
  int sleep(int wait_fd, int wake_fd, Duration timeout, const sigset_t* mask) override {
    ++sleeps;
    if (before_sleep) before_sleep();
    return Sleeper::sleep(wait_fd, wake_fd, timeout, mask);
  }
  std::atomic<bool> ready{false};
  std::atomic<int> sleeps{0};
  std::function<void()> before_sleep;
};

class Waiting : public ::testing::Test {
 protected:
  Waiting() : pair_(PairConfig{}) {}
  Stack& stack() { return *pair_.client.stack; }
  StackPair pair_;
};

TEST_F(Waiting, wait__what_is_ready_needs_no_sleep) {
  Flag flag;
  flag.ready = true;
  StackLockGuard guard(stack().lock());
  EXPECT_EQ(wait(stack(), flag, kNever, nullptr), WaitResult::kReady);
  EXPECT_EQ(flag.sleeps, 0);
}

TEST_F(Waiting, wait__a_time_in_the_past_polls_once) {
  Flag flag;
  StackLockGuard guard(stack().lock());
  EXPECT_EQ(wait(stack(), flag, Instant{}, nullptr), WaitResult::kTimeout);
  EXPECT_EQ(flag.sleeps, 0);
}

TEST_F(Waiting, wait__times_out_after_sleeping) {
  Flag flag;
  StackLockGuard guard(stack().lock());
  // A thread that does not run for all of the time has none left to sleep: then it waits longer.
  for (int ms = 3; flag.sleeps == 0 && ms < 10'000; ms *= 4) {
    const Instant until = read_clock() + milliseconds(ms);
    ASSERT_EQ(wait(stack(), flag, until, nullptr), WaitResult::kTimeout);
    ASSERT_GE(read_clock(), until);
  }
  EXPECT_GT(flag.sleeps, 0);
  EXPECT_TRUE(stack().lock().is_held_by_this_thread());
}

TEST_F(Waiting, S5_a_signal_that_was_pending_interrupts_the_sleep) {
  struct sigaction action {}, old {};
  action.sa_handler = [](int) {};
  sigaction(SIGUSR2, &action, &old);
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  raise(SIGUSR2);
  sigset_t none = before;
  sigdelset(&none, SIGUSR2);
  Flag flag;
  {
    StackLockGuard guard(stack().lock());
    EXPECT_EQ(wait(stack(), flag, kNever, &none), WaitResult::kInterrupted);
  }
  sigset_t now;
  pthread_sigmask(SIG_SETMASK, nullptr, &now);
  EXPECT_TRUE(sigismember(&now, SIGUSR2)) << "the mask is as before";
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  sigaction(SIGUSR2, &old, nullptr);
}

TEST_F(Waiting, S5_a_signal_between_the_last_look_and_the_sleep_is_not_lost) {
  struct sigaction action {}, old {};
  action.sa_handler = [](int) {};
  sigaction(SIGUSR2, &action, &old);
  Flag flag;
  flag.before_sleep = [] { raise(SIGUSR2); };
  StackLockGuard guard(stack().lock());
  EXPECT_EQ(wait(stack(), flag, kNever, nullptr), WaitResult::kInterrupted);
  EXPECT_EQ(flag.sleeps, 1);
  sigaction(SIGUSR2, &old, nullptr);
}

TEST_F(Waiting, notify__wakes_an_armed_thread_and_a_follower_leads_when_the_leader_leaves) {
  constexpr int kThreads = 4;
  Flag flags[kThreads];
  std::atomic<ThreadWaiter*> waiters[kThreads] = {};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      StackLockGuard guard(stack().lock());
      waiters[i] = &ThreadWaiter::of_this_thread();
      EXPECT_EQ(wait(stack(), flags[i], kNever, nullptr), WaitResult::kReady);
    });
  }
  for (int i = 0; i < kThreads; ++i) {
    while (waiters[i] == nullptr || flags[i].sleeps == 0) std::this_thread::yield();
    StackLockGuard guard(stack().lock());
    flags[i].ready = true;
    waiters[i].load()->notify(0);
  }
  for (std::thread& t : threads) t.join();
}

TEST_F(Waiting, watcher__data_wakes_the_thread_that_waits_for_it) {
  socket::ListenSocket* listener = pair_.listen(80, 4);
  const StackPair::Ends ends = pair_.connected(40000, listener);
  ASSERT_NE(ends.server, nullptr);
  class Readable final : public Sleeper {
   public:
    explicit Readable(socket::StreamSocket& s) : socket_(s) {}
    bool is_ready() override { return socket_.readable_bytes() > 0; }

   private:
    socket::StreamSocket& socket_;
  } sleeper(*ends.client);
  // The link's virtual clock stands still: all of this is one instant to it, and nothing is delayed by more.
  send_bytes(*ends.server, "ping", 4, pair_.now);
  pair_.server.stack->push(pair_.now);
  StackLockGuard guard(stack().lock());
  ThreadWaiter& self = ThreadWaiter::of_this_thread();
  ends.client->readiness().add(self);
  EXPECT_EQ(wait(stack(), sleeper, kNever, nullptr), WaitResult::kReady);
  EXPECT_TRUE(self.was_notified());
  socket::Readiness::remove(self);
}

}  // namespace
}  // namespace tto::stack
