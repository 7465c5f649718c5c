#include "kmod-helper/closer.hh"

#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <system_error>

namespace ttod {
namespace {

constexpr size_t kThreads = 32;
constexpr size_t kThreadsPerUser = 2;
constexpr size_t kStackBytes = 64 * 1024;

class Closer {
 public:
  void start() {
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

  void close(int fd, Sender sender) {
    std::unique_lock lock(mutex_);
    if (started_ == 0) {
      ::close(fd);
      return;
    }
    User& user = users_[sender.uid];
    user.waiting.push_back({fd, sender.session});
    ++user.pending;
    ++of_session_[sender.session];
    is_due_.notify_one();
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

  void count_closed(uint32_t session) {
    const auto at = of_session_.find(session);
    if (--at->second > 0) return;
    of_session_.erase(at);
    if (awaited_.erase(session) > 0) ::eventfd_write(done_fd_, 1);
  }

  /// A user with something to close and a thread left for it.
  std::map<uint32_t, User>::iterator next_user() {
    auto at = users_.begin();
    while (at != users_.end() && (at->second.waiting.empty() || at->second.threads >= kThreadsPerUser)) ++at;
    return at;
  }

  void work() {
    std::unique_lock lock(mutex_);
    ++running_;
    is_running_.notify_one();
    for (;;) {
      const auto at = next_user();
      if (at == users_.end()) {
        is_due_.wait(lock);
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
  std::condition_variable is_due_, is_running_;
  std::map<uint32_t, User> users_;
  std::map<uint32_t, size_t> of_session_;  // not closed yet
  std::set<uint32_t> awaited_;             // sessions
  const int done_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  size_t started_ = 0, running_ = 0;  // threads
};

Closer& closer() {
  static auto* const closer = new Closer;  // outlives every thread
  return *closer;
}

}  // namespace

void start_closer() { closer().start(); }
void close_aside(int fd, Sender sender) { closer().close(fd, sender); }
size_t closes_pending(uint32_t uid) { return closer().pending(uid); }
bool await_closes(uint32_t session) { return closer().await(session); }
int closes_done_fd() { return closer().done_fd(); }

}  // namespace ttod
