// A placeholder made into a live kernel connection by TCP_REPAIR, in the order the kernel wants (socket by socket; no
// state of ttod). All calls may wait for the socket's lock, which its owner can hold: for the threads of a WorkPool.
//
// The socket stays in the client's hands all the time, so nothing that was true a moment ago is trusted: in repair mode
// its owner can bind and connect it anywhere without a handshake. Hence force-reuse (which TCP_REPAIR brings, and which
// would let him bind to anybody's port) is taken away as soon as the socket is bound, and the tuple is compared again
// when the socket is live.
#pragma once

#include <cstdint>

#include "kmod-helper/protocol/helper_protocol.h"
#include "libtto/wire/address.hh"

namespace ttod {

/// What the socket was before, to be so again.
struct SocketMemory {
  int reuse_address = 0;
  int buffer_lock = 0;
  int send_bytes = 0, receive_bytes = 0;  // as getsockopt() says: doubled
  int max_segment = 0;                    // TCP_MAXSEG of the user, 0: none
};

struct RepairTarget {
  tto::wire::FourTuple tuple;
  uint32_t ifindex = 0;  // scope of link-local addresses
};

/// Into repair mode and ESTABLISHED, with empty queues. Refused: it is in CLOSE as before, perhaps bound.
tto_helper_refusal restore_socket(int fd, const RepairTarget& target, const tto_helper_restore& restore,
                                  SocketMemory& memory);
/// Out of repair mode, live. Refused: as abandon_socket() leaves it.
tto_helper_refusal finish_socket(int fd, const RepairTarget& target, uint32_t flags, const SocketMemory& memory);
/// Back to CLOSE without a word on the wire, bound to the tuple's local side if that can be had.
void abandon_socket(int fd, const RepairTarget& target, const SocketMemory& memory);

/// The most a restored queue may hold, and what a larger wish becomes.
inline constexpr uint32_t kMaxQueueBytes = 32u << 20;

}  // namespace ttod
