// tto.h: receiving.
#include <climits>
#include <cstring>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"

namespace tto::stack {

namespace {

/// How many bytes make a blocking call return: all with MSG_WAITALL, else SO_RCVLOWAT's share.
uint64_t wanted_bytes(const SocketEntry& entry, uint64_t asked, int flags) {
  if ((flags & MSG_WAITALL) != 0) return asked;
  const uint64_t lowat = entry.receive_lowat.load(std::memory_order_relaxed);
  return lowat < asked ? lowat : asked;
}

/// One attempt from `done` on; progresses the stack if nothing is there.
ssize_t try_receive(LockedCall& call, const iovec* iov, int count, uint64_t done, int flags) {
  const int stream_flags = flags & (MSG_PEEK | MSG_TRUNC | MSG_OOB);
  const bool is_peek = (flags & MSG_PEEK) != 0;
  uint64_t total = 0;
  for (;;) {
    const VectorWindow window(iov, count, done + total);
    ssize_t n = call.stream()->receive(window.pieces, window.count, stream_flags, call.now());
    if (n == -EAGAIN && total == 0) {
      call.progress();
      if (!call.is_same() || call.stream() == nullptr) return kMoved;
      n = call.stream()->receive(window.pieces, window.count, stream_flags, call.now());
    }
    if (n <= 0) return total > 0 ? static_cast<ssize_t>(total) : n;
    total += static_cast<uint64_t>(n);
    if (is_peek || (flags & MSG_OOB) != 0 || call.stream()->is_at_mark()) return static_cast<ssize_t>(total);
    if (!window.has_more || static_cast<uint64_t>(n) < window.bytes) return static_cast<ssize_t>(total);
  }
}

/// Waits until a MSG_PEEK finds `wanted` bytes or the stream can bring no more: peeking leaves data, so the level alone
/// would be true at once.
class PeekSleeper final : public Sleeper {
 public:
  PeekSleeper(LockedCall& call, uint64_t wanted)
      : call_(call), wanted_(wanted), waiter_(ThreadWaiter::of_this_thread()) {}
  bool is_ready() override {
    if (!call_.is_same() || call_.stream() == nullptr) return true;
    if (call_.stream()->readable_bytes() >= wanted_) return true;
    if ((call_.stream()->poll_level() & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0) return true;
    if (!waiter_.is_linked()) call_.stream()->readiness().add(waiter_);
    return false;
  }
  void leave() { waiter_.unlink(); }

 private:
  LockedCall& call_;
  uint64_t wanted_;
  ThreadWaiter& waiter_;
};

int wait_for_bytes(LockedCall& call, uint64_t wanted, Instant until) {
  PeekSleeper sleeper(call, wanted);
  call.pin();
  const WaitResult result = wait(call.stack(), sleeper, until, nullptr);
  call.unpin();
  sleeper.leave();
  call.read_clock();
  return result == WaitResult::kReady ? 0 : result == WaitResult::kTimeout ? -EAGAIN : -EINTR;
}

/// kMoved: `done` bytes were received before.
ssize_t receive_locked(LockedCall& call, const iovec* iov, int count, uint64_t asked, int flags, uint64_t& done) {
  SocketEntry& entry = call.entry();
  const bool blocks = (flags & MSG_DONTWAIT) == 0 && !entry.is_nonblocking.load(std::memory_order_relaxed);
  const uint64_t wanted = wanted_bytes(entry, asked, flags);
  const Instant until = deadline_after(call.now(), entry.receive_timeout_ns.load(std::memory_order_relaxed));
  const bool is_peek = (flags & MSG_PEEK) != 0;
  for (;;) {
    const ssize_t n = try_receive(call, iov, count, is_peek ? 0 : done, flags);
    if (n == kMoved) return kMoved;
    if (n < 0 && n != -EAGAIN) return done > 0 ? static_cast<ssize_t>(done) : n;
    if (n > 0) done = is_peek ? static_cast<uint64_t>(n) : done + static_cast<uint64_t>(n);
    // A call for nothing waits all the same, for data or the end.
    if (n == 0 || (n > 0 && (done >= asked || done >= wanted)) || (flags & MSG_OOB) != 0 ||
        (done > 0 && call.stream()->stops_at_mark(is_peek ? done : 0)))
      return n == -EAGAIN && done == 0 ? -EAGAIN : static_cast<ssize_t>(done);
    if (!blocks) return done > 0 ? static_cast<ssize_t>(done) : n;
    if (is_peek && done > 0 &&
        (call.stream()->poll_level() & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0)
      return static_cast<ssize_t>(done);
    const int waited = is_peek && done > 0 ? wait_for_bytes(call, wanted, until)
                                           : wait_for_level(call, EPOLLIN | EPOLLRDHUP, until, until == kNever);
    if (waited < 0) return done > 0 ? static_cast<ssize_t>(done) : waited;
    if (!call.is_same() || call.stream() == nullptr) return kMoved;
  }
}

/// The rest of a receive whose connection became the kernel's under it.
ssize_t receive_in_kernel(int fd, const iovec* iov, int count, uint64_t done, int flags) {
  if ((flags & MSG_PEEK) != 0) done = 0;
  for (;;) {
    VectorWindow window(iov, count, done);
    msghdr message{};
    message.msg_iov = done == 0 ? const_cast<iovec*>(iov) : window.pieces;
    message.msg_iovlen = static_cast<size_t>(done == 0 ? count : window.count);
    const ssize_t n = blocking_call(SYS_recvmsg, fd, &message, flags);
    if (n <= 0) return done > 0 ? static_cast<ssize_t>(done) : n;
    if (done == 0) return n;
    done += static_cast<uint64_t>(n);
    if (!window.has_more || static_cast<uint64_t>(n) < window.bytes) return static_cast<ssize_t>(done);
  }
}

}  // namespace

ssize_t receive_on(int fd, const iovec* iov, int count, int flags) {
  if ((flags & MSG_ERRQUEUE) != 0) return -EAGAIN;  // nothing is ever queued there
  const ssize_t asked = vector_bytes(iov, count);
  if (asked < 0) return asked;
  uint64_t done = 0;
  for (;;) {
    const uint64_t word = fd_word(fd);
    if (!is_tcp(word)) return receive_in_kernel(fd, iov, count, done, flags);
    LockedCall call(fd, word);
    if (!call) continue;
    if (call.stream() == nullptr) {
      if (call.entry().kind != SocketEntry::Kind::kLost) return -ENOTCONN;
      if (served_word(fd) != word) continue;
      return -kLostError;
    }
    const ssize_t n = receive_locked(call, iov, count, static_cast<uint64_t>(asked), flags, done);
    if (n != kMoved) return n;
  }
}

namespace {

/// recvmsg on an accelerated socket: no source address, no control data.
ssize_t receive_message(int fd, msghdr* message, int flags) {
  if (const int error = check_message(message); error < 0) return error;
  const ssize_t n = receive_on(fd, message->msg_iov, static_cast<int>(message->msg_iovlen), flags);
  if (n >= 0) {
    if (message->msg_name != nullptr) message->msg_namelen = 0;
    message->msg_controllen = 0;
    message->msg_flags = flags & (MSG_CMSG_CLOEXEC | MSG_OOB);
  }
  return n;
}

int receive_messages(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (timeout != nullptr && (timeout->tv_nsec < 0 || timeout->tv_nsec > 999'999'999 || timeout->tv_sec < 0))
    return -EINVAL;
  const Instant begin = Runtime::instance().now();
  const Duration limit =
      timeout != nullptr ? seconds(timeout->tv_sec) + nanoseconds(timeout->tv_nsec) : Duration{INT64_MAX};
  unsigned done = 0;
  while (done < count) {
    const int call_flags = flags & ~MSG_WAITFORONE;
    const ssize_t n = receive_message(fd, &messages[done].msg_hdr, call_flags);
    if (n < 0) return done > 0 ? static_cast<int>(done) : static_cast<int>(n);
    messages[done++].msg_len = static_cast<unsigned>(n);
    if ((flags & MSG_WAITFORONE) != 0) flags |= MSG_DONTWAIT;
    if (timeout != nullptr && Runtime::instance().now() - begin >= limit) break;
  }
  if (timeout != nullptr) {
    Duration left = limit - (Runtime::instance().now() - begin);
    if (left.ns < 0) left = {};
    *timeout = {left.ns / 1'000'000'000, left.ns % 1'000'000'000};
  }
  return static_cast<int>(done);
}

}  // namespace

}  // namespace tto::stack

using namespace tto;
using namespace tto::stack;

extern "C" {

ssize_t tto_read(int fd, void* buffer, size_t bytes) {
  if (!is_tcp(fd_word(fd))) return posix(blocking_call(SYS_read, fd, buffer, bytes));
  if (bytes == 0) return 0;
  const iovec piece{buffer, bytes};
  return posix(receive_on(fd, &piece, 1, 0));
}

ssize_t tto_readv(int fd, const iovec* iov, int count) {
  if (!is_tcp(fd_word(fd))) return posix(blocking_call(SYS_readv, fd, iov, count));
  if (count < 0 || count > IOV_MAX) return posix(-EINVAL);
  if (is_bad_range(iov, static_cast<size_t>(count) * sizeof *iov)) return posix(-EFAULT);
  if (vector_bytes(iov, count) == 0) return 0;  // unlike recv(), at once
  return posix(receive_on(fd, iov, count, 0));
}

ssize_t tto_recv(int fd, void* buffer, size_t bytes, int flags) {
  if (!is_tcp(fd_word(fd))) return posix(blocking_call(SYS_recvfrom, fd, buffer, bytes, flags, nullptr, nullptr));
  const iovec piece{buffer, bytes};
  return posix(receive_on(fd, &piece, 1, flags));
}

ssize_t tto_recvfrom(int fd, void* buffer, size_t bytes, int flags, sockaddr* address, socklen_t* address_bytes) {
  if (!is_tcp(fd_word(fd)))
    return posix(blocking_call(SYS_recvfrom, fd, buffer, bytes, flags, address, address_bytes));
  const iovec piece{buffer, bytes};
  const ssize_t n = receive_on(fd, &piece, 1, flags);
  if (n >= 0 && address != nullptr && address_bytes != nullptr) *address_bytes = 0;  // as the kernel for TCP
  return posix(n);
}

ssize_t tto_recvmsg(int fd, msghdr* message, int flags) {
  if (!is_tcp(fd_word(fd))) return posix(blocking_call(SYS_recvmsg, fd, message, flags));
  return posix(receive_message(fd, message, flags));
}

int tto_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (!is_tcp(fd_word(fd)))
    return static_cast<int>(posix(blocking_call(SYS_recvmmsg, fd, messages, count, flags, timeout)));
  return static_cast<int>(posix(receive_messages(fd, messages, count, flags, timeout)));
}

}  // extern "C"
