// The steering program, run by the kernel on frames made by hand: which frame goes where, and that nothing that is not
// leased ever leaves the kernel's path. Needs root; skips loudly without.
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "kmod-helper/bpf/steer_maps.h"
#include "tests/bpf/frames.hh"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include "bpf/steer.skel.h"
#pragma GCC diagnostic pop

namespace ttod::testing {
namespace {

constexpr uint32_t kNic = 3, kSlot = 5, kEmptySlot = 6, kLoopback = 1;

/// A namespace of our own, so that the kernel's sockets in it are ours.
bool enter_own_netns() {
  static const bool entered = [] {
    if (unshare(CLONE_NEWNET) != 0) return false;
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    ifreq request{};
    std::strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    const bool is_up = ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    close(fd);
    return is_up;
  }();
  return entered;
}

class Steer : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0 || !enter_own_netns()) GTEST_SKIP() << "needs root and a network namespace";
    skeleton_ = tto_steer__open();
    ASSERT_NE(skeleton_, nullptr);
    skeleton_->rodata->nic_id = kNic;
    ASSERT_EQ(tto_steer__load(skeleton_), 0);
    tto_nic_info info{};
    std::memcpy(info.mac, kNicMac.data(), 6);
    put(skeleton_->maps.tto_nic_info, kNic, info);
    put(skeleton_->maps.tto_slot_devs, kSlot, kLoopback);
  }
  void TearDown() override { tto_steer__destroy(skeleton_); }

  template <typename K, typename V>
  void put(bpf_map* map, const K& key, const V& value) {
    ASSERT_EQ(bpf_map_update_elem(bpf_map__fd(map), &key, &value, BPF_ANY), 0);
  }
  static tto_flow_key key_of(const Spec& s) {
    tto_flow_key key{};
    key.nic = kNic;
    key.vlan = static_cast<uint16_t>(s.vlan > 0 ? s.vlan & 0xfff : 0);
    std::memcpy(key.local, address(s.destination).data(), 16);
    std::memcpy(key.remote, address(s.source).data(), 16);
    key.local_port = htons(s.destination_port);
    key.remote_port = htons(s.source_port);
    return key;
  }
  void lease_flow(const Spec& s, uint32_t slot = kSlot, uint8_t state = TTO_ENTRY_STEER) {
    put(skeleton_->maps.tto_flt, key_of(s), tto_flow_value{.slot = slot, .state = state, .accepted = 0, .reserved = 0, .iss = 0});
  }
  void lease_listen(const Spec& s, const std::vector<uint32_t>& slots, uint32_t state = TTO_ENTRY_STEER) {
    tto_listen_key key{};
    key.nic = kNic;
    key.port = htons(s.destination_port);
    std::memcpy(key.local, address(s.destination).data(), 16);
    tto_listen_group group{};
    group.state = state;
    for (const uint32_t slot : slots) group.slots[group.count++] = slot;
    put(skeleton_->maps.tto_olt, key, group);
  }
  int run(const Frame& frame) { return testing::run(bpf_program__fd(skeleton_->progs.tto_steer), frame); }
  /// Runs and tells by which count the frame was counted; -1: by none or by several.
  int counted(const Frame& frame, int* action = nullptr) {
    const std::vector<uint64_t> before = counts();
    const int verdict = run(frame);
    if (action != nullptr) *action = verdict;
    const std::vector<uint64_t> after = counts();
    int which = -1, changes = 0;
    for (size_t i = 0; i < after.size(); ++i) {
      if (after[i] == before[i]) continue;
      which = static_cast<int>(i);
      changes += static_cast<int>(after[i] - before[i]);
    }
    return changes == 1 ? which : -1;
  }
  void expect(const Frame& frame, int reason) {
    int action = -1;
    EXPECT_EQ(counted(frame, &action), reason);
    EXPECT_EQ(action, reason <= TTO_STEER_FRAGMENT ? XDP_REDIRECT : XDP_PASS);
  }
  std::vector<uint64_t> counts() {
    std::vector<uint64_t> sums(TTO_STEER_COUNTS);
    std::vector<uint64_t> per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
    for (uint32_t i = 0; i < TTO_STEER_COUNTS; ++i) {
      bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.tto_steer_counts), &i, per_cpu.data());
      for (const uint64_t n : per_cpu) sums[i] += n;
    }
    return sums;
  }
  bool has_seen(const std::array<uint8_t, 6>& mac) {
    tto_neighbor_key key{};
    key.nic = kNic;
    std::memcpy(key.mac, mac.data(), 6);
    uint8_t value = 0;
    return bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.tto_seen_macs), &key, &value) == 0;
  }

  tto_steer* skeleton_ = nullptr;
};

Spec v6() {
  Spec s;
  s.source = "fd00::2";
  s.destination = "fd00::1";
  return s;
}

TEST_F(Steer, no_entry__passes) {
  expect(tcp({}), TTO_STEER_PASS_NO_ENTRY);
  expect(tcp(v6()), TTO_STEER_PASS_NO_ENTRY);
}

TEST_F(Steer, exact_flow__goes_to_its_slot_whatever_its_flags) {
  for (const Spec& base : {Spec{}, v6()}) {
    lease_flow(base);
    for (int flags = 0; flags < 256; ++flags) {
      Spec s = base;
      s.flags = static_cast<uint8_t>(flags);
      expect(tcp(s), TTO_STEER_FLOW);
    }
  }
}

TEST_F(Steer, v4_mapped_ipv6__is_not_the_ipv4_flow_of_the_same_key) {
  const Spec v4;
  lease_flow(v4);
  lease_listen(v4, {kSlot});
  Spec mapped;
  mapped.source = "::ffff:10.0.0.2";
  mapped.destination = "::ffff:10.0.0.1";
  for (const char* source : {"::ffff:10.0.0.2", "fd00::2"})
    for (const char* destination : {"::ffff:10.0.0.1", "fd00::1"}) {
      if (source[0] == 'f' && destination[0] == 'f') continue;  // neither is
      mapped.source = source;
      mapped.destination = destination;
      int action = -1;
      counted(tcp(mapped), &action);
      EXPECT_EQ(action, XDP_PASS) << source << " " << destination;
    }
  expect(tcp(v4), TTO_STEER_FLOW);
}

TEST_F(Steer, any_other_tuple__passes) {
  lease_flow({});
  Spec s;
  s.source = "10.0.0.3";
  expect(tcp(s), TTO_STEER_PASS_NO_ENTRY);
  s = {};
  s.destination = "10.0.0.9";
  expect(tcp(s), TTO_STEER_PASS_NO_ENTRY);
  s = {};
  s.vlan = 7;
  expect(tcp(s), TTO_STEER_PASS_NO_ENTRY);
  int steered = 0;
  for (int port = 0; port < 65536; ++port) {
    s = {};
    s.destination_port = static_cast<uint16_t>(port);
    steered += run(tcp(s)) == XDP_REDIRECT;
    s = {};
    s.source_port = static_cast<uint16_t>(port);
    steered += run(tcp(s)) == XDP_REDIRECT;
  }
  EXPECT_EQ(steered, 2);
}

TEST_F(Steer, ethertypes__only_ip) {
  lease_flow({});
  int steered = 0;
  for (int type = 0; type < 65536; ++type) {
    Spec s;
    s.ether_type = type;
    steered += run(tcp(s)) == XDP_REDIRECT;
  }
  EXPECT_EQ(steered, 1);
}

TEST_F(Steer, protocols__only_tcp) {
  lease_flow({});
  int steered = 0;
  for (int protocol = 0; protocol < 256; ++protocol) {
    Spec s;
    s.protocol = static_cast<uint8_t>(protocol);
    steered += run(tcp(s)) == XDP_REDIRECT;
  }
  EXPECT_EQ(steered, 1);
}

TEST_F(Steer, other_mac__passes) {
  lease_flow({});
  Spec s;
  s.to = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  expect(tcp(s), TTO_STEER_PASS_OTHER);
  for (size_t i = 0; i < 6; ++i) {
    s.to = kNicMac;
    s.to[i] ^= 0x80;
    expect(tcp(s), TTO_STEER_PASS_OTHER);
  }
}

TEST_F(Steer, vlan__is_part_of_the_key) {
  Spec s;
  s.vlan = 100;
  lease_flow(s);
  expect(tcp(s), TTO_STEER_FLOW);
  s.vlan = 100 | 0xe000;  // the priority is not
  expect(tcp(s), TTO_STEER_FLOW);
  s.vlan = 101;
  expect(tcp(s), TTO_STEER_PASS_NO_ENTRY);
  expect(tcp({}), TTO_STEER_PASS_NO_ENTRY);
}

TEST_F(Steer, every_truncation__passes) {
  for (const Spec& s : {Spec{}, v6()}) {
    lease_flow(s);
    const Frame whole = tcp(s);
    for (size_t bytes = 14; bytes < whole.size(); ++bytes) {
      const int verdict = run(Frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(bytes)));
      EXPECT_TRUE(verdict == XDP_PASS || verdict < 0) << bytes;
    }
  }
}

TEST_F(Steer, ip_options__are_skipped_and_bad_lengths_pass) {
  lease_flow({});
  for (uint8_t ihl = 0; ihl < 16; ++ihl) {
    Spec s;
    s.ihl = ihl;
    expect(tcp(s), ihl < 5 ? TTO_STEER_PASS_MALFORMED : TTO_STEER_FLOW);
  }
  Spec s;
  s.version = 5;
  expect(tcp(s), TTO_STEER_PASS_MALFORMED);
}

TEST_F(Steer, fragments__the_first_goes_to_the_owner_the_rest_pass) {
  lease_flow({});
  Spec s;
  s.fragment = 0x2000;
  expect(tcp(s), TTO_STEER_FRAGMENT);
  for (const uint16_t later : std::initializer_list<uint16_t>{0x0001, 0x2001, 0x1fff}) {
    s.fragment = later;
    expect(tcp(s), TTO_STEER_PASS_OTHER);
  }
  s.fragment = 0x4000;  // don't fragment
  expect(tcp(s), TTO_STEER_FLOW);
}

TEST_F(Steer, held_flow_and_dead_owner__pass) {
  Spec s;
  lease_flow(s, kSlot, TTO_ENTRY_HOLD);
  expect(tcp(s), TTO_STEER_PASS_HOLD);
  lease_flow(s, kEmptySlot);
  expect(tcp(s), TTO_STEER_PASS_NO_PORT);
  lease_flow(s, 0xffffffff);
  expect(tcp(s), TTO_STEER_PASS_NO_PORT);
}

TEST_F(Steer, listen__takes_any_remote_and_remembers_who_sent_a_syn) {
  lease_listen({}, {kSlot});
  Spec s;
  s.flags = kSyn;
  s.from[5] = 77;
  EXPECT_FALSE(has_seen(s.from));
  expect(tcp(s), TTO_STEER_LISTEN);
  EXPECT_TRUE(has_seen(s.from));
  s.from = {3, 0, 0, 0, 0, 9};  // no host has a group address
  expect(tcp(s), TTO_STEER_LISTEN);
  EXPECT_FALSE(has_seen(s.from));
  s = {};
  s.source = "192.0.2.8";
  s.from[5] = 78;
  expect(tcp(s), TTO_STEER_LISTEN);
  EXPECT_FALSE(has_seen(s.from));
  s.destination_port = 81;
  expect(tcp(s), TTO_STEER_PASS_NO_ENTRY);
  lease_listen({}, {kSlot}, TTO_ENTRY_HOLD);
  expect(tcp({}), TTO_STEER_PASS_HOLD);
}

TEST_F(Steer, listen_group__uses_all_slots_and_one_per_remote) {
  lease_listen({}, {kSlot, kEmptySlot});
  int steered = 0;
  for (uint16_t port = 1; port <= 1000; ++port) {
    Spec s;
    s.source_port = port;
    const int first = run(tcp(s));
    EXPECT_EQ(run(tcp(s)), first);
    steered += first == XDP_REDIRECT;
  }
  EXPECT_GT(steered, 300);
  EXPECT_LT(steered, 700);
}

TEST_F(Steer, flow_before_listen) {
  lease_listen({}, {kEmptySlot});
  lease_flow({});
  expect(tcp({}), TTO_STEER_FLOW);
}

TEST_F(Steer, kernel_socket_that_owns_the_tuple__wins_over_a_listen_entry) {
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof name;
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&name), bytes), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  getsockname(listener, reinterpret_cast<sockaddr*>(&name), &bytes);
  Spec s;
  s.source = s.destination = "127.0.0.1";
  s.destination_port = ntohs(name.sin_port);
  s.source_port = 1;
  lease_listen(s, {kSlot});
  expect(tcp(s), TTO_STEER_LISTEN);  // a kernel listener alone does not own it

  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(connect(client, reinterpret_cast<sockaddr*>(&name), bytes), 0);
  sockaddr_in own{};
  getsockname(client, reinterpret_cast<sockaddr*>(&own), &bytes);
  s.source_port = ntohs(own.sin_port);
  expect(tcp(s), TTO_STEER_PASS_KERNEL);
  const int accepted = accept(listener, nullptr, nullptr);
  // Our side closes first, so it stays in TIME_WAIT: a new SYN of that tuple is the kernel's as well.
  char byte = 0;
  ASSERT_EQ(shutdown(accepted, SHUT_WR), 0);
  ASSERT_EQ(recv(client, &byte, 1, 0), 0);  // our FIN is there
  close(client);
  ASSERT_EQ(recv(accepted, &byte, 1, 0), 0);  // the peer's has come, in FIN-WAIT-2
  close(accepted);
  s.flags = kSyn;
  expect(tcp(s), TTO_STEER_PASS_KERNEL);
  close(listener);
}

TEST_F(Steer, icmp_errors__go_to_the_owner_of_the_quoted_flow) {
  for (const bool is_v6 : {false, true}) {
    const Spec flow = is_v6 ? v6() : Spec{};
    lease_flow(flow);
    Spec quoted = flow;  // the segment that we sent
    std::swap(quoted.source, quoted.destination);
    std::swap(quoted.source_port, quoted.destination_port);
    Spec outer = flow;
    outer.source = is_v6 ? "fd00::99" : "10.0.0.99";  // a router
    for (int type = 0; type < 256; ++type) {
      const bool is_error = is_v6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12;
      expect(icmp_error(outer, static_cast<uint8_t>(type), quoted), is_error ? TTO_STEER_ICMP : TTO_STEER_PASS_OTHER);
    }
    const uint8_t error = is_v6 ? 2 : 3;
    const Frame whole = icmp_error(outer, error, quoted);
    for (size_t bytes = 14; bytes < whole.size() - 4; ++bytes) {
      const int verdict = run(Frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(bytes)));
      EXPECT_TRUE(verdict == XDP_PASS || verdict < 0) << bytes;
    }
    Spec other = quoted;
    other.source_port = 81;
    expect(icmp_error(outer, error, other), TTO_STEER_PASS_OTHER);
    other = quoted;
    other.protocol = 17;
    expect(icmp_error(outer, error, other), TTO_STEER_PASS_OTHER);
    Spec elsewhere = outer;  // sent to an address that did not send the quoted segment
    elsewhere.destination = is_v6 ? "fd00::7" : "10.0.0.7";
    expect(icmp_error(elsewhere, error, quoted), TTO_STEER_PASS_OTHER);
  }
}

}  // namespace
}  // namespace ttod::testing
