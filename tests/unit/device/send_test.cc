// Send requests to frames: D7, D8, D9, D11, D12, D15.
#include "tests/unit/device/device_bench.hh"

namespace tto::device {
namespace {

constexpr StreamOffset kStart = (uint64_t{1} << 32) | 5000;

/// The joined payload of frames that must be in stream order without gaps, checksums right.
Bytes joined(const std::vector<SentFrame>& frames, StreamOffset begin) {
  Bytes all;
  for (const SentFrame& f : frames) {
    EXPECT_TRUE(f.checksum_ok);
    EXPECT_EQ(f.view.tcp.seq, wire::narrow(begin + all.size()));
    all.insert(all.end(), f.payload.begin(), f.payload.end());
  }
  return all;
}

TEST(Segmenter, D8_push_frames__a_pseudo_frame_is_cut_into_segments) {
  for (const bool with_sum : {true, false}) {
    Bench b;
    const FlowId id = b.bind();
    const auto head = b.queue_payload(kStart, {1448, 1448, 77}, kSlot, with_sum);
    SendRequest request = Bench::request(id, kStart, kStart + 2973, head, 1448, kAck | kPsh | kFin | kCwr);
    request.segment.options.has_timestamps = true;
    request.segment.options.ts_val = 4711;
    request.segment.ecn = wire::kEct0;
    ASSERT_EQ(b.device().post_send(request), SendStatus::kOk);
    EXPECT_EQ(b.push(), 3u);
    const auto frames = b.sent();
    ASSERT_EQ(frames.size(), 3u);
    EXPECT_EQ(joined(frames, kStart), Bench::stream(kStart, kStart + 2973));
    const uint8_t flags[] = {kAck | kCwr, kAck, kAck | kPsh | kFin};
    for (size_t i = 0; i < 3; ++i) {
      const wire::FrameView& v = frames[i].view;
      EXPECT_EQ(v.tcp.flags, flags[i]);
      EXPECT_EQ(v.tcp.ack.raw, 1000u);
      EXPECT_EQ(v.tcp.window, 321u);
      EXPECT_EQ(v.tcp.options.ts_val, 4711u);
      EXPECT_EQ(v.tos, wire::kEct0);
      EXPECT_EQ(v.ip_id, frames[0].view.ip_id + i);
      EXPECT_EQ(v.destination, address(false, 2));
      EXPECT_EQ(v.tcp.destination_port, 40000);
    }
    b.push();  // takes back what was sent
    for (auto f = head; f; f = memory::FrameHandle{b.pool().desc(f).next}) {
      EXPECT_EQ(b.pool().desc(f).state, TTO_FRAME_TX_QUEUED);
      EXPECT_EQ(b.pool().desc(f).transmissions, 1);
    }
    b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
  }
}

TEST(Segmenter, D8_push_frames__ipv6_vlan_and_a_whole_64k_request) {
  Bench b;
  const FlowKey key = key_of(40000, true, 80, 0);
  const FlowId id = b.device().bind_flow(key, 1, kSlot);
  PathHeaders path;
  path.vlan = 12;
  path.tos = 0x28;
  path.ttl = 33;
  b.device().set_path(id, path);
  std::vector<uint16_t> sizes(46, 1421);  // odd sizes: every second sum is at an odd offset of nothing
  const StreamOffset end = kStart + 46 * 1421;
  const auto head = b.queue_payload(kStart, sizes);
  ASSERT_EQ(b.device().post_send(Bench::request(id, kStart, end, head)), SendStatus::kOk);
  EXPECT_EQ(b.push(), 46u);
  const auto frames = b.sent();
  EXPECT_EQ(joined(frames, kStart), Bench::stream(kStart, end));
  EXPECT_EQ(frames.at(0).view.vlan, 12);
  EXPECT_EQ(frames.at(0).view.tos, 0x28);
  EXPECT_EQ(frames.at(0).view.ttl, 33);
  b.push();
  b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
}

TEST(Segmenter, D8_push_frames__the_urgent_pointer_keeps_pointing_at_its_byte) {
  Bench b;
  const FlowId id = b.bind();
  const auto head = b.queue_payload(kStart, {100, 100, 100});
  SendRequest request = Bench::request(id, kStart, kStart + 300, head, 1448, kAck | kUrg);
  request.segment.urgent_pointer = 150;
  ASSERT_EQ(b.device().post_send(request), SendStatus::kOk);
  b.push();
  const auto frames = b.sent();
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(frames[0].view.tcp.urgent_pointer, 150);
  EXPECT_EQ(frames[1].view.tcp.urgent_pointer, 50);
  EXPECT_EQ(frames[2].view.tcp.flags, kAck);
  b.push();
  b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
}

TEST(Segmenter, D8_push_frames__a_jumbo_segment_is_several_frames) {
  for (const uint32_t max_slices : {1u, 2u, 18u}) {
    Bench b({}, {.mtu_bytes = 9000, .max_slices = max_slices});
    const FlowId id = b.bind();
    const auto head = b.queue_payload(kStart, {2983, 2983, 2981, 2983, 2983, 99});
    const StreamOffset end = kStart + 15012;
    ASSERT_EQ(b.device().post_send(Bench::request(id, kStart, end, head, 8948)), SendStatus::kOk);
    EXPECT_EQ(b.push(), max_slices == 1 ? 6u : max_slices == 2 ? 3u : 2u);
    EXPECT_EQ(joined(b.sent(), kStart), Bench::stream(kStart, end));
    b.push();
    b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
  }
}

TEST(Segmenter, push_frames__a_segment_without_payload_has_a_frame_of_its_own) {
  Bench b;
  const FlowId id = b.bind();
  const size_t free = b.pool().free_count();
  for (const uint8_t flags : {kSyn, kAck, kRst}) {
    ASSERT_EQ(b.device().post_send(Bench::request(id, kStart, kStart, {}, 0, flags)), SendStatus::kOk);
  }
  EXPECT_EQ(b.push(), 3u);
  const auto frames = b.sent();
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(frames[2].view.tcp.flags, kRst);
  EXPECT_EQ(frames[2].view.tcp.seq, wire::narrow(kStart));
  EXPECT_EQ(b.pool().free_count(), free - 3);
  b.push();
  EXPECT_EQ(b.pool().free_count(), free);
}

TEST(Segmenter, push_frames__an_empty_pool_loses_an_ack_but_not_data) {
  Bench b({}, {}, 64);
  const FlowId id = b.bind();
  const auto head = b.queue_payload(kStart, {100});
  std::vector<memory::FrameHandle> hoard;
  while (const auto f = b.pool().take(TTO_FRAME_TX_QUEUED)) hoard.push_back(f);
  ASSERT_EQ(b.device().post_send(Bench::request(id, kStart, kStart, {})), SendStatus::kOk);
  ASSERT_EQ(b.device().post_send(Bench::request(id, kStart, kStart + 100, head)), SendStatus::kOk);
  EXPECT_EQ(b.push(), 1u);
  EXPECT_EQ(b.sent().size(), 1u);
  EXPECT_EQ(b.count(Counter::sq_no_frame), 1u);
  EXPECT_FALSE(b.device().has_work_queued());
  b.push();
  for (const auto f : hoard) b.pool().drop(f, TTO_FRAME_TX_QUEUED);
  b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
}

TEST(Segmenter, push_frames__a_full_transmit_ring_keeps_the_rest_for_later) {
  Bench b({}, {.ring_entries = 4});
  const FlowId id = b.bind();
  const auto head = b.queue_payload(kStart, std::vector<uint16_t>(10, 200));
  SendRequest request = Bench::request(id, kStart, kStart + 2000, head, 1448, kAck | kPsh);
  request.signaled = true;
  request.wr_id = 5;
  ASSERT_EQ(b.device().post_send(request), SendStatus::kOk);
  ASSERT_EQ(b.device().post_send(Bench::request(id, kStart + 2000, kStart + 2000, {}, 0, kAck | kFin)),
            SendStatus::kOk);
  Bytes all;
  std::array<SendCompletion, 2> done;
  for (const size_t expected : {4u, 4u, 3u}) {
    EXPECT_TRUE(b.device().has_work_queued());
    EXPECT_EQ(b.device().poll_sends(done), 0u);
    EXPECT_EQ(b.push(), expected);
    const auto frames = b.sent();
    const Bytes more = joined(frames, kStart + all.size());
    all.insert(all.end(), more.begin(), more.end());
  }
  EXPECT_EQ(all, Bench::stream(kStart, kStart + 2000));
  EXPECT_EQ(b.count(Counter::tx_ring_full), 2u);
  ASSERT_EQ(b.device().poll_sends(done), 1u);
  EXPECT_EQ(done[0].wr_id, 5u);
  EXPECT_EQ(done[0].sent_to, kStart + 2000);
  EXPECT_EQ(done[0].status, SendStatus::kOk);
  b.push();
  EXPECT_FALSE(b.device().has_work_queued());
  b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
}

TEST(Segmenter, push_frames__a_frame_the_port_still_has_is_not_touched) {
  Bench b;
  const FlowId id = b.bind();
  const auto head = b.queue_payload(kStart, {100, 100});
  ASSERT_EQ(b.device().post_send(Bench::request(id, kStart, kStart + 200, head)), SendStatus::kOk);
  EXPECT_EQ(b.device().push_frames(b.port(), b.now), 2u);  // no kick: still on the ring
  SendRequest again = Bench::request(id, kStart, kStart + 200, head, 1448, kAck | kFin);
  again.segment.is_retransmission = true;
  again.segment.window = 999;
  ASSERT_EQ(b.device().post_send(again), SendStatus::kOk);
  EXPECT_EQ(b.push(), 1u);  // the FIN alone, which the first transmission did not carry
  EXPECT_EQ(b.count(Counter::sq_still_in_flight), 2u);
  const auto frames = b.sent();
  ASSERT_EQ(frames.size(), 3u);
  EXPECT_EQ(frames[0].view.tcp.window, 321);
  EXPECT_EQ(frames[2].view.tcp.flags, kAck | kFin);
  EXPECT_EQ(frames[2].view.tcp.seq, wire::narrow(kStart + 200));
  ASSERT_EQ(b.device().post_send(again), SendStatus::kOk);
  EXPECT_EQ(b.push(), 2u);
  EXPECT_EQ(b.sent().at(0).view.tcp.window, 999);
  b.push();
  b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
}

TEST(Segmenter, push_frames__a_request_whose_frames_were_freed_meanwhile_sends_nothing_foreign) {
  Bench b({}, {.ring_entries = 2});
  const FlowId id = b.bind();
  const auto head = b.queue_payload(kStart, {100, 100, 100, 100});
  SendRequest request = Bench::request(id, kStart, kStart + 400, head);
  request.signaled = true;
  ASSERT_EQ(b.device().post_send(request), SendStatus::kOk);
  EXPECT_EQ(b.push(), 2u);
  b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);  // acknowledged
  const auto other = b.queue_payload(kStart + 5000, {100, 100});
  EXPECT_EQ(b.push(), 0u);
  EXPECT_EQ(b.count(Counter::sq_stale), 1u);
  std::array<SendCompletion, 1> done;
  ASSERT_EQ(b.device().poll_sends(done), 1u);
  EXPECT_EQ(done[0].status, SendStatus::kBadBuffer);
  EXPECT_EQ(done[0].sent_to, kStart + 200);
  EXPECT_EQ(b.sent().size(), 2u);
  b.pool().drop_chain(other, TTO_FRAME_TX_QUEUED);
}

TEST(Segmenter, push_frames__requests_of_a_flow_that_is_gone_are_discarded) {
  Bench b;
  const FlowId id = b.bind();
  ASSERT_EQ(b.device().post_send(Bench::request(id, kStart, kStart, {})), SendStatus::kOk);
  b.device().unbind_flow(id);
  b.bind();
  EXPECT_EQ(b.push(), 0u);
  EXPECT_EQ(b.count(Counter::sq_stale), 1u);
  EXPECT_EQ(b.device().post_send(Bench::request(id, kStart, kStart, {})), SendStatus::kNotOwner);
}

TEST(Segmenter, D9_post_send__a_full_send_queue_says_so) {
  Bench b({.sq_entries = 4});
  const FlowId id = b.bind();
  SendRequest request = Bench::request(id, kStart, kStart, {});
  for (int i = 0; i < 4; ++i) EXPECT_EQ(b.device().post_send(request), SendStatus::kOk);
  EXPECT_EQ(b.device().post_send(request), SendStatus::kNoSpace);
  b.push();
  EXPECT_EQ(b.device().post_send(request), SendStatus::kOk);
  b.push();
  request.signaled = true;
  for (int i = 0; i < 4; ++i, b.push()) EXPECT_EQ(b.device().post_send(request), SendStatus::kOk);
  EXPECT_EQ(b.device().post_send(request), SendStatus::kNoSpace);  // nobody polled
  std::array<SendCompletion, 8> done;
  EXPECT_EQ(b.device().poll_sends(done), 4u);
  EXPECT_EQ(b.device().post_send(request), SendStatus::kOk);
  b.push();
}

TEST(Segmenter, D11_post_send__every_frame_named_is_checked_and_nothing_is_touched) {
  Bench b;
  const FlowId id = b.bind();
  const auto head = b.queue_payload(kStart, {100, 100});
  const auto tail = memory::FrameHandle{b.pool().desc(head).next};
  const tto_frame_desc good = b.pool().desc(tail);
  const auto post = [&] { return b.device().post_send(Bench::request(id, kStart, kStart + 200, head)); };
  const auto spoil = [&](auto change) {
    b.pool().desc(tail) = good;
    change(b.pool().desc(tail));
    const SendStatus status = post();
    b.pool().desc(tail) = good;
    return status;
  };
  EXPECT_EQ(spoil([](auto& d) { d.owner = kSlot + 1; }), SendStatus::kNotOwner);
  EXPECT_EQ(spoil([](auto& d) { d.state = TTO_FRAME_RX_QUEUED; }), SendStatus::kNotOwner);
  EXPECT_EQ(spoil([](auto& d) { d.data_offset = 4000; }), SendStatus::kBadBuffer);
  EXPECT_EQ(spoil([](auto& d) { d.data_offset = 30; }), SendStatus::kBadBuffer);  // no room for headers
  EXPECT_EQ(spoil([](auto& d) { d.data_bytes = 0; }), SendStatus::kBadBuffer);
  EXPECT_EQ(spoil([](auto& d) { d.data_bytes = 101; }), SendStatus::kBadBuffer);  // leaves the request
  EXPECT_EQ(spoil([](auto& d) { d.stream_offset += 1; }), SendStatus::kBadBuffer);
  const auto at = [&](uint32_t handle) {
    return b.device().post_send(Bench::request(id, kStart, kStart + 200, memory::FrameHandle{handle}));
  };
  EXPECT_EQ(at(TTO_FRAME_NULL), SendStatus::kBadBuffer);
  EXPECT_EQ(at(memory::FrameHandle::make(0, 1024).raw), SendStatus::kBadBuffer);
  EXPECT_EQ(at(memory::FrameHandle::make(3, 0).raw), SendStatus::kBadBuffer);
  EXPECT_EQ(at(memory::FrameHandle::make(200, 0).raw), SendStatus::kBadBuffer);
  EXPECT_EQ(b.device().post_send(Bench::request(id, kStart, kStart + 300, head)),
            SendStatus::kBadBuffer);  // ends early
  EXPECT_EQ(b.device().post_send(Bench::request(id, kStart, kStart + 200, head, 99)), SendStatus::kTooLong);
  EXPECT_EQ(b.device().post_send(Bench::request(id, kStart, kStart + (uint64_t{1} << 40), head)), SendStatus::kTooLong);
  EXPECT_EQ(b.count(Counter::sq_refused), 14u);
  EXPECT_EQ(b.push(), 0u);
  EXPECT_EQ(post(), SendStatus::kOk);
  EXPECT_EQ(b.push(), 2u);
  b.push();
  b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
}

TEST(Segmenter, D12_send_unbound__nobody_speaks_for_a_flow_that_has_an_owner) {
  Bench b;
  b.bind(1);
  tcp::SegmentOut reset;
  reset.seq = 77;
  reset.flags = kRst;
  EXPECT_FALSE(b.device().send_unbound(b.port(), key_of(1), {}, reset, b.now));
  EXPECT_TRUE(b.device().send_unbound(b.port(), key_of(2), {}, reset, b.now));
  b.port().kick(false);
  const auto frames = b.sent();
  ASSERT_EQ(frames.size(), 1u);
  // Swapping source and destination of the frame gives the key it was sent for.
  EXPECT_EQ(frames[0].view.tuple().remote, key_of(2).tuple.local);
  EXPECT_EQ(frames[0].view.tuple().remote_port, 80);
  EXPECT_EQ(frames[0].view.tuple().local_port, 2);
  EXPECT_EQ(frames[0].view.tcp.flags, kRst);
  b.push();
}

TEST(Segmenter, D15_push_frames__look_ahead_groups_by_flow_and_keeps_each_flow_in_order) {
  uint64_t loads[2];
  for (const bool look_ahead : {false, true}) {
    Bench b({.look_ahead = look_ahead});
    FlowId flows[3];
    for (uint16_t f = 0; f < 3; ++f) flows[f] = b.bind(static_cast<uint16_t>(1 + f));
    for (uint32_t i = 0; i < 12; ++i) {
      ASSERT_EQ(b.device().post_send(Bench::request(flows[i % 3], kStart + i, kStart + i, {})), SendStatus::kOk);
    }
    EXPECT_EQ(b.push(), 12u);
    uint32_t last[4] = {};
    for (const SentFrame& f : b.sent()) {
      EXPECT_GT(f.view.tcp.seq.raw, last[f.view.tcp.destination_port]);
      last[f.view.tcp.destination_port] = f.view.tcp.seq.raw;
    }
    EXPECT_FALSE(b.device().has_work_queued());
    loads[look_ahead] = b.count(Counter::sq_context_load);
    b.push();
  }
  EXPECT_EQ(loads[false], 12u);
  EXPECT_EQ(loads[true], 3u);
}

TEST(Segmenter, D15_push_frames__a_full_ring_in_the_middle_of_looking_ahead_reorders_nothing) {
  Bench b({}, {.ring_entries = 2});
  const FlowId one = b.bind(1), two = b.bind(2);
  const auto head = b.queue_payload(kStart, {10, 10, 10, 10, 10});
  ASSERT_EQ(b.device().post_send(Bench::request(one, kStart, kStart + 10, head)), SendStatus::kOk);
  ASSERT_EQ(b.device().post_send(Bench::request(two, kStart, kStart, {})), SendStatus::kOk);
  ASSERT_EQ(b.device().post_send(
                Bench::request(one, kStart + 10, kStart + 40, memory::FrameHandle{b.pool().desc(head).next})),
            SendStatus::kOk);
  const auto last = b.queue_payload(kStart + 40, {10});
  ASSERT_EQ(b.device().post_send(Bench::request(one, kStart + 40, kStart + 50, last)), SendStatus::kOk);
  std::vector<SentFrame> to_one;
  size_t to_two = 0;
  for (int i = 0; i < 4; ++i) {
    b.push();
    for (SentFrame& f : b.sent()) {
      if (f.view.tcp.destination_port == 1) {
        to_one.push_back(std::move(f));
      } else {
        ++to_two;
      }
    }
  }
  EXPECT_EQ(to_two, 1u);
  EXPECT_EQ(joined(to_one, kStart), Bench::stream(kStart, kStart + 50));
  b.push();
  b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
  b.pool().drop_chain(last, TTO_FRAME_TX_QUEUED);
}

}  // namespace
}  // namespace tto::device
