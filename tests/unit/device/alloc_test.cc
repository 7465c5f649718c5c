// No allocation on the data path: pull, poll, post and push with a port that allocates nothing itself.
#include "tests/support/alloc_guard.hh"
#include "tests/unit/device/device_bench.hh"

namespace tto::device {
namespace {

/// Rings of fixed size; what is sent is over at once.
class FixedPort final : public port::FramePort {
 public:
  explicit FixedPort(memory::FramePool& pool) : pool_(pool) {}
  ~FixedPort() override {
    while (fill_count_ > 0) pool_.drop(fill_[--fill_count_], TTO_FRAME_POSTED);
  }

  void inject(const Bytes& frame) {
    const memory::FrameHandle f = fill_[--fill_count_];
    std::memcpy(pool_.data(f), frame.data(), frame.size());
    rx_[rx_count_++] = {f, 0, static_cast<uint16_t>(frame.size()), false};
  }

  const port::PortCaps& caps() const override { return caps_; }
  size_t post_fill(std::span<const memory::FrameHandle> frames) override {
    for (const memory::FrameHandle f : frames) fill_[fill_count_++] = f;
    return frames.size();
  }
  size_t fill_space() const override { return fill_.size() - fill_count_; }
  size_t rx_burst(std::span<port::FrameSlice> out, Instant) override {
    const size_t n = std::min(out.size(), rx_count_);
    std::copy_n(rx_.begin(), n, out.begin());
    std::copy(rx_.begin() + static_cast<ptrdiff_t>(n), rx_.begin() + static_cast<ptrdiff_t>(rx_count_), rx_.begin());
    rx_count_ -= n;
    return n;
  }
  size_t tx_burst(std::span<const port::FrameSlice> slices, Instant) override {
    for (const port::FrameSlice& s : slices) done_[done_count_++] = s.frame;
    return slices.size();
  }
  size_t tx_space() const override { return done_.size() - done_count_; }
  size_t reclaim(std::span<memory::FrameHandle> out) override {
    const size_t n = std::min(out.size(), done_count_);
    for (size_t i = 0; i < n; ++i) out[i] = done_[--done_count_];
    return n;
  }
  void kick(bool) override {}
  int wait_fd() const override { return -1; }
  port::PortFigures figures() const override { return {}; }

 private:
  memory::FramePool& pool_;
  port::PortCaps caps_;
  std::array<memory::FrameHandle, 128> fill_{}, done_{};
  std::array<port::FrameSlice, 128> rx_{};
  size_t fill_count_ = 0, done_count_ = 0, rx_count_ = 0;
};

TEST(Device, pull_frames__neither_receiving_nor_sending_allocates) {
  Bench b({}, {.ring_entries = 128});
  FixedPort port(b.pool());
  b.device().pull_frames(port, b.now, 64);
  const FlowId id = b.bind();
  std::array<std::byte, 4000> buffer;
  const auto head = b.queue_payload(9000, {1000, 1000});
  uint32_t seq = 1000;
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 8; ++i, seq += 200) port.inject(frame_of({.seq = seq, .payload = pattern(200, seq)}));
    port.inject(frame_of({.seq = 7, .payload = pattern(60, 1), .remote_port = static_cast<uint16_t>(50000 + round)}));
    const testing::AllocGuard guard;
    std::array<ReceiveCompletion, 16> completions;
    b.device().post_receive(id, buffer.data(), buffer.size(), 1);
    EXPECT_EQ(b.device().pull_frames(port, b.now, 64), 9u);
    for (size_t n; (n = b.device().poll(completions)) > 0;) {
      for (size_t i = 0; i < n; ++i) b.pool().drop_chain(completions[i].head, TTO_FRAME_RECEIVED);
    }
    EXPECT_EQ(b.device().post_send(Bench::request(id, 9000, 11000, head)), SendStatus::kOk);
    EXPECT_EQ(b.device().post_send(Bench::request(id, 11000, 11000, {})), SendStatus::kOk);
    EXPECT_EQ(b.device().push_frames(port, b.now), 3u);
    b.device().expire(b.now);
    EXPECT_EQ(guard.allocations(), 0u);
  }
  b.device().push_frames(port, b.now);
  b.pool().drop_chain(head, TTO_FRAME_TX_QUEUED);
}

TEST(AllocGuard, allocations__counts_operator_new) {
  const testing::AllocGuard guard;
  const auto p = std::make_unique<std::array<char, 100>>();
  EXPECT_NE(p.get(), nullptr);
  EXPECT_EQ(guard.allocations(), 1u);
}

}  // namespace
}  // namespace tto::device
