// Send requests to frames: D7, D8, D11, D12, D15.
#include "tests/unit/device/device_bench.hh"

namespace tto::device {
namespace {

constexpr StreamOffset kStart = (uint64_t{1} << 32) | 5000;

TEST(Device, D8_push_frames__a_pseudo_frame_is_cut_into_segments) {
  Bench b;
  const FlowId id = b.bind();
  const auto head = b.queue_payload(kStart, {1448, 1448, 77});
  ASSERT_EQ(b.device().post_send(Bench::request(id, kStart, kStart + 2973, head, 1448, kAck | kPsh | kFin)),
            SendStatus::kOk);
  EXPECT_EQ(b.push(), 3u);
  const auto frames = b.sent();
  ASSERT_EQ(frames.size(), 3u);
  StreamOffset at = kStart;
  for (size_t i = 0; i < 3; ++i) {
    const SentFrame& f = frames[i];
    EXPECT_TRUE(f.checksum_ok);
    EXPECT_EQ(f.view.tcp.seq, wire::narrow(at));
    EXPECT_EQ(f.view.tcp.ack.raw, 1000u);
    EXPECT_EQ(f.view.tcp.window, 321u);
    EXPECT_EQ(f.view.tcp.flags, i == 2 ? kAck | kPsh | kFin : kAck);
    EXPECT_EQ(f.payload, Bench::stream(at, at + f.payload.size()));
    EXPECT_EQ(f.view.ip_id, frames[0].view.ip_id + i);
    at += f.payload.size();
  }
  b.push();  // reclaims
  for (auto f = head; f; f = memory::FrameHandle{b.pool().desc(f).next}) {
    EXPECT_EQ(b.pool().desc(f).state, TTO_FRAME_TX_QUEUED);
  }
  b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
}

}  // namespace
}  // namespace tto::device
