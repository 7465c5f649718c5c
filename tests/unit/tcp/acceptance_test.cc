// CONFORMANCE R21–R34, R76, R77: which segments are accepted, resets, blind attacks, overlaps, timestamps.
#include "tests/unit/tcp/engine_fixture.hh"

namespace tto::tcp {
namespace {

class Acceptance : public EngineTest {
 protected:
  // A receive window of 10 000 bytes with its left edge at 1.
  void connect_small() {
    plain();
    config.receive_buffer_bytes = 10000;
    connect();
  }
};

TEST_F(Acceptance, R21_the_four_cases_of_the_window_test) {
  struct Case {
    int64_t seq;
    uint32_t bytes;
    bool accepted;
  };
  for (const Case& k : {Case{1, 0, true},
                        {10000, 0, true},
                        {0, 0, false},
                        {10002, 0, false},
                        {1, 100, true},
                        {-50, 100, true},
                        {10000, 100, true},
                        {-99, 100, false},
                        {10001, 100, false}}) {
    connect_small();
    const Verdict v = in(kAck, k.seq, 1, k.bytes);
    EXPECT_EQ(v.fate != Verdict::Fate::kOutOfWindow, k.accepted) << k.seq << "+" << k.bytes;
    if (!k.accepted) {
      const Sent a = one();
      EXPECT_EQ(a.flags, kAck);
      EXPECT_EQ(a.seq, 1);
      EXPECT_EQ(a.ack, 1);
      EXPECT_TRUE(v.keep.empty());
      silence();
    }
  }
}

TEST_F(Acceptance, R22_R23_R24_resets) {
  connect_small();
  in(kRst, 0, 0);
  in(kRst, 10002, 0);
  silence();
  EXPECT_EQ(c.state(), State::kEstablished);
  EXPECT_EQ(in(kRst, 2, 0).fate, Verdict::Fate::kChallenged);
  EXPECT_EQ(one().flags, kAck);
  in(kRst, 10000, 0);
  EXPECT_EQ(one().flags, kAck);
  EXPECT_EQ(c.state(), State::kEstablished);
  EXPECT_EQ(in(kRst, 1, 0).fate, Verdict::Fate::kReset);
  EXPECT_EQ(c.state(), State::kClosed);
  EXPECT_EQ(c.events().error, ECONNRESET);
  silence();
}

TEST_F(Acceptance, R61_the_error_reads_once) {
  connect_small();
  in(kRst, 1, 0);
  EXPECT_EQ(c.take_error(), ECONNRESET);
  EXPECT_EQ(c.take_error(), 0);
  EXPECT_TRUE(c.events().closed);
}

TEST_F(Acceptance, R25_a_closed_window_takes_acks_and_an_exact_reset) {
  connect_small();
  write(500);
  out();
  in(kAck, 1, 1, 5000);
  in(kAck, 5001, 1, 5000);
  out();
  EXPECT_EQ(c.figures().rcv_wnd_bytes, 0u);
  const Verdict v = in(kAck, 10001, 501, 100);
  EXPECT_TRUE(v.keep.empty());
  EXPECT_EQ(c.snd_una(), c.first_send_byte() + 500);
  EXPECT_EQ(one().ack, 10001);
  in(kRst, 10002, 0);
  EXPECT_EQ(c.state(), State::kEstablished);
  in(kRst, 10001, 0);
  EXPECT_EQ(c.state(), State::kClosed);
}

TEST_F(Acceptance, R26_a_syn_is_challenged_whatever_its_number) {
  connect_small();
  for (int64_t seq : {1, 0, -1000, 5000, 20000}) {
    EXPECT_EQ(in(kSyn, seq, 0).fate, Verdict::Fate::kChallenged);
    const Sent a = one();
    EXPECT_EQ(a.flags, kAck);
    EXPECT_EQ(a.ack, 1);
    EXPECT_EQ(c.state(), State::kEstablished);
  }
}

TEST_F(Acceptance, R27_an_ack_outside_its_range_drops_the_whole_segment) {
  connect_small();
  write(1000);
  out();
  EXPECT_EQ(in(kAck, 1, 1002, 50).fate, Verdict::Fate::kBadAck);
  EXPECT_EQ(one().ack, 1);
  EXPECT_EQ(in(kAck, 1, 1 - 60001, 50).fate, Verdict::Fate::kBadAck);
  EXPECT_EQ(one().ack, 1);
  EXPECT_EQ(in(kAck, 1, 1 - 59999, 50).keep.size(), 50u);
  EXPECT_EQ(in(kAck, 51, 1001, 50).keep.size(), 50u);
}

TEST_F(Acceptance, R28_challenges_are_limited_per_connection) {
  connect_small();
  int answers = 0;
  for (int i = 0; i < 1000; ++i) {
    in(kSyn, i, 0);
    answers += static_cast<int>(out().size());
  }
  EXPECT_GT(answers, 0);
  EXPECT_LE(answers, 10);
  pass(seconds(5));
  in(kSyn, 0, 0);
  one();
}

TEST_F(Acceptance, R29_no_ack_bit_no_effect) {
  connect_small();
  EXPECT_EQ(in(kPsh, 1, 0, 100).fate, Verdict::Fate::kNoAck);
  EXPECT_EQ(in(kFin, 1, 0).fate, Verdict::Fate::kNoAck);
  EXPECT_EQ(c.rcv_nxt(), c.first_receive_byte());
  silence();
}

TEST_F(Acceptance, R30_overlaps_are_trimmed_on_both_sides) {
  connect_small();
  in(kAck, 1, 1, 1000);
  Verdict v = in(kAck, 501, 1, 1000);
  EXPECT_EQ(v.keep.begin - c.first_receive_byte(), 1000u);
  EXPECT_EQ(v.keep.end - c.first_receive_byte(), 1500u);
  v = in(kAck | kFin, 9001, 1, 1500);  // 500 bytes and the FIN lie outside
  EXPECT_EQ(v.keep.end - c.first_receive_byte(), 10000u);
  EXPECT_FALSE(c.events().peer_closed);
  v = in(kAck, 1501, 1, 7500);
  EXPECT_EQ(c.receive_end() - c.first_receive_byte(), 10000u);
  EXPECT_FALSE(c.events().peer_closed);
}

TEST_F(Acceptance, R31_a_fin_behind_a_hole_waits) {
  connect_small();
  in(kAck | kFin, 1001, 1, 500);
  EXPECT_FALSE(c.events().peer_closed);
  EXPECT_EQ(c.state(), State::kEstablished);
  EXPECT_EQ(one().ack, 1);
  in(kAck, 1, 1, 1000);
  EXPECT_TRUE(c.events().peer_closed);
  EXPECT_EQ(c.state(), State::kCloseWait);
  EXPECT_EQ(one().ack, 1502);
  EXPECT_EQ(c.receive_end() - c.first_receive_byte(), 1500u);
}

TEST_F(Acceptance, R31_data_beyond_a_fin_is_cut) {
  connect_small();
  in(kAck | kFin, 1001, 1, 500);
  EXPECT_TRUE(in(kAck, 1501, 1, 100).keep.empty());
  in(kAck, 1, 1, 1000);
  EXPECT_EQ(c.receive_end() - c.first_receive_byte(), 1500u);
}

TEST_F(Acceptance, R34_old_acks_do_not_hide_data_or_fin_in_fin_wait) {
  connect_small();
  write(1000);
  c.app_shutdown_write(now);
  out();
  in(kAck, 1, 1002);
  EXPECT_EQ(c.state(), State::kFinWait2);
  EXPECT_EQ(in(kAck, 1, 1, 100).keep.size(), 100u);
  in(kAck | kFin, 101, 500);
  EXPECT_EQ(c.state(), State::kTimeWait);
}

TEST_F(Acceptance, R76_older_timestamps_are_dropped_and_answered) {
  connect();
  peer_ts = 1000;
  in(kAck, 1, 1, 100);
  out();
  peer_ts = 999;
  EXPECT_EQ(in(kAck, 101, 1, 100).fate, Verdict::Fate::kPaws);
  EXPECT_EQ(one().ack, 101);
  in(kRst, 101, 0);  // a RST is never tested
  EXPECT_EQ(c.state(), State::kClosed);
}

TEST_F(Acceptance, R76_ts_recent_moves_only_with_the_left_edge) {
  connect();
  peer_ts = 600;
  in(kAck, 1001, 1, 100);  // beyond a hole
  EXPECT_EQ(one().options.ts_ecr, 500u);
  peer_ts = 550;
  EXPECT_EQ(in(kAck, 1, 1, 1000).keep.size(), 1000u);
  EXPECT_EQ(one().options.ts_ecr, 550u);
}

TEST_F(Acceptance, R76_after_24_days_anything_goes) {
  connect();
  pass(seconds(25 * 86400));
  peer_ts = 1;
  EXPECT_EQ(in(kAck, 1, 1, 100).keep.size(), 100u);
}

TEST_F(Acceptance, R77_the_echo_is_of_the_earliest_unacknowledged_segment) {
  connect();
  peer_ts = 600;
  for (int i = 0; i < 17; ++i) {  // use up the quick acknowledgements
    in(kAck, 1 + i * 100, 1, 100);
    out();
  }
  pass(milliseconds(41));
  c.on_deadline(now);
  out();
  peer_ts = 700;
  in(kAck, 1701, 1, 100);
  silence();
  peer_ts = 710;
  in(kAck, 1801, 1, 100);
  pass(milliseconds(41));
  c.on_deadline(now);
  EXPECT_EQ(one().options.ts_ecr, 700u);
}

TEST_F(Acceptance, R32_the_sequence_space_wraps) {
  // kIrs is 512 below 2^31, kIss 4096 below 2^32: both are crossed here.
  connect();
  for (int i = 0; i < 10; ++i) in(kAck, 1 + i * 1000, 1, 1000);
  EXPECT_EQ(c.receive_end() - c.first_receive_byte(), 10000u);
  write(10000);
  out();
  in(kAck, 10001, 10001);
  EXPECT_EQ(c.snd_una() - c.first_send_byte(), 10000u);
  EXPECT_GT(c.snd_una(), uint64_t{2} << 32);
}

}  // namespace
}  // namespace tto::tcp
