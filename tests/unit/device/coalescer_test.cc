// The coalescer's rules: D3–D6, and placement into posted buffers (D10, D16).
#include "libtto/device/payload.hh"
#include "tests/unit/device/device_bench.hh"

namespace tto::device {
namespace {

using Received = Bench::Received;

/// Two in-order segments, then `third`: why was what came first delivered, and in how many pieces did all come up?
std::vector<Received> after_two(Bench& b, const PeerSegment& third) {
  b.bind();
  return b.receive({{.seq = 1000, .payload = pattern(100, 1)}, {.seq = 1100, .payload = pattern(100, 2)}, third});
}

TEST(Coalescer, D3_pull_frames__in_order_segments_become_one_aggregate) {
  Bench b;
  b.bind();
  const auto got = b.receive({{.seq = 1000, .payload = pattern(1448, 1)},
                              {.seq = 2448, .payload = pattern(1448, 2)},
                              {.seq = 3896, .payload = pattern(100, 3)}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.segment.payload_bytes, 2996u);
  EXPECT_EQ(got[0].completion.segment.segments_merged, 3u);
  EXPECT_EQ(got[0].completion.segment.largest_segment_bytes, 1448u);
  EXPECT_EQ(b.count(Counter::rx_segment_merged), 2u);
  Bytes all = pattern(1448, 1);
  for (const Bytes& more : {pattern(1448, 2), pattern(100, 3)}) all.insert(all.end(), more.begin(), more.end());
  EXPECT_EQ(got[0].payload, all);
}

TEST(Coalescer, D3_pull_frames__segments_merge_across_the_wrap_of_sequence_numbers) {
  Bench b;
  b.bind();
  const auto got = b.receive({{.seq = 0xffffff9c, .payload = pattern(100, 1)}, {.seq = 0, .payload = pattern(100, 2)}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.segment.payload_bytes, 200u);
}

TEST(Coalescer, D3_pull_frames__coalescing_can_be_turned_off) {
  Bench b({.coalesce = false});
  EXPECT_EQ(after_two(b, {.seq = 1200, .payload = pattern(1, 1)}).size(), 3u);
  EXPECT_EQ(b.count(Counter::aggregate_not_gathered), 3u);
}

TEST(Coalescer, D4_burst_end__with_the_ring_empty_nothing_is_held_back) {
  Bench b;
  const auto got = after_two(b, {.seq = 1200, .payload = pattern(100, 3)});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.termination, Termination::kBurstEnd);
  EXPECT_EQ(b.count(Counter::aggregate_burst_end), 1u);
  EXPECT_EQ(b.device().next_deadline(), kNever);
}

TEST(Coalescer, D4_burst_end__while_the_ring_has_more_gathering_goes_on_but_not_for_long) {
  Bench b;
  b.bind();
  for (uint32_t i = 0; i < 6; ++i) b.send({.seq = 1000 + i * 10, .payload = pattern(10, i)});
  b.pull(2);
  EXPECT_TRUE(b.poll().empty());
  b.pull(2);
  EXPECT_TRUE(b.poll().empty());
  EXPECT_EQ(b.device().next_deadline(), b.now + microseconds(200));
  b.now = b.now + microseconds(200);
  b.device().expire(b.now);
  const auto got = b.poll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.segment.segments_merged, 4);
  EXPECT_EQ(got[0].completion.termination, Termination::kAggregationTimer);
}

TEST(Coalescer, D4_out_of_order__delivers_what_was_gathered_and_goes_up_alone) {
  Bench b;
  const auto got = after_two(b, {.seq = 1300, .payload = pattern(100, 3)});
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].completion.termination, Termination::kOutOfOrder);
  EXPECT_EQ(got[0].completion.segment.payload_bytes, 200u);
  EXPECT_EQ(got[1].completion.segment.seq.raw, 1300u);
  // The hole stays expected: each further segment is a duplicate ACK's cause and goes up alone, the filling one merges.
  EXPECT_EQ(b.receive({{.seq = 1400, .payload = pattern(100, 4)}, {.seq = 1500, .payload = pattern(100, 4)}}).size(),
            2u);
  EXPECT_EQ(b.receive({{.seq = 1200, .payload = pattern(50, 4)}, {.seq = 1250, .payload = pattern(50, 4)}}).size(), 1u);
}

TEST(Coalescer, D4_out_of_order__old_data_and_old_acks_too) {
  Bench b;
  EXPECT_EQ(after_two(b, {.seq = 1000, .payload = pattern(100, 1)}).size(), 2u);
  const auto got = b.receive(
      {{.seq = 1200, .payload = pattern(10, 1), .ack = 5100}, {.seq = 1210, .payload = pattern(10, 1), .ack = 5050}});
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].completion.termination, Termination::kOutOfOrder);
}

TEST(Coalescer, D4_flags__psh_and_fin_close_the_aggregate_they_are_in) {
  for (const uint8_t flag : {kPsh, kFin}) {
    Bench b;
    const auto got =
        after_two(b, {.seq = 1200, .payload = pattern(100, 3), .flags = static_cast<uint8_t>(kAck | flag)});
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].completion.termination, Termination::kFlags);
    EXPECT_EQ(got[0].completion.segment.flags, kAck | flag);
    EXPECT_EQ(got[0].completion.segment.payload_bytes, 300u);
  }
  Bench b;
  const auto got = after_two(b, {.seq = 1200, .flags = kAck | kFin});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.segment.payload_bytes, 200u);
}

TEST(Coalescer, D4_flags__any_other_flag_goes_up_alone_after_what_was_gathered) {
  for (const uint8_t flag : {kRst, kSyn, kUrg, kEce, kCwr}) {
    Bench b;
    const auto got =
        after_two(b, {.seq = 1200, .payload = pattern(100, 3), .flags = static_cast<uint8_t>(kAck | flag)});
    ASSERT_EQ(got.size(), 2u);
    EXPECT_EQ(got[0].completion.termination, Termination::kFlags);
    EXPECT_EQ(got[0].completion.segment.flags, kAck);
    EXPECT_EQ(got[1].completion.segment.flags, kAck | flag);
    EXPECT_EQ(got[1].completion.segment.payload_bytes, 100u);
  }
  Bench b;
  EXPECT_EQ(after_two(b, {.seq = 1200, .payload = pattern(1, 3), .flags = 0}).size(), 2u);
}

TEST(Coalescer, D4_sack_present__goes_up_alone) {
  Bench b;
  PeerSegment sack{.seq = 1200, .payload = pattern(100, 3)};
  sack.options.sack_count = 1;
  sack.options.sack[0] = {{6000}, {7000}};
  const auto got = after_two(b, sack);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].completion.termination, Termination::kSackPresent);
  EXPECT_EQ(got[1].completion.segment.options.sack[0].right.raw, 7000u);
}

TEST(Coalescer, D4_tos_changed__an_ecn_mark_is_never_mixed_with_unmarked_segments) {
  Bench b;
  const auto got = after_two(b, {.seq = 1200, .payload = pattern(100, 3), .tos = wire::kCe});
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].completion.termination, Termination::kTosChanged);
  EXPECT_EQ(got[0].completion.segment.ip_tos, 0);
  EXPECT_EQ(got[1].completion.segment.ip_tos, wire::kCe);
}

TEST(Coalescer, D4_acked_bytes__much_acknowledged_is_not_held_back) {
  Bench b({.receive_acked_bytes_aggregation = 1000, .timeout_aggregation = milliseconds(1)});
  b.bind();
  b.receive({{.seq = 1000, .payload = pattern(1, 1), .flags = kAck | kPsh, .ack = 5000}});
  EXPECT_TRUE(b.receive({{.seq = 1001, .ack = 5500}, {.seq = 1001, .ack = 6000}}).empty());
  const auto got = b.receive({{.seq = 1001, .ack = 6001}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.termination, Termination::kAckedBytes);
  EXPECT_EQ(got[0].completion.segment.ack.raw, 6001u);
}

TEST(Coalescer, D4_ack_age__the_first_packet_that_advances_the_ack_starts_the_clock) {
  Bench b({.timeout_ack_aggregation = microseconds(300), .timeout_aggregation = milliseconds(1)});
  b.bind();
  b.receive({{.seq = 1000, .payload = pattern(1, 1), .flags = kAck | kPsh}});
  b.receive({{.seq = 1001, .payload = pattern(1, 1)}});
  EXPECT_EQ(b.device().next_deadline(), b.now + milliseconds(1));
  b.now = b.now + microseconds(100);
  b.receive({{.seq = 1002, .payload = pattern(1, 1), .ack = 5001}});
  EXPECT_EQ(b.device().next_deadline(), b.now + microseconds(300));
  b.now = b.now + microseconds(299);
  b.receive({{.seq = 1003, .payload = pattern(1, 1), .ack = 5002}});  // does not move it
  b.device().expire(b.now);
  EXPECT_TRUE(b.poll().empty());
  b.now = b.now + microseconds(1);
  b.device().expire(b.now);
  const auto got = b.poll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.termination, Termination::kAckAge);
}

TEST(Coalescer, D4_aggregation_timer__set_by_the_first_packet_not_moved_by_later_ones) {
  Bench b({.timeout_aggregation = milliseconds(1)});
  b.bind();
  b.receive({{.seq = 1000, .payload = pattern(1, 1)}});
  const Instant due = b.now + milliseconds(1);
  b.now = b.now + microseconds(999);
  b.receive({{.seq = 1001, .payload = pattern(1, 1)}});
  EXPECT_EQ(b.device().next_deadline(), due);
  b.device().expire(b.now);
  EXPECT_TRUE(b.poll().empty());
  b.device().expire(due);
  const auto got = b.poll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.termination, Termination::kAggregationTimer);
  EXPECT_EQ(got[0].completion.segment.segments_merged, 2);
}

TEST(Coalescer, D4_aggregation_length__ral_is_never_passed) {
  Bench b({.ral_bytes = 300});
  b.bind();
  const auto got = b.receive({{.seq = 1000, .payload = pattern(200, 1)},
                              {.seq = 1200, .payload = pattern(150, 2)},
                              {.seq = 1350, .payload = pattern(150, 3)},
                              {.seq = 1500, .payload = pattern(10, 4)}});
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0].completion.segment.payload_bytes, 200u);
  EXPECT_EQ(got[0].completion.termination, Termination::kAggregationLength);
  EXPECT_EQ(got[1].completion.segment.payload_bytes, 300u);
  EXPECT_EQ(got[1].completion.termination, Termination::kAggregationLength);
  EXPECT_EQ(got[2].completion.segment.payload_bytes, 10u);
}

TEST(Coalescer, D4_bulk_interval__a_stream_of_full_segments_is_delivered_once_in_a_while_and_its_end_at_once) {
  Bench b({.bulk_interval = microseconds(25)});
  b.bind();
  uint32_t seq = 1000;
  const auto full = [&](uint8_t flags = kAck) {
    seq += 1448;
    return PeerSegment{.seq = seq - 1448, .payload = pattern(1448, 1), .flags = flags};
  };
  EXPECT_EQ(b.receive({full()}).size(), 1u) << "after a pause nothing is held";
  b.now = b.now + microseconds(5);
  EXPECT_TRUE(b.receive({full()}).empty());
  EXPECT_EQ(b.device().next_deadline(), b.now + microseconds(20));
  b.now = b.now + microseconds(10);
  EXPECT_TRUE(b.receive({full(), full()}).empty());
  b.now = b.now + microseconds(10);
  b.pull();
  b.device().expire(b.now);
  const auto got = b.poll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.segment.segments_merged, 3u);
  b.now = b.now + microseconds(1);
  EXPECT_EQ(b.receive({full(kAck | kPsh)}).size(), 1u) << "the sender has no more for now";
  b.now = b.now + microseconds(1);
  EXPECT_TRUE(b.receive({full()}).empty());
  b.now = b.now + microseconds(30);
  EXPECT_EQ(b.receive({full()}).size(), 1u) << "the interval is over when the next one comes";
}

TEST(Coalescer, D4_bulk_interval__small_segments_and_acks_do_not_wait) {
  Bench b({.bulk_interval = microseconds(25)});
  b.bind();
  for (uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(b.receive({{.seq = 1000 + 100 * i, .payload = pattern(100, i)}}).size(), 1u);
    EXPECT_EQ(b.receive({{.seq = 1100 + 100 * i, .ack = 5001 + i}}).size(), 1u);
  }
}

TEST(Coalescer, D4_retired__what_a_flow_gathered_outlives_its_entry) {
  Bench b({.timeout_aggregation = milliseconds(1)});
  const FlowId id = b.bind();
  EXPECT_TRUE(b.receive({{.payload = pattern(100, 1)}}).empty());
  b.device().unbind_flow(id);
  const auto got = b.poll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.termination, Termination::kRetired);
  EXPECT_EQ(got[0].payload, pattern(100, 1));
  EXPECT_EQ(got[0].completion.cookie, 0u);
}

TEST(Coalescer, D4_options_changed__timestamps_that_vanish_or_go_back_start_anew) {
  for (const bool vanish : {false, true}) {
    Bench b;
    b.bind();
    PeerSegment one{.seq = 1000, .payload = pattern(10, 1)}, two{.seq = 1010, .payload = pattern(10, 2)};
    one.options.has_timestamps = true;
    one.options.ts_val = 500;
    two.options.has_timestamps = !vanish;
    two.options.ts_val = vanish ? 0 : 499;
    const auto got = b.receive({one, two});
    ASSERT_EQ(got.size(), 2u);
    EXPECT_EQ(got[0].completion.termination, Termination::kOptionsChanged);
  }
}

TEST(Coalescer, D5_pure_acks__become_one_cumulative_ack) {
  Bench b;
  b.bind();
  const auto got = b.receive({{.ack = 5000, .window = 10},
                              {.ack = 6000, .window = 10},
                              {.ack = 7000, .window = 9},
                              {.ack = 7000, .window = 12}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.segment.ack.raw, 7000u);
  EXPECT_EQ(got[0].completion.segment.window, 12);
  EXPECT_EQ(got[0].completion.segment.acks_merged, 4);
  EXPECT_EQ(got[0].completion.segment.segments_merged, 4);
  EXPECT_EQ(got[0].completion.frame_count, 0u);
}

TEST(Coalescer, D5_duplicate_acks__deliver_what_is_pending_and_go_up_alone) {
  Bench b;
  b.bind();
  const auto got =
      b.receive({{.ack = 5000}, {.ack = 6000}, {.ack = 6000}, {.ack = 6000}, {.ack = 6000}, {.ack = 7000}});
  ASSERT_EQ(got.size(), 5u);
  EXPECT_EQ(got[0].completion.termination, Termination::kDuplicateAck);
  EXPECT_EQ(got[0].completion.segment.acks_merged, 2);
  for (size_t i = 1; i < 4; ++i) {
    EXPECT_EQ(got[i].completion.segment.segments_merged, 1);
    EXPECT_EQ(got[i].completion.segment.acks_merged, 0);
  }
  EXPECT_EQ(got[4].completion.segment.ack.raw, 7000u);
  EXPECT_EQ(b.receive({{.ack = 7000}, {.ack = 7000}}).size(), 2u);  // also with nothing pending
}

TEST(Coalescer, D6_header__first_last_sum_and_minimum) {
  Bench b;
  b.bind();
  std::vector<PeerSegment> segments;
  for (uint32_t i = 0; i < 3; ++i) {
    PeerSegment s{.seq = 1000 + i * 100,
                  .payload = pattern(100, i),
                  .ack = 5000 + i * 10,
                  .window = static_cast<uint16_t>(500 - i),
                  .tos = 0x20,
                  .ttl = static_cast<uint8_t>(i == 1 ? 50 : 60)};
    s.options.has_timestamps = true;
    s.options.ts_val = 900 + i;
    s.options.ts_ecr = 300 + i;
    segments.push_back(s);
  }
  const auto got = b.receive(segments);
  ASSERT_EQ(got.size(), 1u);
  const tcp::SegmentIn& s = got[0].completion.segment;
  EXPECT_EQ(s.seq.raw, 1000u);
  EXPECT_EQ(s.ack.raw, 5020u);
  EXPECT_EQ(s.window, 498);
  EXPECT_EQ(s.options.ts_val, 900u);
  EXPECT_EQ(s.options.ts_ecr, 300u);
  EXPECT_EQ(s.payload_bytes, 300u);
  EXPECT_EQ(s.ip_tos, 0x20);
  EXPECT_EQ(s.ip_ttl, 50);
  EXPECT_EQ(s.segments_merged, 3);
  EXPECT_EQ(s.acks_merged, 0);
}

TEST(Coalescer, D6_frames__carry_their_part_and_place_in_the_stream) {
  Bench b;
  b.bind();
  b.send({.seq = 1000, .payload = pattern(100, 1)});
  b.send({.seq = 1100, .payload = pattern(70, 2)});
  b.pull();
  std::array<ReceiveCompletion, 2> out;
  ASSERT_EQ(b.device().poll(out), 1u);
  const tto_frame_desc& first = b.pool().desc(out[0].head);
  const tto_frame_desc& second = b.pool().desc(memory::FrameHandle{first.next});
  EXPECT_EQ(first.stream_offset, 1000u);
  EXPECT_EQ(first.data_bytes, 100);
  EXPECT_EQ(second.stream_offset, 1100u);
  EXPECT_EQ(second.data_bytes, 70);
  EXPECT_EQ(second.next, TTO_FRAME_NULL);
  b.pool().drop_chain(out[0].head, TTO_FRAME_RECEIVED);
}

TEST(Coalescer, D10_post_receive__in_order_payload_lies_in_the_posted_buffer) {
  Bench b;
  const FlowId id = b.bind();
  std::array<std::byte, 4096> buffer{};
  ASSERT_TRUE(b.device().post_receive(id, buffer.data() + 1, 3000, 42));
  const auto got = b.receive({{.seq = 1000, .payload = pattern(1448, 1)}, {.seq = 2448, .payload = pattern(777, 2)}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].completion.in_rq_buffer);
  EXPECT_EQ(got[0].completion.wr_id, 42u);
  EXPECT_EQ(got[0].completion.segment.payload_bytes, 2225u);
  EXPECT_FALSE(got[0].completion.head);
  EXPECT_EQ(std::memcmp(buffer.data() + 1, pattern(1448, 1).data(), 1448), 0);
  EXPECT_EQ(std::memcmp(buffer.data() + 1449, pattern(777, 2).data(), 777), 0);
  EXPECT_EQ(b.count(Counter::rq_placed_byte), 2225u);
  // The buffer is used up; the next segment stays in its frame.
  EXPECT_FALSE(b.receive({{.seq = 3225, .payload = pattern(10, 3)}}).at(0).completion.in_rq_buffer);
}

TEST(Coalescer, D10_post_receive__what_does_not_fit_completes_the_buffer_and_takes_the_next) {
  Bench b;
  const FlowId id = b.bind();
  std::array<std::byte, 150> one{};
  std::array<std::byte, 120> two{};
  std::array<std::byte, 50> three{};
  ASSERT_TRUE(b.device().post_receive(id, one.data(), 150, 1));
  ASSERT_TRUE(b.device().post_receive(id, two.data(), 120, 2));
  ASSERT_TRUE(b.device().post_receive(id, three.data(), 50, 3));
  const auto got = b.receive({{.seq = 1000, .payload = pattern(100, 1)},
                              {.seq = 1100, .payload = pattern(100, 2)},
                              {.seq = 1200, .payload = pattern(100, 3)}});
  ASSERT_EQ(got.size(), 3u);
  EXPECT_EQ(got[0].completion.wr_id, 1u);
  EXPECT_EQ(got[0].completion.termination, Termination::kBufferFull);
  EXPECT_EQ(got[1].completion.wr_id, 2u);
  EXPECT_EQ(std::memcmp(two.data(), pattern(100, 2).data(), 100), 0);
  EXPECT_FALSE(got[2].completion.in_rq_buffer);  // too small a buffer: the GRQ
  EXPECT_EQ(got[2].payload, pattern(100, 3));
  EXPECT_TRUE(b.receive({{.seq = 1300, .payload = pattern(50, 4)}}).at(0).completion.in_rq_buffer);
}

TEST(Coalescer, D10_post_receive__out_of_order_data_never_goes_there) {
  Bench b;
  const FlowId id = b.bind();
  b.receive({{.seq = 1000, .payload = pattern(100, 1)}});
  std::array<std::byte, 500> buffer{};
  ASSERT_TRUE(b.device().post_receive(id, buffer.data(), 500, 1));
  EXPECT_FALSE(b.receive({{.seq = 1200, .payload = pattern(100, 2)}}).at(0).completion.in_rq_buffer);
  EXPECT_TRUE(b.receive({{.seq = 1100, .payload = pattern(100, 2)}}).at(0).completion.in_rq_buffer);
}

TEST(Coalescer, D10_withdraw_receive__gives_the_buffer_back_with_what_lies_in_it) {
  Bench b({.timeout_aggregation = milliseconds(1)});
  const FlowId id = b.bind();
  std::array<std::byte, 500> one{}, two{};
  ASSERT_TRUE(b.device().post_receive(id, one.data(), 500, 1));
  ASSERT_TRUE(b.device().post_receive(id, two.data(), 500, 2));
  EXPECT_EQ(b.device().withdraw_receive(id, 2), 0u);
  EXPECT_EQ(b.device().withdraw_receive(id, 9), 0u);
  EXPECT_TRUE(b.receive({{.seq = 1000, .payload = pattern(100, 1)}}).empty());
  EXPECT_EQ(b.device().withdraw_receive(id, 1), 100u);
  const auto got = b.poll();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.termination, Termination::kNoBuffer);
  EXPECT_TRUE(got[0].completion.in_rq_buffer);
  b.receive({{.seq = 1100, .payload = pattern(100, 2)}});
  b.device().expire(b.now + seconds(1));
  EXPECT_EQ(b.poll().at(0).payload, pattern(100, 2));
  EXPECT_EQ(one[100], std::byte{0});
  EXPECT_FALSE(b.device().post_receive(id, nullptr, 10, 3));
  EXPECT_FALSE(b.device().post_receive(id, one.data(), 0, 3));
}

TEST(Coalescer, D16_copy_aligned_and_sum__equals_copy_and_sum_at_every_alignment) {
  const Bytes from = pattern(3000, 1);
  alignas(64) std::array<std::byte, 3200> to;
  for (size_t offset = 0; offset < 66; ++offset) {
    for (const size_t bytes : {0u, 1u, 63u, 64u, 127u, 128u, 129u, 1447u, 1448u, 2900u}) {
      to.fill(std::byte{0xee});
      const uint16_t sum = copy_aligned_and_sum(to.data() + offset, from.data() + offset % 3, bytes);
      ASSERT_EQ(sum, wire::sum_bytes(from.data() + offset % 3, bytes)) << offset << " " << bytes;
      ASSERT_EQ(std::memcmp(to.data() + offset, from.data() + offset % 3, bytes), 0);
      ASSERT_EQ(to[offset + bytes], std::byte{0xee});
    }
  }
}

}  // namespace
}  // namespace tto::device
