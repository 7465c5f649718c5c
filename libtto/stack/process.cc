#include "libtto/stack/process.hh"

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/epoll_set.hh"
#include "libtto/stack/fd_mirror.hh"
#include "libtto/stack/stack_impl.hh"

namespace tto::stack {

namespace {

/// Longest time the end of a program waits for its last bytes to be acknowledged.
constexpr Duration kExitPatience = milliseconds(1500);

thread_local bool t_forks_with_lock;

bool has_running_stack() { return any_entry_made() && Runtime::instance().running_stack() != nullptr; }

/// Some peer has not acknowledged all that was sent, the FIN included. With the lock.
bool has_unfinished(Stack& stack) {
  const auto& sockets = stack.impl().sockets;
  for (uint32_t i = 0; i < sockets.capacity(); ++i) {
    const auto* socket = sockets.find(i);
    if (socket == nullptr || socket->connection().state() == tcp::State::kClosed) continue;
    if (!socket->is_finished()) return true;
  }
  return false;
}

/// The connections are the parent's; listeners stay listening, in the kernel.
void lose_sockets() {
  show_fds_in(nullptr);
  for_each_known(0, kFdMapLimit - 1, [](int, uint64_t word) {
    if (!is_tcp(word)) return;
    SocketEntry& entry = entry_at(FdWordParts::of(word).index);
    entry.stream = nullptr;
    if (entry.listener == nullptr && entry.kind != SocketEntry::Kind::kListener) {
      entry.kind = SocketEntry::Kind::kLost;
    }
    entry.listener = nullptr;
    entry.pins = 0;
    entry.stack.store(nullptr, std::memory_order_release);
  });
  abandon_epoll_sets();
}

}  // namespace

void before_fork() {
  t_forks_with_lock = any_entry_made();
  if (!t_forks_with_lock) return;
  api_lock().lock();
  if (has_running_stack()) Runtime::instance().before_fork();
}

void after_fork_parent() {
  if (!t_forks_with_lock) return;
  if (has_running_stack()) Runtime::instance().after_fork_parent();
  api_lock().unlock();
}

void after_fork_child() {
  if (!t_forks_with_lock) return;
  if (has_running_stack()) {
    Runtime::instance().after_fork_child();
    lose_sockets();
  }
  api_lock().unlock();
}

void notice_child() {
  api_lock().reset();
  StackLockGuard guard(api_lock());
  if (!Runtime::instance().is_forked_child()) return;
  Runtime::instance().after_fork_child();
  lose_sockets();
}

void before_exec() {
  if (!any_entry_made()) return;
  for_each_known(0, kFdMapLimit - 1, [](int fd, uint64_t word) {
    if (!is_tcp(word) || (sys::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0) return;
    Runtime::instance().counters().add(stats::Counter::socket_exec_lost);
  });
}

void before_exit() {
  if (!has_running_stack()) return;
  Runtime& runtime = Runtime::instance();
  if (runtime.is_forked_child()) return;
  Stack* stack = runtime.running_stack();
  for_each_known(0, kFdMapLimit - 1, [](int fd, uint64_t word) {
    if (is_tcp(word)) tto_close(fd);
  });
  const Instant until = runtime.now() + kExitPatience;
  for (;;) {
    int wait_fd;
    {
      StackLockGuard guard(stack->lock());
      const Instant now = runtime.now();
      stack->run_once(now);
      if (!has_unfinished(*stack) || now >= until) return;
      wait_fd = stack->wait_fd();
    }
    pollfd fd{wait_fd, POLLIN, 0};
    timespec tick{0, 1'000'000};
    sys::ppoll(&fd, 1, &tick, nullptr);
  }
}

}  // namespace tto::stack
