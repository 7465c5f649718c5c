// The descriptors of one poll() or select() call: those of ours watched in user space, the rest asked of the kernel.
// Lives in a block that outlasts the caller's frame, because a signal handler may longjmp out of the sleep.
#pragma once

#include <poll.h>

#include "libtto/socket/readiness.hh"
#include "libtto/stack/fd_table.hh"
#include "libtto/stack/waiting.hh"

namespace tto::stack {

/// Hears of one socket and wakes the thread that polls.
class PollWatcher final : public socket::Watcher {
 public:
  void notify(uint32_t events) override;
  SocketEntry* entry = nullptr;  // pinned: it outlives a close() by another thread (S17); or
  EpollSet* set = nullptr;
  uint16_t generation = 0;
  ThreadWaiter* thread = nullptr;
  nfds_t position = 0;  // in the caller's array
  /// What poll() would report, apart from the caller's interest.
  uint32_t level() const;
  void watch();
  /// The connection was handed over: `fd` is to be asked of the kernel.
  bool is_moved(int fd) const {
    return set == nullptr && entry->generation != generation && path_of(fd_word(fd)) == Path::kKernel;
  }
};

struct PollBlock {
  PollBlock* next = nullptr;
  size_t bytes = 0;
  nfds_t capacity = 0;
  size_t watcher_count = 0;
  PollWatcher* watchers = nullptr;
  pollfd* kernel = nullptr;  // capacity + 2: the stack's and the thread's descriptors come last
};

/// Entries that nobody names or sleeps in any more, linked by next_free: for finish_entries().
using OrphanList = SocketEntry*;

/// A block for `count` descriptors; null without memory. What the thread left behind is released: under the stack's lock.
PollBlock* take_poll_block(nfds_t count, OrphanList& orphans);
/// Under the stack's lock: unlinks the watchers.
void give_poll_block(PollBlock* block, OrphanList& orphans);
/// A poll of this thread that a longjmp left behind, or that is interrupted by the handler that runs now, keeps nothing
/// alive: it returns EINTR or never. Under the stack's lock.
void release_stale_poll(OrphanList& orphans);
/// Under api_lock() alone.
void finish_entries(OrphanList orphans);

}  // namespace tto::stack
