// Threads for what may wait for a client. Whoever shares a socket with ttod can hold its lock for as long as he likes
// (a sendmsg() whose page nobody delivers), and most calls on a socket take that lock. So they are made here: the loop
// goes on, and who keeps his own threads busy waits for himself only: a process has one thread at a time, a user four.
//
// Work and what follows it are functions: the first runs on a thread, the second where take_done() is called. What is
// handed to a thread is the work's own; nothing of it may be shared with the loop but through the second.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

namespace ttod {

struct WorkOwner {
  uint32_t uid = 0;
  int pid = 0;
  uint32_t session = 0;
};

class WorkPool {
 public:
  using Function = std::function<void()>;

  WorkPool();
  /// Threads outlive every object: a pool is never destroyed (make it with new).
  ~WorkPool() = delete;

  /// Once, when capabilities are dropped and system calls are not confined yet. Throws std::system_error.
  void start();
  void submit(const WorkOwner& owner, Function work, Function done);
  /// Forgets what this session still waits for. What runs already runs to its end.
  void cancel(uint32_t session);
  /// Readable while take_done() has something to do.
  int done_fd() const { return done_fd_; }
  void take_done();
  /// Is a thread at work for this session? Otherwise what it submitted waits for others, or is done.
  bool is_at_work(uint32_t session);
  /// Has it submitted anything that is not done? (Then descriptors of it may still be open.)
  bool has_work(uint32_t session);
  /// Work of this user that is waiting or under way.
  size_t pending(uint32_t uid);

 private:
  struct Item {
    WorkOwner owner;
    Function work, done;
  };
  static void* run(void* pool);
  void serve();
  std::deque<Item>::iterator next_item();

  std::mutex mutex_;
  std::condition_variable is_due_, is_running_;
  std::deque<Item> waiting_;
  std::map<uint32_t, size_t> pending_;  // by user: waiting or under way
  std::map<uint32_t, size_t> pending_of_session_;
  std::map<uint32_t, size_t> threads_of_user_;     // at work
  std::map<int, size_t> threads_of_process_;       // at work
  std::map<uint32_t, size_t> threads_of_session_;  // at work
  std::vector<Function> done_;
  const int done_fd_;
  size_t started_ = 0, running_ = 0;
};

}  // namespace ttod
