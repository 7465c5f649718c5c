// CONFORMANCE R62–R69, R79: congestion window, duplicates, fast retransmit, SACK on both sides.
#include "tests/unit/tcp/engine_fixture.hh"

namespace tto::tcp {
namespace {

class RecoveryTest : public EngineTest {
 protected:
  RecoveryTest() { config.congestion = ConnectionConfig::Congestion::kReno; }
  void connect_plain() {
    plain();
    connect();
  }
  void connect_sack() {
    with_sack();
    connect();
  }
  std::vector<int64_t> seqs() {
    std::vector<int64_t> v;
    for (const Sent& s : out())
      for (uint64_t at = 0; at < s.bytes; at += s.mss_bytes) v.push_back(s.seq + static_cast<int64_t>(at));
    return v;
  }
};
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST_F(RecoveryTest, R62_the_initial_window_is_ten_segments) {
  connect_plain();
  write(100000);
  EXPECT_EQ(seqs().size(), 10u);
}

TEST_F(RecoveryTest, R62_cwnd_grows_only_while_it_limits) {
  connect_plain();
  for (int i = 0; i < 20; ++i) {
    write(1000);
    out();
    pass(rtt);
    in(kAck, 1, 1001 + i * 1000);
  }
  EXPECT_EQ(c.figures().cwnd_bytes, 10000u);
  write(20000);
  out();
  pass(rtt);
  in(kAck, 1, 30001);
  EXPECT_EQ(c.figures().cwnd_bytes, 20000u);
}

TEST_F(RecoveryTest, R62_idle_restarts_from_the_initial_window) {
  for (bool restart : {true, false}) {
    config.slow_start_after_idle = restart;
    connect_plain();
    write(20000);
    out();
    pass(rtt);
    in(kAck, 1, 10001);
    out();
    in(kAck, 1, 20001);
    EXPECT_GT(c.figures().cwnd_bytes, 15000u);
    const uint32_t before = c.figures().cwnd_bytes;
    pass(seconds(10));
    write(1000);
    EXPECT_EQ(c.figures().cwnd_bytes, restart ? 10000u : before);
  }
}

TEST_F(RecoveryTest, R63_what_is_not_a_duplicate) {
  connect_plain();
  write(10000);
  out();
  in(kAck, 1, 1, 100);  // has data
  peer_window = 50000;
  in(kAck, 101, 1);  // other window
  peer_window = 49000;
  in(kAck, 101, 1);
  peer_window = 48000;
  in(kAck, 101, 1);
  out();
  EXPECT_EQ(c.figures().duplicate_acks, 0u);
  EXPECT_EQ(c.figures().retransmitted_segments, 0u);
  in(kAck, 101, 10001);
  for (int i = 0; i < 5; ++i) in(kAck, 101, 10001);  // nothing outstanding
  EXPECT_EQ(c.figures().duplicate_acks, 0u);
}

TEST_F(RecoveryTest, R64_limited_transmit) {
  connect_plain();
  write(50000);
  EXPECT_EQ(seqs().size(), 10u);
  in(kAck, 1, 1);
  EXPECT_THAT(seqs(), ElementsAre(10001));
  in(kAck, 1, 1);
  EXPECT_THAT(seqs(), ElementsAre(11001));
  EXPECT_EQ(c.figures().cwnd_bytes, 10000u);
}

TEST_F(RecoveryTest, R65_fast_retransmit_halves_the_flight_once) {
  connect_plain();
  write(10000);
  out();
  for (int i = 0; i < 3; ++i) in(kAck, 1, 1);
  EXPECT_EQ(seqs()[0], 1);
  EXPECT_EQ(c.figures().ssthresh_bytes, 5000u);
  for (int i = 0; i < 6; ++i) in(kAck, 1, 1);
  EXPECT_THAT(seqs(), IsEmpty());
  EXPECT_EQ(c.figures().ssthresh_bytes, 5000u);
  in(kAck, 1, 10001);
  EXPECT_EQ(c.figures().cwnd_bytes, 5000u);
  EXPECT_EQ(c.figures().retransmitted_segments, 1u);
}

TEST_F(RecoveryTest, R65_cubic_multiplies_by_seven_tenths) {
  config.congestion = ConnectionConfig::Congestion::kCubic;
  connect_plain();
  write(10000);
  out();
  for (int i = 0; i < 3; ++i) in(kAck, 1, 1);
  EXPECT_EQ(c.figures().ssthresh_bytes, 7000u);
}

TEST_F(RecoveryTest, R66_partial_acks_resend_the_next_hole) {
  connect_plain();
  write(10000);
  out();
  for (int i = 0; i < 3; ++i) in(kAck, 1, 1);
  EXPECT_EQ(seqs()[0], 1);
  for (int64_t una : {3001, 5001, 8001}) {
    in(kAck, 1, una);
    const auto v = seqs();
    ASSERT_FALSE(v.empty()) << una << " cwnd " << c.figures().cwnd_bytes;
    EXPECT_EQ(v[0], una);
    EXPECT_EQ(c.figures().ssthresh_bytes, 5000u);
  }
  in(kAck, 1, 10001);
  silence();
  EXPECT_EQ(c.figures().retransmitted_segments, 4u);
}

TEST_F(RecoveryTest, R66_duplicates_caused_by_go_back_n_start_nothing) {
  connect_plain();
  write(5000);
  out();
  ASSERT_TRUE(to_deadline());
  out();
  in(kAck, 1, 5001);
  write(5000);
  out();
  const auto before = c.figures().retransmitted_segments;
  for (int i = 0; i < 4; ++i) in(kAck, 1, 5001);
  out();
  EXPECT_EQ(c.figures().retransmitted_segments, before);
}

TEST_F(RecoveryTest, R67_blocks_newest_first_three_with_timestamps) {
  connect();
  for (int i = 0; i < 5; ++i) in(kAck, 1001 + 2000 * i, 1, 500);
  Sent a = one();
  ASSERT_EQ(a.options.sack_count, 3);
  EXPECT_EQ(a.options.sack[0].left.raw, kIrs + 9001);
  EXPECT_EQ(a.options.sack[1].left.raw, kIrs + 7001);
  EXPECT_EQ(a.options.sack[2].left.raw, kIrs + 5001);
  in(kAck, 1501, 1, 100);  // grows an old island: it is the newest now
  a = one();
  EXPECT_EQ(a.options.sack[0].left.raw, kIrs + 1001);
  EXPECT_EQ(a.options.sack[0].right.raw, kIrs + 1601);
  EXPECT_EQ(a.options.sack[1].left.raw, kIrs + 9001);
  in(kAck, 1, 1, 1000);  // fills the first hole
  a = one();
  EXPECT_EQ(a.ack, 1601);
  for (int i = 0; i < a.options.sack_count; ++i)
    EXPECT_NE(a.options.sack[static_cast<size_t>(i)].left.raw, kIrs + 1001);
}

TEST_F(RecoveryTest, R67_four_blocks_without_timestamps_none_without_sack) {
  connect_sack();
  for (int i = 0; i < 6; ++i) in(kAck, 1001 + 2000 * i, 1, 500);
  EXPECT_EQ(one().options.sack_count, 4);
  connect_plain();
  in(kAck, 1001, 1, 500);
  EXPECT_EQ(one().options.sack_count, 0);
}

TEST_F(RecoveryTest, R67_data_segments_make_room_for_the_blocks) {
  connect();
  in(kAck, 1001, 1, 500);
  write(5000);
  const auto all = out();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all[0].options.sack_count, 1);
  EXPECT_EQ(all[0].mss_bytes, 1448u - 12);
}

TEST_F(RecoveryTest, R68_a_duplicate_is_reported_once) {
  connect_sack();
  in(kAck, 1, 1, 1000);
  out();
  in(kAck, 1, 1, 1000);
  Sent a = one();
  ASSERT_EQ(a.options.sack_count, 1);
  EXPECT_EQ(a.options.sack[0].left.raw, kIrs + 1);
  EXPECT_EQ(a.options.sack[0].right.raw, kIrs + 1001);
  in(kAck, 3001, 1, 1000);
  out();
  in(kAck, 3501, 1, 100);  // inside an island
  a = one();
  ASSERT_EQ(a.options.sack_count, 2);
  EXPECT_EQ(a.options.sack[0].left.raw, kIrs + 3501);
  EXPECT_EQ(a.options.sack[0].right.raw, kIrs + 3601);
  EXPECT_EQ(a.options.sack[1].left.raw, kIrs + 3001);
  in(kAck, 501, 1, 700);  // partly old
  a = one();
  EXPECT_EQ(a.options.sack[0].left.raw, kIrs + 501);
  EXPECT_EQ(a.options.sack[0].right.raw, kIrs + 1001);
}

TEST_F(RecoveryTest, R69_only_holes_are_resent) {
  connect_sack();
  write(10000);
  out();
  pass(rtt);
  sacks(1, {{2001, 4001}});
  sacks(1, {{2001, 4001}, {5001, 6001}});
  sacks(1, {{2001, 4001}, {5001, 7001}});
  auto v = seqs();
  sacks(1, {{2001, 4001}, {5001, 10001}});
  for (int64_t s : seqs()) v.push_back(s);
  EXPECT_THAT(v, ElementsAre(1, 1001, 4001));
}

TEST_F(RecoveryTest, R69_nonsense_blocks_are_ignored) {
  connect_sack();
  write(10000);
  out();
  sacks(1, {{5001, 3001}});
  sacks(1, {{10001, 12001}});
  sacks(1, {{-5000, 1}});
  sacks(1, {{1, 10001}});
  sacks(1, {{9001, 10002}});
  silence();
  EXPECT_EQ(c.figures().duplicate_acks, 0u);
}

TEST_F(RecoveryTest, R69_reneging_is_survived) {
  connect_sack();
  write(5000);
  out();
  sacks(1, {{1001, 5001}});
  out();
  std::vector<int64_t> all;
  ASSERT_TRUE(to_deadline());
  for (int64_t una = 1; una < 5001; una += 1000) {  // the peer threw its islands away
    for (int64_t s : seqs()) all.push_back(s);
    in(kAck, 1, una + 1000);
  }
  EXPECT_THAT(all, ElementsAre(1, 1001, 2001, 3001, 4001));
}

TEST_F(RecoveryTest, R69_more_islands_than_fit_cost_no_correctness) {
  connect_sack();
  write(2000000);
  peer_window = 65535;
  int64_t una = 1;
  for (int round = 0; round < 6; ++round) {
    out();
    una = static_cast<int64_t>(c.snd_nxt() - c.first_send_byte()) + 1;
    in(kAck, 1, una);
  }
  out();
  const int64_t nxt = static_cast<int64_t>(c.snd_nxt() - c.first_send_byte()) + 1;
  ASSERT_GT(nxt - una, 50000);
  for (int64_t s = una + 1000; s + 1000 <= nxt; s += 2000) sacks(una, {{s, s + 1000}});
  for (int i = 0; i < 500 && c.snd_una() < c.first_send_byte() + static_cast<uint64_t>(nxt - 1); ++i) {
    for (int64_t s : seqs())
      if (s == una) in(kAck, 1, una += 2000 < nxt - una ? 2000 : nxt - una);
    if (c.next_output(now).kind == Output::Kind::kWaitUntil) to_deadline();
  }
  EXPECT_GE(c.snd_una(), c.first_send_byte() + static_cast<uint64_t>(nxt - 1));
}

TEST_F(RecoveryTest, R72_recovery_sends_what_was_delivered) {
  connect_sack();
  write(100000);
  out();
  for (int i = 1; i <= 9; ++i) {
    sacks(1, {{1001, 1001 + i * 1000}});
    EXPECT_LE(seqs().size(), 2u);
  }
  in(kAck, 1, 10001);
  EXPECT_LE(seqs().size(), 6u);
}

TEST_F(RecoveryTest, R79_path_mtu_resends_smaller_without_a_cut) {
  connect();
  write(8000);
  out();
  const uint32_t cwnd = c.figures().cwnd_bytes;
  c.on_path_mtu(1000, {kIss + 20000}, now);  // not in flight
  EXPECT_EQ(c.effective_mss(), 1448u);
  c.on_path_mtu(1000, {kIss + 1}, now);
  EXPECT_EQ(c.effective_mss(), 948u);
  const auto all = out();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all[0].seq, 1);
  for (const Sent& s : all) EXPECT_LE(s.bytes, 948u);
  EXPECT_EQ(c.figures().cwnd_bytes, cwnd);
  c.on_path_mtu(100, {kIss + 1}, now);
  EXPECT_EQ(c.effective_mss(), 552u - 52);
  c.on_path_mtu(1500, {kIss + 1}, now);  // never raises
  EXPECT_EQ(c.effective_mss(), 552u - 52);
}

TEST(Scoreboard, add__merges_and_counts) {
  SackScoreboard s;
  EXPECT_EQ(s.add({100, 200}), 100u);
  EXPECT_EQ(s.add({300, 400}), 100u);
  EXPECT_EQ(s.add({150, 350}), 100u);
  EXPECT_EQ(s.count(), 1u);
  EXPECT_EQ(s.sacked_in({0, 1000}), 300u);
  EXPECT_EQ(s.sacked_in({350, 360}), 10u);
  s.advance(250);
  EXPECT_EQ(s.sacked_in({0, 1000}), 150u);
  EXPECT_EQ(s.first_hole({200, 500}), (ByteRange{200, 250}));
  EXPECT_EQ(s.first_hole({260, 500}), (ByteRange{400, 500}));
  EXPECT_TRUE(s.first_hole({260, 300}).empty());
}

TEST(Scoreboard, lost_edge__three_islands_or_two_segments_above) {
  SackScoreboard s;
  s.add({1000, 1100});
  s.add({2000, 2100});
  EXPECT_EQ(s.lost_edge(1000), 0u);
  s.add({3000, 3100});
  EXPECT_EQ(s.lost_edge(1000), 1000u);
  s.clear();
  s.add({5000, 7000});
  EXPECT_EQ(s.lost_edge(1000), 0u);
  s.add({7000, 7001});
  EXPECT_EQ(s.lost_edge(1000), 5000u);
}

TEST(Scoreboard, add__bounded) {
  SackScoreboard s;
  for (uint64_t i = 0; i < 100; ++i) s.add({1000 + i * 100, 1050 + i * 100});
  EXPECT_EQ(s.count(), SackScoreboard::kMaxRanges);
  s.add({500, 550});
  EXPECT_EQ(s.count(), SackScoreboard::kMaxRanges);
  EXPECT_EQ(s.sacked_in({500, 550}), 50u);
}

TEST(ReassemblyTest, insert__bounded_and_ordered) {
  Reassembly r;
  for (uint64_t i = 0; i < Reassembly::kMaxRanges; ++i) EXPECT_TRUE(r.insert({1000 + i * 10, 1005 + i * 10}));
  EXPECT_FALSE(r.insert({9000, 9005}));
  EXPECT_TRUE(r.insert({1005, 1010}));  // joins two
  EXPECT_EQ(r.count(), Reassembly::kMaxRanges - 1);
  EXPECT_EQ(r.advance({900, 1000}), 1015u);
}

TEST(CubicTest, R73_concave_then_convex) {
  Cubic q;
  Instant t{seconds(1000).ns};
  double w = q.on_loss(100, 100);
  EXPECT_NEAR(w, 70, 1e-9);
  EXPECT_NEAR(q.w_max(), 100, 1e-9);
  const Duration rtt = milliseconds(100);
  double at_k = 0;
  w = q.on_ack(1, w, rtt, t);
  const double k = q.k();  // cbrt(30 / 0.4)
  EXPECT_NEAR(k, 4.217, 0.001);
  for (int i = 1; i <= 80; ++i) {
    t = t + rtt;
    w = q.on_ack(w, w, rtt, t);
    if (at_k == 0 && i * 0.1 >= k) at_k = w;
  }
  EXPECT_NEAR(at_k, 100, 3);  // back at the old window after K seconds
  EXPECT_GT(w, 115);          // and beyond it, faster and faster
  q.on_loss(w, w);
  const double higher = q.w_max();
  q.on_loss(w * 0.8, w * 0.8);
  EXPECT_NEAR(q.w_max(), w * 0.8 * 0.85, 1e-6);  // fast convergence
  EXPECT_LT(q.w_max(), higher);
}

}  // namespace
}  // namespace tto::tcp
