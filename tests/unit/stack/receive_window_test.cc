// What a stack lets its peers send has a frame at the port (docs/decisions/0001, rule 3; DESIGN §3).
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/unit/stack/stack_pair.hh"

namespace tto::stack {
namespace {

constexpr uint32_t kFrames = 2048, kPosted = kFrames / 2;
constexpr uint32_t kLeastSegments = 4;

struct Peers {
  // So long a way that windows, not turns, decide how much is on it at once.
  explicit Peers(size_t count, uint64_t seed = 1) : pair({.frames = kFrames, .client_frames = 16384, .delay = milliseconds(1), .seed = seed, .faults = {}}) {
    socket::ListenSocket* listener = pair.listen(80, 64);
    for (size_t i = 0; i < count; ++i) {
      ends.push_back(pair.connected(static_cast<uint16_t>(40000 + i), listener));
      ends.back().server->set_receive_buffer(4u << 20);  // by itself it would hold the window back
      ends.back().client->set_send_buffer(4u << 20);
      edges.push_back(0);
    }
  }

  uint64_t edge(size_t i) const {
    const tcp::Connection& c = ends[i].server->connection();
    return c.rcv_nxt() + c.receive_window();
  }
  uint64_t windows() const {
    return std::accumulate(ends.begin(), ends.end(), uint64_t{0}, [](uint64_t sum, const StackPair::Ends& e) {
      return sum + e.server->connection().receive_window();
    });
  }
  /// Every client writes what it can, every server reads what there is; then half of the way passes.
  void step(bool reads = true) {
    for (size_t i = 0; i < ends.size(); ++i) {
      while (send_bytes(*ends[i].client, buffer, sizeof buffer, pair.now) > 0) {
      }
      for (ssize_t n = 1; reads && n > 0; received += n > 0 ? static_cast<uint64_t>(n) : 0) {
        n = receive_bytes(*ends[i].server, buffer, sizeof buffer, pair.now);
      }
    }
    pair.run_for(microseconds(500));
    for (size_t i = 0; i < ends.size(); ++i) {
      EXPECT_GE(edge(i), edges[i]) << "a right edge moved left";
      edges[i] = edge(i);
    }
  }
  uint64_t lost() {
    const port::PortFigures f = pair.server.port->figures();
    return f.rx_dropped + f.rx_ring_full + f.fill_ring_empty;
  }

  StackPair pair;
  std::vector<StackPair::Ends> ends;
  std::vector<uint64_t> edges;
  uint64_t received = 0;
  uint8_t buffer[16384] = {};
};

TEST(ReceiveWindow, R46_windows_of_many_bulk_senders__stay_below_the_posted_frames_and_nothing_is_lost) {
  Peers peers(24);
  uint64_t widest = 0;
  for (int i = 0; i < 3000 && peers.received < (48u << 20); ++i) {
    peers.step();
    widest = std::max(widest, peers.windows());
  }
  EXPECT_GE(peers.received, 48u << 20);
  // A frame holds a segment of 1448 bytes here; everyone may have a few segments beyond the sum.
  EXPECT_LE(widest, (kPosted + 24 * kLeastSegments) * 1448u);
  EXPECT_GE(widest, kPosted * 1448u / 2) << "the frames are there to be used";
  EXPECT_EQ(peers.lost(), 0u);
  peers.pair.expect_balance();
}

TEST(ReceiveWindow, R46_one_bulk_sender__may_use_nearly_all_posted_frames_and_makes_room_for_a_second) {
  Peers peers(2);
  peers.pair.run_for(milliseconds(300));
  uint64_t alone = 0;
  for (int i = 0; i < 100; ++i) {  // the second is connected and idle
    StackPair::Ends& e = peers.ends[0];
    while (send_bytes(*e.client, peers.buffer, sizeof peers.buffer, peers.pair.now) > 0) {
    }
    while (receive_bytes(*e.server, peers.buffer, sizeof peers.buffer, peers.pair.now) > 0) {
    }
    peers.pair.run_for(microseconds(500));
    alone = std::max(alone, e.server->connection().receive_window());
  }
  EXPECT_GE(alone, kPosted * 1448u * 3 / 4);
  EXPECT_LE(alone, (kPosted + kLeastSegments) * 1448u);
  for (size_t i = 0; i < 2; ++i) peers.edges[i] = peers.edge(i);
  for (int i = 0; i < 250; ++i) peers.step();
  const uint64_t first = peers.ends[0].server->connection().receive_window();
  const uint64_t second = peers.ends[1].server->connection().receive_window();
  EXPECT_GE(second * 2, first) << "the first keeps what it had";
  EXPECT_GE(first * 2, second);
  EXPECT_EQ(peers.lost(), 0u);
}

TEST(ReceiveWindow, readers_that_sleep__cost_no_more_than_the_few_segments_that_each_may_always_send) {
  Peers peers(8);
  for (int i = 0; i < 600; ++i) peers.step(false);
  EXPECT_LE(peers.lost(), 2 * 8 * kLeastSegments);
  EXPECT_GE(peers.pair.server.pool->free_count() + kPosted, kFrames / 4);
  for (int i = 0; i < 3000 && peers.received < (16u << 20); ++i) peers.step(true);
  EXPECT_GE(peers.received, 16u << 20);
  EXPECT_LE(peers.lost(), 2 * 8 * kLeastSegments);
  peers.pair.expect_balance();
}

TEST(ReceiveWindow, small_segments__count_as_the_frames_they_fill) {
  Peers peers(8);
  for (auto& e : peers.ends) e.client->connection().set_nodelay(true);
  for (int i = 0; i < 400; ++i) {
    for (auto& e : peers.ends) {
      send_bytes(*e.client, peers.buffer, 300, peers.pair.now);
      peers.pair.client.stack->push(peers.pair.now);
    }
    for (auto& e : peers.ends) receive_bytes(*e.server, peers.buffer, sizeof peers.buffer, peers.pair.now);
    peers.pair.run_for(microseconds(500));
  }
  EXPECT_EQ(peers.lost(), 0u);
  EXPECT_LE(peers.windows(), (kPosted + 8 * kLeastSegments * 2) * (1448u / 2 + 1)) << "300 of 1448 bytes to a frame";
}

}  // namespace
}  // namespace tto::stack
