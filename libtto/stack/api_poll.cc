// tto.h: poll and select over descriptors of ours and the kernel's.
#include <sys/time.h>

#include <climits>
#include <cstring>
#include <new>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/epoll_set.hh"
#include "libtto/stack/poll_set.hh"

namespace tto::stack {

// --- the block ---------------------------------------------------------------------------------------------------------

void PollWatcher::notify(uint32_t events) { thread->notify(events); }

uint32_t PollWatcher::level() const {
  uint32_t level = 0;
  if (set != nullptr) {
    if (set->generation == generation && set->has_ready()) level = EPOLLIN;
  } else if (entry->generation == generation) {
    if (entry->stream != nullptr) level = entry->stream->poll_level();
    if (entry->listener != nullptr) level = entry->listener->readiness().level();
  }
  if ((level & EPOLLIN) != 0) level |= EPOLLRDNORM;
  if ((level & EPOLLOUT) != 0) level |= EPOLLWRNORM;
  return level;
}

void PollWatcher::watch() {
  if (is_linked()) return;
  if (set != nullptr) {
    if (set->generation == generation) set->readiness.add(*this);
  } else if (entry->generation == generation) {
    if (entry->stream != nullptr) entry->stream->readiness().add(*this);
    if (entry->listener != nullptr) entry->listener->readiness().add(*this);
  }
}

namespace {

PollBlock* g_free_blocks;              // under the stack's lock, as all of this
thread_local PollBlock* t_poll_block;  // in use, or left behind by a longjmp

void unlink_watchers(PollBlock& block, OrphanList& orphans) {
  for (size_t i = 0; i < block.watcher_count; ++i) {
    PollWatcher& w = block.watchers[i];
    w.unlink();
    if (w.entry == nullptr || w.entry->generation != w.generation || w.entry->pins == 0) continue;
    if (--w.entry->pins > 0 || !w.entry->is_orphaned) continue;
    w.entry->next_free = orphans;
    orphans = w.entry;
  }
  block.watcher_count = 0;
}

}  // namespace

PollBlock* take_poll_block(nfds_t count, OrphanList& orphans) {
  release_stale_poll(orphans);
  PollBlock** link = &g_free_blocks;
  while (*link != nullptr && (*link)->capacity < count) link = &(*link)->next;
  PollBlock* block = *link;
  if (block != nullptr) {
    *link = block->next;
  } else {
    nfds_t capacity = 64;
    while (capacity < count) capacity *= 2;
    const size_t bytes = sizeof(PollBlock) + capacity * sizeof(PollWatcher) + (capacity + 2) * sizeof(pollfd);
    void* pages = sys::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys::is_error(pages)) return nullptr;
    auto* at = static_cast<std::byte*>(pages);
    block = new (at) PollBlock;
    block->bytes = bytes;
    block->capacity = capacity;
    block->watchers = reinterpret_cast<PollWatcher*>(at + sizeof(PollBlock));
    for (nfds_t i = 0; i < capacity; ++i) new (&block->watchers[i]) PollWatcher;
    block->kernel = reinterpret_cast<pollfd*>(block->watchers + capacity);
  }
  block->watcher_count = 0;
  block->next = nullptr;
  t_poll_block = block;
  return block;
}

void give_poll_block(PollBlock* block, OrphanList& orphans) {
  unlink_watchers(*block, orphans);
  block->next = g_free_blocks;
  g_free_blocks = block;
  if (t_poll_block == block) t_poll_block = nullptr;
}

void release_stale_poll(OrphanList& orphans) {
  if (t_poll_block != nullptr) unlink_watchers(*t_poll_block, orphans);
}

void finish_entries(OrphanList orphans) {
  while (orphans != nullptr) {
    SocketEntry* next = orphans->next_free;
    orphans->next_free = nullptr;
    finish_entry(*orphans);
    orphans = next;
  }
}

namespace {

// --- poll --------------------------------------------------------------------------------------------------------------

struct Poll {
  pollfd* fds;
  nfds_t count;
  int64_t timeout_ns;  // negative: for ever
  const sigset_t* mask;
};

Stack* stack_of_word(uint64_t word) {
  if (is_tcp(word)) return entry_at(FdWordParts::of(word).index).stack.load(std::memory_order_acquire);
  if (path_of(word) != Path::kEpoll) return nullptr;
  EpollSet* set = epoll_set_of(word);
  if (set == nullptr || set->user_count.load(std::memory_order_relaxed) == 0) return nullptr;
  return set->stack.load(std::memory_order_acquire);
}

/// The stack that serves any of them; null: all are the kernel's. Listeners are decided here.
Stack* find_stack(const pollfd* fds, nfds_t count) {
  Stack* found = nullptr;
  for (nfds_t i = 0; i < count; ++i) {
    uint64_t word = served_word(fds[i].fd);
    if (word == 0) continue;
    if (is_undecided(word)) {
      decide_listener(fds[i].fd);
      word = fd_word(fds[i].fd);
    }
    if (Stack* stack = stack_of_word(word)) found = stack;
  }
  return found;
}

class PollSleeper final : public Sleeper {
 public:
  PollSleeper(const Poll& poll, PollBlock& block) : poll_(poll), block_(block) { split(); }

  bool is_ready() override {
    if (kernel_is_ready_) return true;
    for (size_t i = 0; i < block_.watcher_count; ++i) {
      if (revents_of(block_.watchers[i]) != 0 || is_moved(block_.watchers[i])) return true;
      block_.watchers[i].watch();
    }
    return false;
  }
  int sleep(int wait_fd, int wake_fd, Duration timeout, const sigset_t* mask) override {
    block_.kernel[poll_.count] = {wait_fd, POLLIN, 0};
    block_.kernel[poll_.count + 1] = {wake_fd, POLLIN, 0};
    timespec limit{timeout.ns / 1'000'000'000, timeout.ns % 1'000'000'000};
    const int n = sys::ppoll(block_.kernel, poll_.count + 2, timeout.ns == INT64_MAX ? nullptr : &limit, mask);
    if (n == -EINTR) return n;
    if (n > 0) note_kernel(n - (block_.kernel[poll_.count].revents != 0) - (block_.kernel[poll_.count + 1].revents != 0));
    return 0;
  }
  /// Asks the kernel about its share without sleeping; nothing to ask if all are ours.
  void look_at_kernel() {
    if (!has_kernel_) return;
    timespec none{};
    note_kernel(sys::ppoll(block_.kernel, poll_.count, &none, nullptr));
  }
  /// Fills in the caller's revents; how many are not zero.
  int report() {
    for (nfds_t i = 0; i < poll_.count; ++i)
      poll_.fds[i].revents = block_.kernel[i].fd >= 0 ? block_.kernel[i].revents : short{0};
    for (size_t i = 0; i < block_.watcher_count; ++i) {
      const PollWatcher& w = block_.watchers[i];
      short& revents = poll_.fds[w.position].revents;
      revents = static_cast<short>(revents | revents_of(w));
      // Closed under the sleep, which goes on; what it wakes up to is a descriptor that is none.
      if (revents != 0 && w.entry != nullptr && w.entry->is_orphaned) revents = POLLNVAL;
    }
    int n = 0;
    for (nfds_t i = 0; i < poll_.count; ++i) n += poll_.fds[i].revents != 0;
    return n;
  }

  bool has_moved() const {
    for (size_t i = 0; i < block_.watcher_count; ++i)
      if (is_moved(block_.watchers[i])) return true;
    return false;
  }

 private:
  bool is_moved(const PollWatcher& w) const { return w.is_moved(poll_.fds[w.position].fd); }
  /// Streams of ours are not shown to the kernel; listeners and epoll sets are in both worlds.
  void split() {
    ThreadWaiter& thread = ThreadWaiter::of_this_thread();
    for (nfds_t i = 0; i < poll_.count; ++i) {
      block_.kernel[i] = {poll_.fds[i].fd, poll_.fds[i].events, 0};
      if (poll_.fds[i].fd < 0) continue;
      const uint64_t word = fd_word(poll_.fds[i].fd);
      if (stack_of_word(word) == nullptr) {
        has_kernel_ = true;
        continue;
      }
      PollWatcher& w = block_.watchers[block_.watcher_count++];
      w.thread = &thread;
      w.position = i;
      w.entry = nullptr;
      w.set = epoll_set_of(word);
      if (w.set != nullptr) {
        w.generation = w.set->generation;
      } else {
        w.entry = &entry_at(FdWordParts::of(word).index);
        w.generation = w.entry->generation;
        ++w.entry->pins;
      }
      if (w.entry != nullptr && w.entry->listener == nullptr) {
        block_.kernel[i].fd = -1;
      } else {
        has_kernel_ = true;
      }
    }
  }
  short revents_of(const PollWatcher& w) const {
    const uint32_t wanted = static_cast<uint16_t>(poll_.fds[w.position].events) | uint32_t{POLLERR | POLLHUP};
    return static_cast<short>(w.level() & wanted);
  }
  void note_kernel(int n) {
    if (n > 0) kernel_is_ready_ = true;
  }

  const Poll& poll_;
  PollBlock& block_;
  bool has_kernel_ = false;
  bool kernel_is_ready_ = false;
};

/// kMoved: a connection was handed over meanwhile; the caller looks again.
int poll_both(const Poll& poll, Stack& stack) {
  OrphanList orphans = nullptr;
  int n;
  {
    StackLockGuard guard(stack.lock());
    PollBlock* block = take_poll_block(poll.count, orphans);
    if (block == nullptr) return -ENOMEM;
    const Instant begin = Runtime::instance().now();
    stack.run_once(begin);
    PollSleeper sleeper(poll, *block);
    sleeper.look_at_kernel();
    n = sleeper.report();
    if (n == 0 && poll.timeout_ns != 0) {
      const Instant until = poll.timeout_ns < 0 ? kNever : deadline_after(begin, poll.timeout_ns);
      const WaitResult result = wait(stack, sleeper, until, poll.mask);
      n = result == WaitResult::kInterrupted ? -EINTR : sleeper.report();
      if (n == 0 && sleeper.has_moved()) n = kMoved;
    }
    give_poll_block(block, orphans);
  }
  if (orphans != nullptr) {
    StackLockGuard guard(api_lock());
    finish_entries(orphans);
  }
  return n;
}

int poll_kernel(const Poll& poll) {
  timespec limit{poll.timeout_ns / 1'000'000'000, poll.timeout_ns % 1'000'000'000};
  return static_cast<int>(blocking_call(SYS_ppoll, poll.fds, poll.count, poll.timeout_ns < 0 ? nullptr : &limit,
                                        poll.mask, sys::kSignalSetBytes));
}

int poll_any(const Poll& poll) {
  notice_if_forked();
  if (poll.count > INT_MAX || is_bad_range(poll.fds, poll.count * sizeof(pollfd))) return poll_kernel(poll);
  const Instant begin = Runtime::instance().now();
  Poll rest = poll;
  for (;;) {
    Stack* stack = find_stack(poll.fds, poll.count);
    const int n = stack == nullptr ? poll_kernel(rest) : poll_both(rest, *stack);
    if (n != kMoved) return n;
    if (poll.timeout_ns < 0) continue;
    rest.timeout_ns = poll.timeout_ns - (Runtime::instance().now() - begin).ns;
    if (rest.timeout_ns < 0) rest.timeout_ns = 0;
  }
}

// --- select ------------------------------------------------------------------------------------------------------------

/// Bitmaps of `count` bits, however many: select() takes what the caller's count says, not FD_SETSIZE.
bool has_bit(const fd_set* set, int fd) {
  return set != nullptr && (reinterpret_cast<const unsigned long*>(set)[fd / 64] >> (fd % 64) & 1) != 0;
}
void put_bit(fd_set* set, int fd) { reinterpret_cast<unsigned long*>(set)[fd / 64] |= 1ul << (fd % 64); }
size_t bitmap_bytes(int count) { return (static_cast<size_t>(count) + 63) / 64 * 8; }
bool is_bad_bitmap(const fd_set* set, int count) { return set != nullptr && is_bad_range(set, bitmap_bytes(count)); }

struct Select {
  int count;
  fd_set* readable;
  fd_set* writable;
  fd_set* exceptional;
};

bool names(const Select& s, int fd) {
  return has_bit(s.readable, fd) || has_bit(s.writable, fd) || has_bit(s.exceptional, fd);
}

bool names_ours(const Select& s) {
  bool found = false;
  for_each_known(0, static_cast<uint32_t>(s.count) - 1, [&](int fd, uint64_t word) {
    if (found || !names(s, fd)) return;
    pollfd one{fd, 0, 0};
    if (word >> 32 != 0) found = find_stack(&one, 1) != nullptr;
  });
  return found;
}

/// Turns poll's answers into bitmaps; -EBADF as select() has it.
int report_select(const Select& s, const pollfd* fds, nfds_t n) {
  for (nfds_t i = 0; i < n; ++i)
    if ((fds[i].revents & POLLNVAL) != 0) return -EBADF;
  constexpr int kReadable = POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR;
  constexpr int kWritable = POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR;
  int total = 0;
  const auto answer = [&](fd_set* set, short asked, int meaning) {
    if (set == nullptr) return;
    std::memset(set, 0, bitmap_bytes(s.count));
    for (nfds_t i = 0; i < n; ++i) {
      if ((fds[i].events & asked) == 0 || (fds[i].revents & meaning) == 0) continue;
      put_bit(set, fds[i].fd);
      ++total;
    }
  };
  answer(s.readable, POLLIN, kReadable);
  answer(s.writable, POLLOUT, kWritable);
  answer(s.exceptional, POLLPRI, POLLPRI);
  return total;
}

int select_both(const Select& s, int64_t timeout_ns, const sigset_t* mask) {
  nfds_t n = 0;
  for (int fd = 0; fd < s.count; ++fd) n += names(s, fd);
  const size_t bytes = n * sizeof(pollfd);
  constexpr nfds_t kFew = 256;
  pollfd few[kFew];
  pollfd* fds = few;
  if (n > kFew) {
    void* pages = sys::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys::is_error(pages)) return -ENOMEM;
    fds = static_cast<pollfd*>(pages);
  }
  nfds_t i = 0;
  for (int fd = 0; fd < s.count; ++fd) {
    if (!names(s, fd)) continue;
    const int events = (has_bit(s.readable, fd) ? POLLIN : 0) | (has_bit(s.writable, fd) ? POLLOUT : 0) |
                       (has_bit(s.exceptional, fd) ? POLLPRI : 0);
    fds[i++] = {fd, static_cast<short>(events), 0};
  }
  int result = poll_any({fds, n, timeout_ns, mask});
  if (result >= 0) result = report_select(s, fds, n);
  if (fds != few) sys::munmap(fds, bytes);
  return result;
}

bool is_ours(const Select& s) {
  if (s.count <= 0 || is_bad_bitmap(s.readable, s.count) || is_bad_bitmap(s.writable, s.count) ||
      is_bad_bitmap(s.exceptional, s.count))
    return false;
  return names_ours(s);
}

int64_t ns_of(const timespec* t) {
  if (t == nullptr) return -1;
  return t->tv_sec > 4'000'000'000 ? INT64_MAX / 2 : t->tv_sec * 1'000'000'000 + t->tv_nsec;
}
bool is_bad(const timespec* t) { return t != nullptr && (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec > 999'999'999); }

}  // namespace

}  // namespace tto::stack

using namespace tto;
using namespace tto::stack;

extern "C" {

int tto_poll(pollfd* fds, nfds_t count, int timeout_ms) {
  return static_cast<int>(posix(poll_any({fds, count, timeout_ms < 0 ? -1 : int64_t{timeout_ms} * 1'000'000, nullptr})));
}

int tto_ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  if (is_bad(timeout)) return static_cast<int>(posix(-EINVAL));
  return static_cast<int>(posix(poll_any({fds, count, ns_of(timeout), mask})));
}

int tto_select(int count, fd_set* readable, fd_set* writable, fd_set* exceptional, timeval* timeout) {
  const Select s{count, readable, writable, exceptional};
  if (!is_ours(s))
    return static_cast<int>(posix(blocking_call(SYS_select, count, readable, writable, exceptional, timeout)));
  int64_t timeout_ns = -1;
  if (timeout != nullptr) {
    if (timeout->tv_sec < 0 || timeout->tv_usec < 0) return static_cast<int>(posix(-EINVAL));
    const timespec t{timeout->tv_sec + timeout->tv_usec / 1'000'000, timeout->tv_usec % 1'000'000 * 1'000};
    timeout_ns = ns_of(&t);
  }
  const Instant begin = Runtime::instance().now();
  const int result = select_both(s, timeout_ns, nullptr);
  if (timeout != nullptr) {
    int64_t left = timeout_ns - (Runtime::instance().now() - begin).ns;
    if (left < 0) left = 0;
    *timeout = {left / 1'000'000'000, left % 1'000'000'000 / 1'000};
  }
  return static_cast<int>(posix(result));
}

int tto_pselect(int count, fd_set* readable, fd_set* writable, fd_set* exceptional, const timespec* timeout,
                const sigset_t* mask) {
  const Select s{count, readable, writable, exceptional};
  if (!is_ours(s)) {
    timespec copy{};
    if (timeout != nullptr) copy = *timeout;
    const struct {
      const sigset_t* mask;
      size_t bytes;
    } signals{mask, sys::kSignalSetBytes};
    return static_cast<int>(posix(blocking_call(SYS_pselect6, count, readable, writable, exceptional,
                                                timeout != nullptr ? &copy : nullptr, &signals)));
  }
  if (is_bad(timeout)) return static_cast<int>(posix(-EINVAL));
  return static_cast<int>(posix(select_both(s, ns_of(timeout), mask)));
}

}  // extern "C"
