// The send queue against a model that is a plain byte string.
#include "libtto/socket/send_queue.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "libtto/base/rng.hh"
#include "libtto/wire/checksum.hh"
#include "tests/support/test_region.hh"

namespace tto::socket {
namespace {

using memory::FrameHandle;

constexpr StreamOffset kStart = first_offset(0xfffffff0u) + 1;  // wraps soon

class SendQueueTest : public ::testing::Test {
 protected:
  explicit SendQueueTest(uint32_t frames = 256) : pool_(frames) { queue_.init(&pool_.pool(), 3, kStart); }
  ~SendQueueTest() override {
    queue_.clear();
    EXPECT_EQ(pool_->free_count(), pool_->frame_count());
    EXPECT_TRUE(pool_->check_consistency());
  }

  uint64_t append(const std::string& bytes, uint32_t segment) {
    // In three pieces, one of them empty, as writev() may give them.
    const size_t cut = bytes.size() / 3;
    char* data = const_cast<char*>(bytes.data());
    const iovec iov[3] = {{data, cut}, {nullptr, 0}, {data + cut, bytes.size() - cut}};
    const uint64_t taken = queue_.append(iov, 3, 0, bytes.size(), segment);
    model_ += bytes.substr(0, taken);
    return taken;
  }

  std::string bytes_of(FrameHandle frame) {
    const tto_frame_desc& d = pool_->desc(frame);
    return {reinterpret_cast<const char*>(pool_->data(frame)) + d.data_offset, d.data_bytes};
  }

  /// Checks that `range` can be sent from `head`: contents, boundaries, frames to a segment.
  void expect_sendable(FrameHandle head, ByteRange range, uint32_t segment, uint32_t max_frames) {
    FrameHandle f = head;
    for (StreamOffset at = range.begin; at < range.end;) {
      const StreamOffset end = std::min(at + segment, range.end);
      uint32_t frames = 0;
      while (at < end) {
        ASSERT_TRUE(f);
        ASSERT_EQ(pool_->desc(f).stream_offset, at);
        ASSERT_EQ(bytes_of(f), model_.substr(at - base_, pool_->desc(f).data_bytes));
        at += pool_->desc(f).data_bytes;
        ++frames;
        f = FrameHandle{pool_->desc(f).next};
      }
      ASSERT_EQ(at, end);
      ASSERT_LE(frames, max_frames);
    }
  }

  testing::TestPool pool_;
  SendQueue queue_;
  std::string model_;       // every byte ever appended
  StreamOffset base_ = kStart;
};

TEST_F(SendQueueTest, append__fills_frames_with_segments) {
  EXPECT_EQ(append(std::string(5000, 'a'), 1448), 5000u);
  EXPECT_EQ(queue_.frame_count(), 4u);
  EXPECT_EQ(append(std::string(100, 'b'), 1448), 100u);  // joins the last frame
  EXPECT_EQ(queue_.frame_count(), 4u);
  EXPECT_EQ(queue_.end() - queue_.begin(), 5100u);
  EXPECT_TRUE(queue_.check_consistency());
}

TEST_F(SendQueueTest, append__does_not_touch_a_sent_frame) {
  append("hello", 1448);
  queue_.mark_sent(kStart + 5);
  append("world", 1448);
  EXPECT_EQ(queue_.frame_count(), 2u);
  ByteRange range{kStart, kStart + 10};
  // One segment of both: merged, since a segment may have one frame only.
  const FrameHandle head = queue_.frames_for(range, 1448, 1);
  expect_sendable(head, range, 1448, 1);
  EXPECT_EQ(bytes_of(head), "helloworld");
}

TEST_F(SendQueueTest, append__stops_when_the_pool_is_dry) {
  EXPECT_EQ(append(std::string(300 * 1000, 'x'), 1000), 256u * 1000);
  EXPECT_EQ(append("y", 1000), 0u);
  queue_.acknowledge(kStart + 1500);  // one frame free, one cut
  EXPECT_EQ(append(std::string(2000, 'z'), 1000), 1000u);
  EXPECT_TRUE(queue_.check_consistency());
}

TEST_F(SendQueueTest, append__a_jumbo_segment_is_a_chain) {
  append(std::string(8948 * 2 + 10, 'j'), 8948);
  EXPECT_EQ(queue_.frame_count(), 7u);
  ByteRange range{kStart, kStart + 8948 * 2 + 10};
  const FrameHandle head = queue_.frames_for(range, 8948, 3);
  expect_sendable(head, range, 8948, 3);
}

TEST_F(SendQueueTest, frames_for__a_smaller_path_mtu_splits) {
  append(std::string(1448 * 4, 'm'), 1448);
  queue_.mark_sent(queue_.end());
  ByteRange range{kStart, queue_.end()};
  const FrameHandle head = queue_.frames_for(range, 536, 2);
  ASSERT_EQ(range.end, queue_.end());
  expect_sendable(head, range, 536, 2);
  EXPECT_TRUE(queue_.check_consistency());
}

TEST_F(SendQueueTest, frames_for__says_less_when_no_frame_is_left_to_split_with) {
  append(std::string(256 * 1000, 'x'), 1000);
  ByteRange inside{kStart + 500, kStart + 700};
  EXPECT_FALSE(queue_.frames_for(inside, 1000, 1));
  EXPECT_TRUE(inside.empty());
  ByteRange partly{kStart + 1000, kStart + 3500};
  const FrameHandle head = queue_.frames_for(partly, 1000, 1);
  ASSERT_TRUE(head);
  EXPECT_EQ(partly.end, kStart + 3000);
}

TEST_F(SendQueueTest, random__appends_sends_splits_and_acknowledgements) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed);
    queue_.clear();
    queue_.init(&pool_.pool(), 3, kStart);
    model_.clear();
    StreamOffset sent = kStart;
    uint32_t segment = 1448;
    for (int step = 0; step < 400; ++step) {
      const uint64_t what = rng.below(10);
      if (what < 4) {
        std::string bytes(rng.between(1, rng.chance_ppm(100000) ? 20000 : 600), ' ');
        for (char& c : bytes) c = static_cast<char>(rng.next32());
        append(bytes, segment);
      } else if (what < 7 && queue_.end() > queue_.begin()) {
        // New data from where sending stopped, or a retransmission from anywhere.
        const bool is_new = rng.below(2) == 0 && sent < queue_.end();
        ByteRange range;
        range.begin = is_new ? std::max(sent, queue_.begin()) : rng.between(queue_.begin(), queue_.end() - 1);
        range.end = rng.between(range.begin + 1, queue_.end());
        if (!is_new) range.end = std::min(range.end, std::max(sent, range.begin));
        if (range.empty()) continue;
        const auto frames = static_cast<uint32_t>(segment > 4000 ? 3 : rng.between(1, 3));
        const FrameHandle head = queue_.frames_for(range, segment, frames);
        if (head) expect_sendable(head, range, segment, frames);
        queue_.mark_sent(range.end);
        sent = std::max(sent, range.end);
      } else if (what < 9 && sent > queue_.begin()) {
        queue_.acknowledge(rng.between(queue_.begin(), sent));
      } else {
        segment = static_cast<uint32_t>(rng.below(3) == 0 ? 8948 : rng.between(200, 1460));
      }
      ASSERT_TRUE(queue_.check_consistency()) << "step " << step;
      ASSERT_EQ(queue_.end() - kStart, model_.size());
      ASSERT_EQ(pool_->free_count() + queue_.frame_count(), pool_->frame_count());
    }
  }
}

}  // namespace
}  // namespace tto::socket
