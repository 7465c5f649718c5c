// A TCP stream in user space: the engine, both payload queues and POSIX meaning, without blocking.
//
// Every call is under the lock of the owning stack and never sleeps: it returns bytes or -errno (-EAGAIN where a
// blocking socket would wait). Blocking, signals, timeouts and descriptors are the API layer's (stack/api_*.cc).
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>

#include "libtto/base/time.hh"
#include "libtto/device/wqe.hh"
#include "libtto/socket/readiness.hh"
#include "libtto/socket/receive_queue.hh"
#include "libtto/socket/send_queue.hh"
#include "libtto/tcp/connection.hh"

namespace tto::stack {
class Stack;
}

namespace tto::socket {

class ListenSocket;

class StreamSocket {
 public:
  /// Appends to the send queue: copies once into MSS-sized frames, summing as it goes. `flags`: MSG_MORE, MSG_OOB.
  /// Partial counts as on Linux; -EPIPE, -ECONNRESET …: the socket error is consumed as Linux does.
  ssize_t send(const iovec* iov, int count, int flags, Instant now);
  /// `flags`: MSG_PEEK, MSG_TRUNC, MSG_OOB. 0 is EOF. MSG_WAITALL and SO_RCVLOWAT are the caller's loop.
  ssize_t receive(const iovec* iov, int count, int flags, Instant now);
  int shutdown(int how, Instant now);
  /// The last descriptor is gone. The stack finishes the connection (FIN, retransmissions, TIME-WAIT) and then frees it.
  void close(Instant now);
  /// SO_LINGER {1,0}, or exit of a process that cannot wait.
  void abort(Instant now);
  bool is_finished() const;  // nothing left to send or wait for: close() with linger waits for this

  Readiness& readiness() { return readiness_; }
  uint64_t readable_bytes() const;   // SIOCINQ
  uint64_t unsent_bytes() const;     // SIOCOUTQNSD
  uint64_t unacked_bytes() const;    // SIOCOUTQ
  uint64_t send_space() const;
  /// SO_ERROR: reads and clears.
  int take_error();

  tcp::Connection& connection() { return connection_; }
  const wire::FourTuple& tuple() const { return key_.tuple; }
  stack::Stack& stack() { return *stack_; }

  /// SO_SNDBUF, SO_RCVBUF (Linux doubles them; `bytes` is after doubling), TCP_NOTSENT_LOWAT, SO_RCVLOWAT.
  void set_send_buffer(uint32_t bytes);
  void set_receive_buffer(uint32_t bytes);
  void set_notsent_lowat(uint32_t bytes);
  void set_receive_lowat(uint32_t bytes);
  void set_linger(bool on, Duration time);
  void set_oob_inline(bool on);
  void set_tos(uint8_t tos);
  void set_ttl(uint8_t ttl);
  /// The descriptor it is shown under (stats page), -1: none.
  void set_fd(int fd) { fd_ = fd; }

 private:
  friend class stack::Stack;
  friend class ListenSocket;

  // The stack's side: see stack/worker.cc.
  stack::Stack* stack_ = nullptr;
  tcp::Connection connection_;
  SendQueue send_queue_;
  ReceiveQueue receive_queue_;
  Readiness readiness_;
  device::FlowKey key_;
  device::FlowId flow_;
  uint32_t slot_ = ~0u;  // in the state region
  int fd_ = -1;
};

}  // namespace tto::socket
