// The interposed libc names that are functions of tto.h under another name, one line of routing each. What needs more
// than a line is in the file of its family: stdio_calls.cc, fork_exec.cc, signal_calls.cc, raw_syscall.cc.
#include <errno.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/facade.hh"
#include "preload/export.hh"

using tto::facade::is_accelerated;
using tto::facade::unserved;

// --- sockets -----------------------------------------------------------------------------------------------------------
TTO_EXPORT(int, socket, int domain, int type, int protocol) { return tto_socket(domain, type, protocol); }
TTO_EXPORT(int, bind, int fd, const sockaddr* a, socklen_t n) { return tto_bind(fd, a, n); }
TTO_EXPORT(int, listen, int fd, int backlog) { return tto_listen(fd, backlog); }
TTO_EXPORT(int, accept, int fd, sockaddr* a, socklen_t* n) { return tto_accept(fd, a, n); }
TTO_EXPORT(int, accept4, int fd, sockaddr* a, socklen_t* n, int flags) { return tto_accept4(fd, a, n, flags); }
TTO_EXPORT(int, connect, int fd, const sockaddr* a, socklen_t n) { return tto_connect(fd, a, n); }
TTO_EXPORT(int, __connect, int fd, const sockaddr* a, socklen_t n) { return tto_connect(fd, a, n); }
TTO_EXPORT(int, shutdown, int fd, int how) { return tto_shutdown(fd, how); }
TTO_EXPORT(int, getsockname, int fd, sockaddr* a, socklen_t* n) { return tto_getsockname(fd, a, n); }
TTO_EXPORT(int, getpeername, int fd, sockaddr* a, socklen_t* n) { return tto_getpeername(fd, a, n); }
TTO_EXPORT(int, getsockopt, int fd, int level, int name, void* v, socklen_t* n) {
  return tto_getsockopt(fd, level, name, v, n);
}
TTO_EXPORT(int, setsockopt, int fd, int level, int name, const void* v, socklen_t n) {
  return tto_setsockopt(fd, level, name, v, n);
}
TTO_EXPORT(int, sockatmark, int fd) {
  int at_mark = 0;
  return tto_ioctl(fd, SIOCATMARK, &at_mark) < 0 ? -1 : at_mark;
}

// --- receive -----------------------------------------------------------------------------------------------------------
TTO_EXPORT(ssize_t, read, int fd, void* p, size_t n) { return tto_read(fd, p, n); }
TTO_EXPORT(ssize_t, __read, int fd, void* p, size_t n) { return tto_read(fd, p, n); }
TTO_EXPORT(ssize_t, readv, int fd, const iovec* v, int n) { return tto_readv(fd, v, n); }
TTO_EXPORT(ssize_t, recv, int fd, void* p, size_t n, int flags) { return tto_recv(fd, p, n, flags); }
TTO_EXPORT(ssize_t, recvfrom, int fd, void* p, size_t n, int flags, sockaddr* a, socklen_t* an) {
  return tto_recvfrom(fd, p, n, flags, a, an);
}
TTO_EXPORT(ssize_t, recvmsg, int fd, msghdr* m, int flags) { return tto_recvmsg(fd, m, flags); }
TTO_EXPORT(int, recvmmsg, int fd, mmsghdr* m, unsigned n, int flags, timespec* t) {
  return tto_recvmmsg(fd, m, n, flags, t);
}
// The fortified ones: a length beyond the buffer is the program's bug, and ends it as libc would.
TTO_EXPORT(ssize_t, __read_chk, int fd, void* p, size_t n, size_t room) {
  if (n > room) abort();
  return tto_read(fd, p, n);
}
TTO_EXPORT(ssize_t, __recv_chk, int fd, void* p, size_t n, size_t room, int flags) {
  if (n > room) abort();
  return tto_recv(fd, p, n, flags);
}
TTO_EXPORT(ssize_t, __recvfrom_chk, int fd, void* p, size_t n, size_t room, int flags, sockaddr* a, socklen_t* an) {
  if (n > room) abort();
  return tto_recvfrom(fd, p, n, flags, a, an);
}

// --- send --------------------------------------------------------------------------------------------------------------
TTO_EXPORT(ssize_t, write, int fd, const void* p, size_t n) { return tto_write(fd, p, n); }
TTO_EXPORT(ssize_t, __write, int fd, const void* p, size_t n) { return tto_write(fd, p, n); }
TTO_EXPORT(ssize_t, writev, int fd, const iovec* v, int n) { return tto_writev(fd, v, n); }
TTO_EXPORT(ssize_t, send, int fd, const void* p, size_t n, int flags) { return tto_send(fd, p, n, flags); }
TTO_EXPORT(ssize_t, __send, int fd, const void* p, size_t n, int flags) { return tto_send(fd, p, n, flags); }
TTO_EXPORT(ssize_t, sendto, int fd, const void* p, size_t n, int flags, const sockaddr* a, socklen_t an) {
  return tto_sendto(fd, p, n, flags, a, an);
}
TTO_EXPORT(ssize_t, sendmsg, int fd, const msghdr* m, int flags) { return tto_sendmsg(fd, m, flags); }
TTO_EXPORT(int, sendmmsg, int fd, mmsghdr* m, unsigned n, int flags) { return tto_sendmmsg(fd, m, n, flags); }
TTO_EXPORT(ssize_t, sendfile, int out, int in, off_t* at, size_t n) { return tto_sendfile(out, in, at, n); }
TTO_EXPORT(ssize_t, sendfile64, int out, int in, off_t* at, size_t n) { return tto_sendfile(out, in, at, n); }

// --- readiness ---------------------------------------------------------------------------------------------------------
TTO_EXPORT(int, poll, pollfd* f, nfds_t n, int ms) { return tto_poll(f, n, ms); }
TTO_EXPORT(int, __poll, pollfd* f, nfds_t n, int ms) { return tto_poll(f, n, ms); }
TTO_EXPORT(int, ppoll, pollfd* f, nfds_t n, const timespec* t, const sigset_t* m) { return tto_ppoll(f, n, t, m); }
TTO_EXPORT(int, __poll_chk, pollfd* f, nfds_t n, int ms, size_t room) {
  if (room / sizeof *f < n) abort();
  return tto_poll(f, n, ms);
}
TTO_EXPORT(int, __ppoll_chk, pollfd* f, nfds_t n, const timespec* t, const sigset_t* m, size_t room) {
  if (room / sizeof *f < n) abort();
  return tto_ppoll(f, n, t, m);
}
TTO_EXPORT(int, select, int n, fd_set* r, fd_set* w, fd_set* e, timeval* t) { return tto_select(n, r, w, e, t); }
TTO_EXPORT(int, __select, int n, fd_set* r, fd_set* w, fd_set* e, timeval* t) { return tto_select(n, r, w, e, t); }
TTO_EXPORT(int, pselect, int n, fd_set* r, fd_set* w, fd_set* e, const timespec* t, const sigset_t* m) {
  return tto_pselect(n, r, w, e, t, m);
}
TTO_EXPORT(int, epoll_create, int size) {
  if (size > 0) return tto_epoll_create1(0);
  errno = EINVAL;
  return -1;
}
TTO_EXPORT(int, epoll_create1, int flags) { return tto_epoll_create1(flags); }
TTO_EXPORT(int, epoll_ctl, int ep, int op, int fd, epoll_event* e) { return tto_epoll_ctl(ep, op, fd, e); }
TTO_EXPORT(int, epoll_wait, int ep, epoll_event* e, int n, int ms) { return tto_epoll_wait(ep, e, n, ms); }
TTO_EXPORT(int, epoll_pwait, int ep, epoll_event* e, int n, int ms, const sigset_t* m) {
  return tto_epoll_pwait(ep, e, n, ms, m);
}
TTO_EXPORT(int, epoll_pwait2, int ep, epoll_event* e, int n, const timespec* t, const sigset_t* m) {
  return tto_epoll_pwait2(ep, e, n, t, m);
}

// --- life of descriptors -----------------------------------------------------------------------------------------------
TTO_EXPORT(int, close, int fd) { return tto_close(fd); }
TTO_EXPORT(int, __close, int fd) { return tto_close(fd); }
TTO_EXPORT(int, close_range, unsigned first, unsigned last, int flags) { return tto_close_range(first, last, flags); }
TTO_EXPORT(void, closefrom, int first) { tto_close_range(first < 0 ? 0u : static_cast<unsigned>(first), ~0u, 0); }
TTO_EXPORT(int, dup, int fd) { return tto_dup(fd); }
TTO_EXPORT(int, dup2, int fd, int to) { return tto_dup2(fd, to); }
TTO_EXPORT(int, __dup2, int fd, int to) { return tto_dup2(fd, to); }
TTO_EXPORT(int, dup3, int fd, int to, int flags) { return tto_dup3(fd, to, flags); }

/// The third argument of fcntl and ioctl as one word, whatever its type.
#define TTO_VARIADIC_WORD(last, out)          \
  va_list arguments;                          \
  va_start(arguments, last);                  \
  const auto out = va_arg(arguments, uintptr_t); \
  va_end(arguments)

TTO_EXPORT(int, fcntl, int fd, int command, ...) {
  TTO_VARIADIC_WORD(command, argument);
  return tto_fcntl(fd, command, argument);
}
TTO_EXPORT(int, fcntl64, int fd, int command, ...) {
  TTO_VARIADIC_WORD(command, argument);
  return tto_fcntl(fd, command, argument);
}
TTO_EXPORT(int, __fcntl, int fd, int command, ...) {
  TTO_VARIADIC_WORD(command, argument);
  return tto_fcntl(fd, command, argument);
}
TTO_EXPORT(int, ioctl, int fd, unsigned long request, ...) {
  TTO_VARIADIC_WORD(request, argument);
  return tto_ioctl(fd, request, reinterpret_cast<void*>(argument));
}
