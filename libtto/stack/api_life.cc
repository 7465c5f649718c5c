// tto.h: descriptors come and go. socket, close, dup, close_range.
#include <linux/close_range.h>
#include <netinet/in.h>

#include "libtto/base/settings.hh"
#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/epoll_set.hh"
#include "libtto/stack/poll_set.hh"

#ifndef TTO_VERSION
#define TTO_VERSION "0"
#endif

namespace tto::stack {

namespace {

bool is_our_kind(int domain, int type, int protocol) {
  return (domain == AF_INET || domain == AF_INET6) && (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
         (protocol == 0 || protocol == IPPROTO_TCP);
}

/// Waits, as close() with SO_LINGER does, until everything sent is acknowledged or time is up.
class LingerSleeper final : public Sleeper {
 public:
  explicit LingerSleeper(socket::StreamSocket& stream) : stream_(stream), waiter_(ThreadWaiter::of_this_thread()) {}
  bool is_ready() override {
    if (stream_.is_finished()) {
      waiter_.unlink();
      return true;
    }
    if (!waiter_.is_linked()) stream_.readiness().add(waiter_);
    return false;
  }
  void leave() { waiter_.unlink(); }

 private:
  socket::StreamSocket& stream_;
  ThreadWaiter& waiter_;
};

/// close() with a positive SO_LINGER, of the last descriptor: FIN first, then the wait, with the entry still alive.
void linger(uint64_t word) {
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  {
    StackLockGuard guard(api_lock());
    if (entry.fd_count != 1) return;
  }
  Stack* stack = entry.stack.load(std::memory_order_acquire);
  if (stack == nullptr || entry.is_nonblocking.load(std::memory_order_relaxed)) return;
  StackLockGuard guard(stack->lock());
  if (entry.stream == nullptr || !entry.stream->linger_on() || entry.stream->linger_time() == Duration{}) return;
  const Instant now = Runtime::instance().now();
  entry.stream->begin_close(now);
  stack->push(now);
  LingerSleeper sleeper(*entry.stream);
  wait(*stack, sleeper, deadline_after(now, entry.stream->linger_time().ns), nullptr);
  sleeper.leave();
}

}  // namespace

void finish_entry(SocketEntry& entry) {
  Stack* stack = entry.stack.load(std::memory_order_acquire);
  if (stack == nullptr) {
    drop_interests(entry);
    free_entry(entry);
    return;
  }
  StackLockGuard guard(stack->lock());
  drop_interests(entry);
  const Instant now = Runtime::instance().now();
  if (entry.stream != nullptr) {
    entry.stream->set_fd(-1);
    entry.stream->linger_on() && entry.stream->linger_time() == Duration{} ? entry.stream->abort(now)
                                                                           : entry.stream->close(now);
  }
  if (entry.listener != nullptr) stack->close_listener(entry.listener, now);
  stack->push(now);
  free_entry(entry);
}

void drop_descriptor(uint64_t word) {
  const FdWordParts parts = FdWordParts::of(word);
  if (parts.index == 0) return;
  if (parts.path == Path::kEpoll) {
    StackLockGuard guard(api_lock());
    drop_epoll_descriptor(parts.index);
    return;
  }
  StackLockGuard guard(api_lock());
  SocketEntry& entry = entry_at(parts.index);
  if (entry.fd_count > 1) {
    --entry.fd_count;
    return;
  }
  entry.fd_count = 0;
  OrphanList orphans = nullptr;
  bool is_asleep = false;
  if (Stack* stack = entry.stack.load(std::memory_order_acquire)) {
    StackLockGuard stack_guard(stack->lock());
    release_stale_pin(__builtin_frame_address(0));
    release_stale_poll(orphans);
    if (entry.pins > 0) {
      entry.is_orphaned = true;
      is_asleep = true;
    }
  }
  finish_entries(orphans);
  if (!is_asleep) finish_entry(entry);
}

uint64_t take_word(int fd) {
  StackLockGuard guard(api_lock());
  const uint64_t word = fd_word(fd);
  if (path_of(word) == Path::kInternal) return word;
  if (path_of(word) == Path::kEpoll) leave_epoll_number(fd, FdWordParts::of(word).index);
  forget(fd);
  return word;
}

namespace {

int close_known(int fd) {
  notice_if_forked();
  uint64_t word = fd_word(fd);
  if (path_of(word) == Path::kInternal) {
    Runtime::instance().counters().add(stats::Counter::socket_internal_protected);
    return -EBADF;
  }
  hand_over_if_shared(fd, word);
  word = take_word(fd);
  if (is_tcp(word)) linger(word);
  const int result = sys::close(fd);
  drop_descriptor(word);
  return result;
}

}  // namespace

void forget_former_life(int fd) {
  if (fd_word(fd) != 0) drop_descriptor(take_word(fd));
}

namespace {

/// Gives `newfd`, a fresh duplicate, what `word` says.
void share_word(int newfd, uint64_t word) {
  const FdWordParts parts = FdWordParts::of(word);
  if (word == 0 || parts.path == Path::kInternal) return;
  if (parts.path == Path::kEpoll) {
    share_epoll_descriptor(newfd, word);
    return;
  }
  SocketEntry* entry = parts.index != 0 ? &entry_at(parts.index) : nullptr;
  if (entry != nullptr) ++entry->fd_count;
  assign(newfd, parts.path, entry, parts.reason);
}

int dup_onto(int fd, int newfd, int flags, bool is_dup3) {
  if (is_internal_fd(newfd)) {
    Runtime::instance().counters().add(stats::Counter::socket_internal_protected);
    return -EBUSY;
  }
  if (is_internal_fd(fd)) return -EBADF;
  if (fd_word(fd) == 0 && fd_word(newfd) == 0) {
    return is_dup3 ? sys::dup3(fd, newfd, flags) : sys::dup2(fd, newfd);
  }
  uint64_t replaced = 0;
  int result;
  if (fd != newfd) hand_over_if_shared(newfd, fd_word(newfd));
  {
    StackLockGuard guard(api_lock());
    result = is_dup3 ? sys::dup3(fd, newfd, flags) : sys::dup2(fd, newfd);
    if (result < 0 || fd == newfd) return result;
    replaced = fd_word(newfd);
    if (path_of(replaced) == Path::kEpoll) leave_epoll_number(newfd, FdWordParts::of(replaced).index);
    forget(newfd);
    share_word(newfd, fd_word(fd));
  }
  drop_descriptor(replaced);
  return result;
}

}  // namespace

/// F_DUPFD and F_DUPFD_CLOEXEC, and dup() as F_DUPFD from 0.
int duplicate(int fd, int command, long lowest) {
  if (is_internal_fd(fd)) return -EBADF;
  if (fd_word(fd) == 0) return sys::fcntl(fd, command, lowest);
  StackLockGuard guard(api_lock());
  const int result = sys::fcntl(fd, command, lowest);
  if (result >= 0) share_word(result, fd_word(fd));
  return result;
}

}  // namespace tto::stack

using namespace tto;
using namespace tto::stack;

extern "C" {

int tto_socket(int domain, int type, int protocol) {
  const int fd = sys::socket(domain, type, protocol);
  if (fd < 0 || !is_our_kind(domain, type, protocol)) return static_cast<int>(posix(fd));
  forget_former_life(fd);
  remember_settings();
  StackLockGuard guard(api_lock());
  SocketEntry* entry = make_entry(domain == AF_INET6);
  if (entry == nullptr) return fd;  // a plain kernel socket
  entry->fd_count = 1;
  if (!assign(fd, Path::kKernel, entry, stats::Counter::kernel_undecided)) free_entry(*entry);
  return fd;
}

int tto_close(int fd) {
  return static_cast<int>(posix(fd_word(fd) == 0 ? static_cast<int>(blocking_call(SYS_close, fd)) : close_known(fd)));
}

int tto_dup(int fd) { return static_cast<int>(posix(duplicate(fd, F_DUPFD, 0))); }
int tto_dup2(int fd, int newfd) { return static_cast<int>(posix(dup_onto(fd, newfd, 0, false))); }
int tto_dup3(int fd, int newfd, int flags) { return static_cast<int>(posix(dup_onto(fd, newfd, flags, true))); }

int tto_close_range(unsigned first, unsigned last, int flags) {
  if ((flags & CLOSE_RANGE_CLOEXEC) != 0 || first > last || (flags & ~CLOSE_RANGE_UNSHARE) != 0) {
    return static_cast<int>(posix(sys::close_range(first, last, static_cast<unsigned>(flags))));
  }
  // Known descriptors one by one, the gaps between ours in whole ranges.
  uint64_t begin = first;
  int error = 0;
  for_each_known(first, last, [&](int fd, uint64_t word) {
    if (path_of(word) == Path::kInternal) {
      if (begin < static_cast<uint64_t>(fd)) {
        const int r = sys::close_range(static_cast<unsigned>(begin), static_cast<unsigned>(fd) - 1, flags);
        if (r < 0) error = r;
      }
      begin = static_cast<uint64_t>(fd) + 1;
    } else {
      close_known(fd);
    }
  });
  if (begin <= last) {
    const int r = sys::close_range(static_cast<unsigned>(begin), last, flags);
    if (r < 0) error = r;
  }
  return static_cast<int>(posix(error));
}

enum tto_path tto_path_of(int fd, const char** reason) {
  const FdWordParts parts = FdWordParts::of(fd_word(fd));
  if (reason != nullptr) *reason = parts.path == Path::kKernel ? reason_text(parts.reason) : nullptr;
  switch (parts.path) {
    case Path::kKernel: return TTO_PATH_KERNEL;
    case Path::kTcp: return TTO_PATH_AF_XDP;
    case Path::kPair: return TTO_PATH_PAIR;
    default: return TTO_PATH_NONE;
  }
}

const char* tto_version(void) { return "libtto " TTO_VERSION; }

}  // extern "C"
