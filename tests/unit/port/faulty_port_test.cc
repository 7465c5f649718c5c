#include "libtto/port/faulty_port.hh"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>

#include "libtto/port/memory_port.hh"
#include "tests/support/port_frames.hh"
#include "tests/support/test_region.hh"

namespace tto::port {
namespace {

using testing::Bytes;
using testing::pattern;
using testing::PortUser;
using testing::TestPool;

constexpr uint64_t kSeed = 42;

/// a (behind the faulty port) ── link ── b
struct Bench {
  explicit Bench(const Faults& rx, const Faults& tx, const LinkConfig& config = {}, uint64_t seed = kSeed)
      : a_pool(512),
        b_pool(512),
        link(std::make_unique<MemoryLink>(config, *a_pool, *b_pool)),
        faulty(std::make_unique<FaultyPort>(FaultyConfig{seed, rx, tx}, link->end(0), *a_pool)),
        a(*faulty, *a_pool),
        b(link->end(1), *b_pool) {
    a.post(128);
    b.post(128);
  }
  /// Sends `count` numbered frames one way, one each millisecond; what arrived, in order, until nothing more comes.
  std::vector<Bytes> run(bool from_faulty, int count, size_t size = 200) {
    std::vector<Bytes> arrived;
    Instant now{};
    const auto collect = [&] {
      for (Bytes& frame : a.receive(now)) arrived.push_back(std::move(frame));
      for (Bytes& frame : b.receive(now)) arrived.push_back(std::move(frame));
      a.reclaim(), b.reclaim();
      a.top_up(128), b.top_up(128);
    };
    for (int i = 0; i < count; ++i, now = now + milliseconds(1)) {
      EXPECT_TRUE((from_faulty ? a : b).send(pattern(size, static_cast<uint64_t>(i)), now));
      collect();
    }
    for (Instant next; (next = std::min(faulty->next_event(), link->end(1).next_event())) != kNever;) {
      now = std::max(now, next);
      collect();
    }
    return arrived;
  }
  void expect_conserved() {
    faulty.reset();
    link.reset();
    EXPECT_TRUE(a_pool->check_consistency());
    EXPECT_TRUE(b_pool->check_consistency());
    EXPECT_EQ(a_pool->free_count(), 512u);
    EXPECT_EQ(b_pool->free_count(), 512u);
  }
  TestPool a_pool, b_pool;
  std::unique_ptr<MemoryLink> link;
  std::unique_ptr<FaultyPort> faulty;
  PortUser a, b;
};

std::vector<Bytes> sent(int count, size_t size = 200) {
  std::vector<Bytes> all;
  for (int i = 0; i < count; ++i) all.push_back(pattern(size, static_cast<uint64_t>(i)));
  return all;
}

TEST(FaultyPort, no_faults__is_a_wire) {
  for (const bool out : {true, false}) {
    Bench bench({}, {});
    EXPECT_EQ(bench.run(out, 50), sent(50));
    bench.expect_conserved();
  }
}

TEST(FaultyPort, loss__about_as_many_as_asked_and_the_rest_in_order) {
  for (const bool out : {true, false}) {
    Bench bench({.loss = 0.2}, {.loss = 0.2});
    const auto arrived = bench.run(out, 1000);
    const FaultFigures& f = out ? bench.faulty->tx_faults() : bench.faulty->rx_faults();
    EXPECT_EQ(arrived.size() + f.lost, 1000u);
    EXPECT_NEAR(static_cast<double>(f.lost), 200, 60);
    size_t next = 0;
    const auto all = sent(1000);
    for (const Bytes& frame : arrived) {
      while (next < all.size() && all[next] != frame) ++next;
      ASSERT_LT(next, all.size());
    }
    bench.expect_conserved();
  }
}

TEST(FaultyPort, duplicate__the_same_bytes_twice) {
  for (const bool out : {true, false}) {
    Bench bench({.duplicate = 0.5}, {.duplicate = 0.5});
    const auto arrived = bench.run(out, 100);
    const FaultFigures& f = out ? bench.faulty->tx_faults() : bench.faulty->rx_faults();
    EXPECT_GT(f.duplicated, 20u);
    EXPECT_EQ(arrived.size(), 100 + f.duplicated);
    EXPECT_EQ(std::set<Bytes>(arrived.begin(), arrived.end()).size(), 100u);
    bench.expect_conserved();
  }
}

TEST(FaultyPort, corrupt__one_bit_of_the_copy_and_none_of_the_original) {
  Bench bench({}, {.corrupt = 1});
  const Bytes original = pattern(200, 7);
  const memory::FrameHandle f = bench.a_pool->take(TTO_FRAME_TX_QUEUED);
  bench.a_pool->desc(f).state |= TTO_FRAME_IN_FLIGHT;
  std::copy(original.begin(), original.end(), bench.a_pool->data(f));
  const FrameSlice slice{f, 0, 200, false};
  ASSERT_EQ(bench.faulty->tx_burst({&slice, 1}, {}), 1u);
  bench.faulty->kick(false);
  const auto arrived = bench.b.receive();
  ASSERT_EQ(arrived.size(), 1u);
  int bits = 0;
  for (size_t i = 0; i < original.size(); ++i) {
    bits += __builtin_popcount(std::to_integer<unsigned>(arrived[0][i] ^ original[i]));
  }
  EXPECT_EQ(bits, 1);
  EXPECT_TRUE(std::equal(original.begin(), original.end(), bench.a_pool->data(f)));
  bench.a.reclaim();
  bench.a_pool->drop(f, TTO_FRAME_TX_QUEUED);
  bench.expect_conserved();
}

TEST(FaultyPort, reorder__late_frames_are_overtaken_and_none_is_lost) {
  for (const bool out : {true, false}) {
    const Faults faults{.reorder = 0.3, .reorder_delay = microseconds(3500)};
    Bench bench(faults, faults);
    auto arrived = bench.run(out, 200);
    EXPECT_NE(arrived, sent(200));
    auto all = sent(200);
    std::sort(all.begin(), all.end());
    std::sort(arrived.begin(), arrived.end());
    EXPECT_EQ(arrived, all);
    bench.expect_conserved();
  }
}

TEST(FaultyPort, delay__next_event_names_the_moment) {
  Bench bench({}, {.delay = milliseconds(7)});
  bench.a.send(pattern(100, 1), Instant{500});
  EXPECT_EQ(bench.faulty->next_event(), Instant{500} + milliseconds(7));
  EXPECT_TRUE(bench.b.receive(Instant{500} + milliseconds(6)).empty());
  bench.a.receive(Instant{500} + milliseconds(7));
  EXPECT_EQ(bench.b.receive(Instant{500} + milliseconds(7)).size(), 1u);
  bench.a.reclaim();
  bench.expect_conserved();
}

TEST(FaultyPort, rate__spaces_frames) {
  Bench bench({.bytes_per_second = 1'000'000}, {});
  for (uint64_t i = 0; i < 3; ++i) bench.b.send(pattern(1000, i), Instant{0});
  EXPECT_TRUE(bench.a.receive(Instant{0}).empty());
  EXPECT_EQ(bench.faulty->next_event(), Instant{} + milliseconds(1));
  EXPECT_EQ(bench.a.receive(Instant{} + milliseconds(2)).size(), 2u);
  EXPECT_EQ(bench.a.receive(Instant{} + milliseconds(3)).size(), 1u);
  bench.b.reclaim();
  bench.expect_conserved();
}

TEST(FaultyPort, seed__decides_everything) {
  const Faults faults{.loss = 0.1, .duplicate = 0.1, .corrupt = 0.1, .reorder = 0.1};
  Bench first(faults, faults), again(faults, faults), other(faults, faults, {}, kSeed + 1);
  const auto arrived = first.run(true, 300);
  EXPECT_EQ(arrived, again.run(true, 300));
  EXPECT_NE(arrived, other.run(true, 300));
}

TEST(FaultyPort, all_faults_on_chains__conserve_every_frame) {
  const Faults faults{.loss = 0.1, .duplicate = 0.2, .corrupt = 0.1, .reorder = 0.2, .delay = microseconds(300)};
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE(seed);
    for (const bool out : {true, false}) {
      Bench bench(faults, faults, {.mtu_bytes = 9000, .max_slices = 3}, seed);
      bench.run(out, 200, 9000);
      bench.expect_conserved();
    }
  }
}

TEST(FaultyPort, empty_pool__a_frame_is_lost_and_counted) {
  Bench bench({}, {});
  std::vector<memory::FrameHandle> hoard;
  const memory::FrameHandle mine = bench.a_pool->take(TTO_FRAME_IN_FLIGHT);
  while (const auto f = bench.a_pool->take(TTO_FRAME_TX_QUEUED)) hoard.push_back(f);
  const FrameSlice slice{mine, 0, 100, false};
  ASSERT_EQ(bench.faulty->tx_burst({&slice, 1}, {}), 1u);
  bench.faulty->kick(false);
  EXPECT_TRUE(bench.b.receive().empty());
  EXPECT_EQ(bench.faulty->tx_faults().no_frame, 1u);
  EXPECT_EQ(bench.a.reclaim(), 1u);
  for (const auto f : hoard) bench.a_pool->drop(f, TTO_FRAME_TX_QUEUED);
  bench.expect_conserved();
}

}  // namespace
}  // namespace tto::port
