// The protocol, against a host that owns nothing: what a hostile client sends ends its session and nothing else.
#include "kmod-helper/session.hh"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <random>

namespace ttod {
namespace {

class FakeHost : public SessionHost {
 public:
  PortAnswer open_port(uint32_t, const Peer&, const tto_helper_open_port& wish, Fd socket) override {
    ++calls;
    PortAnswer answer;
    EXPECT_TRUE(socket);
    if (wish.frame_count == 1) answer.refusal = TTO_REFUSED_LIMIT;
    answer.port.slot = 5;
    answer.xsk.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    answer.region.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return answer;
  }
  std::optional<Sockets> inspect(uint32_t, std::vector<Fd> fds) override {
    Sockets sockets;
    for (Fd& fd : fds) sockets.push_back({std::move(fd), std::nullopt});
    if (!answers_later) return sockets;
    inspected = std::move(sockets);
    return std::nullopt;
  }
  tto_helper_grant listen(uint32_t, const Peer&, ClientSocket placeholder) override {
    ++calls;
    EXPECT_TRUE(placeholder.fd);
    tto_helper_grant grant{};
    grant.grant_id = next_grant;
    grant.reason = next_grant == 0 ? TTO_REFUSED_IN_USE : TTO_REFUSED_NONE;
    return grant;
  }
  tto_helper_grant open_flow(uint32_t, const Peer&, const tto_helper_flow& flow, ClientSocket placeholder) override {
    ++calls;
    EXPECT_TRUE(placeholder.fd);
    tto_helper_grant grant{};
    grant.grant_id = flow.remote_port;
    return grant;
  }
  std::optional<HandoverAnswer> begin_handover(uint32_t, const Peer&, const tto_helper_handover& request,
                                               Fd placeholder) override {
    ++calls;
    EXPECT_TRUE(placeholder);
    if (answers_later) return std::nullopt;
    return HandoverAnswer{request.item.grant_id == 0 ? TTO_REFUSED_NOT_OWNER : TTO_REFUSED_NONE, 50};
  }
  std::optional<HandoverAnswer> end_handover(uint32_t, const Peer&, uint64_t handover_id, uint32_t) override {
    ++calls;
    return HandoverAnswer{handover_id == 50 ? TTO_REFUSED_NONE : TTO_REFUSED_NOT_OWNER, handover_id};
  }
  void inject(uint32_t, uint64_t handover_id, std::span<uint8_t> packet) override {
    ++calls;
    injected.emplace_back(handover_id, packet.size());
  }
  tto_helper_refusal lease(uint32_t, const Peer&, const tto_helper_lease& wish, tto_helper_leased& out) override {
    ++calls;
    if (wish.remote_port == 1) return TTO_REFUSED_LIMIT;
    out.count = wish.count;
    for (uint32_t i = 0; i < wish.count; ++i) out.tuples[i] = {i + 1, static_cast<uint16_t>(40000 + i), {}};
    return TTO_REFUSED_NONE;
  }
  void release(uint32_t, const tto_helper_release_item& item) override { released.push_back(item.grant_id); }
  std::optional<tto_helper_counted> counts(const Peer&, uint32_t pid) override {
    ++calls;
    if (pid != 77) return std::nullopt;
    tto_helper_counted counted{};
    counted.port_count = 1;
    counted.ports[0].tx[0] = 5;
    return counted;
  }
  bool await_closes(uint32_t) override { return is_closed; }

  int calls = 0;
  uint64_t next_grant = 9;
  std::vector<uint64_t> released;
  bool is_closed = true;
  bool answers_later = false;
  Sockets inspected;
  std::vector<std::pair<uint64_t, size_t>> injected;
};

class SessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    client_.reset(pair[0]);
    session_.emplace(host_, 77, Peer{1, 1000, 1000}, Fd(pair[1]));
  }

  template <typename T>
  static void head(T& message, uint16_t type, size_t bytes = sizeof(T), uint32_t id = 3) {
    message.header.magic = TTO_HELPER_MAGIC;
    message.header.type = type;
    message.header.reserved = 0;
    message.header.request_id = id;
    message.header.bytes = static_cast<uint32_t>(bytes);
  }
  void send_raw(const void* data, size_t bytes, size_t fds = 0) {
    std::vector<int> sent(fds, client_.get());
    iovec piece{const_cast<void*>(data), bytes};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    std::vector<std::byte> control(CMSG_SPACE(fds * sizeof(int)));
    if (fds > 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(fds * sizeof(int));
      std::memcpy(CMSG_DATA(c), sent.data(), fds * sizeof(int));
    }
    ASSERT_EQ(::sendmsg(client_.get(), &message, 0), static_cast<ssize_t>(bytes));
  }
  template <typename T>
  bool receive(T& out) {
    std::memset(&out, 0, sizeof out);
    return ::recv(client_.get(), &out, sizeof out, MSG_DONTWAIT) >= static_cast<ssize_t>(sizeof(tto_helper_header));
  }
  void greet() {
    tto_helper_hello hello{};
    head(hello, TTO_HELPER_HELLO);
    hello.version = TTO_HELPER_VERSION;
    send_raw(&hello, sizeof hello);
    ASSERT_TRUE(session_->on_readable());
    tto_helper_welcome welcome;
    ASSERT_TRUE(receive(welcome));
    EXPECT_EQ(welcome.session_id, 77u);
    EXPECT_EQ(welcome.header.request_id, 3u);
  }
  void send_release(uint64_t grant_id, uint32_t wants_answer, uint32_t id) {
    tto_helper_release release{};
    release.count = 1;
    release.wants_answer = wants_answer;
    release.items[0].grant_id = grant_id;
    const size_t bytes = offsetof(tto_helper_release, items) + sizeof(tto_helper_release_item);
    head(release, TTO_HELPER_RELEASE, bytes, id);
    send_raw(&release, bytes);
  }
  void expect_release_answer(uint32_t id) {
    tto_helper_granted granted;
    ASSERT_TRUE(receive(granted));
    EXPECT_EQ(granted.header.type, TTO_HELPER_GRANTED);
    EXPECT_EQ(granted.header.request_id, id);
    EXPECT_EQ(granted.header.bytes, offsetof(tto_helper_granted, grants));
    EXPECT_EQ(granted.count, 0u);
  }
  bool is_silent() {
    tto_helper_granted any;
    return !receive(any);
  }
  /// The message ends the session, reaches no resource, and is answered with `reason`.
  void expect_end(tto_helper_refusal reason = TTO_REFUSED_MALFORMED) {
    const int calls = host_.calls;
    EXPECT_FALSE(session_->on_readable());
    EXPECT_EQ(host_.calls, calls);
    tto_helper_refused refused;
    ASSERT_TRUE(receive(refused));
    EXPECT_EQ(refused.header.type, TTO_HELPER_REFUSED);
    EXPECT_EQ(refused.reason, reason);
  }

  FakeHost host_;
  Fd client_;
  std::optional<Session> session_;
};

TEST_F(SessionTest, hello__welcomes) { greet(); }

TEST_F(SessionTest, hello__other_version_is_refused_and_ends) {
  tto_helper_hello hello{};
  head(hello, TTO_HELPER_HELLO);
  hello.version = TTO_HELPER_VERSION + 1;
  send_raw(&hello, sizeof hello);
  expect_end(TTO_REFUSED_VERSION);
}

TEST_F(SessionTest, hello__a_second_one_ends) {
  greet();
  tto_helper_hello hello{};
  head(hello, TTO_HELPER_HELLO);
  hello.version = TTO_HELPER_VERSION;
  send_raw(&hello, sizeof hello);
  expect_end();
}

TEST_F(SessionTest, request_before_hello__ends) {
  tto_helper_listen listen{};
  head(listen, TTO_HELPER_LISTEN);
  send_raw(&listen, sizeof listen, 1);
  expect_end();
}

TEST_F(SessionTest, every_truncation_of_every_request__ends) {
  const struct {
    uint16_t type;
    size_t bytes, fds;
  } requests[] = {{TTO_HELPER_OPEN_PORT, sizeof(tto_helper_open_port), 1},
                  {TTO_HELPER_LISTEN, sizeof(tto_helper_listen), 1},
                  {TTO_HELPER_OPEN_FLOWS, offsetof(tto_helper_open_flows, flows) + sizeof(tto_helper_flow), 1},
                  {TTO_HELPER_RELEASE, offsetof(tto_helper_release, items) + sizeof(tto_helper_release_item), 0},
                  {TTO_HELPER_HANDOVER, sizeof(tto_helper_handover), 1},
                  {TTO_HELPER_HANDOVER_END, sizeof(tto_helper_handover_end), 0},
                  {TTO_HELPER_LEASE, sizeof(tto_helper_lease), 0},
                  {TTO_HELPER_INJECT, offsetof(tto_helper_inject, packet) + 40, 0},
                  {TTO_HELPER_COUNT, sizeof(tto_helper_count), 0}};
  for (const auto& r : requests) {
    for (size_t bytes = 1; bytes <= r.bytes + 1; ++bytes) {
      if (bytes == r.bytes) continue;
      SetUp();
      greet();
      std::vector<std::byte> message(std::max(bytes, sizeof(tto_helper_open_flows)));
      auto* batch = reinterpret_cast<tto_helper_open_flows*>(message.data());
      head(*batch, r.type, bytes);
      if (r.type == TTO_HELPER_OPEN_FLOWS || r.type == TTO_HELPER_RELEASE) batch->count = 1;
      if (r.type == TTO_HELPER_INJECT) reinterpret_cast<tto_helper_inject*>(message.data())->packet_bytes = 40;
      send_raw(message.data(), bytes, r.fds);
      expect_end();
    }
  }
}

TEST_F(SessionTest, lease__answers_with_a_grant_for_each_port) {
  greet();
  tto_helper_lease wish{};
  head(wish, TTO_HELPER_LEASE);
  for (const uint32_t count : {1u, TTO_HELPER_MAX_LEASE}) {
    wish.count = count;
    send_raw(&wish, sizeof wish);
    ASSERT_TRUE(session_->on_readable());
    tto_helper_leased leased;
    ASSERT_TRUE(receive(leased));
    EXPECT_EQ(leased.header.type, TTO_HELPER_LEASED);
    EXPECT_EQ(leased.header.bytes, offsetof(tto_helper_leased, tuples) + count * sizeof leased.tuples[0]);
    EXPECT_EQ(leased.count, count);
    EXPECT_EQ(leased.tuples[count - 1].grant_id, count);
    EXPECT_EQ(leased.tuples[count - 1].local_port, 39999 + count);
  }
  wish.remote_port = 1;
  send_raw(&wish, sizeof wish);
  ASSERT_TRUE(session_->on_readable());
  tto_helper_refused refused;
  ASSERT_TRUE(receive(refused));
  EXPECT_EQ(refused.reason, TTO_REFUSED_LIMIT);
}

TEST_F(SessionTest, lease__bad_counts_and_fields_end) {
  for (int field = 0; field < 4; ++field) {
    SetUp();
    greet();
    tto_helper_lease wish{};
    head(wish, TTO_HELPER_LEASE);
    wish.count = field == 0 ? 0 : field == 1 ? TTO_HELPER_MAX_LEASE + 1 : 1;
    if (field == 2) wish.reserved = 1;
    send_raw(&wish, sizeof wish, field == 3 ? 1 : 0);
    expect_end();
  }
}

TEST_F(SessionTest, wrong_header__ends) {
  for (int field = 0; field < 4; ++field) {
    SetUp();
    greet();
    tto_helper_listen listen{};
    head(listen, TTO_HELPER_LISTEN);
    if (field == 0) listen.header.magic ^= 1;
    if (field == 1) listen.header.bytes += 1;
    if (field == 2) listen.header.reserved = 1;
    if (field == 3) listen.header.type = 99;
    send_raw(&listen, sizeof listen, 1);
    expect_end();
  }
}

TEST_F(SessionTest, too_large_message__ends) {
  greet();
  std::vector<std::byte> big(TTO_HELPER_MAX_MESSAGE + 1);
  send_raw(big.data(), big.size());
  expect_end();
}

TEST_F(SessionTest, wrong_number_of_descriptors__ends) {
  for (const size_t fds : {size_t{0}, size_t{2}, size_t{64}, size_t{200}}) {
    SetUp();
    greet();
    tto_helper_open_port wish{};
    head(wish, TTO_HELPER_OPEN_PORT);
    send_raw(&wish, sizeof wish, fds);
    expect_end();
  }
}

TEST_F(SessionTest, batch_counts__must_agree_with_size_and_descriptors) {
  for (const uint32_t count : {0u, 1u, 3u, 64u, 65u, 0xffffffffu}) {
    SetUp();
    greet();
    tto_helper_open_flows flows{};
    const size_t bytes = offsetof(tto_helper_open_flows, flows) + 2 * sizeof(tto_helper_flow);
    head(flows, TTO_HELPER_OPEN_FLOWS, bytes);
    flows.count = count;
    send_raw(&flows, bytes, 2);
    expect_end();
  }
  SetUp();
  greet();
  tto_helper_open_flows flows{};
  const size_t bytes = offsetof(tto_helper_open_flows, flows) + 2 * sizeof(tto_helper_flow);
  head(flows, TTO_HELPER_OPEN_FLOWS, bytes);
  flows.count = 2;
  send_raw(&flows, bytes, 1);
  expect_end();
}

TEST_F(SessionTest, open_flows__one_answer_per_flow_in_order) {
  greet();
  tto_helper_open_flows flows{};
  flows.count = TTO_HELPER_MAX_BATCH;
  for (uint32_t i = 0; i < flows.count; ++i) flows.flows[i].remote_port = static_cast<uint16_t>(i + 100);
  head(flows, TTO_HELPER_OPEN_FLOWS);
  send_raw(&flows, sizeof flows, TTO_HELPER_MAX_BATCH);
  ASSERT_TRUE(session_->on_readable());
  tto_helper_granted granted;
  ASSERT_TRUE(receive(granted));
  ASSERT_EQ(granted.count, TTO_HELPER_MAX_BATCH);
  for (uint32_t i = 0; i < granted.count; ++i) EXPECT_EQ(granted.grants[i].grant_id, i + 100);
}

TEST_F(SessionTest, refusals__are_answers_and_the_session_goes_on) {
  greet();
  tto_helper_open_port wish{};
  head(wish, TTO_HELPER_OPEN_PORT, sizeof wish, 8);
  wish.frame_count = 1;
  send_raw(&wish, sizeof wish, 1);
  ASSERT_TRUE(session_->on_readable());
  tto_helper_refused refused;
  ASSERT_TRUE(receive(refused));
  EXPECT_EQ(refused.reason, TTO_REFUSED_LIMIT);
  EXPECT_EQ(refused.header.request_id, 8u);
  host_.next_grant = 0;
  tto_helper_listen listen{};
  head(listen, TTO_HELPER_LISTEN);
  send_raw(&listen, sizeof listen, 1);
  ASSERT_TRUE(session_->on_readable());
  ASSERT_TRUE(receive(refused));
  EXPECT_EQ(refused.reason, TTO_REFUSED_IN_USE);
}

TEST_F(SessionTest, release__reaches_the_host) {
  greet();
  tto_helper_release release{};
  release.count = 2;
  release.items[0].grant_id = 4;
  release.items[1].grant_id = 6;
  const size_t bytes = offsetof(tto_helper_release, items) + 2 * sizeof(tto_helper_release_item);
  head(release, TTO_HELPER_RELEASE, bytes);
  send_raw(&release, bytes);
  ASSERT_TRUE(session_->on_readable());
  EXPECT_EQ(host_.released, (std::vector<uint64_t>{4, 6}));
  EXPECT_TRUE(is_silent());
  EXPECT_TRUE(session_->answer_release());
  EXPECT_TRUE(is_silent()) << "nobody asked";
}

TEST_F(SessionTest, release__that_waits_is_answered_at_once_if_all_is_closed) {
  greet();
  send_release(4, 1, 40);
  ASSERT_TRUE(session_->on_readable());
  EXPECT_EQ(host_.released, std::vector<uint64_t>{4});
  expect_release_answer(40);
  EXPECT_TRUE(session_->answer_release());
  EXPECT_TRUE(is_silent());
}

TEST_F(SessionTest, release__that_waits_is_answered_when_all_is_closed_and_holds_up_nothing) {
  greet();
  host_.is_closed = false;
  send_release(4, 1, 40);
  send_release(5, 0, 41);
  send_release(6, 1, 42);
  ASSERT_TRUE(session_->on_readable());
  EXPECT_EQ(host_.released, (std::vector<uint64_t>{4, 5, 6}));
  EXPECT_TRUE(session_->answer_release());
  EXPECT_TRUE(is_silent());
  tto_helper_listen listen{};
  head(listen, TTO_HELPER_LISTEN, sizeof listen, 43);
  send_raw(&listen, sizeof listen, 1);
  ASSERT_TRUE(session_->on_readable());
  tto_helper_granted granted;
  ASSERT_TRUE(receive(granted));
  EXPECT_EQ(granted.header.request_id, 43u);
  host_.is_closed = true;
  EXPECT_TRUE(session_->answer_release());
  expect_release_answer(42);
  EXPECT_TRUE(is_silent()) << "one answer, to the newest";
}

TEST_F(SessionTest, release__that_waits_in_another_way_ends) {
  greet();
  send_release(4, 2, 40);
  expect_end();
  EXPECT_TRUE(host_.released.empty());
}

TEST_F(SessionTest, handover__is_answered_with_its_number_or_refused) {
  greet();
  tto_helper_handover begin{};
  head(begin, TTO_HELPER_HANDOVER, sizeof begin, 51);
  begin.item.grant_id = 9;
  send_raw(&begin, sizeof begin, 1);
  ASSERT_TRUE(session_->on_readable());
  tto_helper_restoring restoring;
  ASSERT_TRUE(receive(restoring));
  EXPECT_EQ(restoring.header.type, TTO_HELPER_RESTORING);
  EXPECT_EQ(restoring.header.request_id, 51u);
  EXPECT_EQ(restoring.handover_id, 50u);
  for (const uint64_t id : {uint64_t{50}, uint64_t{51}}) {
    tto_helper_handover_end end{};
    head(end, TTO_HELPER_HANDOVER_END, sizeof end, 52);
    end.handover_id = id;
    send_raw(&end, sizeof end);
    ASSERT_TRUE(session_->on_readable());
    tto_helper_handed_over over;
    ASSERT_TRUE(receive(over));
    EXPECT_EQ(over.header.type, id == 50 ? TTO_HELPER_HANDED_OVER : TTO_HELPER_REFUSED);
    EXPECT_EQ(over.header.request_id, 52u);
  }
}

TEST_F(SessionTest, handover__with_unknown_flags_or_scales_ends) {
  for (int field = 0; field < 6; ++field) {
    SetUp();
    greet();
    tto_helper_handover begin{};
    head(begin, TTO_HELPER_HANDOVER);
    if (field == 0) begin.restore.flags = 8;
    if (field == 1) begin.restore.snd_wscale = 15;
    if (field == 2) begin.restore.rcv_wscale = 15;
    if (field == 3) begin.restore.reserved = 1;
    if (field == 4) begin.restore.reserved1 = 1;
    send_raw(&begin, sizeof begin, field == 5 ? 2 : 1);
    expect_end();
    SetUp();
    greet();
    tto_helper_handover_end end{};
    head(end, TTO_HELPER_HANDOVER_END);
    end.flags = 4;
    send_raw(&end, sizeof end);
    expect_end();
  }
}

TEST_F(SessionTest, inject__reaches_the_host_without_an_answer) {
  greet();
  tto_helper_inject inject{};
  inject.handover_id = 50;
  inject.packet_bytes = 60;
  const size_t bytes = offsetof(tto_helper_inject, packet) + 60;
  head(inject, TTO_HELPER_INJECT, bytes);
  send_raw(&inject, bytes);
  ASSERT_TRUE(session_->on_readable());
  EXPECT_EQ(host_.injected, (std::vector<std::pair<uint64_t, size_t>>{{50, 60}}));
  EXPECT_TRUE(is_silent());
  inject.packet_bytes = 61;
  send_raw(&inject, bytes);
  expect_end();
}

TEST_F(SessionTest, count__is_answered_or_refused_and_the_session_goes_on) {
  greet();
  tto_helper_count count{};
  head(count, TTO_HELPER_COUNT);
  count.pid = 77;
  send_raw(&count, sizeof count);
  ASSERT_TRUE(session_->on_readable());
  tto_helper_counted counted;
  ASSERT_TRUE(receive(counted));
  EXPECT_EQ(counted.header.type, TTO_HELPER_COUNTED);
  EXPECT_EQ(counted.header.bytes, sizeof counted);
  EXPECT_EQ(counted.ports[0].tx[0], 5u);
  count.pid = 78;
  send_raw(&count, sizeof count);
  ASSERT_TRUE(session_->on_readable());
  tto_helper_refused refused;
  ASSERT_TRUE(receive(refused));
  EXPECT_EQ(refused.reason, TTO_REFUSED_NOT_OWNER);
  count.reserved = 1;
  send_raw(&count, sizeof count);
  expect_end();
}

TEST_F(SessionTest, answer_that_comes_later__holds_up_what_follows_and_keeps_its_number) {
  greet();
  host_.answers_later = true;
  tto_helper_listen listen{};
  head(listen, TTO_HELPER_LISTEN, sizeof listen, 60);
  send_raw(&listen, sizeof listen, 1);
  send_release(4, 0, 61);
  ASSERT_TRUE(session_->on_readable());
  EXPECT_TRUE(session_->is_waiting());
  EXPECT_TRUE(host_.released.empty());
  EXPECT_TRUE(session_->send_event({}));
  tto_helper_event event;
  ASSERT_TRUE(receive(event));
  EXPECT_TRUE(is_silent());
  EXPECT_TRUE(session_->on_handover_answer({})) << "nobody asked for one";
  EXPECT_TRUE(is_silent());
  ASSERT_TRUE(session_->on_inspected(std::move(host_.inspected)));
  EXPECT_FALSE(session_->is_waiting());
  tto_helper_granted granted;
  ASSERT_TRUE(receive(granted));
  EXPECT_EQ(granted.header.request_id, 60u);
  ASSERT_TRUE(session_->on_readable());
  EXPECT_EQ(host_.released, std::vector<uint64_t>{4});

  tto_helper_handover begin{};
  head(begin, TTO_HELPER_HANDOVER, sizeof begin, 62);
  send_raw(&begin, sizeof begin, 1);
  ASSERT_TRUE(session_->on_readable());
  EXPECT_TRUE(session_->is_waiting());
  EXPECT_TRUE(session_->on_inspected({})) << "nobody asked";
  EXPECT_TRUE(session_->is_waiting());
  ASSERT_TRUE(session_->on_handover_answer({TTO_REFUSED_IN_USE, 0}));
  tto_helper_refused refused;
  ASSERT_TRUE(receive(refused));
  EXPECT_EQ(refused.header.request_id, 62u);
  EXPECT_EQ(refused.reason, TTO_REFUSED_IN_USE);
}

TEST_F(SessionTest, client_that_reads_nothing__is_given_up_not_waited_for) {
  greet();
  tto_helper_open_port wish{};
  head(wish, TTO_HELPER_OPEN_PORT);
  wish.frame_count = 1;
  bool is_alive = true;
  for (int i = 0; i < 100000 && is_alive; ++i) {
    iovec piece{&wish, sizeof wish};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int))] = {};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = client_.get();
    std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
    if (::sendmsg(client_.get(), &message, MSG_DONTWAIT) < 0) break;
    is_alive = session_->on_readable();
  }
  EXPECT_FALSE(is_alive);
  EXPECT_NE(session_->why().find("does not read"), std::string::npos);
}

TEST_F(SessionTest, random_messages__never_crash) {
  const uint32_t seed = 20240611;
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 3000; ++round) {
    SetUp();
    greet();
    std::vector<std::byte> message(1 + random() % 600);
    for (std::byte& b : message) b = static_cast<std::byte>(random());
    if (message.size() >= sizeof(tto_helper_header)) {
      tto_helper_header header{};
      header.magic = TTO_HELPER_MAGIC;
      header.type = static_cast<uint16_t>(1 + random() % 11);
      header.bytes = static_cast<uint32_t>(message.size());
      std::memcpy(message.data(), &header, sizeof header);
    }
    send_raw(message.data(), message.size(), random() % 3);
    session_->on_readable();
  }
}

TEST_F(SessionTest, hang_up__ends) {
  greet();
  client_.reset();
  EXPECT_FALSE(session_->on_readable());
  EXPECT_EQ(session_->why(), "closed by the client");
}

}  // namespace
}  // namespace ttod
