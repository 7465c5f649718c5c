// Whole transfers between two engines over a bad link.
#include <gtest/gtest.h>

#include "tests/unit/tcp/engine_pair.hh"

namespace tto::tcp {
namespace {

ConnectionConfig make_config(uint32_t iss) {
  ConnectionConfig c;
  c.iss = iss;
  c.ts_offset = iss * 7;
  c.orphan_retries = 15;  // these programs close early, and the links are worse than what Linux gives up on
  c.retries2 = 30;
  c.syn_retries = c.synack_retries = 30;
  return c;
}

void expect_done(const Pair& p, uint64_t a_to_b, uint64_t b_to_a) {
  EXPECT_EQ(p.b.consumed, a_to_b);
  EXPECT_EQ(p.a.consumed, b_to_a);
  EXPECT_EQ(p.a.c.events().error, 0);
  EXPECT_EQ(p.b.c.events().error, 0);
  EXPECT_EQ(p.a.c.state(), State::kClosed);
  EXPECT_EQ(p.b.c.state(), State::kClosed);
}

TEST(Transfer, clean_link_both_ways) {
  Pair p(1);
  p.a.to_write = 3'000'000;
  p.b.to_write = 2'000'000;
  p.open(make_config(1000), make_config(2000));
  p.run(seconds(600));
  expect_done(p, 3'000'000, 2'000'000);
  EXPECT_EQ(p.a.c.figures().retransmitted_segments, 0u);
  EXPECT_EQ(p.b.c.figures().retransmitted_segments, 0u);
}

struct Variant {
  const char* name;
  LinkPlan plan;
  void (*change)(ConnectionConfig& a, ConnectionConfig& b);
};

class Transfers : public ::testing::TestWithParam<Variant> {};

// Every seed is another order of losses; the seed is printed by whatever fails.
TEST_P(Transfers, every_byte_arrives) {
  const Variant& v = GetParam();
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Pair p(seed);
    p.plan = v.plan;
    p.a.to_write = 200'000 + seed * 1000;
    p.b.to_write = 100'000 + seed;
    // On the edges of 2^31 and 2^32 (R32).
    ConnectionConfig a = make_config(static_cast<uint32_t>(0xffffffffu - 4000 * seed)),
                     b = make_config(static_cast<uint32_t>(0x80000000u - 3000 * seed));
    if (v.change != nullptr) v.change(a, b);
    p.open(a, b);
    p.run(seconds(3000));
    expect_done(p, 200'000 + seed * 1000, 100'000 + seed);
    if (HasFailure()) return;
  }
}

LinkPlan lossy(double loss, double duplicate, double reorder) {
  LinkPlan p;
  p.loss = loss;
  p.duplicate = duplicate;
  p.reorder = reorder;
  p.coalesce = 0.5;
  p.cut = 0.1;
  p.jitter = microseconds(300);
  return p;
}

void without_sack(ConnectionConfig& a, ConnectionConfig&) { a.sack = false; }
void without_options(ConnectionConfig& a, ConnectionConfig& b) {
  a.sack = a.timestamps = a.window_scaling = false;
  b.mtu_bytes = b.path_mtu_bytes = 576;
}
void with_reno(ConnectionConfig& a, ConnectionConfig& b) {
  a.congestion = b.congestion = ConnectionConfig::Congestion::kReno;
}
void with_small_buffers(ConnectionConfig& a, ConnectionConfig& b) {
  a.receive_buffer_bytes = 3000;
  b.receive_buffer_bytes = 700;
}
void with_nodelay_v6_jumbo(ConnectionConfig& a, ConnectionConfig& b) {
  a.is_v6 = b.is_v6 = true;
  a.nodelay = b.nodelay = true;
  a.mtu_bytes = b.mtu_bytes = a.path_mtu_bytes = b.path_mtu_bytes = 9000;
}

INSTANTIATE_TEST_SUITE_P(Links, Transfers,
                         ::testing::Values(Variant{"clean", {}, nullptr},
                                           Variant{"one_percent", lossy(0.01, 0, 0), nullptr},
                                           Variant{"five_percent", lossy(0.05, 0.02, 0.05), nullptr},
                                           Variant{"thirty_percent", lossy(0.3, 0.1, 0.1), nullptr},
                                           Variant{"reordered", lossy(0, 0, 0.3), nullptr},
                                           Variant{"duplicated", lossy(0, 0.3, 0), nullptr},
                                           Variant{"without_sack", lossy(0.05, 0.02, 0.05), without_sack},
                                           Variant{"without_options", lossy(0.05, 0.02, 0.05), without_options},
                                           Variant{"reno", lossy(0.02, 0, 0.02), with_reno},
                                           Variant{"small_buffers", lossy(0.02, 0.01, 0.02), with_small_buffers},
                                           Variant{"v6_jumbo", lossy(0.02, 0.01, 0.02), with_nodelay_v6_jumbo}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Transfer, R10_simultaneous_open_yields_one_connection) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Pair p(seed);
    p.plan.loss = seed % 2 ? 0 : 0.2;
    p.a.to_write = p.b.to_write = 50'000;
    p.open_both(make_config(0xfffffff0), make_config(77));
    p.run(seconds(3000));
    expect_done(p, 50'000, 50'000);
    if (HasFailure()) return;
  }
}

TEST(Transfer, R40_a_reader_that_sleeps_for_long_is_served_to_the_end) {
  Pair p(9);
  p.plan.loss = 0.2;  // window updates get lost too
  p.a.to_write = 400'000;
  p.b.read_pause = seconds(90);
  p.b.read_at_once = 60'000;
  p.a.close_after_eof = false;  // else it would be an orphan before a closed window
  ConnectionConfig b = make_config(5);
  b.receive_buffer_bytes = 65536;
  p.open(make_config(4), b);
  p.run(seconds(20'000));
  EXPECT_EQ(p.b.consumed, 400'000u);
  EXPECT_EQ(p.a.c.events().error, 0);
}

TEST(Transfer, windows_of_a_few_bytes_make_progress) {
  Pair p(3);
  p.a.to_write = 500;
  p.b.read_at_once = 1;
  ConnectionConfig b = make_config(5);
  b.receive_buffer_bytes = 2;
  b.receive_window_scale = 0;
  p.open(make_config(4), b);
  p.run(seconds(20'000));
  expect_done(p, 500, 0);
}

}  // namespace
}  // namespace tto::tcp
