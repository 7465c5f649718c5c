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

}  // namespace
}  // namespace ttod::testing
