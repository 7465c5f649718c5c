// CONFORMANCE R70–R72: losses found by time, tail loss probes, rate reduction.
#include "libtto/tcp/rack.hh"

#include <random>

#include "tests/unit/tcp/engine_fixture.hh"

namespace tto::tcp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class RackTest : public EngineTest {
 protected:
  static constexpr uint32_t kMss = 1000;

  void connect_sack() {
    with_sack();
    connect();
    // The path's round trip, measured a few times.
    for (int i = 0; i < 4; ++i) {
      write(kMss);
      out();
      pass(rtt);
      in(kAck, 1, una += kMss);
    }
    EXPECT_EQ(c.figures().srtt, rtt);
  }
  /// Sequence numbers relative to snd.una at the call of base().
  void base() { from = una; }
  void ack_to(int64_t offset) { in(kAck, 1, una = from + offset); }
  void sack(int64_t ack, std::initializer_list<std::pair<int64_t, int64_t>> blocks) {
    SegmentIn s = make(kAck, 1, from + ack);
    for (auto [l, r] : blocks)
      s.options.sack[s.options.sack_count++] = {{kIss + static_cast<uint32_t>(from + l)},
                                                {kIss + static_cast<uint32_t>(from + r)}};
    in(s);
  }
  std::vector<int64_t> seqs() {
    std::vector<int64_t> v;
    for (const Sent& s : out())
      for (uint64_t at = 0; at < s.bytes; at += s.mss_bytes) v.push_back(s.seq - from + static_cast<int64_t>(at));
    return v;
  }
  Instant deadline() { return c.next_output(now).at; }

  int64_t una = 1, from = 1;
};

TEST_F(RackTest, R70_one_late_segment_is_waited_for_a_quarter_of_the_round_trip) {
  connect_sack();
  base();
  write(2 * kMss);
  const Instant sent = now;
  EXPECT_THAT(seqs(), ElementsAre(0, 1000));
  pass(rtt);
  sack(0, {{1000, 2000}});
  EXPECT_THAT(seqs(), IsEmpty());
  EXPECT_EQ(deadline(), sent + rtt + rtt / 4);
  ASSERT_TRUE(to_deadline());
  EXPECT_THAT(seqs(), ElementsAre(0));  // one duplicate, no timeout
  EXPECT_EQ(c.figures().rto_expirations, 0u);
}

TEST_F(RackTest, R70_reordering_within_the_tolerance_resends_nothing) {
  connect_sack();
  base();
  write(10 * kMss);
  seqs();
  pass(rtt);
  sack(0, {{1000, 2000}});
  pass(rtt / 4 - microseconds(1));
  ack_to(2000);  // it came after all: reordering has been seen
  EXPECT_THAT(seqs(), IsEmpty());
  const uint32_t cwnd = c.figures().cwnd_bytes;
  // Now three and more duplicates do not end the tolerance either.
  sack(2000, {{3000, 10000}});
  EXPECT_THAT(seqs(), IsEmpty());
  pass(microseconds(100));
  c.on_deadline(now);
  EXPECT_THAT(seqs(), IsEmpty());
  ack_to(10000);
  EXPECT_GE(c.figures().cwnd_bytes, cwnd);
  EXPECT_EQ(c.figures().retransmitted_segments, 0u);
}

TEST_F(RackTest, R70_beyond_the_tolerance_it_is_lost) {
  connect_sack();
  base();
  write(10 * kMss);
  seqs();
  pass(rtt);
  sack(0, {{1000, 2000}});
  pass(rtt / 8);
  ack_to(2000);
  sack(2000, {{3000, 10000}});
  ASSERT_TRUE(to_deadline());
  EXPECT_THAT(seqs(), ElementsAre(2000));
  EXPECT_EQ(c.figures().rto_expirations, 0u);
  EXPECT_EQ(c.figures().ssthresh_bytes, 5600u);  // CUBIC: 0.7 of 8 in flight, once
}

TEST_F(RackTest, R70_a_lost_retransmission_is_found_without_timeout) {
  connect_sack();
  base();
  write(30 * kMss);
  EXPECT_EQ(seqs().size(), 10u);
  pass(rtt);
  sack(0, {{1000, 5000}});
  std::vector<int64_t> v = seqs();
  ASSERT_FALSE(v.empty());
  EXPECT_EQ(v[0], 0);
  for (int64_t edge = 6000; edge <= 10000; edge += 1000) {  // the rest of the flight: PRR lets new data out
    sack(0, {{1000, edge}});
    for (int64_t s : seqs()) v.push_back(s);
  }
  const int64_t newest = v.back();
  EXPECT_GE(newest, 10000);
  EXPECT_EQ(std::count(v.begin(), v.end(), 0), 1);
  pass(rtt);
  sack(0, {{1000, newest + 1000}});  // sent after the retransmission, and delivered: that is lost too
  v = seqs();
  ASSERT_FALSE(v.empty());
  EXPECT_EQ(v[0], 0);
  EXPECT_EQ(c.figures().rto_expirations, 0u);
  EXPECT_EQ(c.figures().retransmitted_segments, 2u);
}

TEST_F(RackTest, R70_needless_retransmissions_widen_the_tolerance) {
  connect_sack();
  base();
  write(20 * kMss);
  seqs();
  pass(rtt);
  sack(0, {{1000, 2000}});
  pass(rtt / 4 - microseconds(10));
  ack_to(2000);  // reordering seen
  seqs();
  const auto wait_for_loss = [&] {
    base();
    write(2 * kMss);
    EXPECT_EQ(seqs().size(), 2u);
    const Instant sent = now;
    pass(rtt);
    sack(0, {{1000, 2000}});
    EXPECT_TRUE(to_deadline());
    EXPECT_FALSE(seqs().empty());
    const Duration waited = now - sent - rtt;
    pass(rtt - waited);
    una = from + 2000;
    sack(2000, {{0, 1000}});  // D-SACK
    seqs();
    return waited;
  };
  // Everything out is acknowledged first, so that each round is alone.
  for (int i = 0; i < 10 && c.snd_una() != c.snd_end(); ++i) {
    pass(rtt);
    in(kAck, 1, una = static_cast<int64_t>(c.snd_nxt() - c.first_send_byte()) + 1);
    seqs();
  }
  const Duration first = wait_for_loss();
  const Duration second = wait_for_loss();
  EXPECT_NEAR(static_cast<double>(first.ns), static_cast<double>((rtt / 4).ns), 1e6);
  EXPECT_NEAR(static_cast<double>(second.ns), static_cast<double>((rtt / 2).ns), 1e6);
}

TEST_F(RackTest, R71_two_round_trips_then_the_last_segment_once_then_the_timer) {
  connect_sack();
  base();
  write(5 * kMss);
  seqs();
  const Instant sent = now;
  EXPECT_EQ(deadline(), sent + rtt * 2);
  ASSERT_TRUE(to_deadline());
  const std::vector<Sent> probe = out();
  ASSERT_EQ(probe.size(), 1u);
  EXPECT_EQ(probe[0].seq - from, 4000);
  EXPECT_EQ(probe[0].bytes, 1000u);
  EXPECT_TRUE(probe[0].is_retransmission);
  EXPECT_EQ(c.figures().rto_expirations, 0u);
  EXPECT_EQ(deadline(), now + c.figures().rto);  // a whole one, and no second probe
  ASSERT_TRUE(to_deadline());
  EXPECT_EQ(c.figures().rto_expirations, 1u);
}

TEST_F(RackTest, R71_new_data_is_the_better_probe) {
  connect_sack();
  base();
  write(40 * kMss);
  const size_t flight = seqs().size();
  ASSERT_TRUE(to_deadline());
  const std::vector<Sent> probe = out();  // although the congestion window is full
  ASSERT_EQ(probe.size(), 1u);
  EXPECT_EQ(probe[0].seq - from, static_cast<int64_t>(flight) * 1000);
  EXPECT_FALSE(probe[0].is_retransmission);
  silence();
}

TEST_F(RackTest, R71_a_closed_window_leaves_the_last_segment) {
  connect_sack();
  peer_window = 5000;
  base();
  write(40 * kMss);
  in(kAck, 1, una);
  seqs();
  ASSERT_TRUE(to_deadline());
  const std::vector<Sent> probe = out();
  ASSERT_EQ(probe.size(), 1u);
  EXPECT_TRUE(probe[0].is_retransmission);
}

TEST_F(RackTest, R71_one_segment_allows_for_a_delayed_acknowledgement) {
  connect_sack();
  rtt = milliseconds(20);
  base();
  write(kMss);
  seqs();
  EXPECT_EQ(deadline(), now + c.figures().rto);  // 2·SRTT + 200 ms would be later: in the timeout's place
  const Duration rto = c.figures().rto;
  ASSERT_TRUE(to_deadline());
  EXPECT_THAT(seqs(), ElementsAre(0));
  EXPECT_EQ(c.figures().rto_expirations, 0u);
  EXPECT_GE(c.figures().cwnd_bytes, 10000u);
  EXPECT_EQ(deadline(), now + rto);
}

TEST_F(RackTest, R71_a_lost_tail_is_recovered_without_timeout) {
  connect_sack();
  base();
  write(8 * kMss);
  seqs();
  pass(rtt);
  ack_to(4000);  // the last four are lost
  ASSERT_TRUE(to_deadline());
  EXPECT_THAT(seqs(), ElementsAre(7000));
  pass(rtt);
  sack(4000, {{7000, 8000}});
  for (int i = 0; i < 10 && una - from < 8000; ++i) {
    for (int64_t s : seqs()) ack_to(s == 6000 ? 8000 : s + 1000);
    if (c.next_output(now).kind == Output::Kind::kWaitUntil && una - from < 8000) to_deadline();
  }
  EXPECT_EQ(una - from, 8000);
  EXPECT_EQ(c.figures().rto_expirations, 0u);
  const uint32_t reduced = c.figures().ssthresh_bytes;
  write(kMss);
  seqs();
  pass(rtt);
  ack_to(9000);  // beyond the probe: its loss has been counted
  EXPECT_EQ(c.figures().ssthresh_bytes, reduced);
}

TEST_F(RackTest, R71_a_loss_that_the_probe_repaired_lowers_the_window_once) {
  connect_sack();
  base();
  write(5 * kMss);
  seqs();
  ASSERT_TRUE(to_deadline());
  seqs();
  const uint32_t before = c.figures().cwnd_bytes;
  ack_to(5000);
  EXPECT_EQ(c.figures().cwnd_bytes, before);  // both copies look alike yet
  write(kMss);
  seqs();
  pass(rtt);
  ack_to(6000);
  EXPECT_LT(c.figures().cwnd_bytes, before);
}

TEST_F(RackTest, R71_a_needless_probe_lowers_nothing) {
  connect_sack();
  base();
  write(5 * kMss);
  seqs();
  ASSERT_TRUE(to_deadline());
  seqs();
  const uint32_t before = c.figures().cwnd_bytes;
  sack(5000, {{4000, 5000}});  // D-SACK
  una = from + 5000;
  write(kMss);
  seqs();
  pass(rtt);
  ack_to(6000);
  EXPECT_GE(c.figures().cwnd_bytes, before);
}

TEST_F(RackTest, R71_none_without_sack_or_when_turned_off) {
  plain();
  connect();
  write(5 * kMss);
  out();
  EXPECT_EQ(deadline(), now + c.figures().rto);
  with_sack();
  config.rack_tail_probe = false;
  connect();
  write(5 * kMss);
  out();
  EXPECT_EQ(deadline(), now + c.figures().rto);
}

// --- the send log
// ------------------------------------------------------------------------------------------------------

TEST(SendLogTest, R70_times_follow_the_last_copy) {
  SendLog log;
  log.reset(100);
  log.on_sent(200, Instant{1000}, nanoseconds(10));
  log.on_sent(300, Instant{1010}, nanoseconds(10));  // together with the one before
  log.on_sent(400, Instant{2000}, nanoseconds(10));
  EXPECT_EQ(log.count(), 2u);
  log.on_resent({150, 250}, Instant{5000});
  std::vector<std::pair<uint64_t, int64_t>> seen;
  log.for_each({100, 400}, [&](ByteRange part, const SendLog::Record& r) { seen.emplace_back(part.end, r.last.ns); });
  EXPECT_THAT(seen,
              ElementsAre(std::pair(150, 1010), std::pair(250, 5000), std::pair(300, 1010), std::pair(400, 2000)));
  log.on_acked(260);
  EXPECT_EQ(log.begin(), 260u);
  EXPECT_EQ(log.count(), 2u);
}

TEST(SendLogTest, R70_bounded_and_never_earlier_than_the_truth) {
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    std::mt19937 rng(seed);
    SendLog log;
    std::vector<int64_t> truth;  // per byte, from `una` on
    uint64_t una = 0, end = 0;
    log.reset(0);
    for (int64_t t = 1; t < 2000; ++t) {
      const uint32_t what = rng() % 8;
      if (what < 4 || end == una) {
        const uint64_t n = 1 + rng() % 5;
        log.on_sent(end += n, Instant{t}, nanoseconds(rng() % 3));
        truth.resize(end, t);
      } else if (what < 6) {
        const uint64_t a = una + rng() % (end - una), b = std::min(end, a + 1 + rng() % 7);
        log.on_resent({a, b}, Instant{t});
        std::fill(truth.begin() + static_cast<long>(a), truth.begin() + static_cast<long>(b), t);
      } else {
        log.on_acked(una += rng() % (end - una + 1) / 2);
      }
      ASSERT_LE(log.count(), SendLog::kMaxRecords);
      ASSERT_EQ(log.end(), end) << "seed " << seed;
      uint64_t covered = una;
      log.for_each({una, end}, [&](ByteRange part, const SendLog::Record& r) {
        ASSERT_EQ(part.begin, covered) << "seed " << seed;
        covered = part.end;
        for (uint64_t i = part.begin; i < part.end; ++i) {
          ASSERT_GE(r.last.ns, truth[i]) << "seed " << seed;
          ASSERT_LE(r.first().ns, truth[i]) << "seed " << seed;
        }
      });
      ASSERT_EQ(covered, end) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace tto::tcp
