// Two stacks joined by the in-memory link on a virtual clock, each with a port that can be made bad by a seeded plan.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "libtto/port/faulty_port.hh"
#include "libtto/port/memory_port.hh"
#include "libtto/stack/stack.hh"
#include "libtto/wire/address.hh"
#include "tests/support/fake_environment.hh"
#include "tests/support/test_region.hh"

namespace tto::stack {

struct PairConfig {
  uint32_t mtu = 1500;
  bool is_v6 = false;
  uint32_t frames = 4096;
  uint32_t client_frames = 0;  // 0: as many
  uint32_t connections = 64;
  Duration delay = microseconds(50);
  uint64_t bytes_per_second = 0;
  uint64_t seed = 1;
  Duration ack_ride{};  // StackConfig
  port::Faults faults;  // what each end receives
};

struct Host {
  Host(int number, const PairConfig& config)
      : pool(number == 1 && config.client_frames != 0 ? config.client_frames : config.frames, config.connections), environment(number, config.mtu), words(stats::kCounterCount) {}

  uint64_t count(stats::Counter c) const { return words[static_cast<size_t>(c)].load(); }

  testing::TestPool pool;
  FakeEnvironment environment;
  std::vector<std::atomic<uint64_t>> words;
  std::unique_ptr<port::FaultyPort> port;
  std::unique_ptr<Stack> stack;
};

class StackPair {
 public:
  explicit StackPair(const PairConfig& config) : config_(config), client(1, config), server(2, config) {
    port::LinkConfig link;
    link.mtu_bytes = config.mtu;
    link.max_slices = config.mtu > 3500 ? 4 : 1;
    link.delay = config.delay;
    link.bytes_per_second = config.bytes_per_second;
    link_ = std::make_unique<port::MemoryLink>(link, client.pool.pool(), server.pool.pool());
    int which = 0;
    for (Host* h : {&client, &server}) {
      port::FaultyConfig faults;
      faults.seed = config.seed * 2 + static_cast<uint64_t>(which);
      faults.rx = config.faults;
      h->port = std::make_unique<port::FaultyPort>(faults, link_->end(which++), h->pool.pool());
      StackConfig stack_config;
      stack_config.device.flow_capacity = std::max(256u, config.connections * 2);
      stack_config.ack_ride = config.ack_ride;
      stack_config.isn_secret[0] = static_cast<uint32_t>(config.seed);
      PortBinding binding;
      binding.port = h->port.get();
      binding.region = h->pool.region();
      binding.pool = &h->pool.pool();
      h->stack = std::make_unique<Stack>(stack_config, binding, h->environment, h->words.data());
    }
  }

  ~StackPair() {
    for (Host* h : {&client, &server}) {
      h->stack.reset();
      h->port.reset();  // before the link that it stands on
    }
  }

  /// Turns of both stacks at this instant until neither has anything left to do now; then on to the next event.
  /// False: nothing will ever happen again, or `limit` is reached.
  bool step(Instant limit = kNever) {
    for (int i = 0; i < 100; ++i) {
      const size_t work = client.stack->run_once(now) + server.stack->run_once(now);
      if (work == 0) break;
    }
    Instant next = std::min(client.stack->next_deadline(), server.stack->next_deadline());
    if (next > limit || next == kNever) return false;
    now = std::max(next, now + nanoseconds(1000));
    return true;
  }
  void run_for(Duration d) {
    const Instant end = now + d;
    while (step(end)) {
    }
    now = end;
  }
  template <typename Done>
  bool run_until(Done done, Duration limit = seconds(600)) {
    const Instant end = now + limit;
    // What done() did (a read, say) may have given the stacks something to do; twice nothing is the end.
    for (int idle = 0; idle < 2;) {
      if (done()) return true;
      idle = step(end) ? 0 : idle + 1;
    }
    return done();
  }

  socket::ListenSocket* listen(uint16_t port, int backlog, bool wildcard = false) {
    Stack::ListenRequest request;
    request.is_v6 = config_.is_v6;
    if (!wildcard) {
      request.address = address_of(2, config_.is_v6);
    } else if (!config_.is_v6) {
      request.address = wire::IpAddress::from_v4(0);
    }
    request.port = port;
    request.backlog = backlog;
    request.config = engine;
    stats::Counter reason = stats::Counter::kCount;
    return server.stack->listen(request, &reason);
  }
  /// `lease`: of the tuple; 0: none.
  socket::StreamSocket* connect(uint16_t local_port, uint16_t remote_port, uint64_t lease = 0,
                                const uint32_t* next_seq = nullptr) {
    Stack::ConnectRequest request;
    request.grant_id = lease;
    request.continues = next_seq != nullptr;
    request.next_seq = next_seq != nullptr ? *next_seq : 0;
    request.tuple = {address_of(1, config_.is_v6), address_of(2, config_.is_v6), local_port, remote_port};
    request.next_hop = *client.environment.next_hop(request.tuple.remote, &request.tuple.local, 0);
    request.config = engine;
    stats::Counter reason = stats::Counter::kCount;
    socket::StreamSocket* s = client.stack->connect(request, now, &reason);
    client.stack->push(now);
    return s;
  }
  /// A connection between the two, established on both ends.
  struct Ends {
    socket::StreamSocket *client = nullptr, *server = nullptr;
  };
  Ends connected(uint16_t local_port, socket::ListenSocket* listener) {
    Ends ends;
    ends.client = connect(local_port, listener->port());
    if (ends.client == nullptr) return ends;
    run_until([&] { return listener->ready_count() > 0 && ends.client->is_established(); });
    ends.server = listener->accept();
    return ends;
  }

  std::string describe(socket::StreamSocket& s) {
    const tcp::Figures f = s.connection().figures();
    const tcp::Output o = s.connection().next_output(now);
    return std::string(tcp::name(s.connection().state())) + " una " + std::to_string(s.connection().snd_una()) + " nxt " +
           std::to_string(s.connection().snd_nxt()) + " end " + std::to_string(s.connection().snd_end()) + " rcv " +
           std::to_string(s.connection().rcv_nxt()) + " cwnd " + std::to_string(f.cwnd_bytes) + " snd_wnd " +
           std::to_string(f.snd_wnd_bytes) + " rcv_wnd " + std::to_string(f.rcv_wnd_bytes) + " rto " +
           std::to_string(f.rto.micros()) + " rtx " + std::to_string(f.retransmitted_segments) + " rtos " +
           std::to_string(f.rto_expirations) + " next " + std::to_string(static_cast<int>(o.kind)) + " at " +
           std::to_string(o.at.ns) + " seg " + std::to_string(o.segment.payload.begin) + "+" +
           std::to_string(o.segment.payload.size()) + " queued " + std::to_string(s.unacked_bytes()) + "\n";
  }
  std::string describe() {
    return "now " + std::to_string(now.ns) + " deadlines " + std::to_string(client.stack->next_deadline().ns) + " " +
           std::to_string(server.stack->next_deadline().ns) + " free " + std::to_string(client.pool->free_count()) + " " +
           std::to_string(server.pool->free_count()) + "\n";
  }

  /// What holds at the end of every test: frames, slots and queues agree, and every frame had one fate.
  void expect_balance() {
    for (Host* h : {&client, &server}) {
      EXPECT_TRUE(h->stack->check_consistency());
      uint64_t fates = h->count(stats::Counter::rx_frame_delivered) + h->count(stats::Counter::rx_frame_passed);
      for (uint8_t r = 1; r < static_cast<uint8_t>(stats::DropReason::kCount); ++r) {
        fates += h->count(stats::counter_of(static_cast<stats::DropReason>(r)));
      }
      EXPECT_EQ(h->count(stats::Counter::rx_frame), fates);
    }
  }

  PairConfig config_;
  tcp::ConnectionConfig engine;
  Host client, server;
  Instant now{1'000'000'000};

 private:
  std::unique_ptr<port::MemoryLink> link_;
};

inline ssize_t send_bytes(socket::StreamSocket& s, const void* data, size_t bytes, Instant now, int flags = 0) {
  const iovec iov{const_cast<void*>(data), bytes};
  return s.send(&iov, 1, flags, now);
}
inline ssize_t receive_bytes(socket::StreamSocket& s, void* data, size_t bytes, Instant now, int flags = 0) {
  const iovec iov{data, bytes};
  return s.receive(&iov, 1, flags, now);
}

}  // namespace tto::stack
