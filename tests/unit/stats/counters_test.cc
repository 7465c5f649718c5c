#include "libtto/stats/counters.hh"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "libtto/stats/stats_page.h"

namespace tto::stats {
namespace {

TEST(Counters, name__is_unique_well_formed_and_fits_the_stats_page) {
  ASSERT_LE(kCounterCount, TTO_STATS_MAX_COUNTERS);
  std::set<std::string> seen;
  for (size_t i = 0; i < kCounterCount; ++i) {
    const std::string n = name(static_cast<Counter>(i));
    EXPECT_TRUE(seen.insert(n).second) << n << " occurs twice";
    EXPECT_FALSE(n.empty());
    EXPECT_LE(n.size(), 31u) << n;
    EXPECT_EQ(n.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_"), std::string::npos) << n;
    EXPECT_STRNE(text(static_cast<Counter>(i)), "") << n;
  }
}

TEST(Counters, name__matches_the_enum) {
  EXPECT_STREQ(name(Counter::rx_frame), "rx_frame");
  EXPECT_STREQ(name(Counter::drop_tcp_checksum), "drop_tcp_checksum");
  EXPECT_STREQ(name(Counter::kernel_policy), "kernel_policy");
  EXPECT_STREQ(name(Counter::kCount), "");
}

TEST(Counters, counter_of__every_reason_has_its_own_drop_counter) {
  std::set<Counter> seen;
  for (size_t r = 1; r < static_cast<size_t>(DropReason::kCount); ++r) {
    const Counter c = counter_of(static_cast<DropReason>(r));
    EXPECT_EQ(std::string(name(c)).rfind("drop_", 0), 0u);
    EXPECT_TRUE(seen.insert(c).second);
  }
  EXPECT_EQ(counter_of(DropReason::k_ethertype), Counter::drop_ethertype);
}

TEST(Counters, add__and_drop_reach_their_own_word_only) {
  std::vector<std::atomic<uint64_t>> words(kCounterCount);
  Counters counters(words.data());
  counters.add(Counter::rx_frame);
  counters.add_owned(Counter::rx_frame, 2);
  counters.drop(DropReason::k_icmp, 5);
  counters.drop(DropReason::kNone);
  uint64_t sum = 0;
  for (auto& w : words) sum += w.load();
  EXPECT_EQ(counters.get(Counter::rx_frame), 3u);
  EXPECT_EQ(counters.get(Counter::drop_icmp), 5u);
  EXPECT_EQ(sum, 8u);
}

}  // namespace
}  // namespace tto::stats
