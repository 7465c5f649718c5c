// The transmit check (D12), run by the kernel on frames made by hand: what a process may send, and nothing else.
// Needs root; skips loudly without.
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include "kmod-helper/bpf/steer_maps.h"
#include "tests/bpf/frames.hh"
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include "bpf/txcheck.skel.h"
#pragma GCC diagnostic pop

namespace ttod::testing {
namespace {

constexpr uint32_t kNic = 3, kSlot = 5, kOtherSlot = 6, kLoopback = 1;
constexpr uint64_t kCookie = 4711;

/// A good frame: from our NIC to the neighbour, from 10.0.0.1:80 to 10.0.0.2:999.
Spec good() {
  Spec s;
  s.to = kPeerMac;
  s.from = kNicMac;
  s.source = "10.0.0.1";
  s.destination = "10.0.0.2";
  s.source_port = 80;
  s.destination_port = 999;
  s.payload = 30;
  return s;
}

Spec good_v6() {
  Spec s = good();
  s.source = "fd00::1";
  s.destination = "fd00::2";
  return s;
}

class TxCheck : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    skeleton_ = tto_txcheck__open_and_load();
    ASSERT_NE(skeleton_, nullptr);
    put(skeleton_->maps.tto_port_slots, kLoopback, kSlot);
    put(skeleton_->maps.tto_slot_info, kSlot, tto_slot_info{.netns_cookie = kCookie, .flow_limit = 2, .flow_count = 0});
    tto_nic_mac_key source{};
    source.netns_cookie = kCookie;
    std::memcpy(source.mac, kNicMac.data(), 6);
    put(skeleton_->maps.tto_nic_macs, source, kNic);
    put(skeleton_->maps.tto_nic_devs, kNic, kLoopback);
    add_neighbor(skeleton_->maps.tto_neighbors, kPeerMac);
  }
  void TearDown() override { tto_txcheck__destroy(skeleton_); }

  template <typename K, typename V>
  void put(bpf_map* map, const K& key, const V& value) {
    ASSERT_EQ(bpf_map_update_elem(bpf_map__fd(map), &key, &value, BPF_ANY), 0);
  }
  void add_neighbor(bpf_map* map, const std::array<uint8_t, 6>& mac) {
    tto_neighbor_key key{};
    key.nic = kNic;
    std::memcpy(key.mac, mac.data(), 6);
    put(map, key, uint8_t{1});
  }
  static tto_flow_key key_of(const Spec& s) {
    tto_flow_key key{};
    key.nic = kNic;
    std::memcpy(key.local, address(s.source).data(), 16);
    std::memcpy(key.remote, address(s.destination).data(), 16);
    key.local_port = htons(s.source_port);
    key.remote_port = htons(s.destination_port);
    return key;
  }
  void lease_flow(const Spec& s, uint32_t slot = kSlot) {
    put(skeleton_->maps.tto_flt, key_of(s),
        tto_flow_value{.slot = slot, .state = TTO_ENTRY_STEER, .accepted = 0, .reserved = 0, .iss = 0});
  }
  void lease_listen(const Spec& s, const std::vector<uint32_t>& slots) {
    tto_listen_key key{};
    key.nic = kNic;
    key.port = htons(s.source_port);
    std::memcpy(key.local, address(s.source).data(), 16);
    tto_listen_group group{};
    group.state = TTO_ENTRY_STEER;
    for (const uint32_t slot : slots) group.slots[group.count++] = slot;
    put(skeleton_->maps.tto_olt, key, group);
  }
  /// As steer notes it: the peer of `s` has lately sent a segment to a listener of this slot.
  void note_arrival(const Spec& s, uint32_t slot = kSlot) { put(skeleton_->maps.tto_arrivals, key_of(s), slot); }
  bool find_flow(const Spec& s, tto_flow_value& out) {
    const tto_flow_key key = key_of(s);
    return bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.tto_flt), &key, &out) == 0;
  }
  int run(const Frame& frame) { return testing::run(bpf_program__fd(skeleton_->progs.tto_txcheck), frame); }
  void expect(const Frame& frame, int reason) {
    const tto_tx_counts before = counts();
    EXPECT_EQ(run(frame), reason <= TTO_TX_SENT_LISTEN_RST ? XDP_REDIRECT : XDP_DROP);
    const tto_tx_counts after = counts();
    for (int i = 0; i < TTO_TX_COUNTS; ++i)
      EXPECT_EQ(after.frames[i] - before.frames[i], i == reason ? 1u : 0u) << "count " << i << ", expected " << reason;
  }
  tto_tx_counts counts() {
    tto_tx_counts sum{};
    std::vector<tto_tx_counts> per_cpu(static_cast<size_t>(libbpf_num_possible_cpus()));
    bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.tto_tx_counts), &kSlot, per_cpu.data());
    for (const tto_tx_counts& one : per_cpu)
      for (size_t i = 0; i < TTO_TX_COUNTS; ++i) sum.frames[i] += one.frames[i];
    return sum;
  }

  tto_txcheck* skeleton_ = nullptr;
};

TEST_F(TxCheck, D12_own_flow_leaves) {
  for (const Spec& s : {good(), good_v6()}) {
    expect(tcp(s), TTO_TX_DROP_NOT_OWNER);
    lease_flow(s);
    for (int flags = 0; flags < 256; ++flags) {
      Spec with = s;
      with.flags = static_cast<uint8_t>(flags);
      expect(tcp(with), TTO_TX_SENT);
    }
  }
}

TEST_F(TxCheck, D12_flow_of_another_slot__stays) {
  lease_flow(good(), kOtherSlot);
  expect(tcp(good()), TTO_TX_DROP_NOT_OWNER);
  Spec syn_ack = good();  // nor can it be taken over through a listen entry
  syn_ack.flags = kSyn | kAck;
  lease_listen(good(), {kSlot});
  expect(tcp(syn_ack), TTO_TX_DROP_NOT_OWNER);
}

TEST_F(TxCheck, D12_any_other_tuple__stays) {
  lease_flow(good());
  int sent = 0;
  for (int port = 0; port < 65536; ++port) {
    Spec s = good();
    s.source_port = static_cast<uint16_t>(port);
    sent += run(tcp(s)) == XDP_REDIRECT;
    s = good();
    s.destination_port = static_cast<uint16_t>(port);
    sent += run(tcp(s)) == XDP_REDIRECT;
  }
  EXPECT_EQ(sent, 2);
  Spec s = good();
  s.source = "10.0.0.66";
  expect(tcp(s), TTO_TX_DROP_NOT_OWNER);
}

TEST_F(TxCheck, D12_macs) {
  lease_flow(good());
  for (size_t i = 0; i < 6; ++i) {
    Spec s = good();
    s.from[i] ^= 1;
    expect(tcp(s), TTO_TX_DROP_SOURCE_MAC);
    s = good();
    s.to[i] ^= 1;
    expect(tcp(s), TTO_TX_DROP_NEIGHBOR);
  }
  Spec s = good();
  s.to = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  expect(tcp(s), TTO_TX_DROP_NEIGHBOR);
  s.to = {2, 9, 9, 9, 9, 9};
  add_neighbor(skeleton_->maps.tto_seen_macs, s.to);
  expect(tcp(s), TTO_TX_SENT);
  s = good();
  s.vlan = 9;  // another NIC
  expect(tcp(s), TTO_TX_DROP_SOURCE_MAC);
}

TEST_F(TxCheck, D12_only_whole_plain_tcp_segments) {
  lease_flow(good());
  lease_flow(good_v6());
  for (int protocol = 0; protocol < 256; ++protocol) {
    for (Spec s : {good(), good_v6()}) {
      s.protocol = static_cast<uint8_t>(protocol);
      EXPECT_EQ(run(tcp(s)), protocol == 6 ? XDP_REDIRECT : XDP_DROP) << protocol;
    }
  }
  Spec s = good();
  s.protocol = 17;
  expect(tcp(s), TTO_TX_DROP_NOT_TCP);
  for (const uint16_t fragment : std::initializer_list<uint16_t>{0x2000, 0x0001, 0x2010, 0x1fff}) {
    s = good();
    s.fragment = fragment;
    expect(tcp(s), TTO_TX_DROP_FRAGMENT);
  }
  s = good();
  s.fragment = 0x4000;
  expect(tcp(s), TTO_TX_SENT);
  s = good();
  s.ihl = 6;
  expect(tcp(s), TTO_TX_DROP_NOT_TCP);
  s.ihl = 4;
  expect(tcp(s), TTO_TX_DROP_MALFORMED);
  for (uint8_t doff = 0; doff < 16; ++doff) {
    s = good();
    s.doff = doff;
    expect(tcp(s), doff < 5 || doff > 12 ? TTO_TX_DROP_MALFORMED : TTO_TX_SENT);  // 20 + 30 bytes are there
  }
  s = good();
  s.ether_type = 0x0806;
  expect(tcp(s), TTO_TX_DROP_ETHERTYPE);
  int sent = 0;
  for (int type = 0; type < 65536; ++type) {
    s.ether_type = type;
    sent += run(tcp(s)) == XDP_REDIRECT;
  }
  EXPECT_EQ(sent, 1);
}

TEST_F(TxCheck, D12_ip_length_is_the_frames) {
  for (const Spec& base : {good(), good_v6()}) {
    lease_flow(base);
    for (const int error : {-2, -1, 1, 2, 1000}) {
      Spec s = base;
      s.length_error = error;
      expect(tcp(s), TTO_TX_DROP_LENGTH);
    }
  }
  Spec small = good();
  small.payload = 0;
  small.padding = 6;  // to 60 bytes, as Ethernet wants
  expect(tcp(small), TTO_TX_SENT);
  small.padding = 7;
  expect(tcp(small), TTO_TX_DROP_LENGTH);
}

TEST_F(TxCheck, every_truncation__stays) {
  lease_flow(good());
  const Frame whole = tcp(good());
  for (size_t bytes = 14; bytes < whole.size(); ++bytes) {
    const int verdict = run(Frame(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(bytes)));
    EXPECT_TRUE(verdict == XDP_DROP || verdict < 0) << bytes;
  }
}

TEST_F(TxCheck, D12_listener__answers_only_who_spoke_first_and_to_it) {
  lease_listen(good(), {kOtherSlot, kSlot});
  Spec other_port = good();
  other_port.destination_port = 1000;
  note_arrival(other_port);
  tto_flow_value made{};
  for (int i = 0; i < 2; ++i) {
    for (const uint8_t flags : {uint8_t{kSyn | kAck}, uint8_t{kRst}, uint8_t{kRst | kAck}}) {
      Spec s = good();
      s.flags = flags;
      expect(tcp(s), TTO_TX_DROP_NOT_OWNER);
      EXPECT_FALSE(find_flow(s, made));
    }
    note_arrival(good(), kOtherSlot);  // the second time: spoken to, but another listener of the group
  }
}

// A client may reuse its port while the release of the tuple's last connection is still on its way to ttod: the entry
// remembers the connection whose SYN-ACK left last, so that the late release does not take it away.
TEST_F(TxCheck, L5_accepted_flow__remembers_its_newest_connection) {
  lease_listen(good(), {kSlot});
  note_arrival(good());
  Spec s = good();
  s.payload = 0;
  s.flags = kSyn | kAck;
  expect(tcp(s), TTO_TX_SENT_SYN_ACK);
  tto_flow_value made{};
  ASSERT_TRUE(find_flow(s, made));
  const Frame first = tcp(s);
  Frame second = first;
  const size_t seq_at = first.size() - 20 + 4;
  second[seq_at] = static_cast<uint8_t>(first[seq_at] ^ 0x5a);
  uint32_t first_iss = 0, second_iss = 0;
  memcpy(&first_iss, &first[seq_at], 4);
  memcpy(&second_iss, &second[seq_at], 4);
  EXPECT_EQ(made.iss, first_iss);
  expect(second, TTO_TX_SENT);
  ASSERT_TRUE(find_flow(s, made));
  EXPECT_EQ(made.iss, second_iss);
  s.flags = kAck;
  expect(tcp(s), TTO_TX_SENT);
  ASSERT_TRUE(find_flow(s, made));
  EXPECT_EQ(made.iss, second_iss);
}

TEST_F(TxCheck, L5_syn_ack_of_a_listener__makes_the_flow_once) {
  lease_listen(good(), {kOtherSlot, kSlot});
  note_arrival(good());
  Spec s = good();
  s.payload = 0;
  tto_flow_value made{};
  for (int flags = 0; flags < 64; ++flags) {  // of the first six flags nothing but SYN-ACK and RST may leave
    s.flags = static_cast<uint8_t>(flags);
    const bool is_syn_ack = (flags & (kSyn | kAck | kRst | kFin)) == (kSyn | kAck);
    if (is_syn_ack) continue;
    expect(tcp(s), (flags & kRst) != 0 ? TTO_TX_SENT_LISTEN_RST : TTO_TX_DROP_NOT_OWNER);
    EXPECT_FALSE(find_flow(s, made));
  }
  s.flags = kSyn | kAck;
  expect(tcp(s), TTO_TX_SENT_SYN_ACK);
  ASSERT_TRUE(find_flow(s, made));
  EXPECT_EQ(made.slot, kSlot);
  EXPECT_EQ(made.accepted, 1);
  EXPECT_EQ(made.state, TTO_ENTRY_STEER);
  expect(tcp(s), TTO_TX_SENT);  // again: the flow is there
}

TEST_F(TxCheck, listener_of_another_slot__stays) {
  lease_listen(good(), {kOtherSlot});
  note_arrival(good());
  Spec s = good();
  s.flags = kSyn | kAck;
  expect(tcp(s), TTO_TX_DROP_NOT_OWNER);
  s.flags = kRst;
  expect(tcp(s), TTO_TX_DROP_NOT_OWNER);
}

TEST_F(TxCheck, P1_accepted_flows_are_limited) {
  lease_listen(good(), {kSlot});
  Spec s = good();
  s.flags = kSyn | kAck;
  for (uint16_t port = 1; port <= 2; ++port) {
    s.destination_port = port;
    note_arrival(s);
    expect(tcp(s), TTO_TX_SENT_SYN_ACK);
  }
  s.destination_port = 3;
  note_arrival(s);
  expect(tcp(s), TTO_TX_DROP_LIMIT);
  s.destination_port = 1;
  expect(tcp(s), TTO_TX_SENT);
}

TEST_F(TxCheck, closed_slot_and_unknown_port__send_nothing) {
  lease_flow(good());
  put(skeleton_->maps.tto_slot_info, kSlot, tto_slot_info{});
  expect(tcp(good()), TTO_TX_DROP_NO_SLOT);
  bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.tto_port_slots), &kLoopback);
  EXPECT_EQ(run(tcp(good())), XDP_DROP);
}

TEST_F(TxCheck, lost_nic__is_counted) {
  lease_flow(good());
  bpf_map_delete_elem(bpf_map__fd(skeleton_->maps.tto_nic_devs), &kNic);
  expect(tcp(good()), TTO_TX_DROP_NO_NIC);
}

}  // namespace
}  // namespace ttod::testing
