// What the functions of tto.h share: going to the kernel, errno, and calls on accelerated descriptors.
#pragma once

#include <errno.h>

#include "libtto/base/sys.hh"
#include "libtto/socket/listen_socket.hh"
#include "libtto/socket/stream_socket.hh"
#include "libtto/stack/fd_table.hh"
#include "libtto/stack/io_vector.hh"
#include "libtto/stack/process.hh"
#include "libtto/stack/runtime.hh"
#include "libtto/stack/waiting.hh"

namespace tto::stack {

/// The kernel's convention to libc's.
inline long posix(long result) {
  if (__builtin_expect(result < 0 && result > -4096, 0)) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}

/// While alive, a system call made here is a cancellation point, as libc's own would be: pass-through calls that may
/// block use it. Free in programs with one thread.
class CancellationPoint {
 public:
  CancellationPoint();
  ~CancellationPoint();
  CancellationPoint(const CancellationPoint&) = delete;
  CancellationPoint& operator=(const CancellationPoint&) = delete;

 private:
  int old_type_ = -1;
};

template <typename... Args>
long blocking_call(long nr, Args... args) {
  CancellationPoint point;
  return sys::call(nr, args...);
}

/// A call on an accelerated descriptor: holds the lock of the entry's stack as long as it lives. False if `fd` is
/// something else by now: look at its word again.
class LockedCall {
 public:
  LockedCall(int fd, uint64_t word);
  ~LockedCall();
  LockedCall(const LockedCall&) = delete;
  LockedCall& operator=(const LockedCall&) = delete;

  explicit operator bool() const { return valid_; }
  SocketEntry& entry() { return *entry_; }
  /// Null: the entry is a listener, or dead (lost_error()).
  socket::StreamSocket* stream() { return entry_->stream; }
  Stack& stack() { return *stack_; }
  Instant now() const { return now_; }
  void read_clock() { now_ = Runtime::instance().now(); }
  /// One turn of the stack.
  void progress();
  /// Still the same socket (after a wait).
  bool is_same() const { return entry_->generation == generation_; }
  /// Lets go of the lock early.
  void unlock();
  /// A sleep in the entry begins and ends.
  void pin();
  void unpin();

 private:
  SocketEntry* entry_ = nullptr;
  Stack* stack_ = nullptr;
  uint16_t generation_ = 0;
  Instant now_{};
  bool valid_ = false;
  bool is_locked_ = false;
  bool finishes_ = false;  // the last sleeper of an orphaned entry ends it
};

/// The errno of calls on a connection that stayed with the parent after fork(), until connections can be handed over.
inline constexpr int kLostError = ECONNABORTED;

/// Waits until the call's stream has one of `wanted` (EPOLL* bits) in its level; ERR and HUP always count.
/// 0, -EAGAIN (time is up), -EINTR (`restartable`: only if a handler forbids to go on).
int wait_for_level(LockedCall& call, uint32_t wanted, Instant until, bool restartable);

/// A deadline from a timeout in ns: 0 means none.
Instant deadline_after(Instant now, int64_t timeout_ns);

/// Sends the calling thread SIGPIPE.
void raise_sigpipe();

/// Counts a request that an accelerated socket does not serve, and that could not be handed over with it, and gives back
/// -error.
int unserved(int error);

// --- to the kernel (api_handover.cc) -------------------------------------------------------------------------------------
/// What a call on an accelerated descriptor answers inside when the connection was handed over while it slept.
inline constexpr int kMoved = -5000;
/// From now on the kernel serves whatever shares the open file with `fd`, whose word is `word`. True: so it is, or there is
/// nothing left to hand over: make the system call. False: it stays ours. No lock held; bounded.
bool hand_over(int fd, uint64_t word, stats::Counter reason);
/// Without waiting for a handshake under way.
bool hand_over_now(int fd, uint64_t word, stats::Counter reason);
bool hand_over_if_ours(int fd, stats::Counter reason);
/// Whatever `fd` is and becomes, the kernel serves it, as far as that can be had.
void leave_to_kernel(int fd, stats::Counter reason);
/// `fd` is about to be closed, its last descriptor here: a forked process may go on with the connection.
void hand_over_if_shared(int fd, uint64_t word);
/// `entry` has a stream and `fd` names it. Both locks.
bool hand_over_entry(SocketEntry& entry, int fd, Stack& stack, stats::Counter reason);
/// fd's word; first asks the parent for a connection that stayed with it.
uint64_t served_word(int fd);

// --- pieces that several api_*.cc files need -----------------------------------------------------------------------------
/// Takes one descriptor, whose word was `word`, away from its entry; the last one ends the connection. Takes the locks;
/// a positive linger blocks.
void drop_descriptor(uint64_t word);
/// Ends what the entry stands for and frees it. Under api_lock(), without the stack's lock.
void finish_entry(SocketEntry& entry);
/// The calling thread's handler longjmp'ed out of a sleep: its pin goes. Under the stack's lock.
void release_stale_pin(const void* frame);

/// Clears fd's word and returns what it was; drop_descriptor() is to follow once the descriptor is closed.
uint64_t take_word(int fd);
/// `fd` was just made: what is still known of the number belongs to a descriptor closed behind our back.
void forget_former_life(int fd);

/// Decides an undecided listener (first accept, poll or epoll registration): accelerated or kernel for good.
void decide_listener(int fd);

/// accept() and friends; -errno.
int accept_on(int fd, sockaddr* address, socklen_t* bytes, int flags);

ssize_t receive_on(int fd, const iovec* iov, int count, int flags);
ssize_t send_on(int fd, const iovec* iov, int count, int flags);

/// Applies what the application set on the placeholder to a new connection's configuration, which has the defaults.
void read_placeholder(int fd, const SocketEntry& entry, tcp::ConnectionConfig& config, uint32_t& send_bytes, uint32_t& receive_bytes);
void apply_placeholder(int fd, SocketEntry& entry);
void remember_option(SocketEntry& entry, int level, int name, const void* value, socklen_t bytes);
void replay_options(const SocketEntry& from, SocketEntry& to, int to_fd);
/// Whether an accelerated socket serves the option at all.
bool is_served_option(int level, int name);

/// Writes a tuple's end as the socket's family shows it (v4-mapped on AF_INET6 sockets).
int write_address(const wire::IpAddress& ip, uint16_t port, bool is_v6, sockaddr* out, socklen_t* bytes);

}  // namespace tto::stack
