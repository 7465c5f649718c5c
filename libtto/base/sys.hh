// System calls made directly, without libc: the preload library interposes read(), close(), poll() and the rest, and
// our own code must never go through those. Every wrapper returns what the kernel returns: a result, or -errno. errno
// itself is untouched, so a signal handler or a libtto call between two application calls cannot disturb it.
//
// x86-64 only. A call that may block is not a cancellation point.
#pragma once

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace tto::sys {

inline long raw_call(long nr, long a, long b, long c, long d, long e, long f) {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

template <typename T>
inline long as_argument(T value) {
  if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else if constexpr (std::is_pointer_v<T>) {
    return reinterpret_cast<long>(value);
  } else {
    return static_cast<long>(value);
  }
}

/// Any system call by number.
template <typename A = long, typename B = long, typename C = long, typename D = long, typename E = long,
          typename F = long>
inline long call(long nr, A a = {}, B b = {}, C c = {}, D d = {}, E e = {}, F f = {}) {
  return raw_call(nr, as_argument(a), as_argument(b), as_argument(c), as_argument(d), as_argument(e), as_argument(f));
}

// --- descriptors ---------------------------------------------------------------------------------------------------

inline ssize_t read(int fd, void* data, size_t bytes) { return call(SYS_read, fd, data, bytes); }
inline ssize_t write(int fd, const void* data, size_t bytes) { return call(SYS_write, fd, data, bytes); }
inline ssize_t readv(int fd, const iovec* pieces, int count) { return call(SYS_readv, fd, pieces, count); }
inline ssize_t writev(int fd, const iovec* pieces, int count) { return call(SYS_writev, fd, pieces, count); }
inline ssize_t pread(int fd, void* data, size_t bytes, off_t at) { return call(SYS_pread64, fd, data, bytes, at); }
inline ssize_t pwrite(int fd, const void* data, size_t bytes, off_t at) {
  return call(SYS_pwrite64, fd, data, bytes, at);
}
inline int openat(int dir, const char* path, int flags, mode_t mode = 0) {
  return static_cast<int>(call(SYS_openat, dir, path, flags, mode));
}
inline int close(int fd) { return static_cast<int>(call(SYS_close, fd)); }
inline int close_range(unsigned first, unsigned last, unsigned flags) {
  return static_cast<int>(call(SYS_close_range, first, last, flags));
}
inline int dup(int fd) { return static_cast<int>(call(SYS_dup, fd)); }
inline int dup2(int from, int to) { return static_cast<int>(call(SYS_dup2, from, to)); }
inline int dup3(int from, int to, int flags) { return static_cast<int>(call(SYS_dup3, from, to, flags)); }
template <typename A = long>
inline int fcntl(int fd, int command, A argument = {}) {
  return static_cast<int>(call(SYS_fcntl, fd, command, argument));
}
template <typename A = long>
inline int ioctl(int fd, unsigned long request, A argument = {}) {
  return static_cast<int>(call(SYS_ioctl, fd, request, argument));
}
inline int fstat(int fd, struct stat* out) { return static_cast<int>(call(SYS_fstat, fd, out)); }
inline int ftruncate(int fd, off_t bytes) { return static_cast<int>(call(SYS_ftruncate, fd, bytes)); }
inline off_t lseek(int fd, off_t at, int whence) { return call(SYS_lseek, fd, at, whence); }
inline int memfd_create(const char* name, unsigned flags) {
  return static_cast<int>(call(SYS_memfd_create, name, flags));
}
inline int pipe2(int* ends, int flags) { return static_cast<int>(call(SYS_pipe2, ends, flags)); }
inline int eventfd2(unsigned value, int flags) { return static_cast<int>(call(SYS_eventfd2, value, flags)); }
inline int timerfd_create(int clock, int flags) { return static_cast<int>(call(SYS_timerfd_create, clock, flags)); }
inline int timerfd_settime(int fd, int flags, const itimerspec* value, itimerspec* old) {
  return static_cast<int>(call(SYS_timerfd_settime, fd, flags, value, old));
}

// --- sockets -------------------------------------------------------------------------------------------------------

inline int socket(int domain, int type, int protocol) {
  return static_cast<int>(call(SYS_socket, domain, type, protocol));
}
inline int socketpair(int domain, int type, int protocol, int* fds) {
  return static_cast<int>(call(SYS_socketpair, domain, type, protocol, fds));
}
inline int bind(int fd, const void* address, socklen_t bytes) {
  return static_cast<int>(call(SYS_bind, fd, address, bytes));
}
inline int listen(int fd, int backlog) { return static_cast<int>(call(SYS_listen, fd, backlog)); }
inline int accept4(int fd, void* address, socklen_t* bytes, int flags) {
  return static_cast<int>(call(SYS_accept4, fd, address, bytes, flags));
}
inline int connect(int fd, const void* address, socklen_t bytes) {
  return static_cast<int>(call(SYS_connect, fd, address, bytes));
}
inline int shutdown(int fd, int how) { return static_cast<int>(call(SYS_shutdown, fd, how)); }
inline int getsockname(int fd, void* address, socklen_t* bytes) {
  return static_cast<int>(call(SYS_getsockname, fd, address, bytes));
}
inline int getpeername(int fd, void* address, socklen_t* bytes) {
  return static_cast<int>(call(SYS_getpeername, fd, address, bytes));
}
inline int getsockopt(int fd, int level, int name, void* value, socklen_t* bytes) {
  return static_cast<int>(call(SYS_getsockopt, fd, level, name, value, bytes));
}
inline int setsockopt(int fd, int level, int name, const void* value, socklen_t bytes) {
  return static_cast<int>(call(SYS_setsockopt, fd, level, name, value, bytes));
}
inline ssize_t sendmsg(int fd, const msghdr* message, int flags) { return call(SYS_sendmsg, fd, message, flags); }
inline ssize_t recvmsg(int fd, msghdr* message, int flags) { return call(SYS_recvmsg, fd, message, flags); }
inline int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  return static_cast<int>(call(SYS_sendmmsg, fd, messages, count, flags));
}
inline int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  return static_cast<int>(call(SYS_recvmmsg, fd, messages, count, flags, timeout));
}
inline ssize_t sendto(int fd, const void* data, size_t bytes, int flags, const void* to, socklen_t to_bytes) {
  return call(SYS_sendto, fd, data, bytes, flags, to, to_bytes);
}
inline ssize_t recvfrom(int fd, void* data, size_t bytes, int flags, void* from, socklen_t* from_bytes) {
  return call(SYS_recvfrom, fd, data, bytes, flags, from, from_bytes);
}

// --- waiting -------------------------------------------------------------------------------------------------------

/// The kernel's own signal set: one bit per signal, 64 of them. libc's sigset_t starts with the same 8 bytes.
inline constexpr size_t kSignalSetBytes = 8;

inline int poll(pollfd* fds, nfds_t count, int timeout_ms) {
  return static_cast<int>(call(SYS_poll, fds, count, timeout_ms));
}
/// The kernel writes the time left into `timeout`.
inline int ppoll(pollfd* fds, nfds_t count, timespec* timeout, const sigset_t* mask) {
  return static_cast<int>(call(SYS_ppoll, fds, count, timeout, mask, kSignalSetBytes));
}
inline int epoll_create1(int flags) { return static_cast<int>(call(SYS_epoll_create1, flags)); }
inline int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) {
  return static_cast<int>(call(SYS_epoll_ctl, epoll, operation, fd, event));
}
inline int epoll_pwait(int epoll, epoll_event* events, int limit, int timeout_ms, const sigset_t* mask) {
  return static_cast<int>(call(SYS_epoll_pwait, epoll, events, limit, timeout_ms, mask, kSignalSetBytes));
}
inline int epoll_pwait2(int epoll, epoll_event* events, int limit, const timespec* timeout, const sigset_t* mask) {
  return static_cast<int>(call(SYS_epoll_pwait2, epoll, events, limit, timeout, mask, kSignalSetBytes));
}
inline int futex(uint32_t* word, int operation, uint32_t value, const timespec* timeout = nullptr,
                 uint32_t* word2 = nullptr, uint32_t value3 = 0) {
  return static_cast<int>(call(SYS_futex, word, operation, value, timeout, word2, value3));
}
inline int sched_yield() { return static_cast<int>(call(SYS_sched_yield)); }
/// The only one through libc: the vdso answers without entering the kernel, and nobody interposes it.
inline int clock_gettime(clockid_t clock, timespec* out) { return ::clock_gettime(clock, out); }

// --- memory --------------------------------------------------------------------------------------------------------

/// MAP_FAILED never comes back: a failure is a small negative number, see is_error().
inline void* mmap(void* at, size_t bytes, int protection, int flags, int fd, off_t offset) {
  return reinterpret_cast<void*>(call(SYS_mmap, at, bytes, protection, flags, fd, offset));
}
inline bool is_error(const void* mapped) {
  return reinterpret_cast<uintptr_t>(mapped) > static_cast<uintptr_t>(-4096L);
}
inline int error_of(const void* mapped) { return static_cast<int>(-reinterpret_cast<intptr_t>(mapped)); }
inline int munmap(void* at, size_t bytes) { return static_cast<int>(call(SYS_munmap, at, bytes)); }
inline int mprotect(void* at, size_t bytes, int protection) {
  return static_cast<int>(call(SYS_mprotect, at, bytes, protection));
}
inline int madvise(void* at, size_t bytes, int advice) {
  return static_cast<int>(call(SYS_madvise, at, bytes, advice));
}

// --- processes, threads, signals -----------------------------------------------------------------------------------

inline pid_t getpid() { return static_cast<pid_t>(call(SYS_getpid)); }
inline pid_t gettid() { return static_cast<pid_t>(call(SYS_gettid)); }
inline int tgkill(pid_t process, pid_t thread, int signal) {
  return static_cast<int>(call(SYS_tgkill, process, thread, signal));
}
inline int pidfd_open(pid_t process, unsigned flags) { return static_cast<int>(call(SYS_pidfd_open, process, flags)); }
inline int pidfd_getfd(int pidfd, int fd, unsigned flags) {
  return static_cast<int>(call(SYS_pidfd_getfd, pidfd, fd, flags));
}
inline int pidfd_send_signal(int pidfd, int signal, siginfo_t* info, unsigned flags) {
  return static_cast<int>(call(SYS_pidfd_send_signal, pidfd, signal, info, flags));
}
inline int rt_sigprocmask(int how, const sigset_t* set, sigset_t* old) {
  return static_cast<int>(call(SYS_rt_sigprocmask, how, set, old, kSignalSetBytes));
}

/// The kernel's struct sigaction (libc's differs). A handler needs kRestorer and a restorer function.
struct KernelSigaction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};
inline constexpr unsigned long kRestorer = 0x04000000;  // SA_RESTORER
inline int rt_sigaction(int signal, const KernelSigaction* action, KernelSigaction* old) {
  return static_cast<int>(call(SYS_rt_sigaction, signal, action, old, kSignalSetBytes));
}
inline ssize_t getrandom(void* data, size_t bytes, unsigned flags) { return call(SYS_getrandom, data, bytes, flags); }

}  // namespace tto::sys
