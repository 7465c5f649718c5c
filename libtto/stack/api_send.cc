// tto.h: sending.
#include <climits>
#include <cstring>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"

namespace tto::stack {

namespace {

/// Gives the stream as much as it takes now; the number of bytes or -errno (0 bytes taken).
ssize_t try_send(LockedCall& call, const iovec* iov, int count, uint64_t done, uint64_t asked, int flags) {
  const int stream_flags = flags & (MSG_MORE | MSG_OOB);
  const uint64_t begin = done;
  while (done < asked || asked == 0) {
    const VectorWindow window(iov, count, done);
    const int more = window.has_more ? MSG_MORE : 0;
    ssize_t n = call.stream()->send(window.pieces, window.count, stream_flags | more, call.now());
    if (n == -EAGAIN && done == begin) {
      call.progress();
      if (!call.is_same() || call.stream() == nullptr) return kMoved;
      n = call.stream()->send(window.pieces, window.count, stream_flags | more, call.now());
    }
    if (n < 0) return done > begin ? static_cast<ssize_t>(done - begin) : n;
    done += static_cast<uint64_t>(n);
    if (asked == 0 || static_cast<uint64_t>(n) < window.bytes) break;
  }
  return static_cast<ssize_t>(done - begin);
}

/// kMoved: `done` bytes were taken before.
ssize_t send_locked(LockedCall& call, const iovec* iov, int count, uint64_t asked, int flags, uint64_t& done) {
  SocketEntry& entry = call.entry();
  const bool blocks = (flags & MSG_DONTWAIT) == 0 && !entry.is_nonblocking.load(std::memory_order_relaxed);
  const Instant until = deadline_after(call.now(), entry.send_timeout_ns.load(std::memory_order_relaxed));
  for (;;) {
    const ssize_t n = try_send(call, iov, count, done, asked, flags);
    if (n == kMoved) return kMoved;
    if (n > 0) {
      done += static_cast<uint64_t>(n);
      call.stack().push(call.now());
    }
    if (n < 0 && n != -EAGAIN) return done > 0 ? static_cast<ssize_t>(done) : n;
    if (done >= asked) return static_cast<ssize_t>(done);
    if (!blocks) return done > 0 ? static_cast<ssize_t>(done) : -EAGAIN;
    const int waited = wait_for_level(call, EPOLLOUT, until, until == kNever);
    if (waited < 0) return done > 0 ? static_cast<ssize_t>(done) : waited;
    if (!call.is_same() || call.stream() == nullptr) return kMoved;
  }
}

/// The rest of a send whose connection became the kernel's under it. A signal is raised by the kernel.
ssize_t send_in_kernel(int fd, const iovec* iov, int count, uint64_t done, int flags) {
  for (;;) {
    VectorWindow window(iov, count, done);
    msghdr message{};
    message.msg_iov = done == 0 ? const_cast<iovec*>(iov) : window.pieces;
    message.msg_iovlen = static_cast<size_t>(done == 0 ? count : window.count);
    const ssize_t n = blocking_call(SYS_sendmsg, fd, &message, flags);
    if (n < 0) return done > 0 ? static_cast<ssize_t>(done) : n;
    if (done == 0) return n;
    done += static_cast<uint64_t>(n);
    if (!window.has_more || static_cast<uint64_t>(n) < window.bytes) return static_cast<ssize_t>(done);
  }
}

/// What only the kernel serves: a SYN with data.
constexpr int kKernelFlags = MSG_FASTOPEN;

}  // namespace

ssize_t send_on(int fd, const iovec* iov, int count, int flags) {
  if ((flags & kKernelFlags) != 0 && !hand_over_if_ours(fd, stats::Counter::kernel_handed_over_call))
    return unserved(EOPNOTSUPP);
  const ssize_t asked = vector_bytes(iov, count);
  if (asked < 0) return asked;
  ssize_t result;
  uint64_t done = 0;
  for (;;) {
    const uint64_t word = fd_word(fd);
    if (!is_tcp(word)) return send_in_kernel(fd, iov, count, done, flags);
    LockedCall call(fd, word);
    if (!call) continue;
    if (call.stream() == nullptr) {
      const bool lost = call.entry().kind == SocketEntry::Kind::kLost;
      if (lost && served_word(fd) != word) continue;
      result = lost ? -kLostError : -EPIPE;
    } else {
      result = send_locked(call, iov, count, static_cast<uint64_t>(asked), flags, done);
      if (result == kMoved) continue;
    }
    break;
  }
  if (result == -EPIPE && (flags & MSG_NOSIGNAL) == 0) raise_sigpipe();
  return result;
}

namespace {

/// Control data with a meaning for TCP is none that is served here: -EOPNOTSUPP; what the kernel refuses is refused alike.
int check_control(const msghdr* message) {
  if (message->msg_controllen == 0) return 0;
  if (is_bad_range(message->msg_control, message->msg_controllen)) return -EFAULT;
  const auto* control = static_cast<const char*>(message->msg_control);
  for (cmsghdr* c = CMSG_FIRSTHDR(message); c != nullptr; c = CMSG_NXTHDR(const_cast<msghdr*>(message), c)) {
    const auto at = static_cast<size_t>(reinterpret_cast<const char*>(c) - control);
    if (c->cmsg_len < sizeof *c || c->cmsg_len > message->msg_controllen - at) return -EINVAL;
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type == SCM_RIGHTS || c->cmsg_type == SCM_CREDENTIALS) continue;
    return -EOPNOTSUPP;
  }
  return 0;
}

/// Descriptors of ours that travel in `message` are the kernel's when they arrive, and stay so if they are not connected
/// yet: two processes cannot both serve one.
void hand_over_passed(const msghdr* message) {
  if (!any_entry_made() || is_bad_range(message, sizeof *message) || message->msg_controllen == 0) return;
  if (is_bad_range(message->msg_control, message->msg_controllen)) return;
  for (cmsghdr* c = CMSG_FIRSTHDR(message); c != nullptr; c = CMSG_NXTHDR(const_cast<msghdr*>(message), c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0)) continue;
    for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + at, sizeof fd);
      leave_to_kernel(fd, stats::Counter::kernel_handed_over_passed);
    }
  }
}

ssize_t send_message(int fd, const msghdr* message, int flags) {
  if (const int error = check_message(message); error < 0) return error;
  if (message->msg_name != nullptr && is_bad_range(message->msg_name, message->msg_namelen)) return -EFAULT;
  if (const int error = check_control(message); error == -EOPNOTSUPP) {
    if (!hand_over_if_ours(fd, stats::Counter::kernel_handed_over_call)) return unserved(EINVAL);
    return blocking_call(SYS_sendmsg, fd, message, flags);
  } else if (error < 0) {
    return error;
  }
  return send_on(fd, message->msg_iov, static_cast<int>(message->msg_iovlen), flags);
}

int send_messages(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (count > 1024) count = 1024;
  for (unsigned done = 0; done < count; ++done) {
    const ssize_t n = send_message(fd, &messages[done].msg_hdr, flags);
    if (n < 0) return done > 0 ? static_cast<int>(done) : static_cast<int>(n);
    messages[done].msg_len = static_cast<unsigned>(n);
  }
  return static_cast<int>(count);
}

/// A file's bytes to an accelerated socket, a piece at a time. The file's position moves by what was sent, no further.
ssize_t send_file(int out_fd, int in_fd, off_t* offset, size_t bytes) {
  if (offset != nullptr && is_bad_range(offset, sizeof *offset)) return -EFAULT;
  if (const int flags = sys::fcntl(in_fd, F_GETFL); flags < 0 || (flags & O_ACCMODE) == O_WRONLY) return -EBADF;
  struct stat about {};
  if (const int error = sys::fstat(in_fd, &about); error < 0) return error;
  if (!S_ISREG(about.st_mode) && !S_ISBLK(about.st_mode)) return -EINVAL;
  off_t at = offset != nullptr ? *offset : sys::lseek(in_fd, 0, SEEK_CUR);
  if (at < 0) return offset != nullptr ? -EINVAL : at;
  size_t done = 0;
  ssize_t error = 0;
  while (done < bytes) {
    char piece[16384];
    const size_t want = bytes - done < sizeof piece ? bytes - done : sizeof piece;
    const ssize_t got = sys::pread(in_fd, piece, want, at);
    if (got <= 0) {
      error = got;
      break;
    }
    const iovec part{piece, static_cast<size_t>(got)};
    const ssize_t sent = send_on(out_fd, &part, 1, done + static_cast<size_t>(got) < bytes ? MSG_MORE : 0);
    if (sent < 0) {
      error = sent;
      break;
    }
    done += static_cast<size_t>(sent);
    at += sent;
    if (sent < got) break;
  }
  if (offset != nullptr) {
    *offset = at;
  } else if (done > 0) {
    sys::lseek(in_fd, at, SEEK_SET);
  }
  return done > 0 ? static_cast<ssize_t>(done) : error;
}

}  // namespace

}  // namespace tto::stack

using namespace tto;
using namespace tto::stack;

extern "C" {

ssize_t tto_write(int fd, const void* buffer, size_t bytes) {
  if (!is_tcp(fd_word(fd))) return posix(blocking_call(SYS_write, fd, buffer, bytes));
  const iovec piece{const_cast<void*>(buffer), bytes};
  return posix(send_on(fd, &piece, 1, 0));
}

ssize_t tto_writev(int fd, const iovec* iov, int count) {
  if (!is_tcp(fd_word(fd))) return posix(blocking_call(SYS_writev, fd, iov, count));
  if (count < 0 || count > IOV_MAX) return posix(-EINVAL);
  if (is_bad_range(iov, static_cast<size_t>(count) * sizeof *iov)) return posix(-EFAULT);
  return posix(send_on(fd, iov, count, 0));
}

ssize_t tto_send(int fd, const void* buffer, size_t bytes, int flags) {
  if (!is_tcp(fd_word(fd))) return posix(blocking_call(SYS_sendto, fd, buffer, bytes, flags, nullptr, 0));
  const iovec piece{const_cast<void*>(buffer), bytes};
  return posix(send_on(fd, &piece, 1, flags));
}

ssize_t tto_sendto(int fd, const void* buffer, size_t bytes, int flags, const sockaddr* address,
                   socklen_t address_bytes) {
  if (!is_tcp(fd_word(fd)))
    return posix(blocking_call(SYS_sendto, fd, buffer, bytes, flags, address, address_bytes));
  if (address != nullptr && address_bytes > sizeof(sockaddr_storage)) return posix(-EINVAL);
  if (address != nullptr && is_bad_range(address, address_bytes)) return posix(-EFAULT);
  const iovec piece{const_cast<void*>(buffer), bytes};
  return posix(send_on(fd, &piece, 1, flags));
}

ssize_t tto_sendmsg(int fd, const msghdr* message, int flags) {
  if (!is_tcp(fd_word(fd))) {
    hand_over_passed(message);
    return posix(blocking_call(SYS_sendmsg, fd, message, flags));
  }
  return posix(send_message(fd, message, flags));
}

int tto_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (!is_tcp(fd_word(fd))) {
    const bool has_messages = count <= 1024 && !is_bad_range(messages, count * sizeof *messages);
    for (unsigned i = 0; has_messages && i < count; ++i) hand_over_passed(&messages[i].msg_hdr);
    return static_cast<int>(posix(blocking_call(SYS_sendmmsg, fd, messages, count, flags)));
  }
  return static_cast<int>(posix(send_messages(fd, messages, count, flags)));
}

ssize_t tto_sendfile(int out_fd, int in_fd, off_t* offset, size_t bytes) {
  if (is_tcp(fd_word(out_fd))) return posix(send_file(out_fd, in_fd, offset, bytes));
  if (is_tcp(fd_word(in_fd))) return posix(-EINVAL);
  return posix(blocking_call(SYS_sendfile, out_fd, in_fd, offset, bytes));
}

}  // extern "C"
