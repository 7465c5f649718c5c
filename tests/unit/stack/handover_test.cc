// A connection leaves for the kernel: what the kernel socket is told, every byte of both queues, what comes late, and what
// happens when it is refused. The kernel socket is a record of what was done to it.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <vector>

#include "libtto/wire/frame.hh"
#include "libtto/wire/tcp_flags.hh"
#include "tests/unit/stack/stack_pair.hh"

namespace tto::stack {
namespace {

uint8_t pattern(uint64_t position) { return static_cast<uint8_t>((position * 0x9e3779b97f4a7c15u) >> 56); }

void expect_pattern(const std::vector<uint8_t>& bytes, uint64_t position) {
  for (size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], pattern(position + i)) << "at " << position + i;
}

class FakeTarget final : public HandoverTarget {
 public:
  uint64_t begin(const tto_helper_release_item& f, const tto_helper_restore& r) override {
    flow = f;
    restored = r;
    return refuses ? 0 : 77;
  }
  bool restore(Queue queue, const iovec* pieces, int count) override {
    if (fails_to_restore) return false;
    append(queue == Queue::kReceived ? received : sent, pieces, count);
    return true;
  }
  bool restore_window(const RepairWindow& w) override {
    window = w;
    return true;
  }
  bool restore_fin() override { return fin_is_restored = true; }
  void cancel(uint64_t id) override { cancelled = id; }
  bool end(uint64_t id, bool is_silent) override {
    EXPECT_EQ(is_silent, fin_is_restored);
    ended = id;
    return !fails_to_end;
  }
  bool send(const iovec* pieces, int count) override {
    EXPECT_EQ(ended, 77u);
    append(unsent, pieces, count);
    return true;
  }
  void shut(int how) override { (how == SHUT_WR ? write_is_shut : read_is_shut) = true; }

  void await_fin() override { has_awaited_fin = true; }

  bool has_awaited_fin = false;
  bool refuses = false, fails_to_restore = false, fails_to_end = false;
  tto_helper_release_item flow{};
  tto_helper_restore restored{};
  RepairWindow window;
  std::vector<uint8_t> received, sent, unsent;
  uint64_t cancelled = 0, ended = 0;
  bool write_is_shut = false, read_is_shut = false, fin_is_restored = false;

 private:
  static void append(std::vector<uint8_t>& to, const iovec* pieces, int count) {
    for (int i = 0; i < count; ++i) {
      const auto* p = static_cast<const uint8_t*>(pieces[i].iov_base);
      to.insert(to.end(), p, p + pieces[i].iov_len);
    }
  }
};

/// A packet as the kernel's socket would see it.
struct Packet {
  explicit Packet(const std::vector<uint8_t>& ip) {
    frame.resize(wire::kEthernetBytes);
    frame[12] = (ip[0] >> 4) == 4 ? 0x08 : 0x86;
    frame[13] = (ip[0] >> 4) == 4 ? 0x00 : 0xdd;
    frame.insert(frame.end(), ip.begin(), ip.end());
    EXPECT_EQ(wire::parse_frame_into(frame, static_cast<uint32_t>(frame.size()), view), stats::DropReason::kNone);
  }
  std::vector<uint8_t> payload() const { return {frame.begin() + view.payload_offset, frame.end()}; }
  std::vector<uint8_t> frame;
  wire::FrameView view;
};

/// Both ends write and read a pattern; what each has written and read is known.
class HandoverTest : public ::testing::Test {
 protected:
  void open(const PairConfig& config) {
    pair = std::make_unique<StackPair>(config);
    listener = pair->listen(80, 8);
    ends = pair->connected(4000, listener);
    ASSERT_NE(ends.server, nullptr);
  }
  void write_some(socket::StreamSocket& s, uint64_t& written, uint64_t bytes) {
    std::vector<uint8_t> data(bytes);
    for (uint64_t i = 0; i < bytes; ++i) data[i] = pattern(written + i);
    const ssize_t n = send_bytes(s, data.data(), data.size(), pair->now);
    if (n > 0) written += static_cast<uint64_t>(n);
  }
  void read_some(socket::StreamSocket& s, uint64_t& read, size_t most) {
    std::vector<uint8_t> data(most);
    const ssize_t n = receive_bytes(s, data.data(), data.size(), pair->now);
    if (n <= 0) return;
    data.resize(static_cast<size_t>(n));
    expect_pattern(data, read);
    read += static_cast<uint64_t>(n);
  }
  HandoverResult hand_over(FakeTarget& target) {
    first_send = static_cast<uint32_t>(ends.client->connection().first_send_byte());
    first_receive = static_cast<uint32_t>(ends.client->connection().first_receive_byte());
    pair->client.stack->run_once(pair->now);
    return pair->client.stack->hand_over(*ends.client, target, pair->now);
  }
  /// Every byte that the application wrote is acknowledged, sent or unsent; every one it has not read is handed on.
  void expect_every_byte(const FakeTarget& target) {
    const uint32_t acknowledged = target.restored.snd_una - first_send;
    EXPECT_EQ(acknowledged + target.sent.size() + target.unsent.size(), client_wrote);
    expect_pattern(target.sent, acknowledged);
    expect_pattern(target.unsent, acknowledged + target.sent.size());
    EXPECT_EQ(target.restored.rcv_unread - first_receive, client_read);
    expect_pattern(target.received, client_read);
    EXPECT_EQ(target.window.rcv_wup, target.restored.rcv_unread + target.received.size());
  }
  /// What was injected continues the stream from what the kernel socket has; returns where it ends.
  uint64_t expect_injected(const FakeTarget& target) {
    const uint64_t have = client_read + target.received.size();
    uint64_t reached = have;
    for (const auto& ip : pair->client.environment.injected) {
      const Packet packet(ip);
      const uint64_t at = packet.view.tcp.seq.raw - first_receive;
      const std::vector<uint8_t> payload = packet.payload();
      if (payload.empty()) continue;
      EXPECT_TRUE(at <= reached || pair->config_.faults.loss > 0) << "a gap before " << at;
      expect_pattern(payload, at);
      reached = std::max(reached, at + payload.size());
    }
    return reached;
  }

  std::unique_ptr<StackPair> pair;
  socket::ListenSocket* listener = nullptr;
  StackPair::Ends ends;
  uint64_t client_wrote = 0, client_read = 0, server_wrote = 0, server_read = 0;
  uint32_t first_send = 0, first_receive = 0;
};

class HandoverUnderLoad : public HandoverTest, public ::testing::WithParamInterface<PairConfig> {};

TEST_P(HandoverUnderLoad, at_any_moment__every_byte_is_somewhere) {
  for (int turns = 1; turns < 60; turns += 8) {
    client_wrote = client_read = server_wrote = server_read = 0;
    PairConfig config = GetParam();
    config.seed = static_cast<uint64_t>(turns);
    open(config);
    for (int i = 0; i < turns; ++i) {
      write_some(*ends.client, client_wrote, 20000);
      write_some(*ends.server, server_wrote, 30000);
      pair->client.stack->push(pair->now);
      pair->server.stack->push(pair->now);
      read_some(*ends.server, server_read, 15000);
      read_some(*ends.client, client_read, 9000);
      pair->step();
    }
    FakeTarget target;
    ASSERT_EQ(hand_over(target), HandoverResult::kDone);
    ASSERT_EQ(target.restored.tsval % 2, 0u);
    expect_every_byte(target);
    const uint64_t sent_before = pair->client.count(stats::Counter::tx_frame);
    pair->run_for(milliseconds(50));
    expect_injected(target);
    EXPECT_EQ(pair->client.count(stats::Counter::tx_frame), sent_before) << "a departed connection says nothing";
    EXPECT_EQ(pair->client.environment.released, 0);
    pair->run_for(kDepartedTime);
    EXPECT_EQ(pair->client.stack->connection_count(), 0u);
    EXPECT_EQ(pair->client.environment.released, 0) << "the flow went with the handover";
    pair->expect_balance();
  }
}

PairConfig config_of(uint32_t mtu, bool is_v6, double loss) {
  PairConfig config;
  config.mtu = mtu;
  config.is_v6 = is_v6;
  config.faults.loss = loss;
  return config;
}
INSTANTIATE_TEST_SUITE_P(all, HandoverUnderLoad,
                         ::testing::Values(config_of(1500, false, 0), config_of(1500, true, 0), config_of(9000, false, 0),
                                           config_of(1500, false, 0.02)));

TEST_F(HandoverTest, frames_in_the_ring__are_injected) {
  open({});
  write_some(*ends.server, server_wrote, 40000);
  pair->server.stack->push(pair->now);
  FakeTarget target;
  ASSERT_EQ(pair->client.stack->hand_over(*ends.client, target, pair->now), HandoverResult::kDone);
  first_receive = target.restored.rcv_unread;
  pair->run_for(milliseconds(2));
  EXPECT_EQ(pair->client.environment.injected_into, 77u);
  EXPECT_GE(expect_injected(target), 10u * 1448) << "at least the initial window";
  EXPECT_EQ(pair->client.count(stats::Counter::handover_injected), pair->client.environment.injected.size());
}

TEST_F(HandoverTest, close_wait__the_fin_is_injected_again) {
  open({});
  write_some(*ends.server, server_wrote, 3000);
  ends.server->shutdown(SHUT_WR, pair->now);
  pair->run_for(milliseconds(100));
  ASSERT_EQ(ends.client->connection().state(), tcp::State::kCloseWait);
  FakeTarget target;
  ASSERT_EQ(hand_over(target), HandoverResult::kDone);
  EXPECT_EQ(target.received.size(), 3000u);
  expect_every_byte(target);
  ASSERT_EQ(pair->client.environment.injected.size(), 1u);
  const Packet fin(pair->client.environment.injected[0]);
  EXPECT_EQ(fin.view.tcp.flags, wire::kFin | wire::kAck);
  EXPECT_EQ(fin.view.tcp.seq.raw, first_receive + 3000);
  EXPECT_EQ(fin.view.tcp.ack.raw, target.restored.snd_una);
  EXPECT_EQ(fin.view.destination, ends.server->tuple().remote);
  EXPECT_FALSE(target.write_is_shut);
}

TEST_F(HandoverTest, fin_wait__stands_before_the_fin_and_shuts_again) {
  for (const bool is_acked : {false, true}) {
    client_wrote = 0;
    open({});
    write_some(*ends.client, client_wrote, 5000);
    ends.client->shutdown(SHUT_WR, pair->now);
    pair->client.stack->push(pair->now);
    if (is_acked) pair->run_for(milliseconds(100));
    ASSERT_EQ(ends.client->connection().state(), is_acked ? tcp::State::kFinWait2 : tcp::State::kFinWait1);
    FakeTarget target;
    ASSERT_EQ(hand_over(target), HandoverResult::kDone);
    expect_every_byte(target);
    EXPECT_EQ(target.restored.snd_una - first_send + target.sent.size() + target.unsent.size(), 5000u);
    EXPECT_EQ(target.write_is_shut, !is_acked);
    EXPECT_EQ(target.fin_is_restored, is_acked);
    EXPECT_FALSE(target.read_is_shut);
    ASSERT_EQ(pair->client.environment.injected.size(), is_acked ? 1u : 0u);
    if (!is_acked) continue;
    const Packet ack(pair->client.environment.injected[0]);
    EXPECT_EQ(ack.view.tcp.flags, wire::kAck);
    EXPECT_EQ(ack.view.tcp.ack.raw, target.restored.snd_una + 1);
  }
}

TEST_F(HandoverTest, ended_in_order_and_not_read__the_data_and_the_end_go_along) {
  for (const bool client_first : {true, false}) {
    client_wrote = server_wrote = 0;
    open({});
    write_some(*ends.server, server_wrote, 3000);
    socket::StreamSocket& first = client_first ? *ends.client : *ends.server;
    socket::StreamSocket& second = client_first ? *ends.server : *ends.client;
    first.shutdown(SHUT_WR, pair->now);
    pair->run_for(milliseconds(100));
    second.shutdown(SHUT_WR, pair->now);
    pair->run_for(milliseconds(100));
    ASSERT_EQ(ends.client->connection().state(), client_first ? tcp::State::kTimeWait : tcp::State::kClosed);
    FakeTarget target;
    ASSERT_EQ(hand_over(target), HandoverResult::kDone);
    EXPECT_EQ(target.received.size(), 3000u);
    expect_every_byte(target);
    EXPECT_TRUE(target.fin_is_restored);
    EXPECT_TRUE(target.has_awaited_fin);
    ASSERT_EQ(pair->client.environment.injected.size(), 1u);
    const Packet fin(pair->client.environment.injected[0]);
    EXPECT_EQ(fin.view.tcp.flags, wire::kFin | wire::kAck);
    EXPECT_EQ(fin.view.tcp.ack.raw, target.restored.snd_una + 1);
  }
}

TEST_F(HandoverTest, closed_with_unsent_data__the_orphan_goes_whole) {
  open({});
  write_some(*ends.client, client_wrote, 80000);
  pair->client.stack->push(pair->now);
  ends.client->close(pair->now);
  FakeTarget target;
  ASSERT_EQ(hand_over(target), HandoverResult::kDone);
  expect_every_byte(target);
  EXPECT_GT(target.unsent.size(), 0u);
  EXPECT_TRUE(target.write_is_shut);
}

TEST_F(HandoverTest, refused_or_cancelled__the_connection_goes_on) {
  open({});
  write_some(*ends.client, client_wrote, 60000);
  FakeTarget refusing, failing;
  refusing.refuses = failing.fails_to_restore = true;
  EXPECT_EQ(hand_over(refusing), HandoverResult::kRefused);
  EXPECT_EQ(refusing.cancelled, 0u);
  EXPECT_EQ(hand_over(failing), HandoverResult::kRefused);
  EXPECT_EQ(failing.cancelled, 77u);
  EXPECT_EQ(failing.ended, 0u);
  pair->run_until([&] {
    read_some(*ends.server, server_read, 30000);
    return server_read == client_wrote;
  });
  EXPECT_EQ(server_read, 60000u);
  pair->expect_balance();
}

TEST_F(HandoverTest, lost_at_its_end__is_an_error_not_a_silence) {
  open({});
  FakeTarget target;
  target.fails_to_end = true;
  EXPECT_EQ(hand_over(target), HandoverResult::kLost);
  EXPECT_EQ(ends.client->take_error(), ECONNABORTED);
}

TEST_F(HandoverTest, handshake_and_end__are_the_engines) {
  open({});
  socket::StreamSocket* opening = pair->connect(4001, 80);
  FakeTarget target;
  EXPECT_EQ(pair->client.stack->hand_over(*opening, target, pair->now), HandoverResult::kNotNow);
  EXPECT_EQ(target.restored.snd_una, 0u) << "nothing was begun";
}

TEST_F(HandoverTest, same_tuple_again__the_departed_one_makes_room) {
  open({});
  FakeTarget target;
  ASSERT_EQ(hand_over(target), HandoverResult::kDone);
  EXPECT_NE(pair->connect(4000, 80), nullptr);
}

}  // namespace
}  // namespace tto::stack
