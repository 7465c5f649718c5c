#include "libtto/wire/tcp_options.hh"

#include <gtest/gtest.h>

#include <vector>

#include "libtto/base/rng.hh"

namespace tto::wire {
namespace {

using Bytes = std::vector<uint8_t>;

TEST(TcpOptions, parse__all_of_a_syn) {
  const Bytes field = {2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 3, 3, 14};
  const TcpOptions o = parse_tcp_options(field, true);
  EXPECT_EQ(o.mss, 1460);
  EXPECT_TRUE(o.sack_permitted && o.has_timestamps && o.has_window_scale);
  EXPECT_EQ(o.ts_val, 7u);
  EXPECT_EQ(o.ts_ecr, 9u);
  EXPECT_EQ(o.window_scale, 14);
}

TEST(TcpOptions, R1_unknown_kinds_are_skipped) {
  const Bytes field = {254, 5, 1, 2, 3, 30, 2, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 0, 99, 99};
  TcpOptions expected;
  expected.has_timestamps = true;
  expected.ts_val = 7;
  expected.ts_ecr = 9;
  EXPECT_EQ(parse_tcp_options(field, false), expected);
}

TEST(TcpOptions, R1_bad_lengths_end_parsing_and_keep_what_came_before) {
  for (const Bytes& bad : {Bytes{254, 0}, Bytes{254, 1}, Bytes{254, 3}, Bytes{254}, Bytes{8, 0, 1, 1}, Bytes{3, 1},
                           Bytes{2, 200, 5, 0xb4}}) {
    Bytes field = {2, 4, 5, 0xb4};
    field.insert(field.end(), bad.begin(), bad.end());
    TcpOptions expected;
    expected.mss = 1460;
    EXPECT_EQ(parse_tcp_options(field, true), expected) << "kind " << int{bad[0]};
  }
}

TEST(TcpOptions, R1_known_kinds_of_wrong_length_are_skipped) {
  const Bytes field = {2, 3, 9, 3, 2, 4, 3, 0, 8, 9, 0, 0, 0, 7, 0, 0, 0, 5, 6, 0, 0, 0, 1, 2, 4, 1, 0};
  TcpOptions expected;
  expected.mss = 256;
  EXPECT_EQ(parse_tcp_options(field, true), expected);
}

TEST(TcpOptions, R5_mss_scale_and_sack_permitted_are_ignored_outside_a_syn) {
  const Bytes field = {2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7};
  EXPECT_EQ(parse_tcp_options(field, false), TcpOptions{});
}

TEST(TcpOptions, parse__sack_blocks_up_to_four) {
  Bytes field = {1, 1, 5, 34};
  for (uint8_t i = 0; i < 32; ++i) field.push_back(i % 4 == 3 ? i : 0);
  const TcpOptions o = parse_tcp_options(field, false);
  ASSERT_EQ(o.sack_count, 4);
  EXPECT_EQ(o.sack[0], (SackBlock{{3}, {7}}));
  EXPECT_EQ(o.sack[3], (SackBlock{{27}, {31}}));
  EXPECT_EQ(parse_tcp_options(field, true), TcpOptions{});
}

TEST(TcpOptions, emit__a_fourth_block_beside_timestamps_does_not_fit) {
  TcpOptions o;
  o.has_timestamps = true;
  o.sack_count = 4;
  EXPECT_EQ(sack_blocks_that_fit(o), 3u);
  EXPECT_EQ(tcp_options_bytes(o), 40u);
  o.has_timestamps = false;
  EXPECT_EQ(sack_blocks_that_fit(o), 4u);
  EXPECT_EQ(tcp_options_bytes(o), 36u);
}

TEST(TcpOptions, emit__then_parse_is_the_identity) {
  constexpr uint64_t kSeed = 2018;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Rng rng(kSeed);
  for (int round = 0; round < 20'000; ++round) {
    const bool is_syn = rng.below(2) == 0;
    TcpOptions o;
    o.has_timestamps = rng.below(2) == 0;
    if (o.has_timestamps) o.ts_val = rng.next32(), o.ts_ecr = rng.next32();
    if (is_syn) {
      o.mss = static_cast<uint16_t>(rng.below(3) == 0 ? 0 : rng.next());
      o.sack_permitted = rng.below(2) == 0;
      o.has_window_scale = rng.below(2) == 0;
      if (o.has_window_scale) o.window_scale = static_cast<uint8_t>(rng.next());
    } else {
      o.sack_count = static_cast<uint8_t>(rng.below(o.has_timestamps ? 4 : 5));
      for (size_t i = 0; i < o.sack_count; ++i) o.sack[i] = {{rng.next32()}, {rng.next32()}};
    }
    uint8_t room[kMaxTcpOptionsBytes + 1];
    std::fill(std::begin(room), std::end(room), uint8_t{0xaa});
    const size_t bytes = emit_tcp_options(o, room);
    ASSERT_EQ(bytes, tcp_options_bytes(o));
    ASSERT_EQ(bytes % 4, 0u);
    ASSERT_LE(bytes, kMaxTcpOptionsBytes);
    ASSERT_EQ(room[bytes], 0xaa);
    ASSERT_EQ(parse_tcp_options({room, bytes}, is_syn), o);
  }
}

}  // namespace
}  // namespace tto::wire
