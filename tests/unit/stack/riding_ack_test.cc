// Acknowledgements that ride on what the application sends next (StackConfig::ack_ride): which do, and when the others
// leave.
#include <gtest/gtest.h>

#include "tests/unit/stack/stack_pair.hh"

namespace tto::stack {
namespace {

constexpr Duration kRide = milliseconds(2);

class RidingAck : public ::testing::Test {
 protected:
  RidingAck() {
    PairConfig config;
    config.ack_ride = kRide;
    pair_ = std::make_unique<StackPair>(config);
    listener_ = pair_->listen(80, 16);
  }
  void establish() {
    ends_ = pair_->connected(40000, listener_);
    ASSERT_NE(ends_.server, nullptr);
    pair_->run_for(kRide * 2);
  }
  void settle() { pair_->run_for(microseconds(500)); }
  void send(socket::StreamSocket* s, size_t bytes) {
    const std::string data(bytes, 'x');
    ASSERT_EQ(send_bytes(*s, data.data(), bytes, pair_->now), static_cast<ssize_t>(bytes));
    s->stack().push(pair_->now);
  }
  static uint64_t sent(const Host& host) { return host.count(stats::Counter::tx_frame); }
  void TearDown() override { pair_->expect_balance(); }

  std::unique_ptr<StackPair> pair_;
  socket::ListenSocket* listener_;
  StackPair::Ends ends_;
};

TEST_F(RidingAck, a_connection_with_one_request__takes_seven_frames) {
  socket::StreamSocket* client = pair_->connect(40000, 80);
  settle();
  ASSERT_TRUE(client->is_established());
  EXPECT_EQ(sent(pair_->client), 1u) << "the SYN; its second half rides";
  send(client, 64);
  settle();
  ASSERT_EQ(listener_->ready_count(), 1u);
  socket::StreamSocket* server = listener_->accept();
  EXPECT_EQ(server->readable_bytes(), 64u);
  EXPECT_EQ(sent(pair_->server), 1u) << "the SYN-ACK";
  char buffer[64];
  EXPECT_EQ(receive_bytes(*server, buffer, sizeof buffer, pair_->now), 64);
  send(server, 64);
  server->close(pair_->now);
  pair_->server.stack->push(pair_->now);
  settle();
  EXPECT_EQ(receive_bytes(*client, buffer, sizeof buffer, pair_->now), 64);
  EXPECT_EQ(receive_bytes(*client, buffer, 1, pair_->now), 0);
  client->close(pair_->now);
  pair_->client.stack->push(pair_->now);
  pair_->run_for(seconds(1));
  EXPECT_EQ(sent(pair_->client), 3u) << "SYN, request, FIN";
  EXPECT_EQ(sent(pair_->server), 4u) << "SYN-ACK, answer, FIN, the last acknowledgement";
  EXPECT_EQ(pair_->client.stack->connection_count(), 0u);
}

TEST_F(RidingAck, who_waits__lets_it_leave_first) {
  socket::StreamSocket* client = pair_->connect(40000, 80);
  settle();
  ASSERT_TRUE(client->is_established());
  ASSERT_EQ(listener_->ready_count(), 0u);
  pair_->client.stack->flush_acks(pair_->now);
  settle();
  EXPECT_EQ(listener_->ready_count(), 1u);
  pair_->client.stack->flush_acks(pair_->now);
  EXPECT_EQ(sent(pair_->client), 2u) << "once";
}

TEST_F(RidingAck, an_application_that_does_something_else__does_not_hold_it_for_long) {
  pair_->connect(40000, 80);
  settle();
  ASSERT_EQ(listener_->ready_count(), 0u);
  pair_->run_for(kRide);
  EXPECT_EQ(listener_->ready_count(), 1u);
}

TEST_F(RidingAck, R39_two_full_segments__are_acknowledged_at_once) {
  establish();
  send(ends_.server, 2 * 1448);
  settle();
  EXPECT_EQ(ends_.server->unacked_bytes(), 0u);
}

TEST_F(RidingAck, one_small_segment__waits_but_not_for_long) {
  establish();
  send(ends_.server, 100);
  settle();
  EXPECT_EQ(ends_.server->unacked_bytes(), 100u) << "one small segment waits for an answer";
  ASSERT_TRUE(pair_->run_until([&] { return ends_.server->unacked_bytes() == 0; }, kRide * 2));
}

TEST_F(RidingAck, closed_sockets__acknowledge_at_once) {
  establish();
  ends_.client->close(pair_->now);
  pair_->client.stack->push(pair_->now);
  settle();
  ends_.server->close(pair_->now);
  pair_->server.stack->push(pair_->now);
  settle();
  EXPECT_EQ(pair_->server.stack->connection_count(), 0u) << "its FIN is acknowledged: nobody will send anything more";
}

}  // namespace
}  // namespace tto::stack
