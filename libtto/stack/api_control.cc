// tto.h: names, shutdown, ioctl, fcntl.
#include <linux/sockios.h>
#include <sys/ioctl.h>

#include <climits>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/epoll_set.hh"

namespace tto::stack {

int duplicate(int fd, int command, long lowest);  // api_life.cc

namespace {

int local_name(int fd, uint64_t word, sockaddr* address, socklen_t* bytes) {
  LockedCall call(fd, word);
  if (!call || call.stream() == nullptr) return sys::getsockname(fd, address, bytes);
  const wire::FourTuple& tuple = call.stream()->tuple();
  return write_address(tuple.local, tuple.local_port, call.entry().is_v6, address, bytes);
}

int peer_name(int fd, uint64_t word, sockaddr* address, socklen_t* bytes) {
  LockedCall call(fd, word);
  if (!call || call.stream() == nullptr) return sys::getpeername(fd, address, bytes);
  const tcp::State state = call.stream()->connection().state();
  if (state == tcp::State::kClosed || state == tcp::State::kSynSent) return -ENOTCONN;
  const wire::FourTuple& tuple = call.stream()->tuple();
  return write_address(tuple.remote, tuple.remote_port, call.entry().is_v6, address, bytes);
}

/// shutdown() of a listener: both halves stop, the descriptor is as one that never listened, and may again (S7).
int shut_listener(int fd, uint64_t word, int how) {
  if (how == SHUT_WR) return sys::shutdown(fd, how);
  StackLockGuard guard(api_lock());
  if (fd_word(fd) != word) return sys::shutdown(fd, how);
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  Stack* stack = entry.stack.load(std::memory_order_acquire);
  const int result = sys::shutdown(fd, how);
  if (stack == nullptr || result < 0) return result;
  StackLockGuard stack_guard(stack->lock());
  socket::ListenSocket* listener = entry.listener;
  listener->readiness().update(EPOLLIN | EPOLLHUP, EPOLLIN | EPOLLHUP);  // wakes blocked accepts: they find it gone
  move_interests_to_kernel(entry);
  entry.listener = nullptr;
  entry.kind = SocketEntry::Kind::kUndecided;
  if (!entry.is_nonblocking.load(std::memory_order_relaxed)) {
    const int flags = sys::fcntl(fd, F_GETFL);
    if (flags >= 0) sys::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  }
  entry.stack.store(nullptr, std::memory_order_release);
  reassign_all(entry, fd, Path::kKernel, stats::Counter::kernel_undecided);
  stack->close_listener(listener, Runtime::instance().now());
  stack->push(Runtime::instance().now());
  return 0;
}

/// shutdown() of a socket neither connected nor accelerated: the kernel remembers it beyond a later connect().
int shut_undecided(int fd, uint64_t word, int how) {
  const int result = sys::shutdown(fd, how);
  if (how < SHUT_RD || how > SHUT_RDWR) return result;
  StackLockGuard guard(api_lock());
  if (fd_word(fd) != word) return result;
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  if (entry.kind == SocketEntry::Kind::kUndecided) {
    entry.is_unservable = true;
  } else if (how != SHUT_WR) {
    entry.kind = SocketEntry::Kind::kUndecided;  // listens no more
  }
  return result;
}

int shutdown_on(int fd, uint64_t word, int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return -EINVAL;
  if (entry_at(FdWordParts::of(word).index).listener != nullptr) return shut_listener(fd, word, how);
  LockedCall call(fd, word);
  if (!call) return -EAGAIN;
  if (call.stream() == nullptr) return -ENOTCONN;
  const int result = call.stream()->shutdown(how, call.now());
  call.stack().push(call.now());
  return result;
}

int int_ioctl(int fd, uint64_t word, unsigned long request, void* argument) {
  LockedCall call(fd, word);
  if (!call) return -EAGAIN;
  if (call.stream() == nullptr) return -EINVAL;  // what the kernel says of a listener
  if (is_bad_range(argument, sizeof(int))) return -EFAULT;
  call.progress();
  socket::StreamSocket& stream = *call.stream();
  uint64_t value = 0;
  switch (request) {
    case FIONREAD: value = stream.inq_bytes(); break;
    case SIOCOUTQ: value = stream.unacked_bytes(); break;
    case SIOCOUTQNSD: value = stream.unsent_bytes(); break;
    case SIOCATMARK: value = stream.is_at_mark() ? 1 : 0; break;
    default: return -ENOTTY;
  }
  *static_cast<int*>(argument) = value > INT_MAX ? INT_MAX : static_cast<int>(value);
  return 0;
}

int ioctl_on(int fd, uint64_t word, unsigned long request, void* argument) {
  switch (request) {
    case FIONREAD: case SIOCOUTQ: case SIOCOUTQNSD: case SIOCATMARK:
      return int_ioctl(fd, word, request, argument);
    case FIONBIO: {
      if (is_bad_range(argument, sizeof(int))) return -EFAULT;
      const bool on = *static_cast<const int*>(argument) != 0;
      SocketEntry& entry = entry_at(FdWordParts::of(word).index);
      entry.is_nonblocking.store(on, std::memory_order_relaxed);
      int flag = on || entry.listener != nullptr ? 1 : 0;  // a listener's placeholder never blocks underneath
      return sys::ioctl(fd, request, &flag);
    }
    case FIOASYNC:
      if (is_bad_range(argument, sizeof(int))) return -EFAULT;
      if (*static_cast<const int*>(argument) == 0) return 0;
      return hand_over(fd, word, stats::Counter::kernel_handed_over_call) ? sys::ioctl(fd, request, argument)
                                                                          : unserved(EOPNOTSUPP);
    default:
      return sys::ioctl(fd, request, argument);
  }
}

int fcntl_on(int fd, uint64_t word, int command, uintptr_t argument) {
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  switch (command) {
    case F_GETFL: {
      const int flags = sys::fcntl(fd, F_GETFL);
      if (flags < 0) return flags;
      return entry.is_nonblocking.load(std::memory_order_relaxed) ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    }
    case F_SETFL: {
      const auto flags = static_cast<int>(argument);
      if ((flags & O_ASYNC) != 0) {
        return hand_over(fd, word, stats::Counter::kernel_handed_over_call) ? sys::fcntl(fd, command, argument)
                                                                            : unserved(EOPNOTSUPP);
      }
      entry.is_nonblocking.store((flags & O_NONBLOCK) != 0, std::memory_order_relaxed);
      return sys::fcntl(fd, F_SETFL, entry.listener != nullptr ? flags | O_NONBLOCK : flags);
    }
    default:
      return sys::fcntl(fd, command, argument);
  }
}

}  // namespace

}  // namespace tto::stack

using namespace tto;
using namespace tto::stack;

extern "C" {

int tto_shutdown(int fd, int how) {
  for (;;) {
    const uint64_t word = served_word(fd);
    const int result = is_undecided(word) ? shut_undecided(fd, word, how)
                       : is_tcp(word)     ? shutdown_on(fd, word, how)
                                          : sys::shutdown(fd, how);
    if (result != -EAGAIN) return static_cast<int>(posix(result));
  }
}

int tto_getsockname(int fd, sockaddr* address, socklen_t* bytes) {
  const uint64_t word = served_word(fd);
  return static_cast<int>(posix(is_tcp(word) ? local_name(fd, word, address, bytes)
                                             : sys::getsockname(fd, address, bytes)));
}

int tto_getpeername(int fd, sockaddr* address, socklen_t* bytes) {
  const uint64_t word = served_word(fd);
  return static_cast<int>(posix(is_tcp(word) ? peer_name(fd, word, address, bytes)
                                             : sys::getpeername(fd, address, bytes)));
}

int tto_ioctl(int fd, unsigned long request, void* argument) {
  for (;;) {
    const uint64_t word = served_word(fd);
    const int result = is_tcp(word) ? ioctl_on(fd, word, request, argument)
                                    : static_cast<int>(blocking_call(SYS_ioctl, fd, request, argument));
    if (result != -EAGAIN || !is_tcp(word)) return static_cast<int>(posix(result));
  }
}

int tto_fcntl(int fd, int command, uintptr_t argument) {
  const uint64_t word = command == F_SETFL ? served_word(fd) : fd_word(fd);
  if (word == 0) return static_cast<int>(posix(blocking_call(SYS_fcntl, fd, command, argument)));
  if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
    return static_cast<int>(posix(duplicate(fd, command, static_cast<long>(argument))));
  if (is_internal_fd(fd)) return static_cast<int>(posix(-EBADF));
  return static_cast<int>(
      posix(is_tcp(word) ? fcntl_on(fd, word, command, argument) : sys::fcntl(fd, command, argument)));
}

}  // extern "C"
