#include "libtto/stack/timer_wheel.hh"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <vector>

#include "libtto/base/rng.hh"

namespace tto::stack {
namespace {

using Timer = TimerWheel::Timer;

TEST(TimerWheel, take_expired__never_early_and_never_late) {
  const Instant start{1'000'000'123};
  TimerWheel wheel(start);
  Timer timer;
  wheel.arm(timer, start + milliseconds(40));
  EXPECT_EQ(wheel.take_expired(start + milliseconds(40) - nanoseconds(1)), nullptr);
  EXPECT_EQ(wheel.take_expired(start + milliseconds(40)), &timer);
  EXPECT_EQ(wheel.take_expired(start + seconds(100)), nullptr);
  EXPECT_EQ(wheel.next(), kNever);
}

TEST(TimerWheel, arm__moves_and_cancel_removes) {
  TimerWheel wheel(Instant{});
  Timer a, b;
  wheel.arm(a, Instant{} + seconds(1));
  wheel.arm(b, Instant{} + seconds(2));
  wheel.arm(a, Instant{} + seconds(3));
  wheel.cancel(b);
  EXPECT_EQ(wheel.take_expired(Instant{} + seconds(3) - nanoseconds(1)), nullptr);
  EXPECT_EQ(wheel.take_expired(Instant{} + seconds(3)), &a);
}

TEST(TimerWheel, next__is_a_lower_bound_that_moves_on) {
  TimerWheel wheel(Instant{});
  Timer timer;
  const Instant at = Instant{} + seconds(7200);
  wheel.arm(timer, at);
  Instant now{};
  for (int steps = 0; steps < 10; ++steps) {
    const Instant next = wheel.next();
    ASSERT_LE(next, at);
    if (next == at) break;
    ASSERT_GT(next, now) << "would spin";
    now = next;
    ASSERT_EQ(wheel.take_expired(now), nullptr);
  }
  EXPECT_EQ(wheel.take_expired(at), &timer);
}

// A machine that has been up for a hundred days: the first connection's timer is set before the first turn. Ten thousand
// of them take milliseconds, or minutes if the wheel walks.
TEST(TimerWheel, take_expired__jumps_over_empty_time) {
  for (int i = 0; i < 10'000; ++i) {
    TimerWheel wheel(Instant{});
    Timer timer;
    const Instant at = Instant{} + seconds(100LL * 86400 + i);
    wheel.arm(timer, at);
    ASSERT_EQ(wheel.take_expired(at - nanoseconds(1)), nullptr);
    ASSERT_EQ(wheel.take_expired(at), &timer);
  }
}

TEST(TimerWheel, random__fires_in_the_first_turn_after_its_time) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Rng rng(seed);
    Instant now{static_cast<int64_t>(rng.below(uint64_t{1} << 50))};
    TimerWheel wheel(now);
    std::vector<std::unique_ptr<Timer>> timers;
    for (int i = 0; i < 200; ++i) timers.push_back(std::make_unique<Timer>());
    std::vector<Instant> due(timers.size(), kNever);
    for (int step = 0; step < 4000; ++step) {
      const size_t i = rng.below(timers.size());
      const int64_t span = int64_t{1} << rng.between(10, rng.below(20) == 0 ? 48 : 36);
      if (rng.below(8) == 0) {
        wheel.cancel(*timers[i]);
        due[i] = kNever;
      } else {
        due[i] = now + nanoseconds(static_cast<int64_t>(rng.below(static_cast<uint64_t>(span))));
        wheel.arm(*timers[i], due[i]);
      }
      Instant earliest = kNever;
      for (const Instant at : due) earliest = std::min(earliest, at);
      ASSERT_LE(wheel.next(), earliest);
      now = now + nanoseconds(static_cast<int64_t>(rng.below(uint64_t{1} << rng.between(8, 34))));
      std::set<const Timer*> fired;
      while (const Timer* t = wheel.take_expired(now)) fired.insert(t);
      for (size_t k = 0; k < timers.size(); ++k) {
        ASSERT_EQ(fired.contains(timers[k].get()), due[k] <= now) << "timer " << k << " step " << step;
        if (due[k] <= now) due[k] = kNever;
      }
    }
    for (auto& t : timers) wheel.cancel(*t);
  }
}

}  // namespace
}  // namespace tto::stack
