// What a socket that a client sent proves. Any holder of a descriptor can pass it on, so the policy asks who sent it
// and who owns it, and everything else is read from the socket itself, never from the client's words.
#pragma once

#include <cstdint>
#include <optional>

#include "kmod-helper/fd.hh"
#include "libtto/wire/address.hh"

namespace ttod {

struct Placeholder {
  tto::wire::IpAddress address;  // as bound; any_v4, any_v6: wildcard
  uint16_t port = 0;
  int bound_ifindex = 0;  // SO_BINDTODEVICE
  bool is_listening = false;
  bool is_wildcard = false;
  bool serves_v4 = false, serves_v6 = false;
  bool reuse_port = false;
};

/// What a client sent, and what is known of it. Nothing is if it is no TCP socket.
struct ClientSocket {
  Fd fd;
  std::optional<Placeholder> bound;
};

/// True for a TCP socket (not MPTCP, not another protocol) of this owner. Root may send anybody's. Never waits.
bool is_tcp_socket_of(int fd, uint32_t uid);
/// The same, whoever owns it.
bool is_tcp_socket(int fd);

// These take the socket's lock, which its owner can hold: for the threads of a WorkPool.
/// The port it is bound to, 0 if none.
uint16_t bound_port(int fd);
/// Reads a bound placeholder; empty unless it is a TCP socket in LISTEN, or in CLOSE and bound.
std::optional<Placeholder> read_placeholder(int fd);

}  // namespace ttod
