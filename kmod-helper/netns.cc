#include "kmod-helper/netns.hh"

#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "kmod-helper/log.hh"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

namespace ttod {
namespace {

Fd open_current() { return Fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)); }

void enter(const Fd& netns) {
  if (setns(netns.get(), CLONE_NEWNET) == 0) return;
  LOG_ERROR("cannot return to the own network namespace: errno %d", errno);
  std::abort();
}

}  // namespace

Fd netns_of_socket(int socket) {
  const int fd = ::ioctl(socket, SIOCGSKNS);
  if (fd < 0) return Fd();
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return Fd(fd);
}

uint64_t netns_cookie_of_socket(int socket) {
  uint64_t cookie = 0;
  socklen_t bytes = sizeof cookie;
  if (::getsockopt(socket, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &bytes) != 0) return 0;
  return cookie;
}

Fd netns_make_hidden() {
  Fd home = open_current();
  if (!home) throw std::system_error(errno, std::generic_category(), "own network namespace");
  if (::unshare(CLONE_NEWNET) != 0)
    throw std::system_error(errno, std::generic_category(), "make the hidden network namespace");
  Fd made = open_current();
  enter(home);
  if (!made) throw std::system_error(EMFILE, std::generic_category(), "open the hidden network namespace");
  return made;
}

NetnsScope::NetnsScope(int netns_fd) : home_(open_current()) {
  if (!home_) throw std::system_error(errno, std::generic_category(), "own network namespace");
  if (::setns(netns_fd, CLONE_NEWNET) != 0)
    throw std::system_error(errno, std::generic_category(), "enter network namespace");
}

NetnsScope::~NetnsScope() { enter(home_); }

}  // namespace ttod
