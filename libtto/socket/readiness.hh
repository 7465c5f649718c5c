// Readiness of one socket, as the kernel's poll() would report it, and those who want to hear of it.
//
// A Watcher is an epoll item or a sleeping thread. The socket calls notify() under the stack's lock on every *event*
// (new data, space, error, close), also if the level did not change: edge triggers need each arrival (S3).
#pragma once

#include <cstdint>

#include "libtto/base/intrusive_list.hh"

namespace tto::socket {

class Watcher : public IntrusiveNode {
 public:
  /// `events`: EPOLL* bits that happened now. Under the stack's lock; must not block or free the socket.
  virtual void notify(uint32_t events) = 0;

 protected:
  ~Watcher() = default;
};

class Readiness {
 public:
  uint32_t level() const { return level_; }
  /// Sets the level; tells the watchers of `happened` (bits that occurred, even if already set).
  void update(uint32_t level, uint32_t happened) {
    level_ = level;
    if (happened == 0) return;
    for (IntrusiveNode* n = watchers_.first(); n != nullptr;) {
      IntrusiveNode* next = watchers_.next(n);
      static_cast<Watcher*>(n)->notify(happened);
      n = next;
    }
  }
  void add(Watcher& w) { watchers_.push_back(w); }
  static void remove(Watcher& w) { w.unlink(); }
  bool has_watchers() const { return !watchers_.empty(); }

 private:
  uint32_t level_ = 0;
  IntrusiveList watchers_;
};

}  // namespace tto::socket
