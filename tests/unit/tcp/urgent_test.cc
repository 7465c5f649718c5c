// CONFORMANCE R52: the urgent pointer, both ways.
#include "tests/unit/tcp/engine_fixture.hh"

namespace tto::tcp {
namespace {

using wire::kUrg;

class UrgentTest : public EngineTest {
 protected:
  UrgentTest() { plain(); }
  void urgent(int64_t seq, uint32_t bytes, uint16_t pointer) {
    SegmentIn s = make(kAck | kUrg, seq, 1, bytes);
    s.urgent_pointer = pointer;
    in(s);
  }
  int64_t mark() {
    return c.urgent_mark() == 0 ? 0 : static_cast<int64_t>(c.urgent_mark() - c.first_receive_byte()) + 1;
  }
};

TEST_F(UrgentTest, R52_the_pointer_names_the_octet_after_the_byte) {
  connect();
  write(100);
  c.app_mark_urgent(now);
  Sent s = one();
  EXPECT_TRUE(s.has(kUrg | kPsh));
  EXPECT_EQ(s.urgent_pointer, 100);
  write(10);  // ordinary data follows: no pointer to the past
  c.set_nodelay(true);
  EXPECT_FALSE(one().has(kUrg));
  in(kAck, 1, 111);
  write(10);
  EXPECT_FALSE(one().has(kUrg));
}

TEST_F(UrgentTest, R52_all_segments_before_it_carry_the_pointer_retransmissions_too) {
  config.rack_tail_probe = false;
  connect();
  write(5000);
  c.app_mark_urgent(now);
  for (const Sent& s : out()) {
    EXPECT_TRUE(s.has(kUrg));
    EXPECT_EQ(s.seq + s.urgent_pointer, 5001);
  }
  ASSERT_TRUE(to_deadline());
  const auto resent = out();
  ASSERT_FALSE(resent.empty());
  EXPECT_TRUE(resent[0].has(kUrg));
  EXPECT_EQ(resent[0].seq + resent[0].urgent_pointer, 5001);
}

TEST_F(UrgentTest, R52_neither_nagle_nor_cork_holds_it_back) {
  connect();
  write(10);
  EXPECT_EQ(one().bytes, 10u);
  write(1);
  silence();
  write(1);
  c.app_mark_urgent(now);
  EXPECT_EQ(one().bytes, 2u);
  c.set_cork(true);
  in(kAck, 1, 13);
  write(5);
  silence();
  c.app_mark_urgent(now);
  EXPECT_EQ(one().bytes, 5u);
}

TEST_F(UrgentTest, R52_a_closed_window_lets_the_pointer_through) {
  connect();
  peer_window = 0;
  in(kAck, 1, 1);
  write(1);
  c.app_mark_urgent(now);
  const Sent s = one();
  EXPECT_EQ(s.bytes, 0u);
  EXPECT_TRUE(s.has(kUrg | kAck));
  EXPECT_EQ(s.urgent_pointer, 1);
}

TEST_F(UrgentTest, R52_received_marks) {
  connect();
  EXPECT_EQ(mark(), 0);
  urgent(1, 100, 100);
  EXPECT_EQ(mark(), 100);
  urgent(101, 100, 500);  // announced ahead
  EXPECT_EQ(mark(), 600);
  urgent(201, 100, 100);  // before the one known
  EXPECT_EQ(mark(), 600);
  urgent(1, 100, 1000);  // an old duplicate
  EXPECT_EQ(mark(), 600);
  urgent(401, 100, 300);  // out of order counts
  EXPECT_EQ(mark(), 700);
  SegmentIn bare = make(kAck, 301, 1);
  bare.urgent_pointer = 1000;
  in(bare);  // no URG
  EXPECT_EQ(mark(), 700);
}

TEST_F(UrgentTest, R52_a_mark_on_what_was_received_is_none) {
  connect();
  in(kAck, 1, 1, 100);
  urgent(101, 0, 0);
  EXPECT_EQ(mark(), 101);  // pointer 0: as Linux reads it
  connect();
  in(kAck, 1, 1, 100);
  urgent(51, 100, 10);
  EXPECT_EQ(mark(), 0);
}

}  // namespace
}  // namespace tto::tcp
