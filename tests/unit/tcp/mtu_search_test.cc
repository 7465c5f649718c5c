// CONFORMANCE R79: paths that swallow large segments and say nothing.
#include "tests/unit/tcp/engine_fixture.hh"

namespace tto::tcp {
namespace {

class MtuSearchTest : public EngineTest {
 protected:
  MtuSearchTest() {
    with_sack();
    syn_options_of_peer.mss = 1460;
    config.receive_buffer_bytes = 1 << 20;
  }

  /// A path that takes segments of at most `limit` bytes of payload, and a peer that acknowledges what comes. Time
  /// passes by round trips and deadlines. Returns the bytes that arrived in order within `patience`.
  int64_t transfer(int64_t bytes, uint32_t limit, Duration patience) {
    write(static_cast<uint64_t>(bytes));
    const Instant end = now + patience;
    std::vector<std::pair<int64_t, int64_t>> held;
    while (rcv_nxt <= bytes && now < end && c.state() != State::kClosed) {
      const std::vector<Sent> sent = out();
      bool any = false;
      for (const Sent& s : sent) {
        for (uint64_t at = 0; at < s.bytes; at += s.mss_bytes) {
          const int64_t n = static_cast<int64_t>(std::min<uint64_t>(s.mss_bytes, s.bytes - at));
          largest_sent = std::max(largest_sent, n);
          if (n > limit) continue;
          held.emplace_back(s.seq + static_cast<int64_t>(at), s.seq + static_cast<int64_t>(at) + n);
          any = true;
        }
      }
      if (!any) {
        if (!to_deadline()) break;
        continue;
      }
      pass(rtt);
      std::sort(held.begin(), held.end());
      for (auto [from, to] : held)
        if (from <= rcv_nxt) rcv_nxt = std::max(rcv_nxt, to);
      std::erase_if(held, [&](const auto& r) { return r.second <= rcv_nxt; });
      SegmentIn ack = make(kAck, 1, rcv_nxt);
      for (auto [from, to] : held) {
        if (ack.options.sack_count == 3) break;
        ack.options.sack[ack.options.sack_count++] = {{kIss + static_cast<uint32_t>(from)},
                                                      {kIss + static_cast<uint32_t>(to)}};
      }
      in(ack);
    }
    return rcv_nxt - 1;
  }

  int64_t rcv_nxt = 1;
  int64_t largest_sent = 0;
};

TEST_F(MtuSearchTest, R79_without_probing_a_black_hole_stays_one) {
  connect();
  EXPECT_EQ(transfer(50'000, 1200, seconds(60)), 0);
  EXPECT_EQ(c.effective_mss(), 1460u);
}

TEST_F(MtuSearchTest, R79_a_black_hole_is_survived) {
  config.mtu_probing = 1;
  connect();
  EXPECT_EQ(transfer(500'000, 1200, seconds(60)), 500'000);
  EXPECT_LE(c.figures().rto_expirations, 4u);
  // Then probes find what the path takes, to within a few bytes.
  EXPECT_LE(c.effective_mss(), 1200u);
  EXPECT_GE(c.effective_mss(), 1190u);
}

TEST_F(MtuSearchTest, R79_smaller_and_smaller) {
  config.mtu_probing = 1;
  connect();
  EXPECT_EQ(transfer(50'000, 600, seconds(300)), 50'000);
  EXPECT_LE(c.effective_mss(), 600u);
}

TEST_F(MtuSearchTest, R79_a_path_without_a_hole_is_left_alone) {
  config.mtu_probing = 1;
  connect();
  EXPECT_EQ(transfer(200'000, 1460, seconds(60)), 200'000);
  EXPECT_EQ(c.effective_mss(), 1460u);
  EXPECT_EQ(c.figures().retransmitted_segments, 0u);
}

TEST_F(MtuSearchTest, R79_always_probing_starts_small_and_reaches_the_link) {
  config.mtu_probing = 2;
  connect();
  EXPECT_EQ(c.effective_mss(), 1024u);
  EXPECT_EQ(transfer(1'000'000, 1460, seconds(60)), 1'000'000);
  EXPECT_GE(c.effective_mss(), 1452u);
  EXPECT_LE(largest_sent, 1460);
}

TEST_F(MtuSearchTest, R79_a_lost_probe_is_no_congestion) {
  config.mtu_probing = 2;
  connect();
  EXPECT_EQ(transfer(400'000, 1024, seconds(60)), 400'000);  // every probe is lost
  EXPECT_GT(largest_sent, 1024);
  EXPECT_EQ(c.effective_mss(), 1024u);
  EXPECT_EQ(c.figures().ssthresh_bytes, ~0u);
  EXPECT_EQ(c.figures().rto_expirations, 0u);
}

TEST_F(MtuSearchTest, R79_what_icmp_says_limits_the_search) {
  config.mtu_probing = 2;
  connect();
  write(10'000);
  out();
  c.on_path_mtu(1100, {kIss + 1}, now);
  rcv_nxt = 1;
  EXPECT_GE(transfer(400'000, 1060, seconds(60)), 400'000);
  EXPECT_LE(largest_sent, 1060);
}

}  // namespace
}  // namespace tto::tcp
