// CONFORMANCE R75: explicit congestion notification (RFC 3168 §6.1).
#include "tests/unit/tcp/engine_fixture.hh"

namespace tto::tcp {
namespace {

using wire::kCe;
using wire::kCwr;
using wire::kEce;
using wire::kEct0;

class EcnTest : public EngineTest {
 protected:
  EcnTest() {
    config.ecn = true;
    config.congestion = ConnectionConfig::Congestion::kReno;
    with_sack();
  }
  void connect_ecn() {
    c.open_active(config, now);
    EXPECT_EQ(one().flags, kSyn | kEce | kCwr);
    pass(rtt);
    in(make_syn(kSyn | kAck | kEce));
    const Sent ack = one();
    EXPECT_EQ(ack.flags, kAck);
    EXPECT_EQ(ack.ecn, 0);
    EXPECT_TRUE(c.figures().is_ecn_agreed);
  }
  Sent next_by_timer() {
    for (int i = 0; i < 5 && c.next_output(now).kind != Output::Kind::kEmit; ++i) EXPECT_TRUE(to_deadline());
    return one();
  }
  Verdict data(int64_t seq, uint32_t bytes, uint8_t ecn, uint8_t flags = 0) {
    SegmentIn s = make(static_cast<uint8_t>(kAck | flags), seq, 1, bytes);
    s.ip_tos = ecn;
    return in(s);
  }
};

TEST_F(EcnTest, R75_asked_for_and_agreed) {
  connect_ecn();
  write(3000);
  for (const Sent& s : out()) EXPECT_EQ(s.ecn, kEct0);
}

TEST_F(EcnTest, R75_not_agreed) {
  for (const uint8_t answer : {uint8_t{0}, uint8_t{kCwr}, static_cast<uint8_t>(kEce | kCwr)}) {
    c.open_active(config, now);
    out();
    in(make_syn(static_cast<uint8_t>(kSyn | kAck | answer)));
    EXPECT_FALSE(c.figures().is_ecn_agreed);
    out();
    write(1000);
    const Sent s = one();
    EXPECT_EQ(s.ecn, 0);
    data(1, 1000, kCe);  // means nothing here
    EXPECT_EQ(one().flags, kAck);
    in(kAck | kEce, 1001, 1001);
    EXPECT_EQ(c.figures().ssthresh_bytes, ~0u);
  }
}

TEST_F(EcnTest, R75_off_asks_for_nothing_and_grants_nothing) {
  config.ecn = false;
  c.open_active(config, now);
  EXPECT_EQ(one().flags, kSyn);
  c.open_passive(config, make_syn(kSyn | kEce | kCwr), now);
  EXPECT_EQ(one().flags, kSyn | kAck);
}

TEST_F(EcnTest, R75_granted_to_who_asks_only) {
  c.open_passive(config, make_syn(kSyn | kEce | kCwr), now);
  Sent s = one();
  EXPECT_EQ(s.flags, kSyn | kAck | kEce);
  EXPECT_EQ(s.ecn, 0);
  c.open_passive(config, make_syn(kSyn), now);
  EXPECT_EQ(one().flags, kSyn | kAck);
  c.open_passive(config, make_syn(kSyn | kEce), now);
  EXPECT_EQ(one().flags, kSyn | kAck);
}

TEST_F(EcnTest, R75_a_resent_syn_asks_for_nothing) {
  c.open_active(config, now);
  out();
  ASSERT_TRUE(to_deadline());
  EXPECT_EQ(one().flags, kSyn);
  in(make_syn(kSyn | kAck | kEce));
  EXPECT_FALSE(c.figures().is_ecn_agreed);
}

TEST_F(EcnTest, R75_only_new_data_is_capable) {
  config.keepalive = true;
  config.keepalive_idle = seconds(10);
  connect_ecn();
  write(10000);
  for (const Sent& s : out()) EXPECT_EQ(s.ecn, kEct0);
  pass(rtt);
  sacks(1, {{1001, 5001}});
  for (const Sent& s : out()) EXPECT_EQ(s.ecn, s.is_retransmission ? 0 : kEct0);
  EXPECT_EQ(c.figures().retransmitted_segments, 1u);
  in(kAck, 1, 10001);
  data(1, 1000, 0);
  c.on_deadline(now = now + milliseconds(40));
  EXPECT_EQ(one().ecn, 0);  // a pure acknowledgement
  EXPECT_EQ(next_by_timer().ecn, 0);  // a keep-alive probe
  write(1000);
  c.app_shutdown_write(now);
  EXPECT_EQ(one().ecn, kEct0);
  EXPECT_EQ(next_by_timer().ecn, 0);  // a tail loss probe that resends
}

TEST_F(EcnTest, R75_echoed_until_the_peer_says_that_it_knows) {
  connect_ecn();
  data(1, 1000, kCe);
  EXPECT_EQ(one().flags, kAck | kEce);
  for (int i = 1; i < 4; ++i) {
    data(1 + 1000 * i, 1000, kEct0);
    EXPECT_EQ(one().flags, kAck | kEce);
  }
  write(500);
  EXPECT_TRUE(one().has(kEce));  // data too
  data(4001, 1000, kEct0, kCwr);
  EXPECT_EQ(one().flags, kAck);
  data(5001, 1000, kCe, kCwr);  // marked again on its way
  EXPECT_EQ(one().flags, kAck | kEce);
}

TEST_F(EcnTest, R75_marks_outside_the_window_are_ignored) {
  connect_ecn();
  data(1, 1000, kEct0);
  EXPECT_EQ(one().flags, kAck);
  data(1, 1000, kCe);  // an old duplicate
  EXPECT_EQ(one().flags, kAck);
  data(1'000'000, 1000, kCe);  // beyond the window
  EXPECT_EQ(one().flags, kAck);
  SegmentIn bare = make(kAck, 1001, 1);
  bare.ip_tos = kCe;  // no data: not even capable
  in(bare);
  data(1001, 1000, kEct0);
  EXPECT_EQ(one().flags, kAck);
}

TEST_F(EcnTest, R75_one_reduction_per_round_trip_and_cwr_once) {
  connect_ecn();
  write(100000);
  EXPECT_EQ(out().size(), 1u);
  pass(rtt);
  in(kAck | kEce, 1, 1001);
  EXPECT_EQ(c.figures().ssthresh_bytes, 5000u);
  uint64_t sent = 0;
  int cwr = 0;
  for (int64_t ack = 2001; ack <= 10001; ack += 1000) {
    in(kAck | kEce, 1, ack);
    EXPECT_EQ(c.figures().ssthresh_bytes, 5000u);
    for (const Sent& s : out()) {
      EXPECT_FALSE(s.is_retransmission);
      cwr += s.has(kCwr);
      sent += s.bytes;
    }
  }
  EXPECT_EQ(cwr, 1);
  EXPECT_NEAR(static_cast<double>(sent), 5000, 1000);  // half of what was acknowledged: no gap, no burst
  EXPECT_EQ(c.figures().cwnd_bytes, 5000u);
  EXPECT_EQ(c.figures().retransmitted_segments, 0u);
  pass(rtt);
  in(kAck | kEce, 1, 11001);  // of the next flight
  EXPECT_LT(c.figures().ssthresh_bytes, 5000u);
}

TEST_F(EcnTest, R75_a_loss_in_the_same_round_trip_reduces_no_further) {
  connect_ecn();
  write(100000);
  out();
  pass(rtt);
  in(kAck | kEce, 1, 1001);
  EXPECT_EQ(c.figures().ssthresh_bytes, 5000u);
  out();
  sacks(1001, {{2001, 6001}});
  const auto resent = out();
  ASSERT_FALSE(resent.empty());
  EXPECT_TRUE(resent[0].is_retransmission);
  EXPECT_FALSE(resent[0].has(kCwr));
  EXPECT_EQ(c.figures().ssthresh_bytes, 5000u);
}

TEST_F(EcnTest, R75_a_loss_is_told_with_cwr_and_echoes_of_that_flight_change_nothing) {
  connect_ecn();
  write(100000);
  out();
  pass(rtt);
  sacks(1, {{1001, 5001}});
  EXPECT_EQ(c.figures().ssthresh_bytes, 5000u);
  out();
  in(kAck | kEce, 1, 10001);
  EXPECT_EQ(c.figures().ssthresh_bytes, 5000u);
  const auto next = out();
  ASSERT_FALSE(next.empty());
  EXPECT_TRUE(next[0].has(kCwr));
}

}  // namespace
}  // namespace tto::tcp
