// tto.h: opening by us. connect, and what a path change means for descriptors and epoll sets.
#include <netinet/in.h>

#include <cstring>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/epoll_set.hh"
#include "libtto/stack/fd_mirror.hh"

namespace tto::stack {

namespace {

/// The destination if it is one that TCP of ours can have: the socket's family (v4-mapped on IPv6), neither wildcard,
/// nor loopback's special meanings, nor multicast. The kernel judges the rest, and reports the errors.
bool parse_destination(const SocketEntry& entry, const sockaddr* address, socklen_t bytes, Runtime::Connect& out) {
  if (is_bad_range(address, bytes) || bytes < sizeof(sa_family_t)) return false;
  if (!entry.is_v6 && address->sa_family == AF_INET && bytes >= sizeof(sockaddr_in)) {
    sockaddr_in a;
    std::memcpy(&a, address, sizeof a);
    out.destination = wire::IpAddress::from_v4(a.sin_addr.s_addr);
    out.destination_port = ntohs(a.sin_port);
  } else if (entry.is_v6 && address->sa_family == AF_INET6 && bytes >= sizeof(sockaddr_in6)) {
    sockaddr_in6 a;
    std::memcpy(&a, address, sizeof a);
    if (IN6_IS_ADDR_LINKLOCAL(&a.sin6_addr) || a.sin6_flowinfo != 0) return false;
    out.destination = wire::IpAddress::from_v6(&a.sin6_addr);
    out.destination_port = ntohs(a.sin6_port);
  } else {
    return false;
  }
  if (out.destination_port == 0) return false;
  if (out.destination.is_v4()) {
    const uint32_t v4 = ntohl(out.destination.v4());
    return v4 != 0 && v4 >> 28 < 0xe;
  }
  const auto& b = out.destination.bytes;
  bool is_zero = true;
  for (size_t i = 0; i < 16; ++i) is_zero = is_zero && b[i] == 0;
  return !is_zero && b[0] != 0xff;
}

/// The kernel's own connect; the socket stays the kernel's.
int connect_in_kernel(int fd, uint64_t word, const sockaddr* address, socklen_t bytes, stats::Counter reason) {
  {
    StackLockGuard guard(api_lock());
    if (fd_word(fd) == word) {
      SocketEntry& entry = entry_at(FdWordParts::of(word).index);
      forget_kernel_interests(entry);
      give_to_kernel(entry, fd, reason);
      Runtime::instance().counters().add(reason);
    }
  }
  return static_cast<int>(blocking_call(SYS_connect, fd, address, bytes));
}

bool has_file_flag(int fd, int flag) {
  const int flags = sys::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & flag) != 0;
}

/// Starts our own active open on an undecided socket; kCount if it is on its way, else why not. `is_taken`: a connection of
/// ours has this tuple. The kernel, which does not know it, must not be asked either: its SYN would go to that connection.
stats::Counter open_stream(int fd, uint64_t word, Runtime::Connect& wish, bool& is_taken) {
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  // Every call that could have changed it came by here, but those of another process.
  wish.is_unbound = !entry.is_bound && !entry.is_shared;
  wish.has_options = entry.remembered_count > 0 || entry.is_shared;
  wish.is_v6_socket = entry.is_v6;
  if (entry.is_unservable || has_file_flag(fd, O_ASYNC)) return stats::Counter::kernel_bad_socket;
  Runtime& runtime = Runtime::instance();
  stats::Counter reason = stats::Counter::kernel_no_resource;
  notice_if_forked();
  Stack* stack = runtime.stack_for(fd, &reason);
  show_descriptors();
  if (stack == nullptr) return reason;
  Stack::ConnectRequest request;
  reason = runtime.prepare_connect(*stack, fd, wish, request);
  if (reason == stats::Counter::kernel_in_use) {
    StackLockGuard stack_guard(stack->lock());
    is_taken = stack->has_live_flow(request.tuple);
  }
  if (reason != stats::Counter::kCount) return reason;
  read_placeholder(fd, entry, request.config, request.send_buffer_bytes, request.receive_buffer_bytes);

  StackLockGuard guard(api_lock());
  if (fd_word(fd) != word) return stats::Counter::kernel_bad_socket;
  StackLockGuard stack_guard(stack->lock());
  const Instant now = runtime.now();
  stack->run_once(now);  // a stack that just started has buffers to receive the answer into only after a turn
  socket::StreamSocket* stream = stack->connect(request, now, &reason);
  if (stream == nullptr) return reason;
  entry.stream = stream;
  entry.kind = SocketEntry::Kind::kStream;
  entry.is_connecting = true;
  entry.is_nonblocking.store(has_file_flag(fd, O_NONBLOCK), std::memory_order_relaxed);
  stream->set_fd(fd);
  apply_placeholder(fd, entry);
  entry.stack.store(stack, std::memory_order_release);
  reassign_all(entry, fd, Path::kTcp, stats::Counter::kCount);
  move_interests_to_user(entry);
  stack->push(now);
  return stats::Counter::kCount;
}

/// The attempt failed and was reported: the socket may connect again (S1). No lock held.
void return_to_undecided(int fd, uint64_t word) {
  StackLockGuard guard(api_lock());
  if (fd_word(fd) != word) return;
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  Stack* stack = entry.stack.load(std::memory_order_acquire);
  if (stack == nullptr || entry.stream == nullptr) return;
  StackLockGuard stack_guard(stack->lock());
  const Instant now = Runtime::instance().now();
  move_interests_to_kernel(entry);
  entry.stream->set_fd(-1);
  entry.stream->close(now);
  entry.stream = nullptr;
  entry.is_connecting = false;
  entry.kind = SocketEntry::Kind::kUndecided;
  entry.stack.store(nullptr, std::memory_order_release);
  reassign_all(entry, fd, Path::kKernel, stats::Counter::kernel_undecided);
  stack->push(now);
}

/// connect() on a stream of ours: the outcome, or how far it is. `fresh`: this very call started it.
int finish_connect(int fd, uint64_t word, bool fresh) {
  int result;
  {
    LockedCall call(fd, word);
    if (!call) return -EAGAIN;  // looked at again by the caller
    SocketEntry& entry = call.entry();
    if (call.stream() == nullptr) return entry.kind == SocketEntry::Kind::kLost ? -kLostError : -EISCONN;
    if (!entry.is_connecting) return -EISCONN;
    const bool is_nonblocking = entry.is_nonblocking.load(std::memory_order_relaxed);
    if (fresh && is_nonblocking) return -EINPROGRESS;  // also if the answer is on its way already
    call.progress();
    const auto is_over = [&] {
      const tcp::Events events = call.stream()->connection().events();
      return events.established || events.closed || events.error != 0;
    };
    if (!is_over()) {
      if (is_nonblocking) return -EALREADY;
      const Instant until = deadline_after(call.now(), entry.send_timeout_ns.load(std::memory_order_relaxed));
      while (!is_over()) {
        const int waited = wait_for_level(call, EPOLLOUT, until, until == kNever);
        if (waited == -EAGAIN) return fresh ? -EINPROGRESS : -EALREADY;
        if (waited == -EINTR) return -EINTR;
        if (!call.is_same() || call.stream() == nullptr) return -EAGAIN;
      }
    }
    if (call.stream()->connection().events().established) {
      entry.is_connecting = false;
      return 0;
    }
    const int error = call.stream()->take_error();
    result = error != 0 ? -error : -ECONNABORTED;
  }
  return_to_undecided(fd, word);
  return result;
}

/// What the kernel says of an address before it looks at the socket.
int check_address(const sockaddr* address, socklen_t bytes) {
  if (bytes > sizeof(sockaddr_storage)) return -EINVAL;
  if (is_bad_range(address, bytes)) return -EFAULT;
  return bytes < sizeof(sa_family_t) ? -EINVAL : 0;
}

int connect_undecided(int fd, uint64_t word, const sockaddr* address, socklen_t bytes) {
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  if (entry.kind != SocketEntry::Kind::kUndecided) return sys::connect(fd, address, bytes);
  Runtime::Connect wish;
  if (!parse_destination(entry, address, bytes, wish)) {
    // Bad addresses get the kernel's error and leave the socket as it is; the rest is the kernel's for good.
    const int result = static_cast<int>(blocking_call(SYS_connect, fd, address, bytes));
    if (result == 0 || result == -EINPROGRESS || result == -EINTR) {
      StackLockGuard guard(api_lock());
      if (fd_word(fd) == word) {
        forget_kernel_interests(entry);
        give_to_kernel(entry, fd, stats::Counter::kernel_bad_socket);
      }
    }
    return result;
  }
  bool is_taken = false;
  const stats::Counter reason = open_stream(fd, word, wish, is_taken);
  if (is_taken) return -EADDRNOTAVAIL;
  if (reason != stats::Counter::kCount) return connect_in_kernel(fd, word, address, bytes, reason);
  return finish_connect(fd, fd_word(fd), true);
}

}  // namespace

}  // namespace tto::stack

using namespace tto;
using namespace tto::stack;

extern "C" int tto_connect(int fd, const sockaddr* address, socklen_t bytes) {
  for (int attempt = 0; attempt < 8; ++attempt) {
    const uint64_t word = served_word(fd);
    if (is_undecided(word)) return static_cast<int>(posix(connect_undecided(fd, word, address, bytes)));
    if (!is_tcp(word)) break;
    if (const int error = check_address(address, bytes); error < 0) return static_cast<int>(posix(error));
    // AF_UNSPEC dissolves the connection: the kernel's socket can do that.
    if (address->sa_family == AF_UNSPEC) {
      if (!hand_over(fd, word, stats::Counter::kernel_handed_over_call))
        return static_cast<int>(posix(unserved(EOPNOTSUPP)));
      break;
    }
    const int result = finish_connect(fd, word, false);
    if (result != -EAGAIN) return static_cast<int>(posix(result));
  }
  return static_cast<int>(posix(blocking_call(SYS_connect, fd, address, bytes)));
}
