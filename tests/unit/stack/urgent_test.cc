// CONFORMANCE R52 as a program sees it: one urgent byte between two whole stacks, as Linux has it.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <string>

#include "tests/unit/stack/stack_pair.hh"

namespace tto::stack {
namespace {

class Urgent : public ::testing::Test {
 protected:
  void SetUp() override {
    pair_ = std::make_unique<StackPair>(PairConfig{});
    socket::ListenSocket* listener = pair_->listen(80, 16);
    ASSERT_NE(listener, nullptr);
    ends_ = pair_->connected(40000, listener);
    settle();
  }
  void TearDown() override { pair_->expect_balance(); }
  void settle() { pair_->run_for(milliseconds(50)); }
  void send(const std::string& bytes, int flags = 0) {
    EXPECT_EQ(send_bytes(*ends_.client, bytes.data(), bytes.size(), pair_->now, flags),
              static_cast<ssize_t>(bytes.size()));
    ends_.client->stack().push(pair_->now);
  }
  std::string receive(int flags = 0, size_t most = 100) {
    std::string out(most, '\0');
    last_ = receive_bytes(*ends_.server, out.data(), most, pair_->now, flags);
    out.resize(last_ > 0 ? static_cast<size_t>(last_) : 0);
    ends_.server->stack().push(pair_->now);
    return out;
  }
  bool has_priority() { return (ends_.server->poll_level() & EPOLLPRI) != 0; }
  bool is_readable() { return (ends_.server->poll_level() & EPOLLIN) != 0; }

  std::unique_ptr<StackPair> pair_;
  StackPair::Ends ends_;
  ssize_t last_ = 0;
};

TEST_F(Urgent, R52_the_byte_is_set_apart_and_reading_stops_before_it) {
  receive(MSG_OOB);
  EXPECT_EQ(last_, -EINVAL);
  send("abc");
  send("!", MSG_OOB);
  send("def");
  settle();
  EXPECT_TRUE(has_priority());
  EXPECT_FALSE(ends_.server->is_at_mark());
  EXPECT_EQ(ends_.server->inq_bytes(), 3u);
  EXPECT_EQ(receive(MSG_PEEK), "abc");
  EXPECT_EQ(receive(), "abc");
  EXPECT_TRUE(ends_.server->is_at_mark());
  EXPECT_EQ(ends_.server->inq_bytes(), 0u);
  EXPECT_EQ(receive(MSG_OOB | MSG_PEEK), "!");
  EXPECT_EQ(receive(MSG_OOB), "!");
  EXPECT_FALSE(has_priority());
  receive(MSG_OOB);
  EXPECT_EQ(last_, -EINVAL);
  EXPECT_EQ(receive(MSG_PEEK), "def");
  EXPECT_EQ(receive(), "def");
  EXPECT_FALSE(ends_.server->is_at_mark());
  receive();
  EXPECT_EQ(last_, -EAGAIN);
}

TEST_F(Urgent, R52_read_over_it_is_gone) {
  send("ab!", MSG_OOB);
  send("cd");
  settle();
  EXPECT_EQ(receive(), "ab");
  EXPECT_EQ(receive(), "cd");
  receive(MSG_OOB);
  EXPECT_EQ(last_, -EINVAL);
  EXPECT_FALSE(has_priority());
}

TEST_F(Urgent, R52_alone_it_is_no_ordinary_data) {
  send("!", MSG_OOB);
  settle();
  EXPECT_TRUE(has_priority());
  EXPECT_FALSE(is_readable());
  EXPECT_TRUE(ends_.server->is_at_mark());
  EXPECT_EQ(receive(MSG_OOB), "!");
  receive();
  EXPECT_EQ(last_, -EAGAIN);
  send("x");
  settle();
  EXPECT_EQ(receive(), "x");
}

TEST_F(Urgent, R52_inline_it_stays_in_the_stream) {
  ends_.server->set_oob_inline(true);
  send("ab");
  send("!", MSG_OOB);
  send("cd");
  settle();
  EXPECT_TRUE(has_priority());
  receive(MSG_OOB);
  EXPECT_EQ(last_, -EINVAL);
  EXPECT_EQ(receive(), "ab");
  EXPECT_TRUE(ends_.server->is_at_mark());
  EXPECT_TRUE(is_readable());
  EXPECT_EQ(receive(), "!cd");
  EXPECT_FALSE(has_priority());
}

TEST_F(Urgent, R52_a_second_mark_replaces_the_first) {
  send("a");
  send("1", MSG_OOB);
  send("b");
  send("2", MSG_OOB);
  settle();
  EXPECT_EQ(receive(MSG_OOB), "2");
  EXPECT_EQ(receive(), "a1b");  // the first one is ordinary now
  EXPECT_TRUE(ends_.server->is_at_mark());
}

TEST_F(Urgent, R52_a_second_mark_while_the_first_is_next) {
  send("1", MSG_OOB);
  settle();
  EXPECT_TRUE(ends_.server->is_at_mark());
  send("b");
  send("2", MSG_OOB);
  settle();
  EXPECT_EQ(receive(), "b");  // the first byte went
  EXPECT_EQ(receive(MSG_OOB), "2");
}

TEST_F(Urgent, R52_the_end_of_the_stream_behind_it) {
  send("a");
  send("!", MSG_OOB);
  ends_.client->shutdown(SHUT_WR, pair_->now);
  settle();
  EXPECT_EQ(receive(), "a");
  EXPECT_EQ(receive(), "");
  EXPECT_EQ(last_, 0);
}

}  // namespace
}  // namespace tto::stack
