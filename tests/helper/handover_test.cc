// Connections handed to the kernel by ttod: bytes, states and options of the socket that comes of it, and clients that mean
// harm. The connection's near end is made by hand on an AF_XDP port; the far end is a kernel socket.
#include <gtest/gtest.h>

#include "tests/helper/by_hand.hh"

namespace ttod::testing {
namespace {

using namespace tto::wire;  // NOLINT: flags all over

constexpr uint16_t kPort = 7401;
constexpr auto kQuiet = std::chrono::milliseconds(60);

struct Kind {
  const char* name;
  int domain;  // of the near socket
  const char* near;
  const char* far;
  bool accepts;
};
constexpr Kind kKinds[] = {{"v4_connected", AF_INET, "10.91.0.1", "10.91.0.2", false},
                           {"v6_connected", AF_INET6, "fd91::1", "fd91::2", false},
                           {"v4_mapped_connected", AF_INET6, "10.91.0.1", "10.91.0.2", false},
                           {"v4_accepted", AF_INET, "10.91.0.1", "10.91.0.2", true},
                           {"v6_accepted", AF_INET6, "fd91::1", "fd91::2", true},
                           {"v4_mapped_accepted", AF_INET6, "10.91.0.1", "10.91.0.2", true}};

class Handover : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_root()) GTEST_SKIP() << "needs root, namespaces and AF_XDP";
    ASSERT_TRUE(lab_.start_daemon());
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "--- ttod\n%s\n", lab_.log().c_str());
  }
  /// Runs `with` in a client of namespace a that has an established connection to `peer`; 0 is well.
  int run(const Kind& kind, const std::function<int(ByHand&, Peer&)>& with) {
    Peer peer(lab_.b);
    Client client(lab_.a, [&] {
      PortClient c;
      if (const int failed = c.open(lab_.socket)) return failed;
      ByHand near(c);
      if (kind.accepts) {
        const int listener = bound_socket(kind.near, kPort, true);
        if (listener < 0 || !c.helper.listen(listener)) return 50;
        if (!peer.connect(kind.near, kPort)) return 51;
        if (const int failed = near.accept(kind.domain)) return failed;
      } else {
        if (!peer.listen(kind.far, kPort)) return 52;
        if (const int failed = near.connect(kind.domain, kind.near, kind.far, kPort)) return failed;
        if (!peer.accept()) return 53;
      }
      return with(near, peer);
    });
    return client.wait();
  }
  /// From the freeze to the live socket, in a state that needs nothing more.
  static bool hand_over(ByHand& near, uint32_t snd_una, uint32_t rcv_next, uint32_t flags = 0) {
    return near.begin(near.restore(snd_una, rcv_next)) == TTO_REFUSED_NONE && near.fill_queues(rcv_next) &&
           near.end(flags) == TTO_REFUSED_NONE;
  }
  Lab lab_{TTOD_BINARY};
};

/// In the calling process's namespace.
bool has_time_wait(uint16_t local_port) {
  for (const char* path : {"/proc/self/net/tcp", "/proc/self/net/tcp6"}) {
    std::ifstream table(path);
    std::string line, number, local, remote, state;
    std::getline(table, line);
    while (table >> number >> local >> remote >> state && std::getline(table, line))
      if (state == "06" && std::stoul(local.substr(local.find(':') + 1), nullptr, 16) == local_port) return true;
  }
  return false;
}

int check_options(const ByHand& near) {
  tcp_info info{};
  socklen_t bytes = sizeof info;
  getsockopt(near.placeholder, IPPROTO_TCP, TCP_INFO, &info, &bytes);
  if ((info.tcpi_options & (TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE)) !=
      (TCPI_OPT_TIMESTAMPS | TCPI_OPT_SACK | TCPI_OPT_WSCALE))
    return 20;
  if (info.tcpi_rcv_wscale != ByHand::kScale || info.tcpi_snd_wscale != near.theirs.window_scale) return 21;
  const auto option = [&](int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    getsockopt(near.placeholder, level, name, &value, &size);
    return value;
  };
  if (option(SOL_SOCKET, SO_REUSEADDR) != 1) return 22;
  constexpr int kBufLock = 72;
  if (option(SOL_SOCKET, kBufLock) != 0) return 23;
  if (option(IPPROTO_TCP, TCP_TIMESTAMP) % 2 != 0) return 24;
  const bool is_v6 = near.to_peer.source.version() == IpVersion::kV6;
  if (option(IPPROTO_TCP, TCP_MAXSEG) != (is_v6 ? 1428 : 1448)) return 25;
  return option(SOL_SOCKET, SO_ERROR) == 0 ? 0 : 26;
}

TEST_F(Handover, established__every_byte_both_ways_and_the_options_kept) {
  for (const Kind& kind : kKinds) {
    const int result = run(kind, [](ByHand& near, Peer& peer) {
      if (!peer.send(3000) || !near.receive_until(3000)) return 1;
      near.read_some(2000);
      if (!near.send_data(1000) || !near.receive_ack_of_all()) return 2;
      if (!near.send_data(1000) || !near.send_data(500)) return 3;  // whose acknowledgements are held
      if (!peer.send(5000)) return 4;
      near.hold(kQuiet);
      if (!hand_over(near, near.snd_una, near.rcv_nxt)) return 5;
      for (const std::string& packet : near.held)
        if (!near.inject(packet)) return 6;
      if (const int failed = check_options(near)) return failed;
      if (near.state() != TCP_ESTABLISHED) return 7;
      if (!near.reads(1000 + 5000)) return 8;
      if (!near.writes(100'000) || !peer.reads(1000 + 1500 + 100'000)) return 9;
      if (!peer.send(200'000) || !near.reads(200'000)) return 10;
      close(near.placeholder);
      if (near.c.helper.is_connected() && !peer.reads_end()) return 11;
      return 0;
    });
    EXPECT_EQ(result, 0) << kind.name;
    EXPECT_TRUE(becomes([&] { return lab_.entries("tto_flt") == 0; })) << kind.name;
  }
}

TEST_F(Handover, established__without_options_and_with_buffers_set_by_hand) {
  const int result = run(kKinds[0], [](ByHand& near, Peer& peer) {
    const int receive_bytes = 100'000;
    setsockopt(near.placeholder, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    if (!peer.send(100) || !near.receive_until(100)) return 1;
    if (!hand_over(near, near.snd_una, near.rcv_nxt, TTO_HANDOVER_NO_PROBE)) return 2;
    int now = 0, locks = 0;
    socklen_t bytes = sizeof now;
    getsockopt(near.placeholder, SOL_SOCKET, SO_RCVBUF, &now, &bytes);
    getsockopt(near.placeholder, SOL_SOCKET, 72, &locks, &bytes);
    if (now != 2 * receive_bytes || locks != 2) return 3;
    return near.reads(100) && near.writes(10) && peer.reads(10) ? 0 : 4;
  });
  EXPECT_EQ(result, 0);
}

TEST_F(Handover, close_wait_and_last_ack__by_the_peers_fin_injected) {
  for (const Kind& kind : kKinds) {
    const int result = run(kind, [](ByHand& near, Peer& peer) {
      if (!peer.send(300) || !peer.shut_down() || !near.receive_until(300, true)) return 1;
      const uint32_t fin = near.rcv_nxt - 1;
      if (!hand_over(near, near.snd_una, fin, TTO_HANDOVER_NO_PROBE)) return 2;
      if (!near.inject(near.from_peer(kFin | kAck, fin, near.snd_nxt))) return 3;
      if (!becomes([&] { return near.state() == TCP_CLOSE_WAIT; })) return 4;
      if (!near.reads(300) || !near.reads_end()) return 5;
      if (!near.writes(400) || !peer.reads(400)) return 6;
      if (::shutdown(near.placeholder, SHUT_WR) != 0 || !peer.reads_end()) return 7;
      return becomes([&] { return near.state() == TCP_CLOSE; }) ? 0 : 8;  // LAST_ACK, and the ACK of our FIN
    });
    EXPECT_EQ(result, 0) << kind.name;
  }
}

TEST_F(Handover, fin_wait__by_a_second_fin_on_the_wire) {
  const int result = run(kKinds[0], [&](ByHand& near, Peer& peer) {
    const uint32_t fin = near.snd_nxt;
    if (!near.send_fin() || !near.receive_ack_of_all() || !peer.reads_end()) return 1;
    if (!hand_over(near, fin, near.rcv_nxt)) return 2;
    if (::shutdown(near.placeholder, SHUT_WR) != 0) return 3;
    if (!becomes([&] { return near.state() == TCP_FIN_WAIT2; })) return 4;
    if (!peer.send(700) || !near.reads(700) || !peer.shut_down() || !near.reads_end()) return 5;
    return becomes([&] { return near.state() == TCP_CLOSE && has_time_wait(near.item.flow.local_port); }) ? 0 : 6;
  });
  EXPECT_EQ(result, 0);
}

TEST_F(Handover, fin_wait_2_and_time_wait__without_a_frame_on_the_wire) {
  for (const Kind& kind : {kKinds[0], kKinds[2], kKinds[3]}) {
    const int result = run(kind, [&](ByHand& near, Peer& peer) {
      const uint32_t fin = near.snd_nxt;
      if (!near.send_fin() || !near.receive_ack_of_all() || !peer.reads_end()) return 1;
      if (near.begin(near.restore(fin, near.rcv_nxt)) != TTO_REFUSED_NONE || !near.fill_queues(near.rcv_nxt)) return 2;
      if (!near.set_tcp(TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) || ::shutdown(near.placeholder, SHUT_WR) != 0) return 3;
      if (near.end(TTO_HANDOVER_NO_PROBE) != TTO_REFUSED_NONE || near.state() != TCP_FIN_WAIT1) return 4;
      if (!near.inject(near.from_peer(kAck, near.rcv_nxt, fin + 1))) return 5;
      if (!becomes([&] { return near.state() == TCP_FIN_WAIT2; })) return 6;
      if (!near.inject(near.from_peer(kFin | kAck, near.rcv_nxt, fin + 1))) return 7;
      return becomes([&] { return near.state() == TCP_CLOSE && has_time_wait(near.item.flow.local_port); }) ? 0 : 8;
    });
    EXPECT_EQ(result, 0) << kind.name;
  }
}

TEST_F(Handover, closing__from_both_fins_on_their_way) {
  const int result = run(kKinds[0], [&](ByHand& near, Peer& peer) {
    if (!peer.send(50) || !near.receive_until(50)) return 1;
    const uint32_t fin = near.snd_nxt++;  // ours: never sent, so that it is not acknowledged
    if (near.begin(near.restore(fin, near.rcv_nxt)) != TTO_REFUSED_NONE || !near.fill_queues(near.rcv_nxt)) return 2;
    if (!near.set_tcp(TCP_REPAIR_QUEUE, TCP_SEND_QUEUE) || ::shutdown(near.placeholder, SHUT_WR) != 0) return 3;
    if (near.end(TTO_HANDOVER_NO_PROBE) != TTO_REFUSED_NONE) return 4;
    if (!near.inject(near.from_peer(kFin | kAck, near.rcv_nxt, fin))) return 5;
    if (!becomes([&] { return near.state() == TCP_CLOSING; })) return 6;
    if (!near.reads(50) || !near.reads_end()) return 7;
    if (!near.inject(near.from_peer(kAck, near.rcv_nxt + 1, fin + 1))) return 8;
    return becomes([&] { return near.state() == TCP_CLOSE && has_time_wait(near.item.flow.local_port); }) ? 0 : 9;
  });
  EXPECT_EQ(result, 0);
}

TEST_F(Handover, many_at_once__all_live) {
  Peer peer(lab_.b);
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    if (!peer.listen("10.91.0.2", kPort)) return 1;
    constexpr size_t kCount = 100;
    std::vector<ByHand> all;
    std::vector<tto::control::HandoverRequest> requests;
    for (size_t i = 0; i < kCount; ++i) {
      all.emplace_back(c);
      if (const int failed = all[i].connect(AF_INET, "10.91.0.1", "10.91.0.2", kPort)) return failed;
      if (!peer.accept()) return 2;
      requests.push_back({all[i].item, all[i].restore(all[i].snd_una, all[i].rcv_nxt), all[i].placeholder});
    }
    std::vector<tto::control::HandoverAnswer> answers(kCount);
    if (!c.helper.handover(requests, answers)) return 3;
    std::vector<tto::control::HandoverEnd> ends;
    for (size_t i = 0; i < kCount; ++i) {
      if (answers[i].reason != TTO_REFUSED_NONE || !all[i].fill_queues(all[i].rcv_nxt)) return 4;
      ends.push_back({answers[i].handover_id, TTO_HANDOVER_NO_PROBE});
    }
    std::vector<tto_helper_refusal> results(kCount);
    if (!c.helper.handover_end(ends, results)) return 5;
    for (size_t i = 0; i < kCount; ++i)
      if (results[i] != TTO_REFUSED_NONE || all[i].state() != TCP_ESTABLISHED) return 6;
    return all.back().writes(1000) && peer.reads(1000) ? 0 : 7;
  });
  EXPECT_EQ(client.wait(), 0);
}

TEST_F(Handover, cancelled__is_in_close_and_silent_and_still_the_clients) {
  for (const Kind& kind : {kKinds[0], kKinds[3]}) {
    const int result = run(kind, [](ByHand& near, Peer& peer) {
      if (near.begin(near.restore(near.snd_una, near.rcv_nxt)) != TTO_REFUSED_NONE) return 1;
      if (near.state() != TCP_ESTABLISHED) return 2;
      if (near.end(TTO_HANDOVER_CANCEL) != TTO_REFUSED_NONE) return 3;
      if (near.state() != TCP_CLOSE) return 4;
      if (near.end() != TTO_REFUSED_NOT_OWNER) return 5;
      // The peer heard nothing, and the client goes on; later it hands over again.
      if (!near.send_data(100) || !peer.reads(100) || !near.receive_ack_of_all()) return 6;
      if (!hand_over(near, near.snd_una, near.rcv_nxt)) return 7;
      return near.writes(100) && peer.reads(100) ? 0 : 8;
    });
    EXPECT_EQ(result, 0) << kind.name;
  }
}

}  // namespace
}  // namespace ttod::testing
