// CONFORMANCE R74: a loss that was none gives the window back.
#include "tests/unit/tcp/engine_fixture.hh"

namespace tto::tcp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class UndoTest : public EngineTest {
 protected:
  UndoTest() {
    config.rack_tail_probe = false;
    syn_options_of_peer.mss = 1012;  // 1000 bytes with timestamps
  }
  std::vector<int64_t> seqs() {
    std::vector<int64_t> v;
    for (const Sent& s : out())
      for (uint64_t at = 0; at < s.bytes; at += s.mss_bytes) v.push_back(s.seq + static_cast<int64_t>(at));
    return v;
  }
  void time_out() {
    ASSERT_TRUE(to_deadline());
    EXPECT_EQ(c.figures().rto_expirations, 1u);
    EXPECT_EQ(c.figures().cwnd_bytes, 1000u);
  }
};

TEST_F(UndoTest, R74_an_old_timestamp_shows_that_the_timeout_was_early) {
  connect();
  write(20000);
  EXPECT_EQ(seqs().size(), 10u);
  const uint32_t original = last_ts_val;
  const Duration rto = c.figures().rto;
  time_out();
  EXPECT_THAT(seqs(), ElementsAre(1));
  pass(milliseconds(50));
  SegmentIn ack = make(kAck, 1, 1001);
  ack.options.ts_ecr = original;  // of the first copy
  in(ack);
  EXPECT_GE(c.figures().cwnd_bytes, 10000u);
  EXPECT_EQ(c.figures().ssthresh_bytes, ~0u);
  EXPECT_THAT(seqs(), ElementsAre(10001, 11001));  // goes on with new data: nothing was lost
  EXPECT_GT(c.figures().rto, rto);                 // and waits longer from now on
  EXPECT_EQ(c.figures().retransmitted_segments, 1u);
}

TEST_F(UndoTest, R74_a_new_timestamp_confirms_the_loss) {
  connect();
  write(20000);
  seqs();
  time_out();
  EXPECT_THAT(seqs(), ElementsAre(1));
  pass(rtt);
  in(kAck, 1, 1001);  // echoes the resent copy
  EXPECT_EQ(c.figures().cwnd_bytes, 2000u);
  EXPECT_THAT(seqs(), ElementsAre(1001, 2001));
}

TEST_F(UndoTest, R74_d_sacks_for_all_that_was_resent) {
  with_sack();
  connect();
  write(20000);
  seqs();
  time_out();
  EXPECT_THAT(seqs(), ElementsAre(1));
  pass(rtt);
  sacks(10001, {{1, 1001}});
  EXPECT_GE(c.figures().cwnd_bytes, 10000u);
  EXPECT_EQ(c.figures().ssthresh_bytes, ~0u);
  EXPECT_EQ(seqs().size(), 10u);
}

TEST_F(UndoTest, R74_d_sacks_for_a_part_undo_nothing) {
  with_sack();
  connect();
  write(20000);
  seqs();
  time_out();
  seqs();
  pass(rtt);
  in(kAck, 1, 1001);  // F-RTO: two new ones
  EXPECT_THAT(seqs(), ElementsAre(10001, 11001));
  pass(rtt);
  sacks(1001, {{10001, 11001}});  // the loss was real
  EXPECT_FALSE(seqs().empty());
  sacks(1001, {{1, 1001}, {10001, 12001}});
  EXPECT_LT(c.figures().cwnd_bytes, 5000u);
  EXPECT_EQ(c.figures().ssthresh_bytes, 7000u);
}

TEST_F(UndoTest, R74_f_rto_without_timestamps) {
  for (bool sack : {false, true}) {
    sack ? with_sack() : plain();
    connect();
    write(20000);
    seqs();
    time_out();
    EXPECT_THAT(seqs(), ElementsAre(1));
    pass(milliseconds(10));
    in(kAck, 1, 1001);
    EXPECT_THAT(seqs(), ElementsAre(10001, 11001));  // new data instead of resending
    pass(milliseconds(1));
    in(kAck, 1, 2001);  // never resent
    EXPECT_GE(c.figures().cwnd_bytes, 10000u);
    EXPECT_EQ(c.figures().ssthresh_bytes, ~0u);
    for (int64_t s : seqs()) EXPECT_GE(s, 12001);
    EXPECT_EQ(c.figures().retransmitted_segments, 1u);
  }
}

TEST_F(UndoTest, R74_f_rto_a_duplicate_means_a_real_loss) {
  for (bool at_once : {true, false}) {
    plain();
    connect();
    write(20000);
    seqs();
    time_out();
    seqs();
    if (!at_once) {
      in(kAck, 1, 1001);
      EXPECT_THAT(seqs(), ElementsAre(10001, 11001));
      in(kAck, 1, 1001);
      for (int64_t s : seqs()) EXPECT_EQ(s, 1001);
    } else {
      in(kAck, 1, 1);
      in(kAck, 1, 1001);
      EXPECT_THAT(seqs(), ElementsAre(1001, 2001));
    }
    EXPECT_LT(c.figures().cwnd_bytes, 5000u);
  }
}

TEST_F(UndoTest, R74_f_rto_needs_new_data) {
  plain();
  connect();
  write(5000);
  seqs();
  time_out();
  seqs();
  in(kAck, 1, 1001);
  EXPECT_THAT(seqs(), ElementsAre(1001, 2001));
  in(kAck, 1, 3001);
  EXPECT_LT(c.figures().cwnd_bytes, 10000u);
}

TEST_F(UndoTest, R74_f_rto_gives_way_where_nagle_keeps_the_new_data) {
  plain();
  connect();
  write(3500);
  EXPECT_EQ(seqs().size(), 4u);
  c.set_nodelay(false);
  time_out();
  EXPECT_THAT(seqs(), ElementsAre(1));
  write(100);  // behind a small segment that is out
  in(kAck, 1, 1001);
  EXPECT_THAT(seqs(), ElementsAre(1001, 2001));
}

TEST_F(UndoTest, R74_an_early_fast_retransmit_is_undone_too) {
  connect();
  write(10000);
  seqs();
  const uint32_t original = last_ts_val;
  pass(rtt);
  sacks(1, {{1001, 5001}});
  EXPECT_EQ(seqs().at(0), 1);
  EXPECT_EQ(c.figures().ssthresh_bytes, 7000u);
  pass(milliseconds(2));
  SegmentIn ack = make(kAck, 1, 10001);
  ack.options.ts_ecr = original;  // the first copy was only late
  in(ack);
  EXPECT_EQ(c.figures().ssthresh_bytes, ~0u);
  EXPECT_GE(c.figures().cwnd_bytes, 10000u);
}

TEST_F(UndoTest, R72_no_burst_when_recovery_ends) {
  with_sack();
  syn_options_of_peer.has_window_scale = config.window_scaling = true;
  syn_options_of_peer.window_scale = 7;
  connect();
  write(10'000'000);
  int64_t una = 1;
  for (int i = 0; i < 4; ++i) {  // slow start: 10, 20, 40, 80, 160 segments
    seqs();
    pass(rtt);
    in(kAck, 1, una = static_cast<int64_t>(c.snd_nxt() - c.first_send_byte()) + 1);
  }
  seqs();
  const int64_t nxt = static_cast<int64_t>(c.snd_nxt() - c.first_send_byte()) + 1;
  ASSERT_EQ(nxt - una, 160'000);
  peer_window = static_cast<uint16_t>((nxt - una) / 128);  // the window is full: nothing new may go
  pass(rtt);
  for (int64_t edge = una + 2000; edge <= nxt; edge += 1000) {
    sacks(una, {{una + 1000, edge}});
    for (int64_t s : seqs()) EXPECT_EQ(s, una);
  }
  peer_window = 60000;
  in(kAck, 1, nxt);
  EXPECT_EQ(c.figures().ssthresh_bytes, 112'000u);
  EXPECT_LE(seqs().size(), 10u);
  for (int i = 0; i < 6; ++i) {
    pass(rtt);
    in(kAck, 1, static_cast<int64_t>(c.snd_nxt() - c.first_send_byte()) + 1);
    seqs();
  }
  EXPECT_GE(c.figures().cwnd_bytes, 112'000u);  // reached by slow start
}

}  // namespace
}  // namespace tto::tcp
