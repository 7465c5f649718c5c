// CONFORMANCE R53–R61: the ends of a connection.
#include "tests/unit/tcp/engine_fixture.hh"

namespace tto::tcp {
namespace {

class Closing : public EngineTest {
 protected:
  void connect_plain() {
    plain();
    connect();
  }
  void to_state(State state) {
    connect_plain();
    switch (state) {
      case State::kFinWait1:
      case State::kClosing:
      case State::kFinWait2:
      case State::kTimeWait:
        c.app_shutdown_write(now);
        out();
        if (state == State::kClosing) in(kAck | kFin, 1, 1);
        if (state == State::kFinWait2) in(kAck, 1, 2);
        if (state == State::kTimeWait) in(kAck | kFin, 1, 2);
        break;
      case State::kCloseWait:
      case State::kLastAck:
        in(kAck | kFin, 1, 1);
        if (state == State::kLastAck) c.app_shutdown_write(now);
        break;
      default:
        break;
    }
    out();
    ASSERT_EQ(c.state(), state);
  }
};

TEST_F(Closing, R53_what_was_written_goes_before_the_fin) {
  connect_plain();
  write(25000);
  c.app_close(false, now);
  uint64_t got = 0;
  bool fin = false;
  for (int i = 0; i < 20 && !fin; ++i) {
    for (const Sent& s : out()) {
      EXPECT_FALSE(fin);
      got += s.bytes;
      fin = s.has(kFin);
    }
    in(kAck, 1, 1 + static_cast<int64_t>(got));
  }
  EXPECT_TRUE(fin);
  EXPECT_EQ(got, 25000u);
}

TEST_F(Closing, R54_a_lost_fin_goes_again_with_its_number) {
  for (State state : {State::kFinWait1, State::kClosing, State::kLastAck}) {
    to_state(state);
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(to_deadline());
      const Sent f = one();
      EXPECT_TRUE(f.has(kFin)) << name(state);
      EXPECT_EQ(f.seq, 1);
      EXPECT_EQ(c.state(), state);
    }
  }
}

TEST_F(Closing, R54_a_fin_behind_lost_data_is_resent_with_it) {
  connect_plain();
  write(500);
  c.app_shutdown_write(now);
  EXPECT_TRUE(one().has(kFin));
  ASSERT_TRUE(to_deadline());
  const Sent r = one();
  EXPECT_EQ(r.bytes, 500u);
  EXPECT_TRUE(r.has(kFin));
}

TEST_F(Closing, R55_simultaneous_close) {
  to_state(State::kFinWait1);
  in(kAck | kFin, 1, 1);
  EXPECT_EQ(c.state(), State::kClosing);
  EXPECT_EQ(one().ack, 2);
  in(kAck, 2, 2);
  EXPECT_EQ(c.state(), State::kTimeWait);
  EXPECT_TRUE(c.fin_acked());
}

TEST_F(Closing, R56_time_wait_lasts_and_restarts) {
  to_state(State::kTimeWait);
  EXPECT_TRUE(c.events().closed);
  EXPECT_EQ(c.next_output(now).at, now + seconds(60));
  pass(seconds(59));
  in(kAck | kFin, 1, 2);
  EXPECT_EQ(one().ack, 2);
  EXPECT_EQ(c.next_output(now).at, now + seconds(60));
  ASSERT_TRUE(to_deadline());
  EXPECT_EQ(c.state(), State::kClosed);
  silence();
}

TEST_F(Closing, R57_a_newer_syn_may_reopen) {
  to_state(State::kTimeWait);
  SegmentIn syn = make(kSyn, 100, 0);
  EXPECT_TRUE(c.accepts_new_syn(syn));
  syn.seq.raw = kIrs - 5;
  EXPECT_FALSE(c.accepts_new_syn(syn));
  syn = make(kSyn | kAck, 100, 1);
  EXPECT_FALSE(c.accepts_new_syn(syn));
  in(kSyn, 1, 0);
  EXPECT_EQ(one().flags, kAck);
  to_state(State::kFinWait2);
  EXPECT_FALSE(c.accepts_new_syn(make(kSyn, 100, 0)));
}

TEST_F(Closing, R58_close_with_unread_data_resets) {
  connect_plain();
  in(kAck, 1, 1, 100);
  out();
  c.app_close(true, now);
  const Sent r = one();
  EXPECT_EQ(r.flags, kRst | kAck);
  EXPECT_EQ(r.seq, 1);
  EXPECT_EQ(r.ack, 101);
  EXPECT_EQ(c.state(), State::kClosed);
  EXPECT_EQ(c.events().error, 0);
}

TEST_F(Closing, R58_data_after_close_resets) {
  for (State state : {State::kFinWait1, State::kFinWait2}) {
    to_state(state);
    c.app_close(false, now);
    EXPECT_EQ(in(kAck, 1, state == State::kFinWait1 ? 1 : 2, 100).fate, Verdict::Fate::kReset);
    EXPECT_TRUE(one().has(kRst));
    EXPECT_EQ(c.state(), State::kClosed);
  }
}

TEST_F(Closing, R58_with_everything_read_there_is_no_reset) {
  connect_plain();
  in(kAck, 1, 1, 100);
  c.app_consumed(100, now);
  c.app_close(false, now);
  for (const Sent& s : out()) EXPECT_FALSE(s.has(kRst));
  EXPECT_EQ(c.state(), State::kFinWait1);
}

TEST_F(Closing, R59_abort_resets_at_once) {
  connect_plain();
  write(100);
  c.app_abort(now);
  EXPECT_TRUE(one().has(kRst));
  EXPECT_EQ(c.state(), State::kClosed);
  silence();
  c.open_active(config, now);
  one();
  c.app_abort(now);  // nobody knows of us yet
  silence();
}

TEST_F(Closing, R60_half_close_goes_on_receiving) {
  to_state(State::kFinWait2);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(in(kAck, 1 + i * 100, 2, 100).keep.size(), 100u);
    out();
    pass(seconds(10));
  }
  EXPECT_EQ(c.state(), State::kFinWait2);
  in(kAck | kFin, 5001, 2);
  EXPECT_EQ(c.state(), State::kTimeWait);
}

TEST_F(Closing, R60_an_orphan_in_fin_wait_2_ends) {
  to_state(State::kFinWait2);
  c.app_close(false, now);
  const Instant before = now;
  ASSERT_TRUE(to_deadline());
  EXPECT_EQ((now - before).ns, seconds(60).ns);
  EXPECT_EQ(c.state(), State::kClosed);
  to_state(State::kFinWait1);
  c.app_close(false, now);
  in(kAck, 1, 2);
  EXPECT_EQ(c.next_output(now).at, now + seconds(60));
}

TEST_F(Closing, R60_a_reset_of_an_orphan_does_no_harm) {
  to_state(State::kFinWait2);
  c.app_close(false, now);
  in(kRst, 1, 0);
  EXPECT_EQ(c.state(), State::kClosed);
  silence();
}

TEST_F(Closing, R61_errors_by_state) {
  to_state(State::kCloseWait);
  in(kRst, 2, 0);
  EXPECT_EQ(c.events().error, EPIPE);
  connect_plain();
  in(kRst, 1, 0);
  EXPECT_EQ(c.events().error, ECONNRESET);
  to_state(State::kTimeWait);
  in(kRst, 2, 0);
  EXPECT_EQ(c.events().error, 0);
}

TEST_F(Closing, last_ack_ends_with_the_ack) {
  to_state(State::kLastAck);
  in(kAck, 2, 2);
  EXPECT_EQ(c.state(), State::kClosed);
  EXPECT_TRUE(c.fin_acked());
  silence();
}

TEST_F(Closing, a_fin_wait_1_peer_may_ack_and_close_in_one_segment) {
  to_state(State::kFinWait1);
  in(kAck | kFin, 1, 2);
  EXPECT_EQ(c.state(), State::kTimeWait);
  EXPECT_EQ(one().ack, 2);
}

TEST_F(Closing, an_orphan_before_a_closed_window_gives_up) {
  connect_plain();
  peer_window = 0;
  in(kAck, 1, 1);
  write(100);
  c.app_close(false, now);
  for (int i = 0; i < 30 && c.state() != State::kClosed; ++i) {
    ASSERT_TRUE(to_deadline());
    for (const Sent& s : out())
      if (s.has(kRst)) return;
    in(kAck, 1, 1);
  }
  ADD_FAILURE() << "still there";
}

TEST_F(Closing, a_closed_connection_is_silent_whatever_comes) {
  connect_plain();
  in(kRst, 1, 0);
  EXPECT_EQ(in(kAck, 1, 1, 100).fate, Verdict::Fate::kClosed);
  c.app_write(100, false, now);
  c.app_consumed(100, now);
  c.app_shutdown_write(now);
  c.app_close(true, now);
  c.on_deadline(now + seconds(1000));
  silence();
}

}  // namespace
}  // namespace tto::tcp
