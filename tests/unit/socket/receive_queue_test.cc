// The receive queue against a model that remembers the first copy of every byte.
#include "libtto/socket/receive_queue.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "libtto/base/rng.hh"
#include "tests/support/test_region.hh"

namespace tto::socket {
namespace {

using memory::FrameHandle;

constexpr StreamOffset kStart = first_offset(0xffffff00u) + 1;

class ReceiveQueueTest : public ::testing::Test {
 protected:
  ReceiveQueueTest() : pool_(512) { queue_.init(&pool_.pool(), 5, kStart); }
  ~ReceiveQueueTest() override {
    queue_.clear();
    EXPECT_EQ(pool_->free_count(), pool_->frame_count());
    EXPECT_TRUE(pool_->check_consistency());
  }

  /// A chain as the device gives it, `per_frame` bytes to a frame.
  FrameHandle chain(const std::string& bytes, size_t per_frame) {
    FrameHandle head, last;
    for (size_t at = 0; at < bytes.size(); at += per_frame) {
      const FrameHandle f = pool_->take(TTO_FRAME_RECEIVED);
      if (!f) break;
      tto_frame_desc& d = pool_->desc(f);
      d.data_offset = 310;
      d.data_bytes = static_cast<uint16_t>(std::min(per_frame, bytes.size() - at));
      std::memcpy(pool_->data(f) + d.data_offset, bytes.data() + at, d.data_bytes);
      (last ? pool_->desc(last).next : head.raw) = f.raw;
      last = f;
    }
    return head;
  }

  void insert(StreamOffset at, const std::string& bytes, size_t per_frame = 1448) {
    queue_.insert(chain(bytes, per_frame), at, {at, at + bytes.size()});
  }

  std::string read(size_t most, StreamOffset end, bool peek = false) {
    std::string out(most, '\0');
    const size_t half = most / 2;
    const iovec iov[3] = {{out.data(), half}, {nullptr, 0}, {out.data() + half, most - half}};
    out.resize(queue_.read(iov, 3, end, peek));
    return out;
  }

  testing::TestPool pool_;
  ReceiveQueue queue_;
};

TEST_F(ReceiveQueueTest, read__peek_leaves_and_read_takes) {
  insert(kStart, "hello world");
  EXPECT_EQ(read(5, kStart + 11, true), "hello");
  EXPECT_EQ(read(100, kStart + 11, true), "hello world");
  EXPECT_EQ(read(6, kStart + 11), "hello ");
  EXPECT_EQ(queue_.held_bytes(), 5u);
  EXPECT_EQ(queue_.discard(2, kStart + 11), 2u);
  EXPECT_EQ(read(100, kStart + 11), "rld");
  EXPECT_EQ(queue_.frame_count(), 0u);
}

TEST_F(ReceiveQueueTest, R30_the_first_copy_of_a_byte_wins) {
  insert(kStart + 2, "CD");
  insert(kStart + 6, "GH");
  insert(kStart, "abcdefghij");  // swallows both, keeps their bytes
  EXPECT_EQ(queue_.frame_count(), 1u);
  EXPECT_EQ(read(100, kStart + 10), "abCDefGHij");
}

TEST_F(ReceiveQueueTest, insert__overlaps_at_either_end_are_trimmed) {
  insert(kStart, "abcd");
  insert(kStart + 6, "GHIJ");
  insert(kStart + 2, "wxyzwx");
  EXPECT_EQ(read(100, kStart + 10), "abcdyzGHIJ");
}

TEST_F(ReceiveQueueTest, insert__keeps_only_what_the_engine_wants) {
  queue_.insert(chain("0123456789", 3), kStart, {kStart + 2, kStart + 7});
  EXPECT_EQ(queue_.held_bytes(), 5u);
  insert(kStart, "AB");
  EXPECT_EQ(read(100, kStart + 7), "AB23456");
}

TEST_F(ReceiveQueueTest, insert__duplicates_and_old_bytes_go_back_to_the_pool) {
  insert(kStart, "abcdef");
  insert(kStart, "abcdef");
  insert(kStart + 2, "cd");
  EXPECT_EQ(queue_.frame_count(), 1u);
  EXPECT_EQ(read(100, kStart + 6), "abcdef");
  insert(kStart, "abcdefgh");  // the first six were read already
  EXPECT_EQ(read(100, kStart + 8), "gh");
}

TEST_F(ReceiveQueueTest, collapse__tiny_payloads_share_a_frame) {
  std::string all;
  for (int i = 0; i < 200; ++i) {
    const std::string bytes(1 + i % 40, static_cast<char>('a' + i % 26));
    insert(kStart + all.size(), bytes);
    all += bytes;
  }
  EXPECT_EQ(queue_.frame_count(), 200u);
  queue_.collapse();
  EXPECT_LE(queue_.frame_count(), 2u);
  EXPECT_EQ(queue_.held_bytes(), all.size());
  EXPECT_TRUE(queue_.check_consistency());
  EXPECT_EQ(read(10000, kStart + all.size()), all);
}

TEST_F(ReceiveQueueTest, collapse__does_not_close_a_hole) {
  insert(kStart, "abc");
  insert(kStart + 10, "xyz");
  queue_.collapse();
  EXPECT_EQ(queue_.frame_count(), 2u);
  insert(kStart + 3, "defghij");
  EXPECT_EQ(read(100, kStart + 13), "abcdefghijxyz");
}

TEST_F(ReceiveQueueTest, random__out_of_order_inserts_with_overlaps) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed);
    queue_.clear();
    queue_.init(&pool_.pool(), 5, kStart);
    std::map<StreamOffset, char> model;  // bytes held or read, by offset
    StreamOffset readable = kStart;
    std::string got, wanted;
    for (int step = 0; step < 600; ++step) {
      const StreamOffset first = rng.between(std::max(kStart, readable - std::min<uint64_t>(200, readable - kStart)), readable + 3000);
      std::string bytes(rng.between(1, 900), ' ');
      for (char& c : bytes) c = static_cast<char>(rng.next32());
      ByteRange keep{first, first + bytes.size()};
      if (rng.below(4) == 0) keep.end = rng.between(first, keep.end);
      if (pool_->free_count() > 20) {
        queue_.insert(chain(bytes, rng.between(20, 600)), first, keep);
        for (StreamOffset at = keep.begin; at < keep.end; ++at) {
          if (at >= queue_.read_position()) model.emplace(at, bytes[at - first]);
        }
      }
      while (model.contains(readable)) wanted += model[readable++];
      if (rng.below(5) == 0) queue_.collapse();
      if (rng.below(3) == 0) got += read(rng.between(1, 4000), readable, false);
      ASSERT_TRUE(queue_.check_consistency()) << "step " << step;
      ASSERT_EQ(pool_->free_count() + queue_.frame_count(), pool_->frame_count());
    }
    while (queue_.read_position() < readable) got += read(5000, readable);
    ASSERT_EQ(got, wanted);
  }
}

}  // namespace
}  // namespace tto::socket
