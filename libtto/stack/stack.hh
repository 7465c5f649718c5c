// A stack: one lock, one device, its ports and every accelerated socket of a process (or of a thread).
//
//   run_once():  port -> device -> engine -> readiness;  application and timers -> engine -> device -> port
//
// The one lock (lock()) covers everything reachable from here. Any application thread inside a libtto call progresses
// the stack inline; the progress thread does it when none has for a while (DESIGN 2.10).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "kmod-helper/protocol/helper_protocol.h"
#include "libtto/base/result.hh"
#include "libtto/base/time.hh"
#include "libtto/control/net_view.hh"
#include "libtto/device/device.hh"
#include "libtto/socket/listen_socket.hh"
#include "libtto/socket/stream_socket.hh"
#include "libtto/stack/handover.hh"
#include "libtto/stack/stack_lock.hh"
#include "libtto/stats/counters.hh"
#include "libtto/tcp/connection.hh"

namespace tto::stack {

struct StackConfig {
  device::DeviceConfig device;
  uint32_t rx_burst_slices = 256;
  Duration spin_budget = microseconds(30);   // before a blocking call sleeps
  Duration progress_tick = milliseconds(10);
  // How long an acknowledgement that could ride on data may wait for the application to send some; it leaves as soon as
  // the application waits for something. 0: not at all.
  Duration ack_ride{};
  uint32_t isn_secret[4] = {};
};

/// Where a stack's frames come from: a port and the region its frames live in. Made by the runtime from a helper's
/// grant, or by a test from a memory port.
struct PortBinding {
  port::FramePort* port = nullptr;  // outlives the stack
  memory::Region region;
  memory::FramePool* pool = nullptr;  // with the region in it already; null: the stack makes its own
  uint32_t nic_count = 0;
  tto_helper_nic nics[TTO_HELPER_MAX_NICS];
  /// Polls readable while a turn would find something to do; -1: the port's own descriptor. The runtime makes one that
  /// also covers the environment's news.
  int wait_fd = -1;
};

/// How the outside world is asked, so that tests need no kernel: routes and neighbours (NetView in the product) and
/// leases (HelperClient in the product).
class Environment {
 public:
  virtual ~Environment() = default;
  struct NextHop {
    int ifindex = 0;
    uint32_t mtu_bytes = 1500;        // path
    uint32_t link_mtu_bytes = 1500;
    device::PathHeaders headers;      // MACs, VLAN
    wire::IpAddress source;
  };
  /// Resolves where `destination` goes now. kernel_* counter as the error: why it cannot be served.
  virtual Expected<NextHop, stats::Counter> next_hop(const wire::IpAddress& destination, const wire::IpAddress* source,
                                                     int oif) = 0;
  /// Changes when any earlier answer may be stale; the worker then asks again for each live connection.
  virtual uint64_t generation() = 0;
  /// The connection is gone; its flow entry may go (queued, batched).
  /// `grant_id` 0: an accepted connection, known by its tuple.
  virtual void release_flow(const device::FlowKey& key, int ifindex, uint64_t grant_id, uint32_t iss) = 0;
  /// The connection that this grant was for is over for both sides; `next_seq` is what it would have sent next. True: the
  /// tuple is kept for another one. False: release it.
  virtual bool keep_flow(uint64_t /*grant_id*/, uint32_t /*next_seq*/) { return false; }
  /// The flow went with a handover: its grant is no longer ours.
  virtual void forget_flow(uint64_t /*grant_id*/) {}
  /// When refresh() has something to do even if nothing happens.
  virtual Instant next_event() { return kNever; }
  /// The listener is gone. Waits, with a bound, until nobody but the application holds its socket: it may bind the same
  /// port again at once.
  virtual void release_listener(uint64_t grant_id) = 0;
  /// Gives an IP packet (from its IP header on, checksums to be made) to the kernel socket that took a connection over.
  virtual void inject(uint64_t /*handover_id*/, std::span<const uint8_t> /*packet*/) {}
  /// Housekeeping: sends what is queued, takes netlink news and helper events. Never blocks. Called at most every ms,
  /// and at least every 10 ms while there is something to do.
  virtual void refresh(Instant now) = 0;
  /// The port that frames pass from now on: `port`, or one in front of it that records them. Called about every ms while
  /// there is something to do; the answer is good until the next call.
  virtual port::FramePort& observed_port(port::FramePort& port, memory::FramePool& /*pool*/, Instant /*now*/) {
    return port;
  }
};

class Stack {
 public:
  Stack(const StackConfig& config, const PortBinding& binding, Environment& environment, std::atomic<uint64_t>* counters);
  ~Stack();

  StackLock& lock() { return lock_; }

  // --- all below: under the lock -----------------------------------------------------------------------------------
  /// One turn; returns the work done (frames + segments + expirations). The product on one screen: stack/worker.cc.
  /// Work is bounded: what is left over makes next_deadline() be now.
  size_t run_once(Instant now);
  /// When run_once must be called again even if no frame arrives.
  Instant next_deadline() const;
  /// Flushes what a call produced without receiving: send side of the turn only, readiness included.
  void push(Instant now);
  /// Before a thread waits: acknowledgements that wait for a segment of ours leave by themselves.
  void flush_acks(Instant now);
  int wait_fd() const;

  /// How far the buffers may grow by themselves (net.ipv4.tcp_wmem, tcp_rmem), and TCP_NOTSENT_LOWAT.
  struct BufferLimits {
    uint32_t send_max_bytes = 4u << 20, receive_max_bytes = 6u << 20;
    uint32_t notsent_lowat_bytes = ~0u;
  };
  struct ConnectRequest {
    wire::FourTuple tuple;       // local side already reserved with the kernel
    Environment::NextHop next_hop;
    int bound_ifindex = 0;       // SO_BINDTODEVICE, 0: none
    uint64_t grant_id = 0;
    bool continues = false;      // a connection of this tuple would have sent next_seq next: this one starts beyond
    uint32_t next_seq = 0;
    tcp::ConnectionConfig config;  // iss, MTUs and window scale are filled in here
    uint32_t send_buffer_bytes = 0, receive_buffer_bytes = 0;
    BufferLimits limits;
  };
  /// A connection of this tuple is here, and not in TIME-WAIT: there cannot be another. Looks at all of them.
  bool has_live_flow(const wire::FourTuple& tuple) const;
  /// Starts an active open (the SYN leaves with the next push). Null and a kernel_* reason if there is no room.
  socket::StreamSocket* connect(const ConnectRequest& request, Instant now, stats::Counter* reason);

  struct ListenRequest {
    wire::IpAddress address;     // all-zero of its family: wildcard
    uint16_t port = 0;
    bool is_v6 = false;
    bool v6_only = false;
    int backlog = 0;
    uint64_t grant_id = 0;
    tcp::ConnectionConfig config;  // what accepted connections start with
    uint32_t send_buffer_bytes = 0, receive_buffer_bytes = 0;
    BufferLimits limits;
    uint8_t tos = 0, ttl = 64;
  };
  socket::ListenSocket* listen(const ListenRequest& request, stats::Counter* reason);
  void close_listener(socket::ListenSocket* listener, Instant now);

  /// Makes a connection of an application, or one that it has closed, the kernel's. After kDone the caller forgets
  /// `stream`; its watchers were not told. A turn should come first, so that little is under way.
  HandoverResult hand_over(socket::StreamSocket& stream, HandoverTarget& target, Instant now);

  /// A connection in slot `from` or after that the peer does not know to be over; null: no more.
  socket::StreamSocket* next_unfinished(uint32_t from);

  uint64_t progress_count() const { return progress_count_; }  // turns so far: "has anyone progressed?"
  /// In a forked child: the rings, the region and the descriptors belong to the parent; nothing of ours runs again.
  void abandon() { is_abandoned_ = true; }
  bool is_abandoned() const { return is_abandoned_; }
  bool has_listeners() const;
  bool has_sleepers() const;
  size_t connection_count() const;   // not yet freed, TIME-WAIT included
  const StackConfig& config() const { return config_; }
  stats::Counters& counters() { return counters_; }
  /// Frame sums, pool states and slots agree; tests call it at the end of every run.
  bool check_consistency() const;

  /// The inside; defined in stack/stack_impl.hh, for stack/*.cc only.
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  StackConfig config_;
  StackLock lock_;
  stats::Counters counters_;
  uint64_t progress_count_ = 0;
  bool is_abandoned_ = false;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tto::stack
