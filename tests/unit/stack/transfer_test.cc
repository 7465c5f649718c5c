// Bytes through two whole stacks: every byte that arrives is compared with what was written, in order.
#include <gtest/gtest.h>

#include <cstdint>
#include <iostream>
#include <vector>

#include "tests/unit/stack/stack_pair.hh"

namespace tto::stack {
namespace {

uint8_t pattern(uint64_t position) { return static_cast<uint8_t>((position * 0x9e3779b97f4a7c15u) >> 56); }

/// Writes and checks `total` bytes one way; both ends do it at once where asked to.
class Flow {
 public:
  Flow(socket::StreamSocket& from, socket::StreamSocket& to, uint64_t total) : from_(from), to_(to), total_(total) {}

  void turn(Instant now) {
    while (written_ < total_) {
      const size_t n = static_cast<size_t>(std::min<uint64_t>(sizeof buffer_, total_ - written_));
      for (size_t i = 0; i < n; ++i) buffer_[i] = pattern(written_ + i);
      const ssize_t sent = send_bytes(from_, buffer_, n, now);
      if (sent <= 0) {
        ASSERT_EQ(sent, -EAGAIN);
        break;
      }
      written_ += static_cast<uint64_t>(sent);
    }
    while (true) {
      const ssize_t got = receive_bytes(to_, buffer_, sizeof buffer_, now);
      if (got <= 0) {
        ASSERT_EQ(got, -EAGAIN);
        break;
      }
      for (ssize_t i = 0; i < got; ++i) ASSERT_EQ(buffer_[i], pattern(read_ + static_cast<uint64_t>(i)));
      read_ += static_cast<uint64_t>(got);
    }
  }
  bool is_done() const { return read_ == total_; }
  uint64_t read() const { return read_; }

 private:
  socket::StreamSocket &from_, &to_;
  uint64_t total_, written_ = 0, read_ = 0;
  uint8_t buffer_[32768];
};

struct Case {
  const char* name;
  PairConfig config;
  uint64_t bytes;
  bool both_ways;
};

#ifdef __SANITIZE_THREAD__
constexpr uint64_t kLessBytes = 8;  // one thread only: there is little for it to find, and it is slow
#else
constexpr uint64_t kLessBytes = 1;
#endif

class Transfer : public ::testing::TestWithParam<Case> {};

TEST_P(Transfer, every_byte_arrives_once_and_in_order) {
  const Case& c = GetParam();
  std::cout << "seed " << c.config.seed << "\n";
  StackPair pair(c.config);
  socket::ListenSocket* listener = pair.listen(80, 16);
  ASSERT_NE(listener, nullptr);
  const StackPair::Ends ends = pair.connected(40000, listener);
  ASSERT_NE(ends.client, nullptr);
  ASSERT_NE(ends.server, nullptr);
  const uint64_t bytes = c.bytes / kLessBytes;
  Flow up(*ends.client, *ends.server, bytes);
  Flow down(*ends.server, *ends.client, c.both_ways ? bytes : 0);
  const bool done = pair.run_until(
      [&] {
        up.turn(pair.now);
        down.turn(pair.now);
        return ::testing::Test::HasFatalFailure() || (up.is_done() && down.is_done());
      },
      seconds(3600));
  ASSERT_TRUE(done) << "up " << up.read() << " down " << down.read() << "\n"
                    << pair.describe() << pair.describe(*ends.client) << pair.describe(*ends.server);
  ends.client->close(pair.now);
  ends.server->close(pair.now);
  pair.run_until([&] { return pair.client.stack->connection_count() + pair.server.stack->connection_count() == 0; });
  EXPECT_EQ(pair.client.stack->connection_count(), 0u);
  EXPECT_EQ(pair.server.stack->connection_count(), 0u);
  pair.expect_balance();
}

constexpr port::Faults kLossy{.loss = 0.01};
constexpr port::Faults kNasty{
    .loss = 0.02, .duplicate = 0.02, .corrupt = 0.01, .reorder = 0.05, .reorder_delay = microseconds(200)};

INSTANTIATE_TEST_SUITE_P(
    Links, Transfer,
    ::testing::Values(Case{"clean_v4_1500", {}, 64u << 20, false},
                      Case{"clean_v6_1500", {.is_v6 = true, .faults = {}}, 16u << 20, true},
                      Case{"clean_v4_9000", {.mtu = 9000, .faults = {}}, 64u << 20, false},
                      Case{"lossy_v4_9000", {.mtu = 9000, .seed = 11, .faults = kLossy}, 16u << 20, true},
                      Case{"lossy_v4_1500", {.seed = 12, .faults = kLossy}, 16u << 20, false},
                      Case{"nasty_v4_1500", {.seed = 13, .faults = kNasty}, 64u << 20, false},
                      Case{"nasty_v6_1500", {.is_v6 = true, .seed = 14, .faults = kNasty}, 8u << 20, true},
                      Case{"nasty_v6_9000", {.mtu = 9000, .is_v6 = true, .seed = 15, .faults = kNasty}, 8u << 20, true},
                      Case{"few_frames", {.frames = 700, .seed = 16, .faults = kLossy}, 8u << 20, true}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tto::stack
