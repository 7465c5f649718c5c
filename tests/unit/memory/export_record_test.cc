#include "libtto/memory/export_record.hh"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <set>
#include <thread>

#include "tests/support/test_region.hh"

namespace tto::memory {
namespace {

using testing::TestRegion;

tto_connection_record record_of(uint64_t n) {
  tto_connection_record r{};
  r.snd_una = r.snd_nxt = r.snd_end = r.rcv_nxt = r.rcv_read = r.rcv_wnd_edge = r.snd_wl1 = n;
  r.rx_frames = static_cast<uint32_t>(n);
  return r;
}

TEST(ConnectionSlots, take__gives_each_slot_once) {
  TestRegion region(1, 5);
  ConnectionSlots slots(region);
  std::set<uint32_t> seen;
  for (int i = 0; i < 5; ++i) seen.insert(slots.take());
  EXPECT_EQ(seen, (std::set<uint32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(slots.take(), kNoSlot);
  slots.free(3);
  EXPECT_EQ(slots.take(), 3u);
}

TEST(ConnectionSlots, commit__the_last_record_is_read) {
  TestRegion region(1, 2);
  ConnectionSlots slots(region);
  const uint32_t slot = slots.take();
  tto_connection_record out{};
  for (uint64_t n = 1; n < 10; ++n) {
    slots.commit(slot, record_of(n));
    ASSERT_TRUE(read_record(region.region().connections[slot], &out));
    EXPECT_EQ(out.snd_una, n);
  }
}

TEST(ConnectionSlots, take__readers_see_nothing_before_the_first_commit) {
  TestRegion region(1, 1);
  ConnectionSlots slots(region);
  const tto_connection_slot& shared = region.region().connections[0];
  tto_connection_record out{};
  uint32_t slot = slots.take();
  EXPECT_FALSE(read_record(shared, &out));
  slots.commit(slot, record_of(1));
  EXPECT_TRUE(read_record(shared, &out));
  slots.free(slot);
  EXPECT_FALSE(read_record(shared, &out));
  slot = slots.take();
  EXPECT_FALSE(read_record(shared, &out)) << "the previous owner's record must not come back";
}

TEST(ConnectionSlots, commit__an_owner_that_dies_half_way_leaves_the_last_record_whole) {
  TestRegion region(1, 1);
  ConnectionSlots slots(region);
  const uint32_t slot = slots.take();
  slots.commit(slot, record_of(41));
  tto_connection_slot& shared = region.region().connections[slot];
  std::memset(&shared.record[(shared.generation + 1) & 1], 0xee, sizeof(tto_connection_record) / 2);
  tto_connection_record out{};
  ASSERT_TRUE(read_record(shared, &out));
  EXPECT_EQ(std::memcmp(&out, &shared.record[shared.generation & 1], sizeof out), 0);
  EXPECT_EQ(out.snd_wl1, 41u);
}

TEST(ConnectionSlots, read_record__is_never_torn_beside_a_writer) {
  TestRegion region(1, 1);
  ConnectionSlots slots(region);
  const uint32_t slot = slots.take();
  slots.commit(slot, record_of(1));
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (uint64_t n = 2; !stop.load(std::memory_order_relaxed); ++n) slots.commit(slot, record_of(n));
  });
  uint64_t last = 0;
  int whole = 0;
  for (int i = 0; i < 200000; ++i) {
    tto_connection_record r{};
    if (!read_record(region.region().connections[slot], &r)) continue;
    ++whole;
    EXPECT_EQ(r.snd_una, r.snd_wl1);
    EXPECT_EQ(r.rcv_nxt, r.snd_una);
    EXPECT_EQ(r.rx_frames, static_cast<uint32_t>(r.snd_una));
    EXPECT_GE(r.snd_una, last);
    last = r.snd_una;
  }
  stop = true;
  writer.join();
  EXPECT_GT(whole, 0);
}

TEST(ConnectionSlots, free__twice_is_reported_and_changes_nothing) {
  TestRegion region(1, 2);
  ConnectionSlots slots(region);
  const uint32_t slot = slots.take();
  slots.free(slot);
#ifdef NDEBUG
  slots.free(slot);
  slots.free(99);
#else
  EXPECT_DEATH(slots.free(slot), "");
  EXPECT_DEATH(slots.free(99), "");
#endif
  EXPECT_EQ(slots.free_count(), 2u);
}

}  // namespace
}  // namespace tto::memory
