#include "tests/lab/faults.hh"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

namespace faults {
namespace {

Plan plan(const char* text) {
  Plan result;
  std::string error;
  EXPECT_TRUE(parse_plan(text, result, error)) << error;
  return result;
}

std::unique_ptr<Frame> numbered(uint32_t number, size_t bytes = 100) {
  auto frame = std::make_unique<Frame>();
  frame->bytes.assign(bytes, 0);
  std::memcpy(frame->bytes.data(), &number, sizeof number);
  return frame;
}

uint32_t number_of(const Frame& frame) {
  uint32_t number;
  std::memcpy(&number, frame.bytes.data(), sizeof number);
  return number;
}

/// Sends `count` frames, one a microsecond, and lists what leaves until nothing is held.
std::vector<uint32_t> run(Lane& lane, uint32_t count, size_t bytes = 100) {
  std::vector<uint32_t> left;
  uint64_t now = 0;
  for (uint32_t i = 0; i < count; ++i, now += 1000) {
    lane.arrive(numbered(i, bytes), now);
    while (auto frame = lane.leave(now)) left.push_back(number_of(*frame));
  }
  while (lane.held() > 0) {
    now = std::max(now, lane.next_event());
    while (auto frame = lane.leave(now)) left.push_back(number_of(*frame));
  }
  EXPECT_EQ(lane.next_event(), UINT64_MAX);
  const Counts& c = lane.counts();
  EXPECT_EQ(c.frames + c.duplicated, c.left + c.lost + c.queue_dropped);
  EXPECT_EQ(c.left, left.size());
  return left;
}

TEST(FaultPlan, parse__every_word_and_unit) {
  const Plan p =
      plan("loss=1%,duplicate=0.005,reorder=100%,corrupt=0.1%,corrupt_payload=0,delay=1.5ms,rate=100mbit,queue=64k");
  EXPECT_EQ(p.loss_ppm, 10'000u);
  EXPECT_EQ(p.duplicate_ppm, 5'000u);
  EXPECT_EQ(p.reorder_ppm, 1'000'000u);
  EXPECT_EQ(p.corrupt_ppm, 1'000u);
  EXPECT_EQ(p.delay_ns, 1'500'000u);
  EXPECT_EQ(p.bits_per_second, 100'000'000u);
  EXPECT_EQ(p.queue_bytes, 65'536u);
}

TEST(FaultPlan, parse__names_the_word_that_is_wrong) {
  for (const char* bad : {"loss", "loss=", "loss=x", "loss=101%", "loss=-1%", "delay=5", "rate=10", "los=1%", ","}) {
    Plan p;
    std::string error;
    EXPECT_FALSE(parse_plan((std::string("corrupt=1%,") + bad).c_str(), p, error)) << bad;
  }
}

TEST(FaultLane, no_faults__every_frame_once_in_order) {
  Lane lane(Plan{}, 1);
  std::vector<uint32_t> expected(1000);
  std::iota(expected.begin(), expected.end(), 0u);
  EXPECT_EQ(run(lane, 1000), expected);
}

TEST(FaultLane, same_seed__same_fate_of_every_frame) {
  const Plan p = plan("loss=5%,duplicate=5%,reorder=5%,corrupt=5%");
  Lane one(p, 7), two(p, 7), other(p, 8);
  const auto first = run(one, 5000);
  EXPECT_EQ(first, run(two, 5000));
  EXPECT_NE(first, run(other, 5000));
}

TEST(FaultLane, one_fault_more__leaves_the_dice_of_the_others_alone) {
  Lane plain(plan("loss=5%"), 7), corrupting(plan("loss=5%,corrupt=50%,delay=1us"), 7);
  EXPECT_EQ(run(plain, 5000), run(corrupting, 5000));
}

TEST(FaultLane, chances__are_met) {
  Lane lane(plan("loss=1%,duplicate=0.5%,reorder=2%,corrupt=0.1%"), 3);
  run(lane, 200'000);
  const Counts& c = lane.counts();
  EXPECT_NEAR(static_cast<double>(c.lost), 2000, 200);
  EXPECT_NEAR(static_cast<double>(c.duplicated), 1000, 150);
  EXPECT_NEAR(static_cast<double>(c.reordered), 4000, 300);
  EXPECT_NEAR(static_cast<double>(c.corrupted), 200, 60);
}

TEST(FaultLane, reordered_frame__is_overtaken_by_at_most_kMaxOvertakers) {
  Lane lane(plan("reorder=2%"), 5);
  const auto left = run(lane, 10'000);
  uint64_t inversions = 0;
  for (size_t at = 0; at < left.size(); ++at) {
    const int64_t late_by = static_cast<int64_t>(at) - left[at];
    EXPECT_LE(late_by, 2 * kMaxOvertakers) << left[at];
    inversions += at > 0 && left[at] < left[at - 1];
  }
  EXPECT_NEAR(static_cast<double>(inversions), static_cast<double>(lane.counts().reordered),
              static_cast<double>(lane.counts().reordered) / 5);
}

TEST(FaultLane, reordered_frame__leaves_in_the_end_when_nothing_follows) {
  Lane lane(plan("reorder=100%"), 5);
  lane.arrive(numbered(1), 50);
  EXPECT_EQ(lane.leave(50), nullptr);
  EXPECT_EQ(lane.next_event(), 50 + kMaxLate);
  EXPECT_NE(lane.leave(50 + kMaxLate), nullptr);
}

TEST(FaultLane, reordered_frame__behind_a_delay_is_late_not_early) {
  Lane lane(plan("reorder=3%,delay=1ms"), 11);
  const auto left = run(lane, 5000);
  for (size_t at = 0; at < left.size(); ++at)
    EXPECT_LE(std::abs(static_cast<int64_t>(at) - left[at]), 2 * kMaxOvertakers);
}

TEST(FaultLane, delay__holds_each_frame_that_long) {
  Lane lane(plan("delay=10us"), 1);
  lane.arrive(numbered(1), 1000);
  EXPECT_EQ(lane.next_event(), 11'000u);
  EXPECT_EQ(lane.leave(10'999), nullptr);
  EXPECT_NE(lane.leave(11'000), nullptr);
}

TEST(FaultLane, rate__spaces_frames_and_a_full_queue_drops) {
  // 1000 bytes at 8 Mbit/s are a millisecond.
  Lane lane(plan("rate=8mbit,queue=3000"), 1);
  for (uint32_t i = 0; i < 5; ++i) lane.arrive(numbered(i, 1000), 0);
  EXPECT_EQ(lane.counts().queue_dropped, 2u);
  for (uint64_t at : {1'000'000u, 2'000'000u, 3'000'000u}) {
    EXPECT_EQ(lane.leave(at - 1), nullptr);
    EXPECT_NE(lane.leave(at), nullptr);
  }
  EXPECT_EQ(lane.held(), 0u);
}

std::vector<uint8_t> tcp_frame(bool v6, size_t payload) {
  std::vector<uint8_t> f(14 + (v6 ? 40 : 20) + 20 + payload, 0);
  const size_t ip = 14, l4 = f.size() - 14 - (v6 ? 40 : 0);
  f[12] = v6 ? 0x86 : 0x08;
  f[13] = v6 ? 0xdd : 0x00;
  f[ip] = v6 ? 0x60 : 0x45;
  f[ip + (v6 ? 6 : 9)] = 6;
  f[ip + (v6 ? 4 : 2)] = static_cast<uint8_t>(l4 >> 8);
  f[ip + (v6 ? 5 : 3)] = static_cast<uint8_t>(l4);
  f[ip + (v6 ? 40 : 20) + 12] = 0x50;
  return f;
}

TEST(FaultLane, corrupt__flips_one_bit_behind_the_ethernet_header) {
  Lane lane(plan("corrupt=100%"), 1);
  for (int i = 0; i < 1000; ++i) {
    lane.arrive(numbered(0), 0);
    const auto frame = lane.leave(0);
    unsigned bits = 0;
    for (size_t at = 0; at < frame->bytes.size(); ++at) {
      bits += static_cast<unsigned>(__builtin_popcount(frame->bytes[at]));
      EXPECT_TRUE(at >= 14 || frame->bytes[at] == 0);
    }
    EXPECT_EQ(bits, 1u);
  }
}

TEST(FaultLane, corrupt_payload__touches_nothing_but_tcp_payload) {
  for (const bool v6 : {false, true}) {
    Lane lane(plan("corrupt_payload=100%"), 1);
    const auto original = tcp_frame(v6, 10);
    const size_t headers = original.size() - 10;
    for (int i = 0; i < 200; ++i) {
      auto frame = std::make_unique<Frame>();
      frame->bytes = original;
      lane.arrive(std::move(frame), 0);
      const auto left = lane.leave(0);
      EXPECT_NE(left->bytes, original);
      EXPECT_TRUE(std::equal(original.begin(), original.begin() + static_cast<long>(headers), left->bytes.begin()));
    }
    auto bare = std::make_unique<Frame>();
    bare->bytes = tcp_frame(v6, 0);
    lane.arrive(std::move(bare), 0);
    EXPECT_EQ(lane.leave(0)->bytes, tcp_frame(v6, 0));
    EXPECT_EQ(lane.counts().corrupted_payload, 200u);
  }
}

TEST(FaultLane, tcp_payload__is_never_past_the_frame) {
  for (const bool v6 : {false, true}) {
    const auto whole = tcp_frame(v6, 30);
    for (size_t bytes = 0; bytes <= whole.size(); ++bytes) {
      std::vector<uint8_t> cut(whole.begin(), whole.begin() + static_cast<long>(bytes));
      EXPECT_LE(tcp_payload(cut.data(), cut.size()).end, bytes);
    }
  }
}

}  // namespace
}  // namespace faults
