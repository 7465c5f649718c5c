// ttod with real clients in the lab: grants, steering, the transmit check, and what comes back when clients die.
#include <gtest/gtest.h>

#include "tests/helper/port_client.hh"
#include "tests/helper/ttod_lab.hh"

namespace ttod::testing {
namespace {

using namespace tto::wire;  // NOLINT: segments all over

constexpr uint16_t kPort = 7001;

int connect_now(const char* address, uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  inet_pton(AF_INET, address, &to.sin_addr);
  const timeval limit{3, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) return fd;
  close(fd);
  return -1;
}

class Ttod : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_root()) GTEST_SKIP() << "needs root, namespaces and AF_XDP";
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "--- ttod\n%s\n", lab_.log().c_str());
  }
  Lab lab_{TTOD_BINARY};
};

/// Accepts by hand: the SYN from the ring, a SYN-ACK, the ACK, five bytes, an answer.
int serve_one(PortClient& client) {
  const auto syn = client.next_segment();
  if (!syn || syn->view.tcp.flags != kSyn || syn->view.tcp.destination_port != kPort) return 31;
  if (!client.send(PortClient::answer_to(syn->view, kSyn | kAck, 1000))) return 32;
  const auto ack = client.next_segment();
  if (!ack || ack->view.tcp.flags != kAck || ack->view.tcp.ack.raw != 1001) return 33;
  const auto data = client.next_segment();
  if (!data || data->view.payload_bytes != 5) return 34;
  if (!client.send(PortClient::answer_to(data->view, kAck | kPsh, 1001), "world")) return 35;
  return 0;
}

TEST_F(Ttod, P1_listen_grant_brings_the_syn_to_an_unprivileged_client) {
  ASSERT_TRUE(lab_.start_daemon());
  Client server(lab_.a, [&] {
    PortClient client;
    if (const int failed = client.open(lab_.socket)) return failed;
    const int placeholder = bound_socket("0.0.0.0", kPort, true);
    const auto grant = client.helper.listen(placeholder);
    if (!grant) return 50 + static_cast<int>(grant.error());
    return serve_one(client);
  });
  Client peer(lab_.b, [&] {
    if (!becomes([&] { return lab_.log().find("attached") != std::string::npos; })) return 41;
    const int fd = connect_now("10.91.0.1", kPort);
    if (fd < 0) return 42;
    if (write(fd, "hello", 5) != 5) return 43;
    char answer[8] = {};
    return read(fd, answer, sizeof answer) == 5 && std::memcmp(answer, "world", 5) == 0 ? 0 : 44;
  });
  EXPECT_EQ(peer.wait(), 0);
  EXPECT_EQ(server.wait(), 0);
  // The client is gone: nothing of it is left, and the interface is as it was.
  EXPECT_TRUE(becomes([&] { return lab_.entries("tto_flt") == 0 && lab_.entries("tto_olt") == 0; }));
  EXPECT_TRUE(becomes([&] { return !lab_.has_xdp(); }));
}

tto_helper_flow flow_to(const char* local, uint16_t local_port, const char* remote, uint16_t remote_port,
                        uint32_t ifindex) {
  tto_helper_flow flow{};
  std::memcpy(flow.local, ip(local).bytes.data(), 16);
  std::memcpy(flow.remote, ip(remote).bytes.data(), 16);
  std::memcpy(flow.next_hop, ip(remote).bytes.data(), 16);
  flow.local_port = local_port;
  flow.remote_port = remote_port;
  flow.ifindex = ifindex;
  return flow;
}

/// The grant of one flow; the reason in `refusal` otherwise.
tto_helper_grant open_one(PortClient& client, int placeholder, const tto_helper_flow& flow) {
  tto_helper_grant grant{};
  client.helper.open_flows({&flow, 1}, {&placeholder, 1}, {&grant, 1});
  return grant;
}

FrameHeaders syn_of(const PortClient& client, const tto_helper_flow& flow, const uint8_t next_hop_mac[6]) {
  FrameHeaders syn;
  std::memcpy(syn.source_mac.bytes.data(), client.description.nics[0].mac, 6);
  std::memcpy(syn.destination_mac.bytes.data(), next_hop_mac, 6);
  std::memcpy(syn.source.bytes.data(), flow.local, 16);
  std::memcpy(syn.destination.bytes.data(), flow.remote, 16);
  syn.source_port = flow.local_port;
  syn.destination_port = flow.remote_port;
  syn.seq.raw = 5000;
  syn.flags = kSyn;
  syn.window = 65535;
  return syn;
}

/// A flow's grant with its next hop's MAC, which ttod may have to resolve first.
tto_helper_grant open_resolved(PortClient& client, int placeholder, const tto_helper_flow& flow) {
  tto_helper_grant grant = open_one(client, placeholder, flow);
  const uint8_t none[6] = {};
  for (int i = 0; i < 300 && grant.grant_id != 0 && std::memcmp(grant.next_hop_mac, none, 6) == 0; ++i) {
    usleep(10'000);
    tto_helper_release_item item{};
    item.grant_id = grant.grant_id;
    client.helper.release(item);
    client.helper.flush();
    grant = open_one(client, placeholder, flow);
  }
  return grant;
}

/// Opens a flow to a kernel listener and does the handshake by hand; 0 if it came to an established connection.
int connect_by_hand(PortClient& client, const char* local, const char* remote) {
  const int placeholder = bound_socket(local, 0, false);
  sockaddr_storage name{};
  socklen_t bytes = sizeof name;
  getsockname(placeholder, reinterpret_cast<sockaddr*>(&name), &bytes);
  const uint16_t port = ntohs(reinterpret_cast<sockaddr_in&>(name).sin_port);  // at the same place in sockaddr_in6
  const tto_helper_flow flow = flow_to(local, port, remote, kPort, client.description.nics[0].ifindex);
  const tto_helper_grant grant = open_resolved(client, placeholder, flow);
  if (grant.grant_id == 0) return 70 + static_cast<int>(grant.reason);
  if (!client.send(syn_of(client, flow, grant.next_hop_mac))) return 61;
  const auto syn_ack = client.next_segment();
  if (!syn_ack || syn_ack->view.tcp.flags != (kSyn | kAck)) return 62;
  if (!client.send(PortClient::answer_to(syn_ack->view, kAck, 5001))) return 63;
  return 0;
}

TEST_F(Ttod, L5_flow_grant_reaches_a_kernel_listener_v4_and_v6) {
  ASSERT_TRUE(lab_.start_daemon());
  Client peer(lab_.b, [] {
    const int v4 = bound_socket("10.91.0.2", kPort, true);
    const int v6 = bound_socket("fd91::2", kPort, true);
    const timeval limit{10, 0};
    setsockopt(v4, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(v6, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return accept(v4, nullptr, nullptr) >= 0 && accept(v6, nullptr, nullptr) >= 0 ? 0 : 1;
  });
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    if (const int failed = connect_by_hand(c, "10.91.0.1", "10.91.0.2")) return failed;
    return connect_by_hand(c, "fd91::1", "fd91::2");
  });
  EXPECT_EQ(client.wait(), 0);
  EXPECT_EQ(peer.wait(), 0);
}

TEST_F(Ttod, P1_flow_that_is_not_the_clients__is_refused) {
  ASSERT_TRUE(lab_.start_daemon());
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    const uint32_t nic = c.description.nics[0].ifindex;
    const int bound = bound_socket("10.91.0.1", 7010, false);
    const auto reason = [&](int fd, const tto_helper_flow& flow) { return open_one(c, fd, flow).reason; };
    if (reason(bound, flow_to("10.91.0.1", 7011, "10.91.0.2", 80, nic)) != TTO_REFUSED_BAD_SOCKET) return 1;
    if (reason(bound, flow_to("10.91.0.9", 7010, "10.91.0.2", 80, nic)) != TTO_REFUSED_BAD_SOCKET) return 2;
    if (reason(bound, flow_to("10.91.0.1", 7010, "10.91.0.2", 80, 99)) != TTO_REFUSED_NO_NIC) return 3;
    const int unbound = socket(AF_INET, SOCK_STREAM, 0);
    if (reason(unbound, flow_to("10.91.0.1", 7010, "10.91.0.2", 80, nic)) != TTO_REFUSED_BAD_SOCKET) return 4;
    const int datagram = socket(AF_INET, SOCK_DGRAM, 0);
    if (reason(datagram, flow_to("10.91.0.1", 7010, "10.91.0.2", 80, nic)) != TTO_REFUSED_BAD_SOCKET) return 5;
    const int listener = bound_socket("10.91.0.1", 7012, true);
    if (reason(listener, flow_to("10.91.0.1", 7012, "10.91.0.2", 80, nic)) != TTO_REFUSED_BAD_SOCKET) return 6;
    if (reason(0, flow_to("10.91.0.1", 7010, "10.91.0.2", 80, nic)) != TTO_REFUSED_BAD_SOCKET) return 7;
    // Somebody has it already.
    if (reason(bound, flow_to("10.91.0.1", 7010, "10.91.0.2", 80, nic)) != TTO_REFUSED_NONE) return 8;
    if (reason(bound, flow_to("10.91.0.1", 7010, "10.91.0.2", 80, nic)) != TTO_REFUSED_IN_USE) return 9;
    return 0;
  });
  EXPECT_EQ(client.wait(), 0);
}

TEST_F(Ttod, P1_tuple_of_a_kernel_connection__is_refused) {
  ASSERT_TRUE(lab_.start_daemon());
  Client peer(lab_.b, [] {
    const int listener = bound_socket("10.91.0.2", kPort, true);
    const int taken = accept(listener, nullptr, nullptr);
    char byte = 0;
    return read(taken, &byte, 1) == 0 ? 0 : 1;
  });
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    int kernel = -1;
    becomes([&] { return (kernel = connect_now("10.91.0.2", kPort)) >= 0; });
    sockaddr_in name{};
    socklen_t bytes = sizeof name;
    const int on = 1;
    setsockopt(kernel, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    getsockname(kernel, reinterpret_cast<sockaddr*>(&name), &bytes);
    const uint16_t port = ntohs(name.sin_port);
    const int same_port = bound_socket("10.91.0.1", port, false);
    if (same_port < 0) return 3;
    const uint32_t nic = c.description.nics[0].ifindex;
    if (open_one(c, same_port, flow_to("10.91.0.1", port, "10.91.0.2", kPort, nic)).reason != TTO_REFUSED_IN_USE)
      return 1;
    return open_one(c, same_port, flow_to("10.91.0.1", port, "10.91.0.2", kPort + 1, nic)).grant_id != 0 ? 0 : 2;
  });
  EXPECT_EQ(client.wait(), 0);
  EXPECT_EQ(peer.wait(), 0);
}

/// Leases; the reason if that is refused.
tto_helper_refusal lease_of(PortClient& client, const char* local, const char* remote, uint16_t remote_port,
                            std::vector<tto_helper_leased_tuple>& out, size_t count, MacAddress* mac = nullptr) {
  const tto_helper_flow flow = flow_to(local, 0, remote, remote_port, client.description.nics[0].ifindex);
  tto_helper_lease wish{};
  wish.slot = client.description.slot;
  wish.count = static_cast<uint32_t>(count);
  std::memcpy(wish.local, flow.local, 16);
  std::memcpy(wish.remote, flow.remote, 16);
  std::memcpy(wish.next_hop, flow.next_hop, 16);
  wish.remote_port = remote_port;
  wish.ifindex = flow.ifindex;
  out.resize(count);
  MacAddress ignored;
  const auto leased = client.helper.lease(wish, out, mac != nullptr ? *mac : ignored);
  out.resize(leased ? *leased : 0);
  return leased ? TTO_REFUSED_NONE : leased.error();
}

TEST_F(Ttod, B5_leased_tuple__its_port_is_nobody_elses_and_it_reaches_a_kernel_listener) {
  ASSERT_TRUE(lab_.start_daemon());
  Client peer(lab_.b, [] {
    const int listener = bound_socket("10.91.0.2", kPort, true);
    const timeval limit{10, 0};
    setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return accept(listener, nullptr, nullptr) >= 0 ? 0 : 1;
  });
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    std::vector<tto_helper_leased_tuple> tuples;
    MacAddress mac;
    const auto lease = [&] { return lease_of(c, "10.91.0.1", "10.91.0.2", kPort, tuples, 3, &mac) == TTO_REFUSED_NONE; };
    if (!becomes([&] { return lease() && !(mac == MacAddress{}); })) return 30;
    if (tuples.size() != 3) return 31;
    for (const auto& tuple : tuples) {
      const int taken = bound_socket("10.91.0.1", tuple.local_port, false);
      if (taken >= 0) return 32;
    }
    const tto_helper_flow flow =
        flow_to("10.91.0.1", tuples[1].local_port, "10.91.0.2", kPort, c.description.nics[0].ifindex);
    if (!c.send(syn_of(c, flow, mac.bytes.data()))) return 33;
    const auto syn_ack = c.next_segment();
    if (!syn_ack || syn_ack->view.tcp.flags != (kSyn | kAck)) return 34;
    if (!c.send(PortClient::answer_to(syn_ack->view, kAck, 5001))) return 35;
    // Released, the port is anybody's at once, and frames of it leave no more.
    tto_helper_release_item item{};
    item.grant_id = tuples[1].grant_id;
    if (!c.helper.release_now(item)) return 36;
    const int taken = bound_socket("10.91.0.1", tuples[1].local_port, false);
    return taken >= 0 ? 0 : 37;
  });
  EXPECT_EQ(client.wait(), 0);
  EXPECT_EQ(peer.wait(), 0);
}

TEST_F(Ttod, leases__are_counted_refused_and_given_back) {
  ASSERT_TRUE(lab_.start_daemon("[limits]\nleases_per_user = 200\nflows_per_process = 150\n"
                                "[[rule]]\naction = \"refuse\"\nremote_ports = [81]\n"));
  Client holder(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    std::vector<tto_helper_leased_tuple> tuples;
    const auto reason = [&](uint16_t port, size_t count, const char* local = "10.91.0.1") {
      return lease_of(c, local, "10.91.0.2", port, tuples, count);
    };
    if (reason(81, 4) != TTO_REFUSED_POLICY) return 30;
    if (reason(80, 4, "10.91.0.9") != TTO_REFUSED_NO_NIC) return 31;
    if (reason(80, 4, "fd91::1") != TTO_REFUSED_BAD_SOCKET) return 32;
    if (reason(0, 4) != TTO_REFUSED_BAD_SOCKET) return 33;
    const uint32_t slot = c.description.slot;
    c.description.slot = slot + 1;
    if (reason(80, 4) != TTO_REFUSED_BAD_SOCKET) return 34;
    c.description.slot = slot;
    if (reason(80, 128) != TTO_REFUSED_NONE || tuples.size() != 128) return 35;
    if (reason(80, 128) != TTO_REFUSED_NONE || tuples.size() != 22) return 36;  // flows_per_process
    if (reason(80, 128) != TTO_REFUSED_LIMIT) return 37;
    pause();
    return 0;
  });
  ASSERT_TRUE(becomes([&] { return lab_.entries("tto_flt") == 150; }));
  Client other(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    std::vector<tto_helper_leased_tuple> tuples;
    const auto reason = [&](size_t count) { return lease_of(c, "10.91.0.1", "10.91.0.2", 80, tuples, count); };
    if (reason(128) != TTO_REFUSED_NONE || tuples.size() != 50) return 40;  // leases_per_user
    tto_helper_release_item item{};
    item.grant_id = 1;
    const uint64_t own = tuples[0].grant_id;
    for (; item.grant_id < own; ++item.grant_id) c.helper.release(item);  // of the other session: they stay
    c.helper.flush();
    if (reason(1) != TTO_REFUSED_LIMIT) return 41;
    item.grant_id = own;
    c.helper.release(item);
    c.helper.flush();
    return reason(2) == TTO_REFUSED_NONE && tuples.size() == 1 ? 0 : 42;
  });
  EXPECT_EQ(other.wait(), 0);
  holder.end(SIGKILL);
  // The clients are gone: so are entries, and the sockets that reserved the ports.
  EXPECT_TRUE(becomes([&] { return lab_.entries("tto_flt") == 0; }));
  EXPECT_TRUE(becomes([&] { return std::stoi(output_of("ls /proc/" + std::to_string(lab_.daemon) + "/fd | wc -l")) < 150; }));
}

TEST_F(Ttod, P1_tuple_of_a_kernel_connection_bound_to_the_device__is_refused) {
  ASSERT_TRUE(lab_.start_daemon());
  Client peer(lab_.b, [] {
    const int listener = bound_socket("10.91.0.2", kPort, true);
    const int taken = accept(listener, nullptr, nullptr);
    char byte = 0;
    return read(taken, &byte, 1) == 0 ? 0 : 1;
  });
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    sockaddr_in to{}, name{};
    to.sin_family = AF_INET;
    to.sin_port = htons(kPort);
    inet_pton(AF_INET, "10.91.0.2", &to.sin_addr);
    int kernel = -1;
    const int on = 1;
    const bool is_connected = becomes([&] {
      if (kernel >= 0) close(kernel);
      kernel = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      setsockopt(kernel, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      return setsockopt(kernel, SOL_SOCKET, SO_BINDTODEVICE, "nic0", 5) == 0 &&
             connect(kernel, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
    });
    if (!is_connected) return 1;
    socklen_t bytes = sizeof name;
    getsockname(kernel, reinterpret_cast<sockaddr*>(&name), &bytes);
    const uint16_t port = ntohs(name.sin_port);
    const int same_port = bound_socket("10.91.0.1", port, false);
    if (same_port < 0) return 2;
    const uint32_t nic = c.description.nics[0].ifindex;
    const tto_helper_grant grant = open_one(c, same_port, flow_to("10.91.0.1", port, "10.91.0.2", kPort, nic));
    return grant.reason == TTO_REFUSED_IN_USE ? 0 : 3;
  });
  EXPECT_EQ(client.wait(), 0);
  EXPECT_EQ(peer.wait(), 0);
}

TEST_F(Ttod, P1_limits__count_a_process_and_not_its_sessions) {
  ASSERT_TRUE(lab_.start_daemon("[limits]\nlistens_per_process = 1\nflows_per_process = 1\n"));
  Client client(lab_.a, [&] {
    PortClient first, second;
    if (const int failed = first.open(lab_.socket)) return failed;
    if (const int failed = second.open(lab_.socket)) return failed;
    if (!first.helper.listen(bound_socket("10.91.0.1", 7050, true))) return 1;
    const auto other = second.helper.listen(bound_socket("10.91.0.1", 7051, true));
    if (other || other.error() != TTO_REFUSED_LIMIT) return 2;
    const uint32_t nic = first.description.nics[0].ifindex;
    const tto_helper_flow flow = flow_to("10.91.0.1", 7052, "10.91.0.2", 80, nic);
    const tto_helper_flow next = flow_to("10.91.0.1", 7053, "10.91.0.2", 80, nic);
    if (open_one(first, bound_socket("10.91.0.1", 7052, false), flow).grant_id == 0) return 3;
    return open_one(second, bound_socket("10.91.0.1", 7053, false), next).reason == TTO_REFUSED_LIMIT ? 0 : 4;
  });
  EXPECT_EQ(client.wait(), 0);
}

TEST_F(Ttod, D12_frames_of_others__do_not_leave) {
  ASSERT_TRUE(lab_.start_daemon());
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    const int bound = bound_socket("10.91.0.1", 7020, false);
    const uint32_t nic = c.description.nics[0].ifindex;
    const tto_helper_flow flow = flow_to("10.91.0.1", 7020, "10.91.0.2", 9, nic);
    const tto_helper_grant grant = open_resolved(c, bound, flow);
    if (grant.grant_id == 0) return 1;
    const FrameHeaders good = syn_of(c, flow, grant.next_hop_mac);
    const auto is_answered = [&](const FrameHeaders& headers) {
      if (!c.send(headers)) return true;
      return c.next_segment(std::chrono::milliseconds(60)).has_value();
    };
    FrameHeaders bad = good;
    bad.source_port = 7021;
    if (is_answered(bad)) return 2;
    bad = good;
    bad.source = ip("10.91.0.77");
    if (is_answered(bad)) return 3;
    bad = good;
    bad.source_mac.bytes[5] ^= 1;
    if (is_answered(bad)) return 4;
    bad = good;
    bad.destination_mac.bytes[5] ^= 1;
    if (is_answered(bad)) return 5;
    bad = good;
    bad.destination_port = 10;
    if (is_answered(bad)) return 6;
    bad = good;
    bad.vlan = 7;
    if (is_answered(bad)) return 7;
    return is_answered(good) ? 0 : 8;  // RST of the closed port
  });
  EXPECT_EQ(client.wait(), 0);
}

TEST_F(Ttod, P4_killed_client_returns_its_leases) {
  ASSERT_TRUE(lab_.start_daemon("[xdp]\ndetach_after_ms = 0\n"));
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    const int listener = bound_socket("0.0.0.0", kPort, true);
    const int bound = bound_socket("10.91.0.1", 7030, false);
    if (!c.helper.listen(listener)) return 1;
    if (open_one(c, bound, flow_to("10.91.0.1", 7030, "10.91.0.2", 80, c.description.nics[0].ifindex)).grant_id == 0)
      return 2;
    pause();
    return 3;
  });
  ASSERT_TRUE(becomes([&] { return lab_.entries("tto_flt") == 1 && lab_.entries("tto_olt") == 1; }));
  EXPECT_TRUE(lab_.has_xdp());
  client.end(SIGKILL);
  EXPECT_TRUE(becomes([&] { return lab_.entries("tto_flt") == 0 && lab_.entries("tto_olt") == 0; }));
  EXPECT_TRUE(becomes([&] { return !lab_.has_xdp(); }));
  // Also its port number: the address can be listened on again, by the kernel alone.
  Client next(lab_.a, [] { return bound_socket("0.0.0.0", kPort, true) >= 0 ? 0 : 1; });
  EXPECT_EQ(next.wait(), 0);
}

TEST_F(Ttod, P4_many_clients_one_after_another__reuse_few_ports) {
  ASSERT_TRUE(lab_.start_daemon("[port]\nslots = 4\npool = 1\nframes = 512\n"));
  for (int i = 0; i < 24; ++i) {
    Client client(lab_.a, [&] {
      PortClient c;
      if (const int failed = c.open(lab_.socket, 256)) return failed;
      const int bound = bound_socket("10.91.0.1", 7040, false);
      return open_one(c, bound, flow_to("10.91.0.1", 7040, "10.91.0.2", 80, c.description.nics[0].ifindex)).grant_id !=
                     0
                 ? 0
                 : 1;
    });
    ASSERT_EQ(client.wait(), 0) << "client " << i;
    ASSERT_TRUE(becomes([&] { return lab_.entries("tto_flt") == 0; }));
  }
}

TEST_F(Ttod, addresses_that_come_and_go__are_followed_by_wildcard_listeners) {
  ASSERT_TRUE(lab_.start_daemon());
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    if (!c.helper.listen(bound_socket("0.0.0.0", kPort, true))) return 1;
    pause();
    return 2;
  });
  ASSERT_TRUE(becomes([&] { return lab_.entries("tto_olt") == 1; }));
  sh("ip -n " + lab_.a + " addr add 10.92.0.1/24 dev nic0");
  EXPECT_TRUE(becomes([&] { return lab_.entries("tto_olt") == 2; }));
  sh("ip -n " + lab_.a + " addr del 10.91.0.1/24 dev nic0");
  EXPECT_TRUE(becomes([&] { return lab_.entries("tto_olt") == 1; }));
}

TEST_F(Ttod, refusals__filters_foreign_programs_limits_and_sharing) {
  ASSERT_TRUE(lab_.start_daemon("[limits]\nports_per_process = 1\n[xdp]\ndetach_after_ms = 0\n"));
  const auto listen_reason = [&] {
    Client client(lab_.a, [&] {
      PortClient c;
      if (const int failed = c.open(lab_.socket)) return failed;
      const auto grant = c.helper.listen(bound_socket("0.0.0.0", kPort, true));
      return grant ? 200 : static_cast<int>(grant.error());
    });
    return client.wait();
  };
  sh("ip netns exec " + lab_.a + " tc qdisc add dev nic0 clsact");
  EXPECT_EQ(listen_reason(), 200) << "a queue without filters is no filter";
  ASSERT_TRUE(becomes([&] { return !lab_.has_xdp(); }));
  sh("ip netns exec " + lab_.a +
     " tc filter add dev nic0 ingress protocol ip u32 match ip dport 80 0xffff classid 1:1");
  // ttod remembers what it found for a moment.
  EXPECT_TRUE(becomes([&] { return listen_reason() == TTO_REFUSED_FILTERED; }));
  sh("ip netns exec " + lab_.a + " tc qdisc del dev nic0 clsact");
  EXPECT_TRUE(becomes([&] { return listen_reason() == 200; }));
  if (sh("ip netns exec " + lab_.a +
         " nft 'add table inet t; add chain inet t c { type filter hook input priority 0 ; "
         "policy drop ; }'")) {
    EXPECT_TRUE(becomes([&] { return listen_reason() == TTO_REFUSED_FILTERED; }));
    sh("ip netns exec " + lab_.a + " nft delete table inet t");
  }
  EXPECT_TRUE(becomes([&] { return listen_reason() == 200; }));
  ASSERT_TRUE(becomes([&] { return !lab_.has_xdp(); }));

  Client both(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    PortClient second;
    if (second.open(lab_.socket) != 20 + TTO_REFUSED_LIMIT) return 1;
    const int loopback = bound_socket("127.0.0.1", kPort, true);
    const auto grant = c.helper.listen(loopback);
    return !grant && grant.error() == TTO_REFUSED_NO_NIC ? 0 : 2;
  });
  EXPECT_EQ(both.wait(), 0);
}

TEST_F(Ttod, killed_daemon__connections_go_on_and_the_next_one_cleans_up) {
  ASSERT_TRUE(lab_.start_daemon());
  Client server(lab_.a, [&] {
    PortClient client;
    if (const int failed = client.open(lab_.socket)) return failed;
    if (!client.helper.listen(bound_socket("10.91.0.1", kPort, true))) return 30;
    if (const int failed = serve_one(client)) return failed;
    for (;;) {  // an echo, for as long as the peer speaks
      const auto data = client.next_segment(std::chrono::seconds(20));
      if (!data) return 36;
      if ((data->view.tcp.flags & kFin) != 0) return 0;
      if (data->view.payload_bytes == 0) continue;
      if (!client.send(PortClient::answer_to(data->view, kAck | kPsh, data->view.tcp.ack.raw), "echo")) return 37;
    }
  });
  ASSERT_TRUE(becomes([&] { return lab_.entries("tto_olt") == 1; }));
  int ready[2], go[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(go), 0);
  Client peer(lab_.b, [&] {
    const int fd = connect_now("10.91.0.1", kPort);
    char answer[8];
    if (fd < 0 || write(fd, "hello", 5) != 5 || read(fd, answer, sizeof answer) != 5) return 41;
    for (int round = 0; round < 3; ++round) {
      char byte = 'r';
      if (write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1) return 42;
      if (write(fd, "ping", 4) != 4 || read(fd, answer, sizeof answer) != 4) return 43 + round;
    }
    return 0;
  });
  close(ready[1]);  // so that the end of the peer shows
  close(go[0]);
  const auto one_round = [&] {
    char byte = 0;
    EXPECT_EQ(write(go[1], &byte, 1), 1);
  };
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  lab_.stop_daemon(SIGKILL);
  one_round();
  ASSERT_EQ(read(ready[0], &byte, 1), 1) << "no answer without ttod";
  unlink(lab_.socket.c_str());
  ASSERT_TRUE(lab_.start_daemon("[xdp]\ndetach_after_ms = 0\n"));
  one_round();
  ASSERT_EQ(read(ready[0], &byte, 1), 1) << "no answer beside the next ttod";
  EXPECT_EQ(lab_.entries("tto_flt"), 1u);
  lab_.stop_daemon(SIGTERM);
  one_round();
  EXPECT_EQ(peer.wait(), 0) << "no answer after the next ttod";
  EXPECT_EQ(server.wait(), 0);
  ASSERT_TRUE(lab_.start_daemon("[xdp]\ndetach_after_ms = 0\n"));
  EXPECT_TRUE(becomes([&] { return lab_.entries("tto_flt") == 0 && !lab_.has_xdp(); }));
}

TEST_F(Ttod, end__leaves_nothing) {
  ASSERT_TRUE(lab_.start_daemon());
  ASSERT_TRUE(becomes([&] { return access(lab_.pin_dir.c_str(), F_OK) == 0; }));
  lab_.stop_daemon(SIGTERM);
  EXPECT_NE(access(lab_.pin_dir.c_str(), F_OK), 0);
  EXPECT_NE(access(lab_.socket.c_str(), F_OK), 0);
}

TEST_F(Ttod, malformed_message__ends_that_session_only) {
  ASSERT_TRUE(lab_.start_daemon());
  Client client(lab_.a, [&] {
    PortClient good, bad;
    if (const int failed = good.open(lab_.socket)) return failed;
    if (bad.helper.connect(lab_.socket.c_str()) != 0) return 1;
    if (send(bad.helper.fd(), "nonsense", 8, 0) != 8) return 2;
    const bool is_ended = becomes([&] {
      tto_helper_event event;
      bad.helper.poll_event(event);
      return !bad.helper.is_connected();
    });
    if (!is_ended) return 3;
    return good.helper.listen(bound_socket("0.0.0.0", kPort, true)) ? 0 : 4;
  });
  EXPECT_EQ(client.wait(), 0);
  EXPECT_NE(lab_.log().find("malformed message: no header"), std::string::npos);
}

}  // namespace
}  // namespace ttod::testing
