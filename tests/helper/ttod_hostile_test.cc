// ttod against clients that mean harm: what they send, what they leave behind, and what their frames pretend.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "tests/helper/port_client.hh"
#include "tests/helper/ttod_lab.hh"

namespace ttod::testing {
namespace {

using namespace tto::wire;  // NOLINT: segments all over

class Hostile : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_root()) GTEST_SKIP() << "needs root, namespaces and AF_XDP";
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "--- ttod\n%s\n", lab_.log().c_str());
  }
  Lab lab_{TTOD_BINARY};
};

sockaddr_in v4_name(const char* address, uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  inet_pton(AF_INET, address, &name.sin_addr);
  return name;
}

/// A bound socket that others may share the port with, as long as nobody listens.
int reusable_socket(const char* address, uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in name = v4_name(address, port);
  return bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0 ? fd : -1;
}

/// [::]:port for IPv6 only: says nothing about who has the port in IPv4.
int v6_only_socket(uint16_t port) {
  const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  sockaddr_in6 name{};
  name.sin6_family = AF_INET6;
  name.sin6_port = htons(port);
  return bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0 ? fd : -1;
}

tto_helper_grant open_one(PortClient& c, int placeholder, const char* local, uint16_t port) {
  tto_helper_flow flow{};
  std::memcpy(flow.local, ip(local).bytes.data(), 16);
  std::memcpy(flow.remote, ip("10.91.0.2").bytes.data(), 16);
  std::memcpy(flow.next_hop, flow.remote, 16);
  flow.local_port = port;
  flow.remote_port = 9;
  flow.ifindex = c.description.nics[0].ifindex;
  tto_helper_grant grant{};
  grant.reason = TTO_REFUSED_MALFORMED;
  const auto answer = c.helper.open_flows({&flow, 1}, {&placeholder, 1}, {&grant, 1});
  (void)answer;
  return grant;
}

TEST_F(Hostile, P1_flow__port_of_the_other_family_or_of_another_device_is_refused) {
  ASSERT_TRUE(lab_.start_daemon());
  Client client(lab_.a, [&] {
    const int others = bound_socket("0.0.0.0", 7301, true);
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    const int v6_only = v6_only_socket(7301);
    if (others < 0 || v6_only < 0) return 1;
    if (open_one(c, v6_only, "10.91.0.1", 7301).reason != TTO_REFUSED_BAD_SOCKET) return 2;

    const int on_loopback = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (setsockopt(on_loopback, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) != 0) return 3;
    const sockaddr_in name = v4_name("0.0.0.0", 7302);
    if (bind(on_loopback, reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) return 4;
    return open_one(c, on_loopback, "10.91.0.1", 7302).reason == TTO_REFUSED_BAD_SOCKET ? 0 : 5;
  });
  EXPECT_EQ(client.wait(), 0);
  EXPECT_EQ(lab_.entries("tto_flt"), 0u);
}

TEST_F(Hostile, P1_listen__needs_a_socket_that_listens_and_goes_on_listening) {
  ASSERT_TRUE(lab_.start_daemon());
  Gate has_entry, is_checked;
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    // Bound with SO_REUSEADDR it does not keep others from listening there.
    const int bound = reusable_socket("10.91.0.1", 7303);
    const int others = reusable_socket("10.91.0.1", 7303);
    if (bound < 0 || others < 0 || listen(others, 1) != 0) return 1;
    const auto refused = c.helper.listen(bound);
    if (refused || refused.error() != TTO_REFUSED_BAD_SOCKET) return 2;

    const int listener = reusable_socket("10.91.0.1", 7304);
    if (listen(listener, 1) != 0 || !c.helper.listen(listener)) return 3;
    if (!has_entry.wait()) return 6;
    if (shutdown(listener, SHUT_RD) != 0) return 4;  // still bound, but the next one may listen
    const int next = reusable_socket("10.91.0.1", 7304);
    if (next < 0 || listen(next, 1) != 0) return 5;
    return is_checked.wait() ? 0 : 7;
  });
  EXPECT_TRUE(becomes([&] { return lab_.entries("tto_olt") == 1; }));
  has_entry.open();
  EXPECT_TRUE(becomes([&] { return lab_.entries("tto_olt") == 0; }, std::chrono::seconds(2)));
  is_checked.open();
  EXPECT_EQ(client.wait(), 0);
}

TEST_F(Hostile, P1_flow__goes_when_its_port_is_given_up) {
  ASSERT_TRUE(lab_.start_daemon());
  Gate has_entry, is_checked;
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    const int fd = bound_socket("10.91.0.1", 0, false);  // chosen by the kernel: a refused connect() gives it back
    sockaddr_in name{};
    socklen_t bytes = sizeof name;
    getsockname(fd, reinterpret_cast<sockaddr*>(&name), &bytes);
    if (open_one(c, fd, "10.91.0.1", ntohs(name.sin_port)).grant_id == 0) return 1;
    if (!has_entry.wait()) return 5;
    const sockaddr_in nobody = v4_name("10.91.0.1", 1);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&nobody), sizeof nobody) == 0) return 2;
    const int next = bound_socket("10.91.0.1", ntohs(name.sin_port), true);
    if (next < 0) return 3;
    if (open_one(c, fd, "10.91.0.1", ntohs(name.sin_port)).reason != TTO_REFUSED_BAD_SOCKET) return 4;
    return is_checked.wait() ? 0 : 6;
  });
  EXPECT_TRUE(becomes([&] { return lab_.entries("tto_flt") == 1; }));
  has_entry.open();
  EXPECT_TRUE(becomes([&] { return lab_.entries("tto_flt") == 0; }, std::chrono::seconds(3)));
  is_checked.open();
  EXPECT_EQ(client.wait(), 0);
}

TEST_F(Hostile, D12_listener__answers_only_who_spoke_first) {
  ASSERT_TRUE(lab_.start_daemon());
  const std::string mac = output_of("ip netns exec " + lab_.b + " cat /sys/class/net/nic0/address").substr(0, 17);
  ASSERT_TRUE(sh("ip -n " + lab_.a + " neigh replace 10.91.0.2 lladdr " + mac + " dev nic0 nud permanent"));
  Client client(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    const int listener = bound_socket("10.91.0.1", 7305, true);
    if (!c.helper.listen(listener)) return 1;
    FrameHeaders forged;
    std::memcpy(forged.source_mac.bytes.data(), c.description.nics[0].mac, 6);
    std::array<unsigned, 6> m{};
    if (std::sscanf(mac.c_str(), "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]) != 6) return 2;
    for (size_t i = 0; i < 6; ++i) forged.destination_mac.bytes[i] = static_cast<uint8_t>(m[i]);
    forged.source = ip("10.91.0.1");
    forged.destination = ip("10.91.0.2");
    forged.source_port = 7305;
    forged.destination_port = 4444;
    forged.window = 1;
    for (const uint8_t flags : {uint8_t{kSyn | kAck}, uint8_t{kRst}, uint8_t{kRst | kAck}}) {
      forged.flags = flags;
      if (!c.send(forged)) return 3;
    }
    // A SYN-ACK that had left would be answered with RST.
    return c.next_segment(std::chrono::milliseconds(300)) ? 4 : 0;
  });
  size_t most = 0;
  EXPECT_FALSE(
      becomes([&] { return (most = std::max(most, lab_.entries("tto_flt"))) > 0; }, std::chrono::milliseconds(800)));
  EXPECT_EQ(client.wait(), 0);
}

/// One HELLO by hand; true if it is answered in time.
bool is_served(const std::string& path, std::chrono::milliseconds limit) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  const timeval wait{limit.count() / 1000, (limit.count() % 1000) * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
  tto_helper_hello hello{};
  hello.header = {TTO_HELPER_MAGIC, TTO_HELPER_HELLO, 0, 1, sizeof hello};
  hello.version = TTO_HELPER_VERSION;
  tto_helper_welcome welcome{};
  const bool served = connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0 &&
                      write(fd, &hello, sizeof hello) == sizeof hello && read(fd, &welcome, sizeof welcome) > 0;
  close(fd);
  return served;
}

/// A session that has said HELLO; its descriptor.
int open_session(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  if (connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) return -1;
  tto_helper_hello hello{};
  hello.header = {TTO_HELPER_MAGIC, TTO_HELPER_HELLO, 0, 1, sizeof hello};
  hello.version = TTO_HELPER_VERSION;
  if (write(fd, &hello, sizeof hello) != sizeof hello) return -1;
  return fd;
}

/// Sends an OPEN_PORT with `passed` in a session of its own.
int send_descriptor(const std::string& path, int passed) {
  const int fd = open_session(path);
  tto_helper_open_port wish{};
  wish.header = {TTO_HELPER_MAGIC, TTO_HELPER_OPEN_PORT, 0, 2, sizeof wish};
  iovec piece{&wish, sizeof wish};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&message);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(c), &passed, sizeof passed);
  return sendmsg(fd, &message, 0) == sizeof wish ? fd : -1;
}

TEST_F(Hostile, P1_socket_that_lingers__delays_nobody) {
  ASSERT_TRUE(lab_.start_daemon());
  Gate has_sent, is_closing, has_rebound;
  kill(lab_.daemon, SIGSTOP);  // so that its close is the last for sure
  Client client(lab_.a, [&] {
    const int listener = bound_socket("127.0.0.1", 7306, true);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sockaddr_in to = v4_name("127.0.0.1", 7306);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) return 1;
    std::string much(1 << 20, 'x');
    while (::send(fd, much.data(), much.size(), MSG_DONTWAIT) > 0) continue;  // nobody reads
    const linger long_time{1, 30};
    if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &long_time, sizeof long_time) != 0) return 2;
    if (send_descriptor(lab_.socket, fd) < 0) return 3;
    close(fd);
    has_sent.open();
    if (!is_closing.wait()) return 4;
    // Nor does it delay that a port of another session becomes free: while it lingers, one is bound 50 times.
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    for (int round = 0; round < 50; ++round) {
      const int again = bound_socket("10.91.0.1", 7307, true);
      if (again < 0) return 5;
      const auto grant = c.helper.listen(again);
      if (!grant) return 6;
      close(again);
      tto_helper_release_item item{};
      item.grant_id = grant->grant_id;
      if (!c.helper.release_now(item) || !c.helper.is_connected()) return 7;
    }
    has_rebound.open();
    pause();  // the listener stays: closing it would end the lingering
    return listener;
  });
  ASSERT_TRUE(has_sent.wait());
  kill(lab_.daemon, SIGCONT);
  // From here on ttod has nothing to do with the socket but to close it.
  ASSERT_TRUE(becomes([&] { return lab_.log().find("frames)") != std::string::npos; }));
  EXPECT_TRUE(is_served(lab_.socket, std::chrono::seconds(2)));
  is_closing.open();
  const bool is_free = has_rebound.wait();
  EXPECT_TRUE(is_free);
  if (is_free) {
    client.end(SIGKILL);
  } else {
    EXPECT_EQ(client.wait(), 0);
  }
}

TEST_F(Hostile, P1_out_of_descriptors__the_daemon_lives_and_serves_again) {
  ASSERT_TRUE(lab_.start_daemon("[limits]\nsessions_per_user = 1000\nsessions_per_process = 1000\n"));
  ASSERT_TRUE(is_served(lab_.socket, std::chrono::seconds(5)));
  // A session takes two descriptors: with one of these limits there is none left at all.
  for (const rlim_t limit : {64u, 65u}) {
    const rlimit few{limit, 65};
    ASSERT_EQ(prlimit(lab_.daemon, RLIMIT_NOFILE, &few, nullptr), 0);
    Gate are_refused;
    Client client(lab_.a, [&] {
      std::vector<int> sessions;
      for (int i = 0; i < 100; ++i) sessions.push_back(open_session(lab_.socket));
      return are_refused.wait() ? 0 : 1;
    });
    EXPECT_TRUE(becomes([&] { return lab_.log().find("turned away") != std::string::npos; }));
    are_refused.open();
    EXPECT_EQ(client.wait(), 0);
    EXPECT_TRUE(becomes([&] { return is_served(lab_.socket, std::chrono::seconds(1)); }));
  }
  EXPECT_EQ(waitpid(lab_.daemon, nullptr, WNOHANG), 0);
}

}  // namespace
}  // namespace ttod::testing
