#include "kmod-helper/repair.hh"

#include <arpa/inet.h>
#include <linux/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif

namespace ttod {
namespace {

using tto::wire::FourTuple;
using tto::wire::IpAddress;

constexpr uint16_t kLeastMss = 48;
constexpr int kDefaultMss = 536;                         // what TCP_MAXSEG says of a socket that was never told
constexpr int kLeastUserMss = 88, kMostUserMss = 32767;  // what TCP_MAXSEG takes
constexpr int kAbandonAttempts = 3;                      // against an owner who connects it again meanwhile

bool set(int fd, int level, int name, int value) { return ::setsockopt(fd, level, name, &value, sizeof value) == 0; }

int get(int fd, int level, int name, int otherwise) {
  int value = 0;
  socklen_t bytes = sizeof value;
  return ::getsockopt(fd, level, name, &value, &bytes) == 0 ? value : otherwise;
}

int state_of(int fd) {
  tcp_info info{};
  socklen_t bytes = sizeof info;
  return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) == 0 ? info.tcpi_state : -1;
}

struct Name {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

/// In the socket's own family; no bytes if the address does not fit there.
Name name_of(int domain, const IpAddress& address, uint16_t port, uint32_t ifindex) {
  Name name;
  if (domain == AF_INET && address.is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(name.storage);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, &address.bytes[12], 4);
    name.bytes = sizeof v4;
  } else if (domain == AF_INET6) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(name.storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&v6.sin6_addr, address.bytes.data(), 16);
    if (IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr)) v6.sin6_scope_id = ifindex;
    name.bytes = sizeof v6;
  }
  return name;
}

bool is_name(const sockaddr_storage& name, const IpAddress& address, uint16_t port) {
  if (name.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(name);
    return IpAddress::from_v4(v4.sin_addr.s_addr) == address && ntohs(v4.sin_port) == port;
  }
  if (name.ss_family != AF_INET6) return false;
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(name);
  return IpAddress::from_v6(&v6.sin6_addr) == address && ntohs(v6.sin6_port) == port;
}

bool has_tuple(int fd, const FourTuple& tuple) {
  sockaddr_storage local{}, remote{};
  socklen_t local_bytes = sizeof local, remote_bytes = sizeof remote;
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_bytes) == 0 &&
         ::getpeername(fd, reinterpret_cast<sockaddr*>(&remote), &remote_bytes) == 0 &&
         is_name(local, tuple.local, tuple.local_port) && is_name(remote, tuple.remote, tuple.remote_port);
}

bool is_connected_state(int state) {
  return state == TCP_ESTABLISHED || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSE_WAIT ||
         state == TCP_LAST_ACK || state == TCP_CLOSING;
}

void disconnect(int fd) {
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  ::connect(fd, &nobody, sizeof nobody);
  get(fd, SOL_SOCKET, SO_ERROR, 0);  // the kernel notes ECONNABORTED
}

/// 0 or an errno; EINVAL: it is bound.
int bind_local(int fd, const RepairTarget& target) {
  const Name local =
      name_of(get(fd, SOL_SOCKET, SO_DOMAIN, 0), target.tuple.local, target.tuple.local_port, target.ifindex);
  if (local.bytes == 0) return EAFNOSUPPORT;
  return ::bind(fd, local.get(), local.bytes) == 0 ? 0 : errno;
}

SocketMemory remember(int fd) {
  SocketMemory memory;
  memory.reuse_address = get(fd, SOL_SOCKET, SO_REUSEADDR, 0);
  memory.buffer_lock = get(fd, SOL_SOCKET, SO_BUF_LOCK, 0);
  memory.send_bytes = get(fd, SOL_SOCKET, SO_SNDBUF, 0);
  memory.receive_bytes = get(fd, SOL_SOCKET, SO_RCVBUF, 0);
  const int max_segment = get(fd, IPPROTO_TCP, TCP_MAXSEG, kDefaultMss);
  memory.max_segment = max_segment == kDefaultMss ? 0 : max_segment;
  return memory;
}

/// Sizes that were set by hand come back; all others are auto-tuned again.
void give_back_options(int fd, const SocketMemory& memory) {
  set(fd, SOL_SOCKET, SO_REUSEADDR, memory.reuse_address);
  set(fd, IPPROTO_TCP, TCP_MAXSEG, memory.max_segment);
  if ((memory.buffer_lock & SOCK_SNDBUF_LOCK) != 0) set(fd, SOL_SOCKET, SO_SNDBUFFORCE, memory.send_bytes / 2);
  if ((memory.buffer_lock & SOCK_RCVBUF_LOCK) != 0) set(fd, SOL_SOCKET, SO_RCVBUFFORCE, memory.receive_bytes / 2);
  set(fd, SOL_SOCKET, SO_BUF_LOCK, memory.buffer_lock);
}

void make_room(int fd, const tto_helper_restore& restore, const SocketMemory& memory) {
  const auto send = static_cast<int>(std::min(restore.send_bytes, kMaxQueueBytes));
  const auto receive = static_cast<int>(std::min(restore.receive_bytes, kMaxQueueBytes));
  if (send > memory.send_bytes / 2) set(fd, SOL_SOCKET, SO_SNDBUFFORCE, send);
  if (receive > memory.receive_bytes / 2) set(fd, SOL_SOCKET, SO_RCVBUFFORCE, receive);
}

bool set_sequence(int fd, int queue, uint32_t sequence) {
  return set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue) &&
         set(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, static_cast<int>(sequence));
}

bool set_peer_options(int fd, const tto_helper_restore& restore) {
  const bool has_scale = (restore.flags & TTO_RESTORE_WSCALE) != 0;
  const uint32_t scales = has_scale ? restore.snd_wscale | static_cast<uint32_t>(restore.rcv_wscale) << 16 : 0;
  tcp_repair_opt options[4] = {{TCPOPT_MAXSEG, std::max(restore.peer_mss, kLeastMss)}, {TCPOPT_WINDOW, scales}};
  socklen_t count = 2;  // the scales always: without, the kernel keeps those of its own choice
  if ((restore.flags & TTO_RESTORE_SACK) != 0) options[count++] = {TCPOPT_SACK_PERMITTED, 0};
  if ((restore.flags & TTO_RESTORE_TIMESTAMPS) != 0) options[count++] = {TCPOPT_TIMESTAMP, 0};
  if (::setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, options, count * sizeof options[0]) != 0) return false;
  if ((restore.flags & TTO_RESTORE_TIMESTAMPS) == 0) return true;
  // An odd value would be a clock in microseconds.
  return set(fd, IPPROTO_TCP, TCP_TIMESTAMP, static_cast<int>(restore.tsval & ~1u));
}

/// From CLOSE in repair mode to ESTABLISHED.
tto_helper_refusal connect_in_repair(int fd, const RepairTarget& target, const tto_helper_restore& restore,
                                     const SocketMemory& memory) {
  const FourTuple& tuple = target.tuple;
  const int domain = get(fd, SOL_SOCKET, SO_DOMAIN, 0);
  const Name remote = name_of(domain, tuple.remote, tuple.remote_port, target.ifindex);
  if (remote.bytes == 0) return TTO_REFUSED_BAD_SOCKET;
  // EINVAL: it has a port already; whether the right one shows below.
  const int bound = bind_local(fd, target);
  set(fd, SOL_SOCKET, SO_REUSEADDR, memory.reuse_address);
  if (bound != 0 && bound != EINVAL) return bound == EAFNOSUPPORT ? TTO_REFUSED_BAD_SOCKET : TTO_REFUSED_IN_USE;
  make_room(fd, restore, memory);
  const int user_mss = restore.peer_mss;
  if (user_mss >= kLeastUserMss && user_mss <= kMostUserMss) set(fd, IPPROTO_TCP, TCP_MAXSEG, user_mss);
  if (!set_sequence(fd, TCP_SEND_QUEUE, restore.snd_una) || !set_sequence(fd, TCP_RECV_QUEUE, restore.rcv_unread) ||
      !set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE))
    return TTO_REFUSED_BAD_SOCKET;
  if (::connect(fd, remote.get(), remote.bytes) != 0)
    return errno == EADDRNOTAVAIL || errno == EADDRINUSE ? TTO_REFUSED_IN_USE : TTO_REFUSED_NO_ROUTE;
  if (!set_peer_options(fd, restore) || state_of(fd) != TCP_ESTABLISHED || !has_tuple(fd, tuple))
    return TTO_REFUSED_BAD_SOCKET;
  return TTO_REFUSED_NONE;
}

}  // namespace

tto_helper_refusal restore_socket(int fd, const RepairTarget& target, const tto_helper_restore& restore,
                                  SocketMemory& memory) {
  if (state_of(fd) != TCP_CLOSE) return TTO_REFUSED_BAD_SOCKET;
  char protocol_above[16] = {};
  socklen_t bytes = sizeof protocol_above;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_ULP, protocol_above, &bytes) == 0 && protocol_above[0] != '\0')
    return TTO_REFUSED_BAD_SOCKET;
  memory = remember(fd);
  if (!set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_ON)) return TTO_REFUSED_BAD_SOCKET;
  const tto_helper_refusal refusal = connect_in_repair(fd, target, restore, memory);
  if (refusal != TTO_REFUSED_NONE) abandon_socket(fd, target, memory);
  return refusal;
}

tto_helper_refusal finish_socket(int fd, const RepairTarget& target, uint32_t flags, const SocketMemory& memory) {
  if (!has_tuple(fd, target.tuple) || !is_connected_state(state_of(fd))) {
    abandon_socket(fd, target, memory);
    return TTO_REFUSED_BAD_SOCKET;
  }
  set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_NO_QUEUE);
  const int mode = (flags & TTO_HANDOVER_NO_PROBE) != 0 ? TCP_REPAIR_OFF_NO_WP : TCP_REPAIR_OFF;
  if (!set(fd, IPPROTO_TCP, TCP_REPAIR, mode) || !has_tuple(fd, target.tuple)) {
    abandon_socket(fd, target, memory);
    return TTO_REFUSED_BAD_SOCKET;
  }
  give_back_options(fd, memory);
  return TTO_REFUSED_NONE;
}

void abandon_socket(int fd, const RepairTarget& target, const SocketMemory& memory) {
  for (int attempt = 0; attempt < kAbandonAttempts; ++attempt) {
    disconnect(fd);  // gives a port back that the kernel had chosen
    bind_local(fd, target);
    set(fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP);
    if (state_of(fd) == TCP_CLOSE) break;
  }
  give_back_options(fd, memory);
}

}  // namespace ttod
