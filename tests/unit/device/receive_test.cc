// Classification and delivery of received frames: D1, D2, D7, D9, D10, D13, D14, checksums, ICMP errors, chains.
#include "tests/unit/device/device_bench.hh"

namespace tto::device {
namespace {

using Target = ReceiveCompletion::Target;

TEST(Device, D1_pull_frames__a_segment_of_a_bound_flow_reaches_its_owner) {
  for (const bool v6 : {false, true}) {
    Bench b;
    const FlowId id = b.bind(40000, 99, v6);
    const auto got = b.receive({{.payload = pattern(100, 1), .v6 = v6}});
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].completion.target, Target::kFlow);
    EXPECT_EQ(got[0].completion.flow, id);
    EXPECT_EQ(got[0].completion.cookie, 99u);
    EXPECT_EQ(got[0].completion.segment.seq.raw, 1000u);
    EXPECT_EQ(got[0].payload, pattern(100, 1));
    EXPECT_EQ(b.count(Counter::rx_frame_delivered), 1u);
  }
}

TEST(Device, D1_pull_frames__the_vlan_is_part_of_the_flow) {
  Bench b;
  const FlowId id = b.device().bind_flow(key_of(40000, false, 80, 5), 1, kSlot);
  const auto got = b.receive({{.payload = pattern(10, 1), .vlan = 5}, {.payload = pattern(10, 2), .vlan = 6}});
  ASSERT_EQ(got.size(), 2u);
  for (const auto& r : got) {
    EXPECT_EQ(r.completion.target, r.completion.key.vlan == 5 ? Target::kFlow : Target::kNone);
    EXPECT_EQ(r.completion.flow, r.completion.key.vlan == 5 ? id : FlowId{});
  }
}

TEST(Device, D1_bind_flow__a_stale_id_names_nothing) {
  Bench b;
  const FlowId old = b.bind();
  EXPECT_EQ(b.device().find_flow(key_of()), old);
  EXPECT_FALSE(b.device().bind_flow(key_of(), 8, kSlot));  // taken
  b.device().unbind_flow(old);
  EXPECT_FALSE(b.device().find_flow(key_of()));
  const FlowId now = b.bind(40000, 8);
  EXPECT_NE(now, old);
  b.device().unbind_flow(old);  // must not touch the new one
  EXPECT_EQ(b.device().find_flow(key_of()), now);
  std::array<std::byte, 10> buffer;
  EXPECT_FALSE(b.device().post_receive(old, buffer.data(), 10, 1));
}

TEST(Device, D2_pull_frames__payload_of_an_unknown_flow_is_gathered_a_pure_ack_is_not) {
  Bench b;
  const auto got = b.receive(
      {{.seq = 1, .payload = pattern(10, 1)}, {.seq = 11, .payload = pattern(10, 2)}, {.remote_port = 40001}});
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(b.count(Counter::flow_autonomous), 1u);
  for (const auto& r : got) {
    EXPECT_EQ(r.completion.target, Target::kNone);
    EXPECT_FALSE(r.completion.flow);
    EXPECT_EQ(r.completion.segment.segments_merged, r.completion.key.tuple.remote_port == 40000 ? 2 : 1);
  }
  EXPECT_EQ(b.count(Counter::rx_frame_passed), 3u);
}

TEST(Device, D2_pull_frames__a_full_table_retires_the_least_recently_used_autonomous_flow) {
  Bench b({.flow_capacity = 3});
  const FlowId bound = b.bind(1);
  for (const uint16_t port : std::initializer_list<uint16_t>{2, 3, 2, 4})
    b.send({.seq = port * 100u, .payload = pattern(10, port), .remote_port = port});
  b.pull(4);  // no more than the ring holds: nothing is flushed because of the burst
  const auto got = b.poll();
  ASSERT_EQ(b.count(Counter::flow_evicted), 1u);
  ASSERT_EQ(b.count(Counter::aggregate_retired), 1u);
  bool seen = false;
  for (const auto& r : got) {
    if (r.completion.termination != Termination::kRetired) continue;
    EXPECT_EQ(r.completion.key.tuple.remote_port, 3);
    EXPECT_EQ(r.payload, pattern(10, 3));
    seen = true;
  }
  EXPECT_TRUE(seen);
  EXPECT_EQ(b.device().find_flow(key_of(1)), bound);
}

TEST(Device, D2_bind_flow__bound_flows_never_make_room) {
  Bench b({.flow_capacity = 2});
  b.receive({{.payload = pattern(10, 1), .remote_port = 7}});
  EXPECT_TRUE(b.bind(1));
  EXPECT_TRUE(b.bind(2));  // takes the autonomous one's place
  EXPECT_FALSE(b.bind(3));
  EXPECT_EQ(b.count(Counter::flow_evicted), 1u);
  const auto got = b.receive({{.payload = pattern(10, 1), .remote_port = 7}});  // no entry, but still delivered
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.target, Target::kNone);
}

TEST(Device, D2_bind_flow__an_autonomous_flow_is_taken_over_with_what_it_gathered) {
  Bench b;
  b.send({.seq = 1, .payload = pattern(10, 1)});
  b.pull(1);
  const FlowId id = b.bind();
  b.send({.seq = 11, .payload = pattern(10, 2)});
  b.pull();
  const auto got = b.poll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.flow, id);
  EXPECT_EQ(got[0].completion.segment.segments_merged, 2);
}

TEST(Device, D2_pull_frames__an_autonomous_flow_goes_with_rst_fin_and_silence) {
  Bench b({.flow_capacity = 1});
  for (const uint8_t last : {kRst, kFin}) {
    b.receive({{.seq = 1, .payload = pattern(10, 1), .remote_port = 1},
               {.seq = 11, .flags = static_cast<uint8_t>(kAck | last), .remote_port = 1}});
    const FlowId id = b.bind(2);
    EXPECT_TRUE(id);
    EXPECT_EQ(b.count(Counter::flow_evicted), 0u);
    b.device().unbind_flow(id);
  }
  b.receive({{.payload = pattern(10, 1), .remote_port = 1}});
  b.device().expire(b.now + seconds(7199));
  EXPECT_EQ(b.count(Counter::flow_idle), 0u);
  b.device().expire(b.now + seconds(7200));
  EXPECT_EQ(b.count(Counter::flow_idle), 1u);
}

TEST(Device, D7_push_frames__what_we_acknowledged_is_in_order_again) {
  Bench b;
  const FlowId id = b.bind();
  b.receive({{.seq = 1000, .payload = pattern(100, 1)}});
  // 1100 is lost, 1200 arrives; then the hole is filled and we acknowledge all of it.
  auto got = b.receive({{.seq = 1200, .payload = pattern(100, 3)}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.termination, Termination::kOutOfOrder);
  b.receive({{.seq = 1100, .payload = pattern(100, 2)}});
  SendRequest ack = Bench::request(id, 5000, 5000, {});
  ack.segment.ack = 1300;
  ASSERT_EQ(b.device().post_send(ack), SendStatus::kOk);
  b.push();
  got = b.receive({{.seq = 1300, .payload = pattern(100, 4)}, {.seq = 1400, .payload = pattern(100, 5)}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.segment.segments_merged, 2);
}

TEST(Device, D7_pull_frames__a_forged_ack_beyond_what_we_sent_does_not_make_true_ones_old) {
  Bench b;
  const FlowId id = b.bind();
  ASSERT_EQ(b.device().post_send(Bench::request(id, 5000, 5000, {})), SendStatus::kOk);
  b.push();
  const auto got = b.receive({{.seq = 1000, .ack = 1'000'000'000},
                              {.seq = 1000, .payload = pattern(5, 1), .ack = 4000},
                              {.seq = 1005, .payload = pattern(5, 2), .ack = 4500}});
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].completion.segment.ack.raw, 1'000'000'000u);
  EXPECT_EQ(got[1].completion.segment.segments_merged, 2);
}

TEST(Device, D14_pull_frames__a_segment_of_no_flow_goes_to_the_listener_exact_address_first) {
  Bench b;
  ASSERT_TRUE(b.device().add_listener(wire::IpAddress::from_v4(0), 80, 1));
  ASSERT_TRUE(b.device().add_listener(wire::IpAddress{}, 80, 2));
  EXPECT_FALSE(b.device().add_listener(wire::IpAddress{}, 80, 3));
  const PeerSegment v4{.flags = kSyn}, v6{.flags = kSyn, .v6 = true};
  EXPECT_EQ(b.receive({v4}).at(0).completion.cookie, 1u);
  EXPECT_EQ(b.receive({v6}).at(0).completion.cookie, 2u);
  ASSERT_TRUE(b.device().add_listener(address(false, 1), 80, 4));
  auto got = b.receive({v4});
  EXPECT_EQ(got.at(0).completion.target, Target::kListener);
  EXPECT_EQ(got.at(0).completion.cookie, 4u);
  EXPECT_EQ(got.at(0).completion.source_mac.bytes[5], 2);
  b.device().remove_listener(address(false, 1), 80);
  EXPECT_EQ(b.receive({v4}).at(0).completion.cookie, 1u);
  b.device().remove_listener(wire::IpAddress::from_v4(0), 80);
  EXPECT_EQ(b.receive({v4}).at(0).completion.target, Target::kNone);
  EXPECT_EQ(b.receive({{.flags = kSyn, .local_port = 81, .v6 = true}}).at(0).completion.target, Target::kNone);
}

TEST(Device, poll__whose_a_completion_is_gets_decided_when_it_is_handed_out) {
  Bench b;
  const FlowId id = b.bind(1, 55);
  b.send({.payload = pattern(10, 1), .remote_port = 1});
  b.send({.flags = kSyn, .remote_port = 2});
  b.pull();
  b.device().unbind_flow(id);
  const FlowId late = b.bind(2, 66);
  const auto got = b.poll();
  ASSERT_EQ(got.size(), 2u);
  for (const auto& r : got) {
    const bool is_late = r.completion.key.tuple.remote_port == 2;
    EXPECT_EQ(r.completion.target, is_late ? Target::kFlow : Target::kNone);
    EXPECT_EQ(r.completion.cookie, is_late ? 66u : 0u);
    EXPECT_EQ(r.completion.flow, is_late ? late : FlowId{});
  }
}

TEST(Device, pull_frames__a_bad_checksum_is_dropped_and_changes_nothing) {
  Bench b;
  b.bind();
  std::array<std::byte, 200> buffer{};
  ASSERT_TRUE(b.device().post_receive(b.device().find_flow(key_of()), buffer.data(), 200, 1));
  PeerSegment bad{.seq = 1100, .payload = pattern(100, 9), .bad_checksum = true};
  const auto got = b.receive({{.seq = 1000, .payload = pattern(100, 1)},
                              bad,
                              {.seq = 1100, .payload = pattern(50, 2)},
                              {.payload = pattern(3, 1), .remote_port = 9, .bad_checksum = true},
                              {.remote_port = 9, .bad_checksum = true}});
  EXPECT_EQ(b.count(Counter::drop_tcp_checksum), 3u);
  EXPECT_EQ(b.count(Counter::flow_autonomous), 0u);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.segment.payload_bytes, 150u);
  EXPECT_EQ(std::memcmp(buffer.data() + 100, pattern(50, 2).data(), 50), 0);
}

TEST(Device, pull_frames__a_pseudo_header_checksum_counts_only_where_the_port_says_so) {
  for (const bool accepts : {false, true}) {
    Bench b({}, {.accepts_partial_checksum = accepts});
    b.bind();
    EXPECT_EQ(b.receive({{.payload = pattern(99, 1), .partial_checksum = true}}).size(), accepts ? 1u : 0u);
    EXPECT_EQ(b.count(Counter::drop_tcp_checksum), accepts ? 0u : 1u);
    EXPECT_EQ(b.receive({{.seq = 1099, .payload = pattern(99, 1)}}).size(), 1u);
    EXPECT_EQ(b.receive({{.seq = 1198, .payload = pattern(99, 1), .bad_checksum = true}}).size(), 0u);
  }
}

TEST(Device, pull_frames__ethernet_padding_is_no_payload) {
  Bench b;
  b.bind();
  const auto got = b.receive(
      {{.seq = 1000, .ack = 5001, .padding = 6}, {.seq = 1000, .payload = pattern(2, 1), .ack = 5001, .padding = 4}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].payload, pattern(2, 1));
}

TEST(Device, pull_frames__a_large_frame_is_a_chain_of_frames) {
  Bench b({}, {.mtu_bytes = 65535, .max_slices = 18});
  b.bind();
  auto got = b.receive({{.seq = 1000, .payload = pattern(40001, 1)}, {.seq = 41001, .payload = pattern(8961, 2)}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.segment.segments_merged, 2);
  EXPECT_EQ(got[0].completion.segment.largest_segment_bytes, 40001u);
  EXPECT_GT(got[0].completion.frame_count, 12u);
  Bytes all = pattern(40001, 1);
  const Bytes more = pattern(8961, 2);
  all.insert(all.end(), more.begin(), more.end());
  EXPECT_EQ(got[0].payload, all);
  got = b.receive({{.seq = 49962, .payload = pattern(40001, 1), .bad_checksum = true}});
  EXPECT_TRUE(got.empty());
}

Bytes icmp_about_default_flow() {
  // Quoted: our IPv4 header and the first 8 bytes of our TCP header, as RFC 792 wants.
  wire::FrameHeaders ours;
  ours.source = address(false, 1);
  ours.destination = address(false, 2);
  ours.source_port = 80;
  ours.destination_port = 40000;
  ours.seq = {123456};
  std::array<uint8_t, 200> quoted{};
  const size_t bytes = wire::emit_headers(ours, quoted.data() + 128, 0, 0);
  const uint8_t* ip = quoted.data() + 128 - bytes + wire::kEthernetBytes;
  Bytes frame(14 + 20 + 8 + 28);
  auto* f = reinterpret_cast<uint8_t*>(frame.data());
  std::memcpy(f, quoted.data() + 128 - bytes, 14 + 20);  // Ethernet and an IPv4 header to start from
  f[14 + 2] = 0;
  f[14 + 3] = 56;
  f[14 + 9] = wire::kProtocolIcmp;
  std::swap_ranges(f + 14 + 12, f + 14 + 16, f + 14 + 16);
  f[14 + 10] = f[14 + 11] = 0;
  uint16_t sum = wire::checksum_of(wire::sum_bytes(f + 14, 20));
  std::memcpy(f + 14 + 10, &sum, 2);
  uint8_t* icmp = f + 34;
  icmp[0] = 3;
  icmp[1] = 4;
  icmp[6] = 1400 >> 8;
  icmp[7] = 1400 & 0xff;
  std::memcpy(icmp + 8, ip, 28);
  sum = wire::checksum_of(wire::sum_bytes(icmp, 36));
  std::memcpy(icmp + 2, &sum, 2);
  return frame;
}

TEST(Device, pull_frames__an_icmp_error_about_our_segment_goes_to_the_flow) {
  Bench b;
  const FlowId id = b.bind(40000, 77);
  b.send_raw(icmp_about_default_flow());
  b.pull();
  const auto got = b.poll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.target, Target::kIcmp);
  EXPECT_EQ(got[0].completion.flow, id);
  EXPECT_EQ(got[0].completion.cookie, 77u);
  EXPECT_EQ(got[0].completion.icmp.mtu_bytes, 1400);
  EXPECT_EQ(got[0].completion.icmp.quoted_seq.raw, 123456u);
  EXPECT_EQ(b.count(Counter::rx_frame_passed), 1u);
  b.send_raw(icmp_about_default_flow());
  b.pull();
  b.device().unbind_flow(id);
  EXPECT_TRUE(b.poll().empty());
  b.send_raw(icmp_about_default_flow());
  b.pull();
  EXPECT_EQ(b.count(Counter::drop_ip_protocol), 2u);
}

TEST(Device, pull_frames__garbage_is_counted_and_dropped) {
  Bench b;
  for (uint64_t i = 0; i < 50; ++i) b.send_raw(pattern(14 + i * 7, i));
  b.pull();
  EXPECT_TRUE(b.poll().empty());
  EXPECT_EQ(b.count(Counter::rx_frame), 50u);
}

TEST(Device, pull_frames__a_full_completion_queue_holds_the_burst_back) {
  Bench b({.cq_entries = 8});
  for (uint16_t i = 0; i < 20; ++i) b.send({.flags = kSyn, .remote_port = static_cast<uint16_t>(100 + i)});
  size_t polled = 0;
  EXPECT_EQ(b.pull(), 8u);
  EXPECT_EQ(b.pull(), 0u);
  EXPECT_GE(b.count(Counter::cq_backpressure), 2u);
  for (int i = 0; i < 10; ++i) {
    polled += b.poll().size();
    b.pull();
  }
  EXPECT_EQ(polled, 20u);
  EXPECT_EQ(b.count(Counter::drop_cq_full), 0u);
}

TEST(Device, D9_pull_frames__the_fill_ring_leaves_frames_for_sending) {
  Bench b({}, {.ring_entries = 4096}, 256);
  EXPECT_EQ(b.pool().free_count(), 128u);
  for (int i = 0; i < 300; ++i) {
    b.receive({{.seq = 1000u + static_cast<uint32_t>(i), .payload = pattern(1, 1)}});
    EXPECT_GE(b.pool().free_count(), 128u);
  }
  EXPECT_EQ(b.count(Counter::rx_frame), 300u);
}

TEST(Device, D13_arm__notifies_once_for_the_wanted_kind) {
  Bench b;
  b.bind();
  int notified = 0;
  const auto notify = [](void* n) { ++*static_cast<int*>(n); };
  uint32_t seq = 1000;
  const auto data = [&](uint8_t flags) {
    b.receive({{.seq = seq, .payload = pattern(10, 1), .flags = flags}});
    seq += 10;
  };
  data(kAck);
  EXPECT_EQ(notified, 0);
  b.device().arm(Device::Arm::kAny, notify, &notified);
  data(kAck);
  data(kAck);
  EXPECT_EQ(notified, 1);
  b.device().arm(Device::Arm::kSolicited, notify, &notified);
  data(kAck);
  EXPECT_EQ(notified, 1);
  data(kAck | kPsh);
  EXPECT_EQ(notified, 2);
  b.device().arm(Device::Arm::kSolicited, notify, &notified);
  b.receive({{.remote_port = 1}});  // of no flow
  EXPECT_EQ(notified, 3);
  b.device().arm(Device::Arm::kAny, notify, &notified);
  b.device().arm(Device::Arm::kNone, nullptr, nullptr);
  data(kAck);
  EXPECT_EQ(notified, 3);
}

}  // namespace
}  // namespace tto::device
