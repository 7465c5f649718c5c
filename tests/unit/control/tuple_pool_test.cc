#include "libtto/control/tuple_pool.hh"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "libtto/base/rng.hh"

namespace tto::control {
namespace {

constexpr Instant kStart{1'000'000'000};

LeaseTarget target_to(int host, uint16_t port = 80) {
  LeaseTarget target;
  target.local = wire::IpAddress::from_v4(__builtin_bswap32(0x0a000001));
  target.remote = target.next_hop = wire::IpAddress::from_v4(__builtin_bswap32(0x0a000100u + static_cast<uint32_t>(host)));
  target.remote_port = port;
  target.ifindex = 2;
  return target;
}

class Pool : public ::testing::Test {
 protected:
  /// ttod: leases what the pool wishes for.
  size_t lease(const LeaseTarget& target, Instant now) {
    std::vector<tto_helper_leased_tuple> tuples(pool_.wish(target));
    for (auto& tuple : tuples) {
      tuple.grant_id = ++last_id_;
      tuple.local_port = static_cast<uint16_t>(30000 + last_id_);
    }
    ++calls_;
    return pool_.add(target, tuples, now);
  }
  LeasedTuple open(const LeaseTarget& target, Instant now) {
    LeasedTuple tuple;
    if (pool_.take(target, now, tuple)) return tuple;
    EXPECT_GT(lease(target, now), 0u);
    EXPECT_TRUE(pool_.take(target, now, tuple));
    return tuple;
  }

  TuplePool pool_;
  uint64_t last_id_ = 0;
  int calls_ = 0;
};

TEST_F(Pool, wish__doubles_up_to_the_largest_batch) {
  const LeaseTarget target = target_to(1);
  std::vector<uint32_t> wishes;
  for (int i = 0; i < 400; ++i) {
    LeasedTuple tuple;
    if (pool_.take(target, kStart, tuple)) continue;
    wishes.push_back(pool_.wish(target));
    lease(target, kStart);
    ASSERT_TRUE(pool_.take(target, kStart, tuple));
  }
  EXPECT_EQ(wishes, (std::vector<uint32_t>{1, 1, 2, 4, 8, 16, 32, 64, 128, 128, 128}));
}

TEST_F(Pool, B5_a_thousand_connections_one_after_another__need_few_calls) {
  const LeaseTarget target = target_to(1);
  Instant now = kStart;
  for (int i = 0; i < 1000; ++i) {
    const LeasedTuple tuple = open(target, now);
    now = now + microseconds(50);
    ASSERT_TRUE(pool_.give_back(tuple.grant_id, 0, now));
  }
  EXPECT_LE(calls_, 8);
}

TEST_F(Pool, take__a_tuple_serves_once_at_a_time_and_rests_between) {
  const LeaseTarget target = target_to(1);
  const LeasedTuple first = open(target, kStart);
  EXPECT_FALSE(first.was_used);
  LeasedTuple tuple;
  EXPECT_FALSE(pool_.take(target, kStart, tuple)) << "it is in use";
  ASSERT_TRUE(pool_.give_back(first.grant_id, 4711, kStart));
  EXPECT_FALSE(pool_.give_back(first.grant_id, 4711, kStart)) << "it came back already";
  EXPECT_FALSE(pool_.take(target, kStart + TuplePool::kRest - nanoseconds(1), tuple)) << "it rests";
  ASSERT_TRUE(pool_.take(target, kStart + TuplePool::kRest, tuple));
  EXPECT_EQ(tuple.grant_id, first.grant_id);
  EXPECT_EQ(tuple.local_port, first.local_port);
  EXPECT_TRUE(tuple.was_used);
  EXPECT_EQ(tuple.next_seq, 4711u);
}

TEST_F(Pool, take__with_enough_of_them_the_one_that_rested_longest) {
  const LeaseTarget target = target_to(1);
  std::vector<uint64_t> order;
  while (order.size() < TuplePool::kEnough) order.push_back(open(target, kStart).grant_id);
  const int calls = calls_;
  for (const uint64_t id : order) ASSERT_TRUE(pool_.give_back(id, 0, kStart));
  for (const uint64_t id : order) EXPECT_EQ(open(target, kStart).grant_id, id);
  EXPECT_EQ(calls_, calls);
}

TEST_F(Pool, take__only_of_the_very_destination) {
  open(target_to(1), kStart);
  pool_.give_back(1, 0, kStart);
  const Instant later = kStart + seconds(1);
  LeaseTarget others[5] = {target_to(1), target_to(1), target_to(1), target_to(2), target_to(1, 81)};
  others[0].local.bytes[15] ^= 1;
  others[1].next_hop.bytes[15] ^= 1;
  others[2].ifindex = 3;
  LeasedTuple tuple;
  for (const LeaseTarget& other : others) EXPECT_FALSE(pool_.take(other, later, tuple));
  EXPECT_TRUE(pool_.take(target_to(1), later, tuple));
}

TEST_F(Pool, take_idle__those_nobody_wanted_oldest_first) {
  const LeasedTuple one = open(target_to(1), kStart);
  const LeasedTuple two = open(target_to(2), kStart);
  EXPECT_EQ(pool_.next_idle(), kNever);
  ASSERT_TRUE(pool_.give_back(two.grant_id, 0, kStart));
  ASSERT_TRUE(pool_.give_back(one.grant_id, 0, kStart + seconds(1)));
  EXPECT_EQ(pool_.next_idle(), kStart + TuplePool::kIdle);
  LeasedTuple idle;
  EXPECT_FALSE(pool_.take_idle(kStart + TuplePool::kIdle - nanoseconds(1), idle));
  ASSERT_TRUE(pool_.take_idle(kStart + TuplePool::kIdle, idle));
  EXPECT_EQ(idle.grant_id, two.grant_id);
  EXPECT_FALSE(pool_.take_idle(kStart + TuplePool::kIdle, idle));
  ASSERT_TRUE(pool_.take_idle(kStart + seconds(1) + TuplePool::kIdle, idle));
  EXPECT_EQ(idle.grant_id, one.grant_id);
  EXPECT_EQ(pool_.next_idle(), kNever);
  EXPECT_EQ(pool_.wish(target_to(1)), 1u) << "demand is forgotten with them";
}

TEST_F(Pool, forget__what_is_in_use_only) {
  const LeasedTuple tuple = open(target_to(1), kStart);
  EXPECT_TRUE(pool_.forget(tuple.grant_id));
  EXPECT_FALSE(pool_.forget(tuple.grant_id));
  EXPECT_FALSE(pool_.give_back(tuple.grant_id, 0, kStart)) << "it is not ours any more";
  EXPECT_FALSE(pool_.forget(0));
  EXPECT_FALSE(pool_.give_back(0, 0, kStart)) << "accepted connections have no grant";
}

TEST_F(Pool, clear__leaves_nothing) {
  const LeasedTuple used = open(target_to(1), kStart);
  open(target_to(1), kStart);
  open(target_to(1), kStart);
  pool_.clear();
  EXPECT_EQ(pool_.free_count(), 0u);
  EXPECT_EQ(pool_.next_idle(), kNever);
  EXPECT_FALSE(pool_.give_back(used.grant_id, 0, kStart));
  EXPECT_EQ(pool_.wish(target_to(1)), 1u);
}

TEST_F(Pool, any_order_of_calls__never_gives_a_tuple_to_two) {
  const uint64_t seed = 20260101;
  SCOPED_TRACE(seed);
  Rng rng(seed);
  Instant now = kStart;
  std::set<uint64_t> in_use, known;
  for (int step = 0; step < 60000; ++step) {
    now = now + microseconds(static_cast<int64_t>(rng.below(3000)));
    const LeaseTarget target = target_to(static_cast<int>(rng.below(5)), static_cast<uint16_t>(80 + rng.below(3)));
    const uint64_t what = rng.below(100);
    LeasedTuple tuple;
    if (what < 48) {
      tuple = open(target, now);
      ASSERT_TRUE(in_use.insert(tuple.grant_id).second) << "step " << step;
    } else if (what < 98 && !in_use.empty()) {
      auto at = in_use.lower_bound(rng.below(last_id_ + 1));
      if (at == in_use.end()) at = in_use.begin();
      ASSERT_TRUE(what < 95 ? pool_.give_back(*at, 1, now) : pool_.forget(*at));
      in_use.erase(at);
    } else {
      while (pool_.take_idle(now, tuple)) ASSERT_EQ(in_use.count(tuple.grant_id), 0u) << "step " << step;
    }
  }
  while (!in_use.empty()) {
    ASSERT_TRUE(pool_.give_back(*in_use.begin(), 1, now));
    in_use.erase(in_use.begin());
  }
  size_t returned = 0;
  LeasedTuple tuple;
  for (const size_t free = pool_.free_count(); pool_.take_idle(now + TuplePool::kIdle, tuple); ++returned)
    ASSERT_LT(returned, free);
  EXPECT_EQ(pool_.free_count(), 0u);
}

}  // namespace
}  // namespace tto::control
