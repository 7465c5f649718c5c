#include "kmod-helper/closer.hh"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>

namespace ttod {
namespace {

constexpr size_t kThreadsPerUser = 2;
constexpr size_t kStackBytes = 64 * 1024;
constexpr auto kIdleTime = std::chrono::seconds(2);

class Closer {
 public:
  void close(int fd, uint32_t uid) {
    std::unique_lock lock(mutex_);
    User& user = users_[uid];
    user.waiting.push_back(fd);
    ++user.pending;
    if (idle_ > 0) is_due_.notify_one();
    if (idle_ + starting_ < closes_due()) start_thread(uid, user);
  }

  size_t pending(uint32_t uid) {
    std::unique_lock lock(mutex_);
    const auto at = users_.find(uid);
    return at == users_.end() ? 0 : at->second.pending;
  }

 private:
  struct User {
    std::deque<int> waiting;
    size_t pending = 0;  // waiting, or being closed
    size_t threads = 0;  // at work for this user
  };

  static void* run(void* closer) {
    static_cast<Closer*>(closer)->work();
    return nullptr;
  }

  void start_thread(uint32_t uid, User& user) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    const bool started = pthread_create(&thread, &attributes, run, this) == 0;
    pthread_attr_destroy(&attributes);
    if (started) ++starting_;
    if (started || user.threads > 0) return;
    // No thread to be had: better a close that may wait than a descriptor for ever.
    while (!user.waiting.empty()) {
      ::close(user.waiting.front());
      user.waiting.pop_front();
      --user.pending;
    }
    users_.erase(uid);
  }

  /// Those that could be closed now, were there threads.
  size_t closes_due() const {
    size_t due = 0;
    for (const auto& [uid, user] : users_) due += std::min(user.waiting.size(), kThreadsPerUser - user.threads);
    return due;
  }

  /// A user with something to close and a thread left for it.
  std::map<uint32_t, User>::iterator next_user() {
    auto at = users_.begin();
    while (at != users_.end() && (at->second.waiting.empty() || at->second.threads >= kThreadsPerUser)) ++at;
    return at;
  }

  void work() {
    std::unique_lock lock(mutex_);
    --starting_;
    for (;;) {
      const auto at = next_user();
      if (at == users_.end()) {
        ++idle_;
        const std::cv_status status = is_due_.wait_for(lock, kIdleTime);
        --idle_;
        if (status == std::cv_status::timeout && next_user() == users_.end()) return;
        continue;
      }
      User& user = at->second;
      const int fd = user.waiting.front();
      user.waiting.pop_front();
      ++user.threads;
      lock.unlock();
      ::close(fd);
      lock.lock();
      --user.threads;
      if (--user.pending == 0) users_.erase(at);
    }
  }

  std::mutex mutex_;
  std::condition_variable is_due_;
  std::map<uint32_t, User> users_;
  size_t idle_ = 0;
  size_t starting_ = 0;
};

Closer& closer() {
  static auto* const closer = new Closer;  // outlives every thread
  return *closer;
}

}  // namespace

void close_aside(int fd, uint32_t uid) { closer().close(fd, uid); }
size_t closes_pending(uint32_t uid) { return closer().pending(uid); }

}  // namespace ttod
