// What a program sees of connections between two whole stacks: order of errors, readiness, closing, queues and limits.
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <iostream>
#include <string>
#include <vector>

#include "libtto/memory/export_record.hh"
#include "tests/unit/stack/stack_pair.hh"

namespace tto::stack {
namespace {

constexpr uint32_t kIn = EPOLLIN | EPOLLRDNORM, kOut = EPOLLOUT | EPOLLWRNORM;

/// Remembers what it was told.
class Ear final : public socket::Watcher {
 public:
  ~Ear() { socket::Readiness::remove(*this); }
  void notify(uint32_t events) override {
    ++times;
    heard |= events;
  }
  uint32_t take() {
    const uint32_t h = heard;
    heard = 0;
    return h;
  }
  int times = 0;
  uint32_t heard = 0;
};

class Semantics : public ::testing::Test {
 protected:
  void open(const PairConfig& config = {}, int backlog = 16) {
    pair_ = std::make_unique<StackPair>(config);
    listener_ = pair_->listen(80, backlog);
    ASSERT_NE(listener_, nullptr);
  }
  void establish() {
    ends_ = pair_->connected(40000, listener_);
    ASSERT_NE(ends_.client, nullptr);
    ASSERT_NE(ends_.server, nullptr);
    settle();
  }
  void settle() { pair_->run_for(milliseconds(5)); }
  ssize_t send(socket::StreamSocket* s, const std::string& bytes) {
    const ssize_t n = send_bytes(*s, bytes.data(), bytes.size(), pair_->now);
    s->stack().push(pair_->now);
    return n;
  }
  std::string receive(socket::StreamSocket* s, size_t most = 65536, int flags = 0) {
    std::string out(most, '\0');
    last_ = receive_bytes(*s, out.data(), most, pair_->now, flags);
    out.resize(last_ > 0 ? static_cast<size_t>(last_) : 0);
    s->stack().push(pair_->now);
    return out;
  }
  void TearDown() override {
    if (pair_ != nullptr) pair_->expect_balance();
  }

  std::unique_ptr<StackPair> pair_;
  socket::ListenSocket* listener_ = nullptr;
  StackPair::Ends ends_;
  ssize_t last_ = 0;
};

TEST_F(Semantics, S8_peek_trunc_and_short_reads) {
  open();
  establish();
  EXPECT_EQ(receive(ends_.server), "");
  EXPECT_EQ(last_, -EAGAIN);
  EXPECT_EQ(send(ends_.client, "hello world"), 11);
  settle();
  EXPECT_EQ(ends_.server->readable_bytes(), 11u);
  EXPECT_EQ(receive(ends_.server, 5, MSG_PEEK), "hello");
  EXPECT_EQ(receive(ends_.server, 5), "hello");
  char none;
  EXPECT_EQ(receive_bytes(*ends_.server, &none, 1, pair_->now, MSG_TRUNC), 1);
  EXPECT_EQ(receive(ends_.server), "world");
  EXPECT_EQ(receive_bytes(*ends_.client, &none, 1, pair_->now, MSG_OOB), -EINVAL);
}

TEST_F(Semantics, S2_levels_of_an_established_connection) {
  open();
  socket::StreamSocket* s = pair_->connect(40000, 80);
  EXPECT_EQ(s->readiness().level(), 0u) << "SYN-SENT is neither readable nor writeable";
  Ear ear;
  s->readiness().add(ear);
  settle();
  EXPECT_EQ(s->readiness().level(), kOut);
  EXPECT_EQ(ear.take() & kOut, kOut);
  EXPECT_EQ(listener_->readiness().level(), kIn);
  socket::StreamSocket* child = listener_->accept();
  EXPECT_EQ(listener_->readiness().level(), 0u);
  send(child, "data");
  settle();
  EXPECT_EQ(s->readiness().level(), kIn | kOut);
}

TEST_F(Semantics, S3_every_arrival_is_an_event) {
  open();
  establish();
  Ear ear;
  ends_.server->readiness().add(ear);
  for (int i = 1; i <= 3; ++i) {
    send(ends_.client, "x");
    settle();
    EXPECT_EQ(ear.take() & kIn, kIn) << "arrival " << i << ", earlier data still unread";
  }
  EXPECT_EQ(receive(ends_.server), "xxx");
}

TEST_F(Semantics, S9_receive_low_water_mark) {
  open();
  establish();
  ends_.server->set_receive_lowat(10);
  send(ends_.client, "12345");
  settle();
  EXPECT_EQ(ends_.server->readiness().level() & EPOLLIN, 0u);
  send(ends_.client, "67890");
  settle();
  EXPECT_EQ(ends_.server->readiness().level() & EPOLLIN, static_cast<uint32_t>(EPOLLIN));
}

TEST_F(Semantics, R60_half_close_and_end_of_file) {
  open();
  establish();
  send(ends_.client, "last words");
  EXPECT_EQ(ends_.client->shutdown(SHUT_WR, pair_->now), 0);
  EXPECT_EQ(send(ends_.client, "more"), -EPIPE);
  settle();
  EXPECT_EQ(ends_.server->readiness().level(), kIn | kOut | EPOLLRDHUP);
  EXPECT_EQ(receive(ends_.server), "last words");
  EXPECT_EQ(receive(ends_.server), "");
  EXPECT_EQ(last_, 0);
  EXPECT_EQ(send(ends_.server, "still here"), 10);
  settle();
  EXPECT_EQ(receive(ends_.client), "still here");
  ends_.server->close(pair_->now);
  settle();
  EXPECT_EQ(ends_.client->readiness().level(), kIn | kOut | EPOLLRDHUP | EPOLLHUP);
  EXPECT_EQ(receive(ends_.client), "");
  EXPECT_EQ(last_, 0);
  ends_.client->close(pair_->now);
}

TEST_F(Semantics, R61_reset_is_reported_once_after_the_buffered_data) {
  open();
  establish();
  send(ends_.server, "kept");
  settle();
  ends_.server->abort(pair_->now);
  settle();
  EXPECT_EQ(ends_.client->readiness().level(), kIn | kOut | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
  EXPECT_EQ(receive(ends_.client), "kept");
  receive(ends_.client);
  EXPECT_EQ(last_, -ECONNRESET);
  receive(ends_.client);
  EXPECT_EQ(last_, 0);
  EXPECT_EQ(send(ends_.client, "x"), -EPIPE);
  EXPECT_EQ(ends_.client->take_error(), 0);
  ends_.client->close(pair_->now);
  settle();
  EXPECT_EQ(pair_->client.stack->connection_count(), 0u);
  EXPECT_EQ(pair_->server.stack->connection_count(), 0u);
}

TEST_F(Semantics, R58_close_with_unread_data_resets) {
  open();
  establish();
  send(ends_.client, "never read");
  settle();
  ends_.server->close(pair_->now);
  settle();
  EXPECT_EQ(ends_.client->take_error(), ECONNRESET);
  ends_.client->close(pair_->now);
}

TEST_F(Semantics, R58_data_after_close_is_answered_with_a_reset) {
  open();
  establish();
  ends_.server->close(pair_->now);
  settle();
  EXPECT_EQ(send(ends_.client, "too late"), 8);
  settle();
  EXPECT_NE(ends_.client->readiness().level() & EPOLLERR, 0u);
  ends_.client->close(pair_->now);
}

TEST_F(Semantics, R53_data_before_close_is_delivered) {
  open();
  establish();
  const std::string big(200'000, 'q');
  const ssize_t sent = send(ends_.client, big);
  ASSERT_GT(sent, 0);
  ends_.client->close(pair_->now);
  std::string got;
  pair_->run_until([&] {
    got += receive(ends_.server);
    return last_ == 0;
  });
  EXPECT_EQ(got.size(), static_cast<size_t>(sent));
  ends_.server->close(pair_->now);
  settle();
}

TEST_F(Semantics, R59_begin_close_is_finished_once_acknowledged) {
  open();
  establish();
  send(ends_.client, "bye");
  ends_.client->begin_close(pair_->now);
  EXPECT_FALSE(ends_.client->is_finished());
  settle();
  EXPECT_TRUE(ends_.client->is_finished());
  ends_.client->close(pair_->now);
  ends_.server->close(pair_->now);
  settle();
}

TEST_F(Semantics, S1_a_refused_connection) {
  open();
  socket::StreamSocket* s = pair_->connect(40000, 81);
  EXPECT_EQ(receive(s), "");
  EXPECT_EQ(last_, -EAGAIN);
  EXPECT_EQ(send(s, "x"), -EAGAIN);
  settle();
  EXPECT_EQ(pair_->server.count(stats::Counter::reset_sent_no_socket), 1u);
  EXPECT_EQ(s->readiness().level(), kIn | kOut | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
  EXPECT_EQ(s->take_error(), ECONNREFUSED);
  EXPECT_EQ(s->take_error(), 0);
  s->close(pair_->now);
  pair_->client.stack->push(pair_->now);
  EXPECT_EQ(pair_->client.stack->connection_count(), 0u);
  socket::StreamSocket* again = pair_->connect(40000, 80);
  settle();
  EXPECT_TRUE(again->is_established());
}

TEST_F(Semantics, S7_shutdown_of_a_connecting_socket_ends_the_attempt) {
  open();
  pair_->client.port->set_faults({.loss = 1.0}, {});
  socket::StreamSocket* s = pair_->connect(40000, 80);
  EXPECT_EQ(s->shutdown(SHUT_RDWR, pair_->now), 0);
  pair_->client.stack->push(pair_->now);
  EXPECT_NE(s->readiness().level() & EPOLLHUP, 0u);
  EXPECT_EQ(s->take_error(), ECONNRESET);
  s->close(pair_->now);
}

TEST_F(Semantics, R40_a_slow_reader_closes_the_window_and_opens_it_again) {
  open();
  establish();
  ends_.server->set_receive_buffer(32768);
  const std::string chunk(16384, 'w');
  size_t sent = 0;
  for (int i = 0; i < 200; ++i) {
    const ssize_t n = send(ends_.client, chunk);
    if (n > 0) sent += static_cast<size_t>(n);
    settle();
  }
  EXPECT_LT(ends_.server->readable_bytes(), 200'000u);
  EXPECT_EQ(ends_.client->readiness().level() & EPOLLOUT, 0u);
  Ear ear;
  ends_.client->readiness().add(ear);
  pair_->run_for(seconds(30));
  size_t got = 0;
  pair_->run_until([&] {
    for (int i = 0; i < 100; ++i) got += receive(ends_.server, 4096).size();
    return got == sent;
  });
  EXPECT_EQ(got, sent) << pair_->describe() << pair_->describe(*ends_.client) << pair_->describe(*ends_.server);
  EXPECT_NE(ear.take() & EPOLLOUT, 0u);
}

TEST_F(Semantics, R19_a_full_accept_queue_completes_later) {
  open({}, 1);
  std::vector<socket::StreamSocket*> clients;
  for (uint16_t i = 0; i < 6; ++i) clients.push_back(pair_->connect(static_cast<uint16_t>(40000 + i), 80));
  settle();
  EXPECT_EQ(listener_->ready_count(), 2u) << "backlog + 1, as Linux";
  std::vector<socket::StreamSocket*> accepted;
  pair_->run_until([&] {
    if (socket::StreamSocket* s = listener_->accept(); s != nullptr) accepted.push_back(s);
    return accepted.size() == 6;
  });
  ASSERT_EQ(accepted.size(), 6u);
  for (socket::StreamSocket* s : clients) EXPECT_EQ(send(s, "hi"), 2);
  settle();
  for (socket::StreamSocket* s : accepted) EXPECT_EQ(receive(s), "hi");
}

TEST_F(Semantics, S12_accept_returns_a_peer_that_already_reset) {
  open();
  socket::StreamSocket* s = pair_->connect(40000, 80);
  settle();
  s->abort(pair_->now);
  settle();
  socket::StreamSocket* child = listener_->accept();
  ASSERT_NE(child, nullptr);
  receive(child);
  EXPECT_EQ(last_, -ECONNRESET);
  child->close(pair_->now);
}

TEST_F(Semantics, close_listener__resets_those_not_accepted) {
  open();
  socket::StreamSocket* s = pair_->connect(40000, 80);
  settle();
  pair_->server.stack->close_listener(listener_, pair_->now);
  settle();
  EXPECT_EQ(s->take_error(), ECONNRESET);
  EXPECT_EQ(pair_->server.stack->connection_count(), 0u);
  s->close(pair_->now);
  socket::StreamSocket* refused = pair_->connect(40001, 80);
  settle();
  EXPECT_EQ(refused->take_error(), ECONNREFUSED);
  EXPECT_EQ(pair_->server.environment.released_listeners.size(), 1u) << "its port is free when this returns";
}

TEST_F(Semantics, half_open__a_flood_of_SYNs_is_bounded_and_ends) {
  open({.connections = 1024, .faults = {}}, 16);
  pair_->client.port->set_faults({.loss = 1.0}, {});  // SYN-ACKs are never answered
  for (uint16_t i = 0; i < 600; ++i) {
    pair_->connect(static_cast<uint16_t>(20000 + i), 80);
    if (i % 50 == 0) pair_->run_for(microseconds(200));
  }
  pair_->run_for(milliseconds(1));
  EXPECT_LE(listener_->half_open_count(), 256u);
  EXPECT_GT(pair_->server.count(stats::Counter::syn_dropped), 0u);
  pair_->run_for(seconds(300));
  EXPECT_EQ(listener_->half_open_count(), 0u);
  EXPECT_EQ(pair_->server.stack->connection_count(), 0u);
}

TEST_F(Semantics, R56_time_wait_lasts_a_minute_and_its_tuple_can_be_used_again) {
  open();
  establish();
  ends_.client->close(pair_->now);
  settle();
  ends_.server->close(pair_->now);
  pair_->run_for(seconds(50));
  EXPECT_EQ(pair_->client.stack->connection_count(), 1u);
  EXPECT_EQ(pair_->server.stack->connection_count(), 0u);
  socket::StreamSocket* again = pair_->connect(40000, 80);
  ASSERT_NE(again, nullptr);
  settle();
  EXPECT_TRUE(again->is_established());
  again->abort(pair_->now);
  settle();
  EXPECT_EQ(pair_->client.stack->connection_count(), 0u);
  EXPECT_EQ(pair_->client.environment.released, 2);
}

TEST_F(Semantics, R57_a_new_SYN_reopens_a_time_wait_of_the_listener) {
  open();
  establish();
  ends_.server->close(pair_->now);  // the server's end goes to TIME-WAIT
  settle();
  ends_.client->close(pair_->now);
  pair_->run_for(seconds(2));
  ASSERT_EQ(pair_->server.stack->connection_count(), 1u);
  ASSERT_EQ(pair_->client.stack->connection_count(), 0u);
  socket::StreamSocket* again = pair_->connect(40000, 80);
  settle();
  EXPECT_TRUE(again->is_established());
  EXPECT_EQ(listener_->ready_count(), 1u);
}

TEST_F(Semantics, R57_the_next_connection_takes_the_steering_entry_over) {
  open({}, 1);
  establish();
  ends_.server->close(pair_->now);
  settle();
  ends_.client->close(pair_->now);
  pair_->run_for(seconds(2));
  socket::StreamSocket* again = pair_->connect(40000, 80);
  settle();
  ASSERT_TRUE(again->is_established());
  EXPECT_EQ(pair_->server.environment.released, 0) << "it is in use";
  ends_.server = listener_->accept();
  ends_.server->close(pair_->now);
  settle();
  again->close(pair_->now);
  settle();
  // Now with no place for the new one: then the entry goes.
  pair_->connect(40001, 80);
  pair_->connect(40002, 80);
  settle();
  pair_->run_for(seconds(1));
  pair_->connect(40000, 80);
  settle();
  EXPECT_EQ(pair_->server.environment.released, 1);
}

TEST_F(Semantics, lease__is_kept_when_the_connection_is_over_for_both_sides) {
  open();
  FakeEnvironment& environment = pair_->client.environment;
  environment.keeps_flows = true;
  socket::StreamSocket* s = pair_->connect(40000, 80, 11);
  settle();
  send(s, "four");
  settle();
  listener_->accept()->close(pair_->now);  // unread data: a reset
  settle();
  s->close(pair_->now);
  settle();
  EXPECT_TRUE(environment.kept.empty()) << "a reset tells nothing of what is still under way";
  EXPECT_EQ(environment.released, 1);

  s = pair_->connect(40001, 80, 12);
  settle();
  ends_.server = listener_->accept();
  ends_.server->close(pair_->now);
  settle();
  s->close(pair_->now);
  EXPECT_TRUE(environment.kept.empty());
  settle();
  ASSERT_EQ(environment.kept.size(), 1u) << "the peer is in TIME-WAIT, we are done";
  EXPECT_EQ(environment.kept[0].grant_id, 12u);

  s = pair_->connect(40002, 80, 13);
  const uint32_t iss = static_cast<uint32_t>(s->connection().first_send_byte()) - 1;
  settle();
  send(s, "four");
  settle();
  ends_.server = listener_->accept();
  EXPECT_EQ(receive(ends_.server), "four");
  s->close(pair_->now);
  settle();
  ends_.server->close(pair_->now);
  pair_->run_for(seconds(50));
  EXPECT_EQ(environment.kept.size(), 1u) << "in TIME-WAIT";
  pair_->run_for(seconds(20));
  ASSERT_EQ(environment.kept.size(), 2u);
  EXPECT_EQ(environment.kept[1].grant_id, 13u);
  EXPECT_EQ(environment.kept[1].next_seq, iss + 1 + 4 + 1) << "behind the SYN, four bytes and the FIN";
  EXPECT_EQ(environment.released, 1);
}

TEST_F(Semantics, R57_lease__its_next_connection_starts_beyond_the_last) {
  open();
  // Our clock may stand on either side of it.
  const auto clock = static_cast<uint32_t>(pair_->connect(40000, 80)->connection().first_send_byte() - 1);
  for (const uint32_t next_seq : {clock - 70000, clock - 65536, clock, clock + 1000000}) {
    socket::StreamSocket* s = pair_->connect(40001, 80, 1, &next_seq);
    const auto iss = static_cast<uint32_t>(s->connection().first_send_byte() - 1);
    EXPECT_GE(static_cast<int32_t>(iss - next_seq), 65537) << next_seq - clock;
    s->abort(pair_->now);
    settle();
  }
}

TEST_F(Semantics, many_connections__two_thousand_at_once) {
  for (const bool is_v6 : {false, true}) {
    open({.is_v6 = is_v6, .frames = 16384, .connections = 2048, .faults = {}}, 2048);
    std::vector<socket::StreamSocket*> clients, servers;
    for (uint16_t i = 0; i < 2000; ++i) {
      clients.push_back(pair_->connect(static_cast<uint16_t>(10000 + i), 80));
      ASSERT_NE(clients.back(), nullptr) << i;
      if (i % 64 == 63) settle();
    }
    pair_->run_until([&] {
      while (socket::StreamSocket* s = listener_->accept()) servers.push_back(s);
      return servers.size() == clients.size();
    });
    ASSERT_EQ(servers.size(), clients.size());
    for (socket::StreamSocket* s : clients) {
      const std::string port = std::to_string(s->tuple().local_port);
      EXPECT_EQ(send(s, port), static_cast<ssize_t>(port.size()));
      if (s->tuple().local_port % 64 == 0) settle();
    }
    settle();
    for (socket::StreamSocket* s : servers) EXPECT_EQ(receive(s), std::to_string(s->tuple().remote_port));
    for (socket::StreamSocket* s : clients) s->close(pair_->now);
    settle();
    for (socket::StreamSocket* s : servers) s->close(pair_->now);
    pair_->run_for(seconds(70));
    EXPECT_EQ(pair_->client.stack->connection_count(), 0u);
    EXPECT_EQ(pair_->server.stack->connection_count(), 0u);
    EXPECT_EQ(pair_->server.environment.released, 2000);
    pair_->expect_balance();
  }
}

TEST_F(Semantics, connect__says_when_there_is_no_slot) {
  open({.connections = 2, .faults = {}});
  EXPECT_NE(pair_->connect(40000, 80), nullptr);
  EXPECT_NE(pair_->connect(40001, 80), nullptr);
  EXPECT_EQ(pair_->connect(40002, 80), nullptr);
}

TEST_F(Semantics, memory__a_peer_of_tiny_segments_cannot_use_up_the_pool) {
  open({.frames = 1500, .faults = {}});
  establish();
  ends_.client->connection().set_nodelay(true);
  size_t sent = 0;
  for (int i = 0; i < 20000; ++i) {
    if (send(ends_.client, "ab") == 2) sent += 2;
    if (i % 16 == 15) pair_->run_for(microseconds(300));
  }
  settle();
  EXPECT_GT(pair_->server.pool->free_count(), 300u);
  size_t got = 0;
  pair_->run_until([&] {
    got += receive(ends_.server).size();
    return got == sent;
  });
  EXPECT_EQ(got, sent);
}

TEST_F(Semantics, record__says_what_a_kernel_socket_would_need) {
  open();
  establish();
  send(ends_.server, "unread");
  settle();
  tto_connection_record record;
  const socket::StreamSocket& s = *ends_.client;
  ASSERT_TRUE(memory::read_record(pair_->client.pool.region().connections[s.slot()], &record));
  EXPECT_EQ(record.family, 4);
  EXPECT_EQ(record.local_port, 40000);
  EXPECT_EQ(record.remote_port, 80);
  EXPECT_EQ(record.tcp_state, static_cast<uint8_t>(tcp::State::kEstablished));
  EXPECT_EQ(record.rcv_nxt, s.connection().rcv_nxt());
  EXPECT_EQ(record.rcv_read, s.connection().first_receive_byte());
  EXPECT_EQ(record.rx_frames, 1u);
  EXPECT_EQ(record.snd_una, s.connection().snd_una());
}

TEST_F(Semantics, path__changes_are_followed) {
  open();
  establish();
  const int asked = pair_->client.environment.asked;
  pair_->client.environment.path_mtu = 1000;
  const std::string big(50'000, 'p');
  send(ends_.client, big);
  ++pair_->client.environment.generation_;
  pair_->run_for(milliseconds(20));
  EXPECT_GT(pair_->client.environment.asked, asked);
  std::string got;
  pair_->run_until([&] {
    got += receive(ends_.server);
    return got.size() == big.size();
  });
  EXPECT_EQ(got, big);
}

}  // namespace
}  // namespace tto::stack
