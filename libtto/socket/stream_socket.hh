// A TCP stream in user space: the engine, both payload queues and POSIX meaning, without blocking.
//
// Every call is under the lock of the owning stack and never sleeps: it returns bytes or -errno (-EAGAIN where a
// blocking socket would wait). Blocking, signals, timeouts and descriptors are the API layer's (stack/api_*.cc).
// What a call caused leaves with the next Stack::push() or run_once(), which also brings the readiness up to date.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>

#include "libtto/base/time.hh"
#include "libtto/device/wqe.hh"
#include "libtto/memory/frame_pool.hh"
#include "libtto/socket/readiness.hh"
#include "libtto/socket/receive_queue.hh"
#include "libtto/socket/send_queue.hh"
#include "libtto/socket/urgent_byte.hh"
#include "libtto/tcp/connection.hh"

namespace tto::stack {
class Stack;
}

namespace tto::socket {

class ListenSocket;
class StreamSocket;

/// A link of a socket into one of the stack's lists.
struct SocketLink : IntrusiveNode {
  StreamSocket* socket = nullptr;
};

/// A socket's place in the stack's timer wheel.
struct SocketTimer : SocketLink {
  Instant at = kNever;
  uint8_t level = 0, place = 0;
};

/// What the sockets of a stack share; the socket's only view of the stack.
struct SocketShared {
  stack::Stack* stack = nullptr;
  memory::FramePool* pool = nullptr;
  IntrusiveList dirty;             // sockets the next push visits
  IntrusiveList starved;           // sockets that wait for frames, not for their own buffer
  uint32_t send_frames = 0;        // in all send queues
  uint32_t send_frames_limit = 0;  // half the pool: the other half keeps receiving

  // The frames that announced windows may fill, of the sockets to which payload came lately (docs/decisions/0001, rule 3).
  IntrusiveList receiving;          // those sockets, longest without payload first
  uint32_t receiving_count = 0;
  uint32_t promised_frames = 0;     // in all
  uint32_t promisable_frames = ~0u; // that there are; at most so many are promised
};

class StreamSocket {
 public:
  StreamSocket();
  StreamSocket(const StreamSocket&) = delete;
  StreamSocket& operator=(const StreamSocket&) = delete;

  /// Appends to the send queue: copies once into MSS-sized frames, summing as it goes. `flags`: MSG_MORE, MSG_OOB (the
  /// last byte is urgent). Partial counts as on Linux; -EPIPE, -ECONNRESET …: the socket error is consumed as Linux
  /// does (SIGPIPE is the caller's).
  ssize_t send(const iovec* iov, int count, int flags, Instant now);
  /// `flags`: MSG_PEEK, MSG_TRUNC. 0 is EOF. MSG_WAITALL and SO_RCVLOWAT are the caller's loop; it ends where
  /// stops_at_mark(). MSG_OOB: the urgent byte; -EINVAL: there is none, -EAGAIN: it is announced only.
  ssize_t receive(const iovec* iov, int count, int flags, Instant now);
  /// 0 or -errno. On a connecting socket it ends the attempt, as on Linux.
  int shutdown(int how, Instant now);
  /// The last descriptor is gone. The stack finishes the connection (FIN, retransmissions, TIME-WAIT) and then frees
  /// it; the caller must not use it any more.
  void close(Instant now);
  /// What close() does on the wire, while the caller keeps the socket to wait for is_finished() (SO_LINGER with a time,
  /// R59). close() or abort() follows.
  void begin_close(Instant now);
  /// RST, and the socket is gone as after close(): SO_LINGER {1,0}, or exit of a process that cannot wait.
  void abort(Instant now);
  /// Our FIN is acknowledged, or the connection is over: what close() with linger waits for.
  bool is_finished() const;

  Readiness& readiness() { return readiness_; }
  uint64_t readable_bytes() const;  // in order and unread, an urgent byte counted
  /// SIOCINQ: up to the urgent byte.
  uint64_t inq_bytes() const;
  /// SIOCATMARK: the next byte is the urgent one. `ahead` bytes further on: an ordinary read goes no further.
  bool is_at_mark() const;
  bool stops_at_mark(uint64_t ahead) const;
  /// True once for each new mark: the descriptor's owner is to be told.
  bool take_urgent_signal();
  uint64_t unsent_bytes() const;   // SIOCOUTQNSD
  uint64_t unacked_bytes() const;  // SIOCOUTQ
  uint64_t send_space() const;
  /// SO_ERROR: reads and clears.
  int take_error();
  bool is_connecting() const;  // SYN-SENT, or SYN-RECEIVED of a simultaneous open
  bool is_established() const { return connection_.events().established; }

  tcp::Connection& connection() { return connection_; }
  const tcp::Connection& connection() const { return connection_; }
  /// Has the next push look at this connection: to be called after a change made through connection().
  void touch();
  const wire::FourTuple& tuple() const { return key_.tuple; }
  stack::Stack& stack() { return *shared_->stack; }
  uint32_t slot() const { return slot_; }  // in the state region
  int ifindex() const { return ifindex_; }

  /// SO_SNDBUF, SO_RCVBUF (Linux doubles them; `bytes` is after doubling): set by hand, they no longer grow by
  /// themselves.
  void set_send_buffer(uint32_t bytes);
  void set_receive_buffer(uint32_t bytes);
  uint32_t send_buffer() const { return send_buffer_bytes_; }
  uint32_t receive_buffer() const { return receive_buffer_bytes_; }
  /// TCP_NOTSENT_LOWAT (~0u: off), SO_RCVLOWAT.
  void set_notsent_lowat(uint32_t bytes);
  void set_receive_lowat(uint32_t bytes);
  uint32_t receive_lowat() const { return receive_lowat_; }
  void set_linger(bool on, Duration time);
  bool linger_on() const { return linger_on_; }
  Duration linger_time() const { return linger_time_; }
  void set_tos(uint8_t tos);
  void set_ttl(uint8_t ttl);
  uint8_t tos() const { return path_.tos; }
  uint8_t ttl() const { return path_.ttl; }
  /// SO_OOBINLINE: the urgent byte is read like any other.
  void set_oob_inline(bool on);
  /// The descriptor it is shown under (stats page), -1: none.
  void set_fd(int fd) { fd_ = fd; }
  int fd() const { return fd_; }
  /// How Linux's tcp_poll() would report this socket now; readiness().level() is this as of the last turn.
  uint32_t poll_level() const;

 private:
  friend class stack::Stack;
  friend class ListenSocket;

  /// Where the socket is in its life, as the stack sees it.
  enum class Phase : uint8_t {
    kFree,
    kHalfOpen,    // of a listener, handshake not done
    kAcceptable,  // in the listener's accept queue
    kOwned,       // an application descriptor (or an API call) holds it
    kOrphan,      // closed by the application, finishing
    kDeparted,    // the kernel's now: what still arrives is passed on for a while
  };

  void init(SocketShared* shared, uint32_t slot);
  bool receive_is_shut() const;
  bool send_is_shut() const;
  bool is_readable() const;
  bool is_writeable() const;
  ssize_t append(const iovec* iov, int count, size_t total, bool more, Instant now);
  ssize_t receive_urgent(const iovec* iov, int count, int flags);
  uint64_t read_stream(const iovec* iov, int count, size_t total, int flags, Instant now);
  ssize_t end_of_stream();  // what receive() says when there is nothing to read
  void close_connection(Instant now);
  uint64_t frames_allowed() const;
  void note_starved();
  void count_send_frames(uint32_t before);
  /// Bits of pending_events_ that are no EPOLL bit.
  static constexpr uint32_t kStateChanged = 1u << 31;  // every watcher looks again

  // The stack's calls.
  /// The peer's first sequence number is known.
  void start_receiving(Instant now);
  /// Takes what the engine says to keep of a segment's payload.
  void take_payload(memory::FrameHandle head, StreamOffset first, ByteRange keep, Instant now);
  /// After the engine was told something: releases acknowledged frames, collects the events that watchers must hear of.
  void note_progress(Instant now);
  void note_urgent(Instant now);
  /// Brings the level up to date and tells the watchers.
  void publish();
  void tune_send_buffer();
  void tune_receive_buffer(uint64_t taken, Instant now);
  void relieve_memory();
  /// Tells the engine how far the window may open, and the others what this socket has been promised.
  void limit_window();
  void count_promise();
  void note_receiving(uint32_t bytes, uint32_t frames, Instant now);
  void stop_receiving();
  uint32_t frame_payload_bytes() const;
  void clear_queues();

  SocketShared* shared_ = nullptr;
  Phase phase_ = Phase::kFree;
  tcp::Connection connection_;
  SendQueue send_queue_;
  ReceiveQueue receive_queue_;
  UrgentByte urgent_;
  Readiness readiness_;
  device::FlowKey key_;
  device::FlowId flow_;
  device::PathHeaders path_;
  uint32_t slot_ = ~0u;
  uint32_t life_ = 0;  // counts the lives of this slot; cookies of earlier ones name nothing
  int fd_ = -1;
  int ifindex_ = 0;
  int bound_ifindex_ = 0;  // SO_BINDTODEVICE: routes are asked for with it
  uint64_t grant_id_ = 0;
  uint64_t handover_id_ = 0;  // kDeparted

  uint32_t send_buffer_bytes_ = 87040;
  uint32_t send_buffer_max_ = 4u << 20;
  uint32_t receive_buffer_bytes_ = 131072;
  uint32_t receive_buffer_max_ = 6u << 20;
  uint32_t notsent_lowat_ = ~0u;
  uint32_t receive_lowat_ = 1;
  Duration linger_time_{};
  bool send_buffer_locked_ = false;
  bool receive_buffer_locked_ = false;
  bool linger_on_ = false;
  bool send_shut_ = false;     // shutdown(SHUT_WR) or close()
  bool receive_shut_ = false;  // shutdown(SHUT_RD)
  bool wants_space_ = false;   // a send or a poll found no room (SOCK_NOSPACE)
  bool is_active_open_ = false;
  bool was_established_ = false;  // as of the last note_progress()
  bool was_closed_ = false;
  bool was_peer_closed_ = false;
  bool had_error_ = false;
  bool is_receiving_ = false;  // receive_queue_ has its start
  bool close_begun_ = false;
  bool oob_inline_ = false;  // SO_OOBINLINE
  bool urgent_signal_due_ = false;
  bool path_changed_ = false;     // the device has not been told of path_ yet
  uint32_t pending_events_ = 0;   // EPOLL* bits to tell the watchers of
  int own_error_ = 0;             // set by the stack, not by the engine
  bool is_dissolved_ = false;     // shut down while it connected: as good as new to poll()
  StreamOffset noticed_end_ = 0;  // watchers heard of what arrived up to here
  uint64_t read_since_ = 0;       // receive-buffer tuning: bytes the application took in this round trip
  Instant read_round_start_{};
  Instant phase_since_{};
  Instant figures_shown_at_{};
  Instant payload_at_{};            // the last that came
  uint32_t promised_frames_ = 0;    // of shared_->promised_frames
  uint32_t mean_payload_bytes_ = 0; // of a frame, lately; 0: nothing came yet
  uint64_t rx_aggregates_ = 0, rx_refused_ = 0;

  ListenSocket* listener_ = nullptr;  // kHalfOpen, kAcceptable
  SocketLink dirty_link_;   // shared_->dirty, or the stack's lists of those to publish and of riding acknowledgements
  bool is_riding_ = false;  // in the latter
  Instant ride_until_{};    // 0: no acknowledgement waits for a segment to ride on
  SocketLink starved_link_;
  SocketLink receiving_link_;  // shared_->receiving
  SocketLink queue_link_;      // of the listener, or the stack's TIME-WAIT list
  SocketTimer timer_;
};

}  // namespace tto::socket
