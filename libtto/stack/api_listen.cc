// tto.h: opening by peers. bind, listen, accept; the two accept queues merged (DESIGN 2.1).
//
// The placeholder of an accelerated listener listens for real. It is kept non-blocking underneath, so that looking into
// the kernel's queue never sleeps; what the application set is in the entry (F_GETFL shows that).
#include <netinet/in.h>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/epoll_set.hh"
#include "libtto/stack/fd_mirror.hh"
#include "libtto/stack/interruption.hh"

namespace tto::stack {

namespace {

void stay_in_kernel(int fd, uint64_t word, stats::Counter reason) {
  StackLockGuard guard(api_lock());
  if (fd_word(fd) != word) return;
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  forget_kernel_interests(entry);
  give_to_kernel(entry, fd, reason);
  Runtime::instance().counters().add(reason);
}

bool fill_listen_request(int fd, const SocketEntry& entry, Stack::ListenRequest& request) {
  sockaddr_storage local{};
  socklen_t bytes = sizeof local;
  if (sys::getsockname(fd, &local, &bytes) < 0) return false;
  request.is_v6 = entry.is_v6;
  request.backlog = entry.backlog;
  if (entry.is_v6) {
    const auto& a = reinterpret_cast<const sockaddr_in6&>(local);
    request.address = wire::IpAddress::from_v6(&a.sin6_addr);
    request.port = ntohs(a.sin6_port);
    int only = 0;
    socklen_t size = sizeof only;
    sys::getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &size);
    request.v6_only = only != 0;
  } else {
    const auto& a = reinterpret_cast<const sockaddr_in&>(local);
    request.address = wire::IpAddress::from_v4(a.sin_addr.s_addr);
    request.port = ntohs(a.sin_port);
  }
  int value = 0;
  socklen_t size = sizeof value;
  if (sys::getsockopt(fd, IPPROTO_IP, IP_TOS, &value, &size) == 0) request.tos = static_cast<uint8_t>(value);
  size = sizeof value;
  if (sys::getsockopt(fd, IPPROTO_IP, IP_TTL, &value, &size) == 0 && value > 0)
    request.ttl = static_cast<uint8_t>(value);
  return true;
}

stats::Counter open_listener(int fd, uint64_t word) {
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  if (entry.is_unservable) return stats::Counter::kernel_bad_socket;
  Runtime& runtime = Runtime::instance();
  stats::Counter reason = stats::Counter::kernel_no_resource;
  notice_if_forked();
  Stack* stack = runtime.stack_for(fd, &reason);
  show_descriptors();
  if (stack == nullptr) return reason;
  Stack::ListenRequest request;
  if (!fill_listen_request(fd, entry, request)) return stats::Counter::kernel_bad_socket;
  StackLockGuard guard(api_lock());
  if (fd_word(fd) != word) return stats::Counter::kernel_bad_socket;
  // Held from the lease on: a SYN that is steered here at once must find the listener, or it would be refused.
  StackLockGuard stack_guard(stack->lock());
  reason = runtime.prepare_listen(*stack, fd, request);
  if (reason != stats::Counter::kCount) return reason;
  read_placeholder(fd, entry, request.config, request.send_buffer_bytes, request.receive_buffer_bytes);
  socket::ListenSocket* listener = stack->listen(request, &reason);
  if (listener == nullptr) return reason;
  const int flags = sys::fcntl(fd, F_GETFL);
  entry.is_nonblocking.store((flags & O_NONBLOCK) != 0, std::memory_order_relaxed);
  sys::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  entry.listener = listener;
  entry.kind = SocketEntry::Kind::kListener;
  timeval timeout{};
  socklen_t size = sizeof timeout;
  if (sys::getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &size) == 0)
    entry.receive_timeout_ns.store(int64_t{timeout.tv_sec} * 1'000'000'000 + int64_t{timeout.tv_usec} * 1'000,
                                   std::memory_order_relaxed);
  entry.stack.store(stack, std::memory_order_release);
  reassign_all(entry, fd, Path::kTcp, stats::Counter::kCount);
  watch_listener(entry);
  return stats::Counter::kCount;
}

/// A connection of the kernel's own queue: it stays there.
int note_kernel_accept(int fd) {
  if (fd < 0) return fd;
  forget_former_life(fd);
  StackLockGuard guard(api_lock());
  assign(fd, Path::kKernel, nullptr, stats::Counter::kernel_accepted);
  Runtime::instance().counters().add(stats::Counter::kernel_accepted);
  return fd;
}

/// One of our own queue, if there is one: -EAGAIN if not.
int accept_stream(int listener_fd, uint64_t word, sockaddr* address, socklen_t* bytes, int flags) {
  const int family = entry_at(FdWordParts::of(word).index).is_v6 ? AF_INET6 : AF_INET;
  {
    LockedCall call(listener_fd, word);
    if (!call) return -EAGAIN;
    if (call.entry().listener == nullptr) return -EINVAL;
    if (call.entry().listener->ready_count() == 0) call.progress();
    if (call.entry().listener->ready_count() == 0) return -EAGAIN;
  }
  // The descriptor first: without one, the connection stays in the queue.
  const int fd = sys::socket(family, SOCK_STREAM | (flags & (SOCK_CLOEXEC | SOCK_NONBLOCK)), 0);
  if (fd < 0) return fd;
  forget_former_life(fd);
  StackLockGuard guard(api_lock());
  SocketEntry* fresh = make_entry(family == AF_INET6);
  if (fresh == nullptr) {
    sys::close(fd);
    return -ENOBUFS;
  }
  fresh->fd_count = 1;
  LockedCall call(listener_fd, word);
  socket::StreamSocket* stream = call && call.entry().listener != nullptr ? call.entry().listener->accept() : nullptr;
  if (stream == nullptr) {
    free_entry(*fresh);
    sys::close(fd);
    return -EAGAIN;
  }
  fresh->stream = stream;
  fresh->kind = SocketEntry::Kind::kStream;
  fresh->is_nonblocking.store((flags & SOCK_NONBLOCK) != 0, std::memory_order_relaxed);
  stream->set_fd(fd);
  if (call.entry().remembered_count > 0) {
    replay_options(call.entry(), *fresh, fd);
    apply_placeholder(fd, *fresh);
  }
  fresh->stack.store(&call.stack(), std::memory_order_release);
  assign(fd, Path::kTcp, fresh, stats::Counter::kCount);
  if (address != nullptr) write_address(stream->tuple().remote, stream->tuple().remote_port, fresh->is_v6, address, bytes);
  return fd;
}

/// Sleeps for either queue.
class AcceptSleeper final : public Sleeper {
 public:
  AcceptSleeper(LockedCall& call, int fd) : call_(call), fd_(fd), waiter_(ThreadWaiter::of_this_thread()) {}
  bool is_ready() override {
    if (kernel_is_ready_ || !call_.is_same() || call_.entry().listener == nullptr) return true;
    if (call_.entry().listener->ready_count() > 0) return true;
    if (!waiter_.is_linked()) call_.entry().listener->readiness().add(waiter_);
    return false;
  }
  int sleep(int wait_fd, int wake_fd, Duration timeout, const sigset_t* mask) override {
    pollfd fds[3] = {{fd_, POLLIN, 0}, {wait_fd, POLLIN, 0}, {wake_fd, POLLIN, 0}};
    timespec limit{timeout.ns / 1'000'000'000, timeout.ns % 1'000'000'000};
    const int n = sys::ppoll(fds, 3, timeout.ns == INT64_MAX ? nullptr : &limit, mask);
    if (n > 0 && fds[0].revents != 0) kernel_is_ready_ = true;
    return n == -EINTR ? -EINTR : 0;
  }
  void leave() { waiter_.unlink(); }

 private:
  LockedCall& call_;
  int fd_;
  ThreadWaiter& waiter_;
  bool kernel_is_ready_ = false;
};

int wait_for_accept(int fd, uint64_t word) {
  LockedCall call(fd, word);
  if (!call || call.entry().listener == nullptr) return 0;
  const int64_t timeout_ns = call.entry().receive_timeout_ns.load(std::memory_order_relaxed);
  const Instant until = deadline_after(call.now(), timeout_ns);
  AcceptSleeper sleeper(call, fd);
  Interruption interruption;
  for (;;) {
    call.pin();
    const WaitResult result = wait(call.stack(), sleeper, until, nullptr);
    call.unpin();
    if (result == WaitResult::kInterrupted && timeout_ns == 0 && interruption.may_restart()) continue;
    sleeper.leave();
    if (result == WaitResult::kReady) return 0;
    return result == WaitResult::kTimeout ? -EAGAIN : -EINTR;
  }
}

}  // namespace

void decide_listener(int fd) {
  const uint64_t word = fd_word(fd);
  if (!is_undecided(word)) return;
  if (entry_at(FdWordParts::of(word).index).kind != SocketEntry::Kind::kListening) return;
  const stats::Counter reason = open_listener(fd, word);
  if (reason != stats::Counter::kCount) stay_in_kernel(fd, word, reason);
}

int accept_on(int fd, sockaddr* address, socklen_t* bytes, int flags) {
  decide_listener(fd);
  for (;;) {
    const uint64_t word = fd_word(fd);
    if (!is_tcp(word)) {
      const int accepted = static_cast<int>(blocking_call(SYS_accept4, fd, address, bytes, flags));
      return path_of(word) == Path::kKernel ? note_kernel_accept(accepted) : accepted;
    }
    SocketEntry& entry = entry_at(FdWordParts::of(word).index);
    if (entry.kind == SocketEntry::Kind::kLost || entry.kind == SocketEntry::Kind::kStream) return -EINVAL;
    if (address != nullptr && is_bad_range(bytes, sizeof *bytes)) return -EFAULT;
    if (address != nullptr && static_cast<int>(*bytes) < 0) return -EINVAL;
    int accepted = accept_stream(fd, word, address, bytes, flags);
    if (accepted != -EAGAIN) return accepted;
    accepted = sys::accept4(fd, address, bytes, flags);
    if (accepted != -EAGAIN) return note_kernel_accept(accepted);
    if (fd_word(fd) != word) continue;
    if (entry.is_nonblocking.load(std::memory_order_relaxed)) return -EAGAIN;
    const int waited = wait_for_accept(fd, word);
    if (waited < 0) return waited;
  }
}

namespace {

bool is_bound(int fd) {
  sockaddr_in local{};  // the port is at the same place in both families
  socklen_t bytes = sizeof local;
  return sys::getsockname(fd, &local, &bytes) == 0 && local.sin_port != 0;
}

int listen_on(int fd, int backlog) {
  const uint64_t word = fd_word(fd);
  if (is_tcp(word) && entry_at(FdWordParts::of(word).index).kind != SocketEntry::Kind::kListener) return -EINVAL;
  const int result = sys::listen(fd, backlog);
  if (result < 0) return result;
  if (is_tcp(word)) {
    LockedCall call(fd, word);
    if (call && call.entry().listener != nullptr) call.entry().listener->set_backlog(backlog);
    return 0;
  }
  if (!is_undecided(word)) return 0;
  bool is_registered = false;
  {
    StackLockGuard guard(api_lock());
    if (fd_word(fd) != word) return 0;
    SocketEntry& entry = entry_at(FdWordParts::of(word).index);
    entry.kind = SocketEntry::Kind::kListening;
    entry.backlog = backlog;
    is_registered = !entry.interests.empty();
  }
  if (is_registered) decide_listener(fd);
  return 0;
}

}  // namespace

}  // namespace tto::stack

using namespace tto;
using namespace tto::stack;

extern "C" {

int tto_bind(int fd, const sockaddr* address, socklen_t bytes) {
  // The placeholder of an accepted connection is not bound, and must not become so.
  const uint64_t word = fd_word(fd);
  if (is_tcp(word) && !is_bad_range(address, bytes) && !is_bound(fd)) return static_cast<int>(posix(-EINVAL));
  if (is_undecided(word)) {
    StackLockGuard guard(api_lock());
    if (fd_word(fd) == word) entry_at(FdWordParts::of(word).index).is_bound = true;
  }
  return static_cast<int>(posix(sys::bind(fd, address, bytes)));
}

int tto_listen(int fd, int backlog) {
  return static_cast<int>(posix(path_of(fd_word(fd)) == Path::kNone ? sys::listen(fd, backlog) : listen_on(fd, backlog)));
}

int tto_accept4(int fd, sockaddr* address, socklen_t* bytes, int flags) {
  if (fd_word(fd) == 0) return static_cast<int>(posix(blocking_call(SYS_accept4, fd, address, bytes, flags)));
  if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return static_cast<int>(posix(-EINVAL));
  return static_cast<int>(posix(accept_on(fd, address, bytes, flags)));
}

int tto_accept(int fd, sockaddr* address, socklen_t* bytes) { return tto_accept4(fd, address, bytes, 0); }

}  // extern "C"
