// Threads for what may wait for a client: whoever blocks his own waits alone, and what follows runs where it is taken.
#include "kmod-helper/work_pool.hh"

#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>

namespace ttod {
namespace {

/// One for all tests: its threads never end.
WorkPool& pool() {
  static WorkPool* const made = [] {
    auto* const started = new WorkPool;
    started->start();
    return started;
  }();
  return *made;
}

/// Work that waits until it is let go.
class Held {
 public:
  void wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    while (!is_open_) changed_.wait(lock);
  }
  void await_waiting(int count) {
    std::unique_lock lock(mutex_);
    while (waiting_ < count) changed_.wait(lock);
  }
  void open() {
    std::unique_lock lock(mutex_);
    is_open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int waiting_ = 0;
  bool is_open_ = false;
};

/// Takes what is done until it is so.
template <typename IsSo>
bool take_until(const IsSo& is_so) {
  while (!is_so()) {
    pollfd one{pool().done_fd(), POLLIN, 0};
    if (poll(&one, 1, 10'000) != 1) return false;
    pool().take_done();
  }
  return true;
}

TEST(WorkPool, work_of_a_process__is_done_in_its_order) {
  std::vector<int> worked, done;
  for (int i = 0; i < 100; ++i)
    pool().submit(
        {1000, 1, 1}, [&worked, i] { worked.push_back(i); }, [&done, i] { done.push_back(i); });
  ASSERT_TRUE(take_until([&] { return done.size() == 100; }));
  EXPECT_EQ(worked, done);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(pool().pending(1000), 0u);
}

TEST(WorkPool, process_that_blocks__delays_itself_only) {
  Held held;
  int done = 0;
  bool has_other = false;
  pool().submit(
      {1000, 1, 1}, [&] { held.wait(); }, [&] { ++done; });
  held.await_waiting(1);
  pool().submit(
      {1000, 1, 1}, [] {}, [&] { ++done; });
  pool().submit(
      {1000, 2, 2}, [] {}, [&] { has_other = true; });
  ASSERT_TRUE(take_until([&] { return has_other; }));
  EXPECT_EQ(done, 0);
  EXPECT_TRUE(pool().is_at_work(1));
  EXPECT_TRUE(pool().has_work(1));
  EXPECT_FALSE(pool().is_at_work(2));
  EXPECT_EQ(pool().pending(1000), 2u);
  held.open();
  ASSERT_TRUE(take_until([&] { return done == 2; }));
  EXPECT_FALSE(pool().has_work(1));
}

TEST(WorkPool, user_that_blocks__delays_no_other) {
  Held held;
  int done = 0;
  bool has_other = false;
  for (int pid = 1; pid <= 8; ++pid)
    pool().submit(
        {1000, pid, static_cast<uint32_t>(pid)}, [&] { held.wait(); }, [&] { ++done; });
  held.await_waiting(4);
  pool().submit(
      {1001, 100, 100}, [] {}, [&] { has_other = true; });
  ASSERT_TRUE(take_until([&] { return has_other; }));
  int at_work = 0;
  for (uint32_t session = 1; session <= 8; ++session) at_work += pool().is_at_work(session) ? 1 : 0;
  EXPECT_EQ(at_work, 4) << "threads of a user";
  held.open();
  ASSERT_TRUE(take_until([&] { return done == 8; }));
}

TEST(WorkPool, cancelled__is_never_done_and_gives_back_what_it_held) {
  Held held;
  const auto resource = std::make_shared<int>(1);
  bool is_done = false, is_cancelled_done = false;
  pool().submit(
      {1000, 1, 1}, [&] { held.wait(); }, [&] { is_done = true; });
  held.await_waiting(1);
  pool().submit(
      {1000, 1, 2}, [resource] {}, [&] { is_cancelled_done = true; });
  EXPECT_EQ(resource.use_count(), 2);
  pool().cancel(2);
  EXPECT_EQ(resource.use_count(), 1);
  EXPECT_FALSE(pool().has_work(2));
  pool().cancel(1);  // at work: runs to its end
  held.open();
  ASSERT_TRUE(take_until([&] { return is_done; }));
  EXPECT_FALSE(is_cancelled_done);
}

}  // namespace
}  // namespace ttod
