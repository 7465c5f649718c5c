// What the preload library needs beyond tto.h, and all it may see of the inside.
#pragma once

#include <signal.h>

#include "libtto/base/fd_map.hh"

namespace tto::facade {

/// False for every descriptor that is neither a TCP socket, an epoll set nor libtto's own: one load.
inline bool is_known(int fd) { return fd_word(fd) != 0; }
/// Served by us now: what libc or the kernel would do with the placeholder is wrong.
inline bool is_accelerated(int fd) {
  const uint64_t path = fd_word(fd) & 0xf;
  return path == 2 || path == 3;
}
inline bool is_internal(int fd) { return is_internal_fd(fd); }

/// Hands `fd` over to the kernel for a call that only the kernel serves; a socket that is not connected yet stays there
/// for good. False: it stays ours.
bool leave_to_kernel(int fd);
/// Counts a request on an accelerated descriptor that is not served and could not be handed over; returns -1 with `error` in errno.
int unserved(int error);
/// libc closed `fd` without asking us (fclose): takes it out of the books. Before the close.
class ClosedByLibc {
 public:
  explicit ClosedByLibc(int fd);
  /// After the close.
  void done();

 private:
  uint64_t word_ = 0;
};

/// Around a fork, in every process that has sockets; nothing without.
void before_fork();
void after_fork_parent();
void after_fork_child();

/// Before the end: connections are handed over, the kernel sends their last bytes and ends them.
void before_exit();
/// A new program takes this process's place, or (spawn) is started beside it with its descriptors: connections are handed
/// over, all of them or those without close-on-exec.
void before_exec();
void before_spawn();

// --- signals -----------------------------------------------------------------------------------------------------------
/// True: the handler runs later, when the lock is released.
bool defer_signal(int signal, const siginfo_t* info, void* context);
/// The application's handler runs now; `restarts`: it was installed with SA_RESTART.
void handler_runs(bool restarts);

}  // namespace tto::facade
