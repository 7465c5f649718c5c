// CONFORMANCE R35–R51: timers, probes, delayed acknowledgements, windows, Nagle.
#include "tests/unit/tcp/engine_fixture.hh"

namespace tto::tcp {
namespace {

class Timers : public EngineTest {
 protected:
  void connect_plain() {
    plain();
    connect();
  }
  /// `n` segments of `bytes` arrive in order from `seq` on; what is owed is left owing.
  void receive(int64_t seq, int n, uint32_t bytes) {
    for (int i = 0; i < n; ++i) in(kAck, seq + i * bytes, 1, bytes);
  }
  void end_quick_acks() {
    for (int i = 0; i < 16; ++i) {
      in(kAck, next_seq_, 1, 10);
      next_seq_ += 10;
      out();
    }
  }
  int64_t next_seq_ = 1;
};

TEST(Rtt, R35_formula_and_bounds) {
  RttEstimator r;
  r.init(milliseconds(200));
  EXPECT_EQ(r.rto().ns, seconds(1).ns);
  r.on_sample(milliseconds(400));
  EXPECT_EQ(r.srtt().ns, milliseconds(400).ns);
  EXPECT_EQ(r.rttvar().ns, milliseconds(200).ns);
  EXPECT_EQ(r.rto().ns, milliseconds(1200).ns);
  r.on_sample(milliseconds(800));  // RTTVAR first: 3/4·200 + 1/4·|400−800| = 250; SRTT 450
  EXPECT_EQ(r.rttvar().ns, milliseconds(250).ns);
  EXPECT_EQ(r.srtt().ns, milliseconds(450).ns);
  EXPECT_EQ(r.rto().ns, milliseconds(1450).ns);
  r.init(milliseconds(200));
  r.on_sample(microseconds(50));
  EXPECT_EQ(r.rto().ns, milliseconds(200).ns);
  for (int i = 0; i < 40; ++i) r.on_timeout();
  EXPECT_EQ(r.rto().ns, seconds(120).ns);
  r.on_sample(microseconds(50));
  EXPECT_EQ(r.rto().ns, milliseconds(200).ns);
}

TEST_F(Timers, R36_no_sample_from_a_resent_segment) {
  connect_plain();
  const Duration srtt = c.figures().srtt;
  EXPECT_EQ(srtt.ns, rtt.ns);
  write(1000);
  out();
  ASSERT_TRUE(to_deadline());
  EXPECT_TRUE(one().is_retransmission);
  const Duration rto = c.figures().rto;
  pass(milliseconds(1));
  in(kAck, 1, 1001);
  EXPECT_EQ(c.figures().srtt.ns, srtt.ns);
  EXPECT_EQ(c.figures().rto.ns, rto.ns);  // and the backoff is kept (R38)
  write(1000);
  out();
  pass(rtt);
  in(kAck, 1, 2001);
  EXPECT_LT(c.figures().rto.ns, rto.ns);
}

TEST_F(Timers, R37_only_new_data_restarts_the_timer) {
  connect_plain();
  write(5000);
  out();
  const Instant at = c.next_output(now).at;
  pass(milliseconds(50));
  in(kAck, 1, 1);  // duplicate
  peer_window = 50000;
  in(kAck, 1, 1);  // window update
  EXPECT_EQ(c.next_output(now).at, at);
  in(kAck, 1, 1001);
  EXPECT_EQ(c.next_output(now).at, now + c.figures().rto);
}

TEST_F(Timers, R38_on_expiry_one_segment_and_one_reduction) {
  config.congestion = ConnectionConfig::Congestion::kReno;
  connect_plain();
  write(8000);
  EXPECT_EQ(out().size(), 1u);  // one pseudo frame
  const Duration rto = c.figures().rto;
  ASSERT_TRUE(to_deadline());
  const Sent r = one();
  EXPECT_EQ(r.seq, 1);
  EXPECT_EQ(r.bytes, 1000u);
  EXPECT_EQ(c.figures().cwnd_bytes, 1000u);
  EXPECT_EQ(c.figures().ssthresh_bytes, 4000u);
  EXPECT_EQ(c.figures().rto.ns, rto.ns * 2);
  ASSERT_TRUE(to_deadline());
  EXPECT_EQ(one().seq, 1);
  EXPECT_EQ(c.figures().ssthresh_bytes, 4000u);
  EXPECT_EQ(c.figures().rto.ns, rto.ns * 4);
  in(kAck, 1, 1001);  // slow start goes through what was lost
  const auto two = out();
  ASSERT_EQ(two.size(), 2u);
  EXPECT_EQ(two[0].seq, 1001);
  EXPECT_EQ(two[1].seq, 2001);
  EXPECT_TRUE(two[1].is_retransmission);
}

TEST_F(Timers, R39_the_end_of_patience) {
  connect_plain();
  write(1000);
  out();
  const Instant start = now;
  while (c.state() != State::kClosed) {
    ASSERT_TRUE(to_deadline());
    out();
  }
  EXPECT_EQ(c.events().error, ETIMEDOUT);
  EXPECT_GT((now - start).ns, seconds(900).ns);
  EXPECT_LT((now - start).ns, seconds(1060).ns);
}

TEST_F(Timers, R39_user_timeout_and_soft_error) {
  config.user_timeout = seconds(7);
  connect_plain();
  write(1000);
  out();
  c.on_icmp_error(EHOSTUNREACH, false, {kIss + 1}, now);
  const Instant start = now;
  while (c.state() != State::kClosed) {
    ASSERT_TRUE(to_deadline());
    out();
  }
  EXPECT_EQ((now - start).ns, seconds(7).ns);
  EXPECT_EQ(c.events().error, EHOSTUNREACH);
}

TEST_F(Timers, R39_a_route_that_is_lost_is_the_reason_given) {
  config.user_timeout = seconds(7);
  connect_plain();
  write(1000);
  out();
  c.on_unreachable(ENETUNREACH);
  while (c.state() != State::kClosed) {
    ASSERT_TRUE(to_deadline());
    out();
  }
  EXPECT_EQ(c.events().error, ENETUNREACH);
}

TEST_F(Timers, R78_an_acknowledgement_ends_a_soft_error) {
  config.user_timeout = seconds(7);
  connect_plain();
  write(1000);
  out();
  c.on_icmp_error(EHOSTUNREACH, false, {kIss + 1}, now);
  in(kAck, 1, 1001);
  EXPECT_EQ(c.take_soft_error(), 0);
  write(1000);
  out();
  while (c.state() != State::kClosed) {
    ASSERT_TRUE(to_deadline());
    out();
  }
  EXPECT_EQ(c.events().error, ETIMEDOUT);
}

TEST_F(Timers, R40_probes_go_on_as_long_as_they_are_answered) {
  connect_plain();
  peer_window = 0;
  in(kAck, 1, 1);
  write(100);
  silence();
  Duration last{};
  for (int i = 0; i < 60; ++i) {
    const Instant before = now;
    ASSERT_TRUE(to_deadline());
    const Sent p = one();
    EXPECT_EQ(p.seq, 0);  // SND.UNA − 1
    EXPECT_EQ(p.bytes, 0u);
    EXPECT_GE((now - before).ns, last.ns);
    last = now - before;
    in(kAck, 1, 1);
    silence();
  }
  EXPECT_EQ(last.ns, seconds(120).ns);
  EXPECT_EQ(c.state(), State::kEstablished);
  peer_window = 1000;
  in(kAck, 1, 1);
  EXPECT_EQ(one().bytes, 100u);
}

TEST_F(Timers, R40_unanswered_probes_end_it) {
  connect_plain();
  peer_window = 0;
  in(kAck, 1, 1);
  write(100);
  for (int i = 0; i < 60 && c.state() != State::kClosed; ++i) {
    ASSERT_TRUE(to_deadline());
    out();
  }
  EXPECT_EQ(c.events().error, ETIMEDOUT);
}

TEST_F(Timers, R41_a_probe_is_answered_with_the_window) {
  config.receive_buffer_bytes = 3000;
  connect_plain();
  in(kAck, 1, 1, 3000);
  EXPECT_EQ(one().window, 0);
  in(kAck, 3000, 1);
  EXPECT_EQ(one().window, 0);
  c.app_consumed(500, now);  // less than half the buffer: not announced (R49)
  in(kAck, 3000, 1, 1);
  EXPECT_EQ(one().window, 0);
  c.app_consumed(1500, now);
  EXPECT_EQ(one().window, 2000);  // enough: at once
  in(kAck, 3001, 1, 1);
  out();
  EXPECT_EQ(c.receive_end() - c.first_receive_byte(), 3001u);
}

TEST_F(Timers, R42_keepalive) {
  connect_plain();
  EXPECT_EQ(c.next_output(now).kind, Output::Kind::kIdle);  // off by default
  c.set_keepalive(true, seconds(7200), seconds(75), 9, now);
  const Instant start = now - rtt;
  (void)start;
  const Instant before = now;
  ASSERT_TRUE(to_deadline());
  EXPECT_NEAR(static_cast<double>((now - before).ns), 7200e9, 1e9);
  Sent p = one();
  EXPECT_EQ(p.seq, 0);
  EXPECT_EQ(p.bytes, 0u);
  in(kAck, 1, 1);  // alive
  ASSERT_TRUE(to_deadline());
  silence();
  for (int i = 0; i < 9; ++i) {  // and then never again
    ASSERT_TRUE(to_deadline());
    EXPECT_EQ(one().seq, 0);
    EXPECT_EQ(c.state(), State::kEstablished);
  }
  ASSERT_TRUE(to_deadline());
  EXPECT_EQ(c.events().error, ETIMEDOUT);
  EXPECT_TRUE(one().has(kRst));
}

TEST_F(Timers, R43_every_second_full_segment_or_40_ms) {
  connect_plain();
  end_quick_acks();
  pass(milliseconds(41));
  in(kAck, next_seq_, 1, 1000);
  silence();
  in(kAck, next_seq_ + 1000, 1, 1000);
  EXPECT_EQ(one().ack, next_seq_ + 2000);
  in(kAck, next_seq_ + 2000, 1, 1000);
  silence();
  const Instant before = now;
  ASSERT_TRUE(to_deadline());
  EXPECT_EQ((now - before).ns, milliseconds(40).ns);
  EXPECT_EQ(one().ack, next_seq_ + 3000);
}

TEST_F(Timers, R43_segments_of_an_aggregate_count_one_by_one) {
  connect_plain();
  end_quick_acks();
  SegmentIn s = make(kAck, next_seq_, 1, 2000);
  s.segments_merged = 2;
  s.largest_segment_bytes = 1000;
  in(s);
  EXPECT_EQ(one().ack, next_seq_ + 2000);
}

TEST_F(Timers, R43_the_first_segments_are_acknowledged_at_once) {
  connect_plain();
  in(kAck, 1, 1, 100);
  EXPECT_EQ(one().ack, 101);
}

TEST_F(Timers, R44_holes_and_fins_are_answered_at_once) {
  connect_plain();
  end_quick_acks();
  in(kAck, next_seq_ + 100, 1, 100);
  EXPECT_EQ(one().ack, next_seq_);
  in(kAck, next_seq_, 1, 100);  // fills the hole
  EXPECT_EQ(one().ack, next_seq_ + 200);
  in(kAck | kFin, next_seq_ + 200, 1);
  EXPECT_EQ(one().ack, next_seq_ + 201);
}

TEST_F(Timers, R45_a_batch_gets_one_acknowledgement) {
  connect_plain();
  receive(1, 20, 1000);
  EXPECT_EQ(one().ack, 20001);
}

TEST_F(Timers, an_acknowledgement_rides_on_data) {
  connect_plain();
  in(kAck, 1, 1, 100);
  write(50);
  const Sent s = one();
  EXPECT_EQ(s.bytes, 50u);
  EXPECT_EQ(s.ack, 101);
}

TEST_F(Timers, R46_the_right_edge_never_moves_left) {
  connect();
  in(kAck, 1, 1, 10);
  int64_t edge = one().ack;
  edge += int64_t{c.figures().rcv_wnd_bytes};
  c.set_receive_buffer(1000);
  c.set_receive_overhead(500);
  for (int i = 0; i < 50; ++i) {
    in(kAck, 11 + i * 37, 1, 37);
    for (const Sent& s : out()) {
      EXPECT_GE(s.ack + (int64_t{s.window} << 7), edge);
      edge = s.ack + (int64_t{s.window} << 7);
    }
  }
}

TEST_F(Timers, R47_a_shrunk_window_stops_new_data_and_bounds_retransmission) {
  connect_plain();
  write(20000);
  out();
  EXPECT_EQ(c.snd_nxt() - c.snd_una(), 10000u);
  peer_window = 500;
  in(kAck, 1, 1001);  // the window ends in the middle of what was sent
  silence();
  ASSERT_TRUE(to_deadline());
  const Sent r = one();
  EXPECT_EQ(r.seq, 1001);
  EXPECT_EQ(r.bytes, 500u);
  peer_window = 0;
  in(kAck, 1, 1501);
  silence();
  for (int i = 0; i < 20; ++i) {  // it answers, with a window of nothing: no time-out
    ASSERT_TRUE(to_deadline());
    EXPECT_EQ(one().seq, 1500);
    in(kAck, 1, 1501);
  }
  EXPECT_EQ(c.state(), State::kEstablished);
  peer_window = 30000;
  in(kAck, 1, 1501);
  int64_t first = -1;
  for (int i = 0; i < 3 && first < 0; ++i) {
    for (const Sent& s : out())
      if (first < 0) first = s.seq;
    if (first < 0) to_deadline();
  }
  EXPECT_EQ(first, 1501);
}

TEST_F(Timers, R48_an_old_segment_cannot_change_the_window) {
  connect_plain();
  in(kAck, 1, 1, 100);
  write(100);
  out();
  peer_window = 1234;
  in(kAck, 101, 101);
  EXPECT_EQ(c.figures().snd_wnd_bytes, 1234u);
  peer_window = 9;
  in(kAck, 1, 101, 50);  // older SEQ
  in(kAck, 101, 50);     // older ACK
  EXPECT_EQ(c.figures().snd_wnd_bytes, 1234u);
}

TEST_F(Timers, R49_a_window_opens_by_a_segment_or_half_the_buffer) {
  config.receive_buffer_bytes = 100000;
  plain();
  config.window_scaling = true;
  syn_options_of_peer.has_window_scale = true;
  connect();
  for (int i = 0; i < 200; ++i) in(kAck, 1 + i * 1000, 1, std::min<uint32_t>(1000, c.figures().rcv_wnd_bytes)), out();
  EXPECT_LT(c.figures().rcv_wnd_bytes, 128u);
  for (int i = 0; i < 9; ++i) {
    c.app_consumed(100, now);
    silence();
  }
  pass(seconds(2));
  in(kAck, 0, 1);
  EXPECT_EQ(one().window, 0);
  c.app_consumed(20000, now);
  EXPECT_GE(one().window, 10000 >> 7);
}

TEST_F(Timers, R50_nagle_holds_the_second_small_segment) {
  connect_plain();
  write(10);
  EXPECT_EQ(one().bytes, 10u);
  write(10);
  silence();
  write(990);
  EXPECT_EQ(one().bytes, 1000u);
  write(10);
  silence();
  in(kAck, 1, 11);
  EXPECT_EQ(one().bytes, 10u);
}

TEST_F(Timers, R50_nodelay_disables_it_at_once) {
  connect_plain();
  write(10);
  out();
  write(10);
  silence();
  c.set_nodelay(true);
  EXPECT_EQ(one().bytes, 10u);
}

TEST_F(Timers, R50_cork_holds_200_ms_and_passes_full_segments) {
  connect_plain();
  c.set_cork(true);
  write(2500);
  const Sent full = one();
  EXPECT_EQ(full.bytes, 2000u);
  in(kAck, 1, 2001);
  silence();
  const Instant before = now;
  while (c.snd_nxt() != c.snd_end() && to_deadline()) {
    for (const Sent& s : out()) EXPECT_EQ(s.bytes, 500u);
  }
  EXPECT_EQ((now - before).ns, milliseconds(200).ns);
  write(10);
  silence();
  c.set_cork(false);
  c.set_nodelay(true);
  EXPECT_EQ(one().bytes, 10u);
}

TEST_F(Timers, R50_msg_more_holds_until_the_next_write) {
  connect_plain();
  write(10, true);
  silence();
  write(20);
  const Sent s = one();
  EXPECT_EQ(s.bytes, 30u);
  EXPECT_TRUE(s.has(kPsh));
}

TEST_F(Timers, R51_push_on_the_last_segment_of_a_write) {
  connect_plain();
  write(500, true);
  write(2000, false);
  const auto all = out();
  ASSERT_FALSE(all.empty());
  EXPECT_TRUE(all.back().has(kPsh));
  EXPECT_EQ(all.back().seq + static_cast<int64_t>(all.back().bytes), 2501);
}

TEST_F(Timers, a_cut_emission_sends_neither_push_nor_fin) {
  connect_plain();
  write(2000);
  c.app_shutdown_write(now);
  const Output o = c.next_output(now);
  EXPECT_TRUE(o.segment.flags & kFin);
  c.on_emitted(o, o.segment.payload.begin + 700, now);
  EXPECT_EQ(c.snd_nxt() - c.first_send_byte(), 700u);
  const Sent rest = one();
  EXPECT_EQ(rest.bytes, 1300u);
  EXPECT_TRUE(rest.has(kFin | kPsh));
}

TEST_F(Timers, the_peers_window_of_one_byte_makes_progress) {
  connect_plain();
  peer_window = 1;
  in(kAck, 1, 1);
  write(5);
  int sent = 0;
  for (int i = 0; i < 40 && sent < 5; ++i) {
    for (const Sent& s : out()) {
      EXPECT_LE(s.bytes, 1u);
      if (s.bytes) in(kAck, 1, 1 + ++sent);
    }
    if (c.next_output(now).kind != Output::Kind::kEmit) to_deadline();
  }
  EXPECT_EQ(sent, 5);
}

}  // namespace
}  // namespace tto::tcp
