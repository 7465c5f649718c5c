#include "libtto/stack/process.hh"

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/epoll_set.hh"
#include "libtto/stack/fd_mirror.hh"
#include "libtto/stack/sharing.hh"
#include "libtto/stack/stack_impl.hh"

namespace tto::stack {

namespace {

/// Longest time that the end of a program spends on handing its connections over, and then on those that could not be:
/// until their last bytes are acknowledged.
constexpr Duration kHandoverPatience = seconds(5);
constexpr Duration kExitPatience = milliseconds(1500);

thread_local bool t_forks_with_lock;

constexpr stats::Counter kExit = stats::Counter::kernel_handed_over_exit;

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

/// The connections are the parent's, until they are asked for; listeners stay listening, in the kernel.
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
  begin_life_as_child();
}

}  // namespace

void before_fork() {
  t_forks_with_lock = any_entry_made();
  if (!t_forks_with_lock) return;
  api_lock().lock();
  for_each_known(0, kFdMapLimit - 1, [](int, uint64_t word) {
    if (is_undecided(word)) entry_at(FdWordParts::of(word).index).is_shared = true;
  });
  if (!has_running_stack()) return;
  Runtime::instance().before_fork();
  begin_fork();
}

void after_fork_parent() {
  if (!t_forks_with_lock) return;
  if (has_running_stack()) {
    end_fork_in_parent();
    Runtime::instance().after_fork_parent();
  }
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

namespace {

bool is_inheritable(int fd) { return (sys::fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0; }

bool is_listener(uint64_t word) { return entry_at(FdWordParts::of(word).index).kind == SocketEntry::Kind::kListener; }

/// Connections that the application has closed and the stack not finished: the kernel does.
void hand_over_orphans(Stack& stack, Instant until) {
  Runtime& runtime = Runtime::instance();
  StackLockGuard guard(stack.lock());
  stack.run_once(runtime.now());
  for (uint32_t i = 0; runtime.now() < until; ++i) {
    socket::StreamSocket* orphan = stack.next_unfinished(i);
    if (orphan == nullptr) return;
    i = orphan->slot();
    if (runtime.hand_over_orphan(stack, *orphan, runtime.now())) runtime.counters().add(kExit);
  }
}

/// What could not be handed over gets some time to finish by itself.
void finish_the_rest(Stack& stack) {
  Runtime& runtime = Runtime::instance();
  const Instant until = runtime.now() + kExitPatience;
  for (;;) {
    int wait_fd;
    {
      StackLockGuard guard(stack.lock());
      const Instant now = runtime.now();
      stack.run_once(now);
      stack.flush_acks(now);
      if (!has_unfinished(stack) || now >= until) return;
      wait_fd = stack.wait_fd();
    }
    pollfd fd{wait_fd, POLLIN, 0};
    timespec tick{0, 1'000'000};
    sys::ppoll(&fd, 1, &tick, nullptr);
  }
}

}  // namespace

void before_spawn() {
  if (!any_entry_made()) return;
  for_each_known(0, kFdMapLimit - 1, [](int fd, uint64_t word) {
    if (!is_tcp(word) || !is_inheritable(fd) || is_listener(word)) return;
    if (!hand_over_now(fd, word, stats::Counter::kernel_handed_over_exec))
      Runtime::instance().counters().add(stats::Counter::socket_exec_lost);
  });
}

void before_exec() {
  before_spawn();
  if (!has_running_stack() || Runtime::instance().is_forked_child()) return;
  const Instant until = Runtime::instance().now() + kHandoverPatience;
  for_each_known(0, kFdMapLimit - 1, [&](int fd, uint64_t word) {
    if (is_tcp(word) && !is_listener(word) && Runtime::instance().now() < until)
      hand_over_now(fd, word, stats::Counter::kernel_handed_over_exec);
  });
  hand_over_orphans(*Runtime::instance().running_stack(), until);
}

void before_exit() {
  if (!has_running_stack()) return;
  Runtime& runtime = Runtime::instance();
  if (runtime.is_forked_child()) return;
  Stack* stack = runtime.running_stack();
  const Instant until = runtime.now() + kHandoverPatience;
  for_each_known(0, kFdMapLimit - 1, [&](int fd, uint64_t word) {
    if (!is_tcp(word)) return;
    const bool is_kernels = !is_listener(word) && runtime.now() < until && hand_over_now(fd, word, kExit);
    if (!is_kernels) tto_close(fd);
  });
  hand_over_orphans(*stack, until);
  finish_the_rest(*stack);
}

}  // namespace tto::stack
