#include "kmod-helper/closer.hh"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>

namespace ttod {
namespace {

constexpr size_t kThreadsPerUser = 2;
constexpr size_t kStackBytes = 64 * 1024;
constexpr auto kIdleTime = std::chrono::seconds(2);

class Closer {
 public:
  void close(int fd, Sender sender) {
    std::unique_lock lock(mutex_);
    User& user = users_[sender.uid];
    user.waiting.push_back({fd, sender.session});
    ++user.pending;
    ++of_session_[sender.session];
    if (idle_ > 0) is_due_.notify_one();
    if (idle_ + starting_ < closes_due()) start_thread(sender.uid, user);
  }

  size_t pending(uint32_t uid) {
    std::unique_lock lock(mutex_);
    const auto at = users_.find(uid);
    return at == users_.end() ? 0 : at->second.pending;
  }

  bool await(uint32_t session) {
    std::unique_lock lock(mutex_);
    if (of_session_.count(session) == 0) return true;
    awaited_.insert(session);
    return false;
  }

  int done_fd() const { return done_fd_; }

 private:
  struct Item {
    int fd;
    uint32_t session;
  };
  struct User {
    std::deque<Item> waiting;
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
      ::close(user.waiting.front().fd);
      count_closed(user.waiting.front().session);
      user.waiting.pop_front();
      --user.pending;
    }
    users_.erase(uid);
  }

  void count_closed(uint32_t session) {
    const auto at = of_session_.find(session);
    if (--at->second > 0) return;
    of_session_.erase(at);
    if (awaited_.erase(session) > 0) ::eventfd_write(done_fd_, 1);
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
      const Item item = user.waiting.front();
      user.waiting.pop_front();
      ++user.threads;
      lock.unlock();
      ::close(item.fd);
      lock.lock();
      count_closed(item.session);
      --user.threads;
      if (--user.pending == 0) users_.erase(at);
    }
  }

  std::mutex mutex_;
  std::condition_variable is_due_;
  std::map<uint32_t, User> users_;
  std::map<uint32_t, size_t> of_session_;  // not closed yet
  std::set<uint32_t> awaited_;             // sessions
  const int done_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  size_t idle_ = 0;
  size_t starting_ = 0;
};

Closer& closer() {
  static auto* const closer = new Closer;  // outlives every thread
  return *closer;
}

}  // namespace

void close_aside(int fd, Sender sender) { closer().close(fd, sender); }
size_t closes_pending(uint32_t uid) { return closer().pending(uid); }
bool await_closes(uint32_t session) { return closer().await(session); }
int closes_done_fd() { return closer().done_fd(); }

}  // namespace ttod
