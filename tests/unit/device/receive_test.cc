// Classification, coalescing and delivery of received frames: D1–D7, D14.
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

TEST(Device, D3_pull_frames__in_order_segments_become_one_aggregate) {
  Bench b;
  b.bind();
  const auto got = b.receive({{.seq = 1000, .payload = pattern(1448, 1)},
                              {.seq = 2448, .payload = pattern(1448, 2)},
                              {.seq = 3896, .payload = pattern(100, 3)}});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].completion.segment.payload_bytes, 2996u);
  EXPECT_EQ(got[0].completion.segment.segments_merged, 3u);
  EXPECT_EQ(got[0].completion.segment.largest_segment_bytes, 1448u);
  EXPECT_EQ(got[0].completion.termination, Termination::kBurstEnd);
  Bytes all = pattern(1448, 1);
  for (const Bytes& more : {pattern(1448, 2), pattern(100, 3)}) all.insert(all.end(), more.begin(), more.end());
  EXPECT_EQ(got[0].payload, all);
}

}  // namespace
}  // namespace tto::device
