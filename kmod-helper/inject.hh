// Packets handed to a kernel socket as if they had come from the wire: by raw sockets in the connection's namespace,
// through its loopback device, which must be up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kmod-helper/fd.hh"
#include "libtto/wire/address.hh"

namespace ttod {

/// Checks that the packet is one whole TCP segment of this tuple, from its remote to its local side, over IPv4 or IPv6,
/// with nothing between the IP and the TCP header and no fragment; then fills in both checksums. False: it is not, and
/// must not be sent.
bool make_injectable(std::span<uint8_t> packet, const tto::wire::FourTuple& tuple);

class Injector {
 public:
  /// In the calling thread's namespace. Returns 0 or an errno.
  int open();
  bool is_open() const { return static_cast<bool>(v4_); }
  /// A packet that make_injectable() passed. Never waits. Returns 0 or an errno.
  int send(std::span<const uint8_t> packet, const tto::wire::FourTuple& tuple, uint32_t ifindex) const;

 private:
  Fd v4_, v6_;
};

}  // namespace ttod
