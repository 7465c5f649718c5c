// ttod against clients that mean harm with what a handover gives them: sockets in repair mode, injection, locks.
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "tests/helper/by_hand.hh"

namespace ttod::testing {
namespace {

using namespace tto::wire;  // NOLINT: flags all over

constexpr uint16_t kPort = 7501;

class HandoverHostile : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_root()) GTEST_SKIP() << "needs root, namespaces and AF_XDP";
    ASSERT_TRUE(lab_.start_daemon());
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "--- ttod\n%s\n", lab_.log().c_str());
  }
  /// In a client of namespace a with a connection made by hand to the listening peer; 0 is well.
  int run(const std::function<int(ByHand&, Peer&)>& with) {
    Peer peer(lab_.b);
    Client client(lab_.a, [&] {
      PortClient c;
      if (const int failed = c.open(lab_.socket)) return failed;
      if (!peer.listen("10.91.0.2", kPort)) return 52;
      ByHand near(c);
      if (const int failed = near.connect(AF_INET, "10.91.0.1", "10.91.0.2", kPort)) return failed;
      if (!peer.accept()) return 53;
      return with(near, peer);
    });
    return client.wait();
  }

  Lab lab_{TTOD_BINARY};
};

tto_helper_restore plain(const ByHand& near) { return near.restore(near.snd_una, near.rcv_nxt); }

/// Without a capability the option can be set in repair mode only.
bool is_in_repair(const ByHand& near) { return near.set_tcp(TCP_REPAIR_QUEUE, TCP_NO_QUEUE); }

void disconnect(int fd) {
  sockaddr nobody{};
  nobody.sa_family = AF_UNSPEC;
  connect(fd, &nobody, sizeof nobody);
}

TEST_F(HandoverHostile, begin__wrong_sockets_and_flows_of_others_are_refused) {
  const int result = run([&](ByHand& near, Peer& peer) {
    const int right = near.placeholder;
    const auto reason_with = [&](int socket) {
      near.placeholder = socket;
      const tto_helper_refusal reason = near.begin(plain(near));
      near.placeholder = right;
      return reason;
    };
    if (reason_with(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) != TTO_REFUSED_BAD_SOCKET) return 1;
    if (reason_with(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) != TTO_REFUSED_BAD_SOCKET) return 2;
    if (reason_with(near.c.helper.fd()) != TTO_REFUSED_BAD_SOCKET) return 3;
    if (reason_with(bound_socket("10.91.0.1", 7502, true)) != TTO_REFUSED_BAD_SOCKET) return 4;
    const int elsewhere = bound_socket("10.91.0.1", 7503, false);
    if (reason_with(elsewhere) != TTO_REFUSED_BAD_SOCKET) return 5;  // bound to another port
    sockaddr_storage name;
    socklen_t bytes = 0;
    const int connected = named_socket(AF_INET, ip("10.91.0.2"), kPort, name, bytes);
    if (::connect(connected, reinterpret_cast<sockaddr*>(&name), bytes) != 0 || !peer.accept()) return 6;
    if (reason_with(connected) != TTO_REFUSED_BAD_SOCKET) return 7;
    const int v6_only = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(v6_only, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (reason_with(v6_only) == TTO_REFUSED_NONE) return 8;

    const tto_helper_release_item item = near.item;
    const auto reason_of = [&](const std::function<void(tto_helper_release_item&)>& change) {
      near.item = item;
      change(near.item);
      const tto_helper_refusal reason = near.begin(plain(near));
      near.item = item;
      return reason;
    };
    if (reason_of([](auto& i) { ++i.grant_id; }) != TTO_REFUSED_NOT_OWNER) return 9;
    if (reason_of([](auto& i) { i.grant_id = 0; }) != TTO_REFUSED_NOT_OWNER) return 10;
    if (reason_of([](auto& i) { ++i.flow.remote_port; }) != TTO_REFUSED_NOT_OWNER) return 11;
    if (reason_of([](auto& i) { ++i.flow.local_port; }) != TTO_REFUSED_NOT_OWNER) return 12;
    if (reason_of([](auto& i) { i.flow.ifindex = 1; }) != TTO_REFUSED_NOT_OWNER) return 13;
    PortClient other;  // of the same process, with a port of its own
    if (other.open(lab_.socket) != 0) return 14;
    ByHand thief(other);
    thief.item = near.item;
    thief.placeholder = near.placeholder;
    if (thief.begin(plain(near)) != TTO_REFUSED_NOT_OWNER) return 15;

    if (near.begin(plain(near)) != TTO_REFUSED_NONE || !near.fill_queues(near.rcv_nxt)) return 16;
    thief.handover_id = near.handover_id;
    if (thief.end() != TTO_REFUSED_NOT_OWNER) return 17;
    if (near.end() != TTO_REFUSED_NONE || near.end() != TTO_REFUSED_NOT_OWNER) return 18;
    return near.state() == TCP_ESTABLISHED ? 0 : 19;
  });
  EXPECT_EQ(result, 0);
}

TEST_F(HandoverHostile, end__socket_connected_elsewhere_meanwhile_is_not_made_live) {
  const int result = run([&](ByHand& near, Peer&) {
    if (near.begin(plain(near)) != TTO_REFUSED_NONE || !is_in_repair(near)) return 1;
    // In repair mode a socket connects without a handshake: to anywhere, if ttod let it.
    disconnect(near.placeholder);
    sockaddr_in victim{};
    victim.sin_family = AF_INET;
    victim.sin_port = htons(4444);
    inet_pton(AF_INET, "10.91.0.2", &victim.sin_addr);
    if (::connect(near.placeholder, reinterpret_cast<sockaddr*>(&victim), sizeof victim) != 0) return 2;
    if (near.state() != TCP_ESTABLISHED) return 3;
    if (near.end() != TTO_REFUSED_BAD_SOCKET) return 4;
    return near.state() == TCP_CLOSE && !is_in_repair(near) ? 0 : 5;
  });
  EXPECT_EQ(result, 0);
}

TEST_F(HandoverHostile, repair_mode__gives_no_right_to_the_port_of_a_listener) {
  const int result = run([&](ByHand& near, Peer&) {
    const int listener = bound_socket("10.91.0.1", 7504, true);
    if (listener < 0 || near.begin(plain(near)) != TTO_REFUSED_NONE) return 6;
    disconnect(near.placeholder);
    sockaddr_in taken{};
    taken.sin_family = AF_INET;
    taken.sin_port = htons(7504);
    inet_pton(AF_INET, "10.91.0.1", &taken.sin_addr);
    if (bind(near.placeholder, reinterpret_cast<sockaddr*>(&taken), sizeof taken) == 0) return 7;
    return near.end() == TTO_REFUSED_BAD_SOCKET && near.state() == TCP_CLOSE ? 0 : 8;
  });
  EXPECT_EQ(result, 0);
}

TEST_F(HandoverHostile, begin_without_end__is_taken_back_after_a_while_or_with_the_session) {
  const int result = run([&](ByHand& near, Peer& peer) {
    if (near.begin(plain(near)) != TTO_REFUSED_NONE || !is_in_repair(near)) return 1;
    if (!becomes([&] { return near.state() == TCP_CLOSE; }, std::chrono::seconds(8))) return 2;
    if (!becomes([&] { return !is_in_repair(near); })) return 3;
    if (near.end() != TTO_REFUSED_NOT_OWNER) return 4;
    if (!near.send_data(10) || !peer.reads(10)) return 5;  // still the client's

    if (near.begin(plain(near)) != TTO_REFUSED_NONE || !is_in_repair(near)) return 6;
    near.c.helper.abandon();  // the session ends; the socket stays open here
    return becomes([&] { return near.state() == TCP_CLOSE && !is_in_repair(near); }) ? 0 : 7;
  });
  EXPECT_EQ(result, 0);
}

/// Packets that must not arrive, each with a byte that would show; the tuple is right unless that is what is wrong.
std::vector<std::string> bad_packets(const ByHand& near) {
  const std::string good = near.from_peer(kAck | kPsh, near.rcv_nxt, near.snd_nxt, "!");
  std::vector<std::string> bad;
  const auto with = [&](const std::function<void(std::string&)>& change) {
    std::string packet = good;
    change(packet);
    bad.push_back(packet);
  };
  constexpr size_t kTcp = 20;
  with([](std::string& p) { p[0] = 0x46; });  // IP options
  with([](std::string& p) { p[0] = 0x65; });  // IPv6
  with([](std::string& p) { p[3] = static_cast<char>(p[3] - 1); });
  with([](std::string& p) { p[3] = static_cast<char>(p[3] + 1); });
  with([](std::string& p) { p[6] = 0x20; });  // more fragments
  with([](std::string& p) { p[7] = 1; });     // a later fragment
  with([](std::string& p) { p[6] = static_cast<char>(0x80); });
  with([](std::string& p) { p[9] = 17; });                               // UDP
  with([](std::string& p) { p[15] = 77; });                              // another source
  with([](std::string& p) { p[19] = 2; });                               // another destination
  with([](std::string& p) { p[kTcp + 1] ^= 1; });                        // another source port
  with([](std::string& p) { p[kTcp + 3] ^= 1; });                        // another destination port
  with([](std::string& p) { p[kTcp + 12] = 0x40; });                     // a TCP header of 16 bytes
  with([](std::string& p) { p[kTcp + 12] = static_cast<char>(0xf0); });  // and one longer than the packet
  with([](std::string& p) { p.resize(39); });
  with([](std::string& p) { p.resize(0); });
  with([](std::string& p) { std::swap_ranges(p.begin() + 12, p.begin() + 16, p.begin() + 16); });  // its own segment
  return bad;
}

TEST_F(HandoverHostile, inject__only_whole_segments_of_the_very_tuple_and_not_too_many) {
  const int result = run([&](ByHand& near, Peer&) {
    if (near.begin(plain(near)) != TTO_REFUSED_NONE || !near.fill_queues(near.rcv_nxt)) return 1;
    near.inject(near.from_peer(kAck | kPsh, near.rcv_nxt, near.snd_nxt, "early"));  // not before HANDOVER_END
    if (near.end(TTO_HANDOVER_NO_PROBE) != TTO_REFUSED_NONE) return 2;
    for (const std::string& packet : bad_packets(near))
      if (!near.inject(packet)) return 3;
    const uint64_t own = near.handover_id;
    near.handover_id = own + 1;
    near.inject(near.from_peer(kAck | kPsh, near.rcv_nxt, near.snd_nxt, "other"));
    near.handover_id = own;
    PortClient other;
    if (other.open(lab_.socket) != 0) return 4;
    const std::string packet = near.from_peer(kAck | kPsh, near.rcv_nxt, near.snd_nxt, "thief");
    other.helper.inject(own, {reinterpret_cast<const uint8_t*>(packet.data()), packet.size()});
    if (!near.inject(near.from_peer(kAck | kPsh, near.rcv_nxt, near.snd_nxt, "right"))) return 5;
    char got[16] = {};
    const timeval limit{5, 0};
    setsockopt(near.placeholder, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (recv(near.placeholder, got, sizeof got, 0) != 5 || std::memcmp(got, "right", 5) != 0) return 6;

    // As many as one likes: after 8192 they are refused, and ttod serves others all the time.
    const std::string again = near.from_peer(kAck, near.rcv_nxt, near.snd_nxt, "right");
    for (int i = 0; i < 10'000; ++i)
      if (!near.inject(again)) return 7;
    if (!near.inject(near.from_peer(kAck | kPsh, near.rcv_nxt + 5, near.snd_nxt, "late"))) return 8;
    if (near.end() != TTO_REFUSED_NOT_OWNER) return 9;  // everything before it is dealt with
    if (recv(near.placeholder, got, sizeof got, MSG_DONTWAIT) >= 0) return 10;
    PortClient next;
    return next.open(lab_.socket) == 0 ? 0 : 11;
  });
  EXPECT_EQ(result, 0);
}

TEST_F(HandoverHostile, inject__not_into_the_tuples_next_owner) {
  const int result = run([&](ByHand& near, Peer& peer) {
    if (near.begin(plain(near)) != TTO_REFUSED_NONE || !near.fill_queues(near.rcv_nxt)) return 1;
    if (near.end(TTO_HANDOVER_NO_PROBE) != TTO_REFUSED_NONE) return 2;
    const linger reset{1, 0};
    setsockopt(near.placeholder, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(near.placeholder);  // RST: the tuple is free
    sockaddr_storage name, to;
    socklen_t bytes = 0;
    const int next = named_socket(AF_INET, ip("10.91.0.1"), near.item.flow.local_port, name, bytes);
    if (bind(next, reinterpret_cast<sockaddr*>(&name), bytes) != 0) return 3;
    named_socket(AF_INET, ip("10.91.0.2"), kPort, to, bytes);
    if (::connect(next, reinterpret_cast<sockaddr*>(&to), bytes) != 0 || !peer.accept()) return 4;
    for (uint32_t i = 0; i < 4; ++i) near.inject(near.from_peer(kRst | kAck, i << 30, 0));
    near.end();  // answered: what came before is dealt with
    near.placeholder = next;
    return near.state() == TCP_ESTABLISHED ? 0 : 5;
  });
  EXPECT_EQ(result, 0);
  EXPECT_NE(lab_.log().find("is not injected (4 so far)"), std::string::npos);
}

/// A page of its own process that nobody delivers: who reads it waits, with whatever lock it holds.
struct PageThatNeverComes {
  char* page = nullptr;
  int faults = -1;  // readable once somebody waits

  PageThatNeverComes() {
    faults = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
    uffdio_api api{};
    api.api = UFFD_API;
    void* at = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uffdio_register range{};
    range.range = {reinterpret_cast<uintptr_t>(at), 4096};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (ioctl(faults, UFFDIO_API, &api) == 0 && ioctl(faults, UFFDIO_REGISTER, &range) == 0)
      page = static_cast<char*>(at);
  }
  bool is_waited_for() const {
    pollfd one{faults, POLLIN, 0};
    return poll(&one, 1, 5000) == 1;
  }
};

/// A connected socket whose lock is held for good. The process needs root: nobody may not have such pages, but FUSE
/// files give them to everybody.
int locked_socket(const PageThatNeverComes& never) {
  const int listener = bound_socket("127.0.0.1", 7505, true);
  sockaddr_storage name;
  socklen_t bytes = 0;
  const int fd = named_socket(AF_INET, ip("127.0.0.1"), 7505, name, bytes);
  if (never.page == nullptr || listener < 0 || ::connect(fd, reinterpret_cast<sockaddr*>(&name), bytes) != 0) return -1;
  std::thread([fd, page = never.page] { ::send(fd, page, 4096, 0); }).detach();
  return never.is_waited_for() ? fd : -1;
}

TEST_F(HandoverHostile, socket_whose_lock_is_held__delays_its_owner_only_and_ends_his_session) {
  Gate is_locked, is_ended;
  const pid_t attacker = fork();
  if (attacker == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    PortClient c;
    if (!enter_netns(lab_.a) || c.open(lab_.socket) != 0) _exit(1);
    const PageThatNeverComes never;
    const int fd = locked_socket(never);
    if (fd < 0) _exit(2);
    is_locked.open();
    const auto grant = c.helper.listen(fd);  // gives up before ttod does
    _exit(!grant && !c.helper.is_connected() && is_ended.wait() ? 0 : 3);
  }
  ASSERT_TRUE(is_locked.wait());
  Client other(lab_.a, [&] {
    PortClient c;
    if (const int failed = c.open(lab_.socket)) return failed;
    const int again = bound_socket("10.91.0.1", 7506, true);
    const auto before = std::chrono::steady_clock::now();
    if (!c.helper.listen(again)) return 1;
    return std::chrono::steady_clock::now() - before < std::chrono::seconds(1) ? 0 : 2;
  });
  EXPECT_EQ(other.wait(), 0);
  EXPECT_TRUE(becomes([&] { return lab_.log().find("does not answer") != std::string::npos; }));
  is_ended.open();
  int status = 0;
  waitpid(attacker, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace ttod::testing
