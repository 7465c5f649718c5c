#include "kmod-helper/placeholder.hh"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

namespace ttod {
namespace {

std::optional<int> option(int fd, int level, int name) {
  int value = 0;
  socklen_t bytes = sizeof value;
  if (::getsockopt(fd, level, name, &value, &bytes) != 0) return std::nullopt;
  return value;
}

/// getsockname() goes on naming a port that the kernel chose and took back when a connect() failed. Only bind() tells:
/// it refuses whoever has a port. (Where it succeeds, a port of the kernel's choice comes in place of the lost one.)
bool holds_a_port(int fd) {
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  v4.sin_family = AF_INET;
  v6.sin6_family = AF_INET6;
  const bool is_v6 = option(fd, SOL_SOCKET, SO_DOMAIN) == AF_INET6;
  const auto* any = is_v6 ? reinterpret_cast<const sockaddr*>(&v6) : reinterpret_cast<const sockaddr*>(&v4);
  return ::bind(fd, any, is_v6 ? sizeof v6 : sizeof v4) != 0 && errno == EINVAL;
}

}  // namespace

bool is_tcp_socket(int fd) {
  const auto domain = option(fd, SOL_SOCKET, SO_DOMAIN);
  return (domain == AF_INET || domain == AF_INET6) && option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM &&
         option(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP;
}

bool is_tcp_socket_of(int fd, uint32_t uid) {
  // Nothing is asked of what is no socket: a file may belong to a file system that a client serves, and never answers.
  if (!is_tcp_socket(fd)) return false;
  struct stat file {};
  return ::fstat(fd, &file) == 0 && (uid == 0 || file.st_uid == uid);
}

uint16_t bound_port(int fd) {
  if (!holds_a_port(fd)) return 0;
  sockaddr_storage name{};
  socklen_t bytes = sizeof name;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &bytes) != 0) return 0;
  if (name.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(name).sin_port);
  return name.ss_family == AF_INET6 ? ntohs(reinterpret_cast<const sockaddr_in6&>(name).sin6_port) : uint16_t{0};
}

std::optional<Placeholder> read_placeholder(int fd) {
  if (!is_tcp_socket(fd)) return std::nullopt;
  tcp_info info{};
  socklen_t bytes = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return std::nullopt;
  if (info.tcpi_state != TCP_LISTEN && info.tcpi_state != TCP_CLOSE) return std::nullopt;
  if (!holds_a_port(fd)) return std::nullopt;
  char ulp[16] = {};
  bytes = sizeof ulp;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &bytes) == 0 && ulp[0] != '\0') return std::nullopt;

  sockaddr_storage name{};
  bytes = sizeof name;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &bytes) != 0) return std::nullopt;
  Placeholder p;
  p.is_listening = info.tcpi_state == TCP_LISTEN;
  if (name.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(name);
    p.address = tto::wire::IpAddress::from_v4(v4.sin_addr.s_addr);
    p.port = ntohs(v4.sin_port);
    p.is_wildcard = v4.sin_addr.s_addr == INADDR_ANY;
    p.serves_v4 = true;
  } else if (name.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(name);
    p.address = tto::wire::IpAddress::from_v6(&v6.sin6_addr);
    p.port = ntohs(v6.sin6_port);
    p.is_wildcard = IN6_IS_ADDR_UNSPECIFIED(&v6.sin6_addr);
    p.serves_v6 = !p.address.is_v4();
    p.serves_v4 = p.address.is_v4() || (p.is_wildcard && option(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0);
  } else {
    return std::nullopt;
  }
  if (p.port == 0) return std::nullopt;
  p.bound_ifindex = option(fd, SOL_SOCKET, SO_BINDTOIFINDEX).value_or(0);
  p.reuse_port = option(fd, SOL_SOCKET, SO_REUSEPORT).value_or(0) != 0;
  return p;
}

}  // namespace ttod
