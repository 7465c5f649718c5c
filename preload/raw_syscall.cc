// syscall(): the same calls by number.
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "libtto/base/sys.hh"
#include "libtto/include/tto/tto.h"
#include "libtto/stack/facade.hh"
#include "preload/export.hh"

namespace {

template <typename T>
T as(long v) {
  return reinterpret_cast<T>(v);
}

long to_kernel(long number, const long* a) {
  const long result = tto::sys::raw_call(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  if (result < 0 && result > -4096) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return result;
}

bool dispatch_data(long number, const long* a, long& result) {
  const int fd = static_cast<int>(a[0]), n = static_cast<int>(a[2]), flags = static_cast<int>(a[3]);
  const auto bytes = static_cast<size_t>(a[2]);
  switch (number) {
    case SYS_read: result = tto_read(fd, as<void*>(a[1]), bytes); return true;
    case SYS_write: result = tto_write(fd, as<void*>(a[1]), bytes); return true;
    case SYS_readv: result = tto_readv(fd, as<iovec*>(a[1]), n); return true;
    case SYS_writev: result = tto_writev(fd, as<iovec*>(a[1]), n); return true;
    case SYS_recvfrom:
      result = tto_recvfrom(fd, as<void*>(a[1]), bytes, flags, as<sockaddr*>(a[4]), as<socklen_t*>(a[5]));
      return true;
    case SYS_sendto:
      result = tto_sendto(fd, as<void*>(a[1]), bytes, flags, as<sockaddr*>(a[4]), static_cast<socklen_t>(a[5]));
      return true;
    case SYS_recvmsg: result = tto_recvmsg(fd, as<msghdr*>(a[1]), n); return true;
    case SYS_sendmsg: result = tto_sendmsg(fd, as<msghdr*>(a[1]), n); return true;
    case SYS_recvmmsg:
      result = tto_recvmmsg(fd, as<mmsghdr*>(a[1]), static_cast<unsigned>(a[2]), flags, as<timespec*>(a[4]));
      return true;
    case SYS_sendmmsg: result = tto_sendmmsg(fd, as<mmsghdr*>(a[1]), static_cast<unsigned>(a[2]), flags); return true;
    case SYS_sendfile:
      result = tto_sendfile(fd, static_cast<int>(a[1]), as<off_t*>(a[2]), static_cast<size_t>(a[3]));
      return true;
    case SYS_splice: {
      const bool first = tto::facade::leave_to_kernel(fd), second = tto::facade::leave_to_kernel(n);
      if (first && second) return false;
      result = tto::facade::unserved(EINVAL);
      return true;
    }
    case SYS_io_uring_register: {
      constexpr long kRegisterFiles = 2;
      const int* files = as<const int*>(a[2]);
      for (long i = 0; a[1] == kRegisterFiles && files != nullptr && i < a[3]; ++i) tto::facade::leave_to_kernel(files[i]);
      return false;
    }
    default: return false;
  }
}

bool dispatch_socket(long number, const long* a, long& result) {
  const int fd = static_cast<int>(a[0]), n = static_cast<int>(a[1]), m = static_cast<int>(a[2]);
  auto* address = as<sockaddr*>(a[1]);
  switch (number) {
    case SYS_socket: result = tto_socket(fd, n, m); return true;
    case SYS_bind: result = tto_bind(fd, address, static_cast<socklen_t>(a[2])); return true;
    case SYS_listen: result = tto_listen(fd, n); return true;
    case SYS_accept: result = tto_accept(fd, address, as<socklen_t*>(a[2])); return true;
    case SYS_accept4: result = tto_accept4(fd, address, as<socklen_t*>(a[2]), static_cast<int>(a[3])); return true;
    case SYS_connect: result = tto_connect(fd, address, static_cast<socklen_t>(a[2])); return true;
    case SYS_shutdown: result = tto_shutdown(fd, n); return true;
    case SYS_getsockname: result = tto_getsockname(fd, address, as<socklen_t*>(a[2])); return true;
    case SYS_getpeername: result = tto_getpeername(fd, address, as<socklen_t*>(a[2])); return true;
    case SYS_getsockopt: result = tto_getsockopt(fd, n, m, as<void*>(a[3]), as<socklen_t*>(a[4])); return true;
    case SYS_setsockopt:
      result = tto_setsockopt(fd, n, m, as<void*>(a[3]), static_cast<socklen_t>(a[4]));
      return true;
    case SYS_close: result = tto_close(fd); return true;
    case SYS_close_range:
      result = tto_close_range(static_cast<unsigned>(a[0]), static_cast<unsigned>(a[1]), m);
      return true;
    case SYS_dup: result = tto_dup(fd); return true;
    case SYS_dup2: result = tto_dup2(fd, n); return true;
    case SYS_dup3: result = tto_dup3(fd, n, m); return true;
    case SYS_fcntl: result = tto_fcntl(fd, n, static_cast<uintptr_t>(a[2])); return true;
    case SYS_ioctl: result = tto_ioctl(fd, static_cast<unsigned long>(a[1]), as<void*>(a[2])); return true;
    default: return false;
  }
}

bool dispatch_readiness(long number, const long* a, long& result) {
  const int n = static_cast<int>(a[0]), m = static_cast<int>(a[2]), timeout = static_cast<int>(a[3]);
  switch (number) {
    case SYS_poll: result = tto_poll(as<pollfd*>(a[0]), static_cast<nfds_t>(a[1]), m); return true;
    case SYS_ppoll:
      result = tto_ppoll(as<pollfd*>(a[0]), static_cast<nfds_t>(a[1]), as<timespec*>(a[2]), as<sigset_t*>(a[3]));
      return true;
    case SYS_select:
      result = tto_select(n, as<fd_set*>(a[1]), as<fd_set*>(a[2]), as<fd_set*>(a[3]), as<timeval*>(a[4]));
      return true;
    case SYS_pselect6: {
      const auto* signals = as<const sigset_t* const*>(a[5]);
      result = tto_pselect(n, as<fd_set*>(a[1]), as<fd_set*>(a[2]), as<fd_set*>(a[3]), as<timespec*>(a[4]),
                           signals != nullptr ? *signals : nullptr);
      return true;
    }
    case SYS_epoll_create: case SYS_epoll_create1:
      result = tto_epoll_create1(number == SYS_epoll_create1 ? n : 0);
      return true;
    case SYS_epoll_ctl: result = tto_epoll_ctl(n, static_cast<int>(a[1]), m, as<epoll_event*>(a[3])); return true;
    case SYS_epoll_wait: result = tto_epoll_wait(n, as<epoll_event*>(a[1]), m, timeout); return true;
    case SYS_epoll_pwait:
      result = tto_epoll_pwait(n, as<epoll_event*>(a[1]), m, timeout, as<sigset_t*>(a[4]));
      return true;
    case SYS_epoll_pwait2:
      result = tto_epoll_pwait2(n, as<epoll_event*>(a[1]), m, as<timespec*>(a[3]), as<sigset_t*>(a[4]));
      return true;
    default: return false;
  }
}

}  // namespace

TTO_EXPORT(long, syscall, long number, ...) {
  va_list arguments;
  va_start(arguments, number);
  long a[6];
  for (long& word : a) word = va_arg(arguments, long);
  va_end(arguments);
  long result = 0;
  if (dispatch_data(number, a, result) || dispatch_socket(number, a, result) || dispatch_readiness(number, a, result))
    return result;
  return to_kernel(number, a);
}
