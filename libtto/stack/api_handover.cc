// Descriptors of ours become the kernel's: every trigger of a handover ends here. Who sleeps in a call on one, or waits for
// it in poll or epoll, goes on with the kernel.
#include "libtto/stack/api_call.hh"
#include "libtto/stack/epoll_set.hh"
#include "libtto/stack/sharing.hh"

namespace tto::stack {

namespace {

// A call that only the kernel serves may find the handshake under way: it is the engine's to finish.
constexpr Duration kHandshakePatience = milliseconds(100);

/// Both locks. The connection is the kernel's already: so are its descriptors and registrations.
void switch_to_kernel(SocketEntry& entry, int fd, stats::Counter reason) {
  note_handed_over(entry);
  move_interests_to_kernel(entry);
  forget_kernel_interests(entry);
  entry.stream->readiness().update(0, ~0u);
  give_to_kernel(entry, fd, reason);
  Runtime::instance().counters().add(reason);
}

/// A listener: its half here goes; what was not accepted yet is reset, as by any close of a listener. Both locks.
void give_listener(SocketEntry& entry, int fd, Stack& stack, stats::Counter reason) {
  const Instant now = Runtime::instance().now();
  entry.listener->readiness().update(EPOLLIN | EPOLLHUP, EPOLLIN | EPOLLHUP);
  stack.close_listener(entry.listener, now);
  entry.listener = nullptr;
  const int flags = sys::fcntl(fd, F_GETFL);
  if (!entry.is_nonblocking.load(std::memory_order_relaxed)) sys::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  move_interests_to_kernel(entry);
  forget_kernel_interests(entry);
  give_to_kernel(entry, fd, reason);
  Runtime::instance().counters().add(reason);
  stack.push(now);
}

void await_handshake(int fd, uint64_t word) {
  LockedCall call(fd, word);
  if (!call || call.stream() == nullptr || !call.stream()->is_connecting()) return;
  wait_for_level(call, EPOLLOUT, call.now() + kHandshakePatience, false);
}

/// Nothing is left of it that the kernel could do better than an unconnected socket.
bool is_over(const socket::StreamSocket& stream) {
  const tcp::State state = stream.connection().state();
  return (state == tcp::State::kClosed || state == tcp::State::kTimeWait) && stream.readable_bytes() == 0 &&
         stream.connection().events().error == 0;
}

}  // namespace

bool hand_over_entry(SocketEntry& entry, int fd, Stack& stack, stats::Counter reason) {
  Runtime& runtime = Runtime::instance();
  const Instant now = runtime.now();
  stack.run_once(now);
  const HandoverResult result = runtime.hand_over(stack, *entry.stream, fd, now);
  if (result == HandoverResult::kDone) {
    switch_to_kernel(entry, fd, reason);
    return true;
  }
  stack.push(now);
  if (!is_over(*entry.stream)) runtime.counters().add(stats::Counter::handover_refused);
  return false;
}

bool hand_over(int fd, uint64_t word, stats::Counter reason) {
  if (!is_tcp(word)) return true;
  await_handshake(fd, word);
  return hand_over_now(fd, word, reason);
}

bool hand_over_now(int fd, uint64_t word, stats::Counter reason) {
  if (!is_tcp(word)) return true;
  if (claim_inherited(fd, word)) return !is_tcp(fd_word(fd));
  StackLockGuard guard(api_lock());
  if (fd_word(fd) != word) return true;
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  Stack* stack = entry.stack.load(std::memory_order_acquire);
  if (stack == nullptr) return false;
  StackLockGuard stack_guard(stack->lock());
  if (entry.listener != nullptr) {
    give_listener(entry, fd, *stack, reason);
    return true;
  }
  if (entry.stream == nullptr) return false;
  return hand_over_entry(entry, fd, *stack, reason) || is_over(*entry.stream);
}

void leave_to_kernel(int fd, stats::Counter reason) {
  const uint64_t word = fd_word(fd);
  if (is_tcp(word)) {
    // A listener's connections wait here; whoever gets the descriptor accepts from the kernel's queue.
    if (entry_at(FdWordParts::of(word).index).kind != SocketEntry::Kind::kListener) hand_over(fd, word, reason);
    return;
  }
  if (!is_undecided(word)) return;
  StackLockGuard guard(api_lock());
  if (fd_word(fd) == word) entry_at(FdWordParts::of(word).index).is_unservable = true;
}

bool hand_over_if_ours(int fd, stats::Counter reason) { return hand_over(fd, fd_word(fd), reason); }

uint64_t served_word(int fd) {
  const uint64_t word = fd_word(fd);
  return is_tcp(word) && claim_inherited(fd, word) ? fd_word(fd) : word;
}

void hand_over_if_shared(int fd, uint64_t word) {
  if (!is_tcp(word)) return;
  StackLockGuard guard(api_lock());
  if (fd_word(fd) != word) return;
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  Stack* stack = entry.stack.load(std::memory_order_acquire);
  if (stack == nullptr || entry.fd_count != 1 || !is_shared(entry)) return;
  StackLockGuard stack_guard(stack->lock());
  if (entry.stream != nullptr) hand_over_entry(entry, fd, *stack, stats::Counter::kernel_handed_over_fork);
}

}  // namespace tto::stack
