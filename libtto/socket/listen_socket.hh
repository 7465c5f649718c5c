// A listening socket's user-space half: half-open connections and those ready for accept(). The kernel half is the
// placeholder, which listens for real; accept() merges both (DESIGN 2.1). All calls under the stack's lock.
//
//   SYN ─▶ half-open (at most half_open_limit()) ─handshake done─▶ ready (at most backlog + 1, as Linux) ─▶ accept()
//
// A full ready queue drops SYNs and final ACKs; the SYN-ACK's retransmission completes the handshake later (R19). A full
// half-open queue gives way only in places whose SYN-ACK went unanswered for a second: a flood costs bounded memory.
#pragma once

#include <cstdint>

#include "libtto/base/intrusive_list.hh"
#include "libtto/base/time.hh"
#include "libtto/socket/readiness.hh"
#include "libtto/wire/address.hh"

namespace tto::stack {
class Stack;
}

namespace tto::socket {

class StreamSocket;

class ListenSocket {
 public:
  /// The next established connection, or null. It counts as accepted from here on.
  StreamSocket* accept();
  Readiness& readiness() { return readiness_; }  // EPOLLIN | EPOLLRDNORM while accept() would return something
  /// As given to listen(); a negative one is the largest, as on Linux. The caller has applied net.core.somaxconn.
  void set_backlog(int backlog);
  uint32_t ready_count() const { return ready_count_; }
  uint32_t half_open_count() const { return half_open_count_; }
  stack::Stack& stack() { return *stack_; }
  const wire::IpAddress& address() const { return address_; }
  uint16_t port() const { return port_; }

 private:
  friend class stack::Stack;

  bool is_full() const { return ready_count_ > backlog_; }
  uint32_t half_open_limit() const { return backlog_ > 256 ? backlog_ : 256; }
  void add_half_open(StreamSocket& child);
  /// The handshake is done: from half-open to ready, and the watchers hear of it.
  void make_ready(StreamSocket& child);
  void remove(StreamSocket& child);
  StreamSocket* oldest_half_open();
  StreamSocket* first_ready();

  stack::Stack* stack_ = nullptr;
  Readiness readiness_;
  IntrusiveList half_open_;
  IntrusiveList ready_;
  uint32_t half_open_count_ = 0;
  uint32_t ready_count_ = 0;
  uint32_t backlog_ = 0;
  wire::IpAddress address_;
  uint16_t port_ = 0;
};

}  // namespace tto::socket
