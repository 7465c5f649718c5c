/* tto.h: TCP sockets in user space. The only public header of libtto; a C ABI.
 *
 * Every function mirrors the libc call of the same name: same arguments, same return value, same errno, same
 * cancellation-free blocking rules (EINTR and SA_RESTART as on Linux). File descriptors are real kernel TCP sockets
 * (placeholders), valid in every other call of the system. A descriptor that libtto does not serve goes to the kernel
 * with a raw system call, so a program may use these functions for all of its descriptors.
 *
 * Threads: any function from any thread; also from a signal handler wherever the libc call is async-signal-safe.
 * Nothing happens (no thread, mapping or descriptor) before the first TCP socket is connected or listens.
 * libtto_preload.so is these functions under the libc names.
 */
#ifndef TTO_TTO_H
#define TTO_TTO_H

#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mmsghdr; /* complete under _GNU_SOURCE */

#define TTO_API __attribute__((visibility("default")))

/* --- life ---------------------------------------------------------------------------------------------------------- */
TTO_API int tto_socket(int domain, int type, int protocol);
TTO_API int tto_close(int fd);
TTO_API int tto_dup(int fd);
TTO_API int tto_dup2(int fd, int newfd);
TTO_API int tto_dup3(int fd, int newfd, int flags);
TTO_API int tto_close_range(unsigned first, unsigned last, int flags);

/* --- opening ------------------------------------------------------------------------------------------------------- */
TTO_API int tto_bind(int fd, const struct sockaddr *address, socklen_t bytes);
TTO_API int tto_listen(int fd, int backlog);
TTO_API int tto_accept(int fd, struct sockaddr *address, socklen_t *bytes);
TTO_API int tto_accept4(int fd, struct sockaddr *address, socklen_t *bytes, int flags);
TTO_API int tto_connect(int fd, const struct sockaddr *address, socklen_t bytes);
TTO_API int tto_shutdown(int fd, int how);
TTO_API int tto_getsockname(int fd, struct sockaddr *address, socklen_t *bytes);
TTO_API int tto_getpeername(int fd, struct sockaddr *address, socklen_t *bytes);

/* --- data ---------------------------------------------------------------------------------------------------------- */
TTO_API ssize_t tto_read(int fd, void *buffer, size_t bytes);
TTO_API ssize_t tto_readv(int fd, const struct iovec *iov, int count);
TTO_API ssize_t tto_recv(int fd, void *buffer, size_t bytes, int flags);
TTO_API ssize_t tto_recvfrom(int fd, void *buffer, size_t bytes, int flags, struct sockaddr *address, socklen_t *address_bytes);
TTO_API ssize_t tto_recvmsg(int fd, struct msghdr *message, int flags);
TTO_API int tto_recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout);
TTO_API ssize_t tto_write(int fd, const void *buffer, size_t bytes);
TTO_API ssize_t tto_writev(int fd, const struct iovec *iov, int count);
TTO_API ssize_t tto_send(int fd, const void *buffer, size_t bytes, int flags);
TTO_API ssize_t tto_sendto(int fd, const void *buffer, size_t bytes, int flags, const struct sockaddr *address, socklen_t address_bytes);
TTO_API ssize_t tto_sendmsg(int fd, const struct msghdr *message, int flags);
TTO_API int tto_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
TTO_API ssize_t tto_sendfile(int out_fd, int in_fd, off_t *offset, size_t bytes);

/* --- options ------------------------------------------------------------------------------------------------------- */
TTO_API int tto_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes);
TTO_API int tto_setsockopt(int fd, int level, int name, const void *value, socklen_t bytes);
TTO_API int tto_ioctl(int fd, unsigned long request, void *argument);
TTO_API int tto_fcntl(int fd, int command, uintptr_t argument);

/* --- readiness ----------------------------------------------------------------------------------------------------- */
TTO_API int tto_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
TTO_API int tto_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask);
TTO_API int tto_select(int count, fd_set *readable, fd_set *writable, fd_set *exceptional, struct timeval *timeout);
TTO_API int tto_pselect(int count, fd_set *readable, fd_set *writable, fd_set *exceptional, const struct timespec *timeout, const sigset_t *mask);
TTO_API int tto_epoll_create1(int flags);
TTO_API int tto_epoll_ctl(int epfd, int operation, int fd, struct epoll_event *event);
TTO_API int tto_epoll_wait(int epfd, struct epoll_event *events, int capacity, int timeout_ms);
TTO_API int tto_epoll_pwait(int epfd, struct epoll_event *events, int capacity, int timeout_ms, const sigset_t *mask);
TTO_API int tto_epoll_pwait2(int epfd, struct epoll_event *events, int capacity, const struct timespec *timeout, const sigset_t *mask);

/* --- what happened ------------------------------------------------------------------------------------------------- */
enum tto_path { TTO_PATH_NONE = 0, TTO_PATH_KERNEL = 1, TTO_PATH_AF_XDP = 2, TTO_PATH_PAIR = 3 };

/* How `fd` is served; *reason (may be NULL) gets a static string saying why, if it is the kernel ("no-helper"). */
TTO_API enum tto_path tto_path_of(int fd, const char **reason);
/* "libtto 0.1.0" */
TTO_API const char *tto_version(void);

#ifdef __cplusplus
}
#endif
#endif
