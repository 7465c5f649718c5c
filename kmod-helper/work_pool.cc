#include "kmod-helper/work_pool.hh"

#include <pthread.h>
#include <sys/eventfd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace ttod {
namespace {

constexpr size_t kThreads = 32;
constexpr size_t kThreadsPerUser = 4;
constexpr size_t kStackBytes = 128 * 1024;

template <typename Key>
void count_down(std::map<Key, size_t>& counts, const Key& key) {
  const auto at = counts.find(key);
  if (--at->second == 0) counts.erase(at);
}

template <typename Key>
size_t count_of(const std::map<Key, size_t>& counts, const Key& key) {
  const auto at = counts.find(key);
  return at == counts.end() ? 0 : at->second;
}

}  // namespace

WorkPool::WorkPool() : done_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (done_fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

void WorkPool::start() {
  std::unique_lock lock(mutex_);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  int error = 0;
  for (; error == 0 && started_ < kThreads; started_ += error == 0 ? 1 : 0) {
    pthread_t thread;
    error = pthread_create(&thread, &attributes, run, this);
  }
  pthread_attr_destroy(&attributes);
  if (error != 0) throw std::system_error(error, std::generic_category(), "start a thread");
  // Until each has come this far: what a thread does at its start is not among what is allowed later.
  while (running_ < started_) is_running_.wait(lock);
}

void WorkPool::submit(const WorkOwner& owner, Function work, Function done) {
  std::unique_lock lock(mutex_);
  waiting_.push_back({owner, std::move(work), std::move(done)});
  ++pending_[owner.uid];
  ++pending_of_session_[owner.session];
  is_due_.notify_one();
}

void WorkPool::cancel(uint32_t session) {
  std::deque<Item> cancelled;  // destroyed without the lock: descriptors are closed
  std::unique_lock lock(mutex_);
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    if (at->owner.session != session) {
      ++at;
      continue;
    }
    count_down(pending_, at->owner.uid);
    count_down(pending_of_session_, session);
    cancelled.push_back(std::move(*at));
    at = waiting_.erase(at);
  }
  lock.unlock();
}

void WorkPool::take_done() {
  eventfd_t count = 0;
  ::eventfd_read(done_fd_, &count);
  std::vector<Function> due;
  {
    std::unique_lock lock(mutex_);
    due.swap(done_);
  }
  for (const Function& done : due) done();
}

bool WorkPool::has_work(uint32_t session) {
  std::unique_lock lock(mutex_);
  return pending_of_session_.count(session) != 0;
}

size_t WorkPool::pending(uint32_t uid) {
  std::unique_lock lock(mutex_);
  return count_of(pending_, uid);
}

bool WorkPool::is_at_work(uint32_t session) {
  std::unique_lock lock(mutex_);
  return threads_of_session_.count(session) != 0;
}

void* WorkPool::run(void* pool) {
  static_cast<WorkPool*>(pool)->serve();
  return nullptr;
}

std::deque<WorkPool::Item>::iterator WorkPool::next_item() {
  auto at = waiting_.begin();
  while (at != waiting_.end() && (count_of(threads_of_process_, at->owner.pid) > 0 ||
                                  count_of(threads_of_user_, at->owner.uid) >= kThreadsPerUser))
    ++at;
  return at;
}

void WorkPool::serve() {
  std::unique_lock lock(mutex_);
  ++running_;
  is_running_.notify_one();
  for (;;) {
    const auto at = next_item();
    if (at == waiting_.end()) {
      is_due_.wait(lock);
      continue;
    }
    Item item = std::move(*at);
    waiting_.erase(at);
    ++threads_of_user_[item.owner.uid];
    ++threads_of_process_[item.owner.pid];
    ++threads_of_session_[item.owner.session];
    lock.unlock();
    item.work();
    item.work = nullptr;  // what it held goes here, not under the lock
    lock.lock();
    count_down(pending_, item.owner.uid);
    count_down(pending_of_session_, item.owner.session);
    count_down(threads_of_user_, item.owner.uid);
    count_down(threads_of_process_, item.owner.pid);
    count_down(threads_of_session_, item.owner.session);
    done_.push_back(std::move(item.done));
    ::eventfd_write(done_fd_, 1);
  }
}

}  // namespace ttod
