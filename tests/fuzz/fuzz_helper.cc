// Messages that the input chooses, to a session whose host answers now or later as the input says: nothing crashes, the
// session stays in its states, and every descriptor is closed.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "kmod-helper/session.hh"
#include "tests/helper/message_maker.hh"

namespace {

using namespace ttod;  // NOLINT: the session's vocabulary

struct FromInput {
  const uint8_t* data;
  size_t left;
  uint32_t operator()() {
    uint32_t v = 0;
    const size_t n = left < sizeof v ? left : sizeof v;
    std::memcpy(&v, data, n);
    data += n;
    left -= n;
    return v;
  }
};

class Host : public SessionHost {
 public:
  explicit Host(FromInput& input) : input_(input) {}
  PortAnswer open_port(uint32_t, const Peer&, const tto_helper_open_port&, Fd) override {
    PortAnswer answer;
    answer.refusal = static_cast<tto_helper_refusal>(input_() % 13);
    answer.xsk.reset(::dup(0));
    answer.region.reset(::dup(0));
    return answer;
  }
  std::optional<Sockets> inspect(uint32_t, std::vector<Fd> fds) override {
    Sockets sockets;
    for (Fd& fd : fds) sockets.push_back({std::move(fd), std::nullopt});
    if (input_() % 2 == 0) return sockets;
    inspected = std::move(sockets);
    return std::nullopt;
  }
  tto_helper_grant listen(uint32_t, const Peer&, ClientSocket) override { return grant(); }
  tto_helper_grant open_flow(uint32_t, const Peer&, const tto_helper_flow&, ClientSocket) override { return grant(); }
  std::optional<HandoverAnswer> begin_handover(uint32_t, const Peer&, const tto_helper_handover& request, Fd) override {
    if (request.restore.snd_wscale > 14 || request.restore.flags > 7) std::abort();
    return answer();
  }
  std::optional<HandoverAnswer> end_handover(uint32_t, const Peer&, uint64_t, uint32_t flags) override {
    if (flags > 3) std::abort();
    return answer();
  }
  void inject(uint32_t, uint64_t, std::span<uint8_t> packet) override {
    if (packet.size() > TTO_HELPER_MAX_PACKET) std::abort();
    for (uint8_t& byte : packet) byte = static_cast<uint8_t>(~byte);  // all of it is there
  }
  tto_helper_refusal lease(uint32_t, const Peer&, const tto_helper_lease& wish, tto_helper_leased& out) override {
    if (wish.count < 1 || wish.count > TTO_HELPER_MAX_LEASE) std::abort();
    out.count = 1 + input_() % wish.count;
    return static_cast<tto_helper_refusal>(input_() % 13);
  }
  void release(uint32_t, const tto_helper_release_item&) override {}
  std::optional<tto_helper_counted> counts(const Peer&, uint32_t pid) override {
    if (pid % 2 == 0) return std::nullopt;
    tto_helper_counted out{};
    out.port_count = pid % (TTO_HELPER_COUNTED_PORTS + 1);
    return out;
  }
  bool await_closes(uint32_t) override { return input_() % 2 == 0; }

  Sockets inspected;

 private:
  tto_helper_grant grant() {
    tto_helper_grant out{};
    out.grant_id = input_() % 4;
    return out;
  }
  std::optional<HandoverAnswer> answer() {
    if (input_() % 2 == 0) return std::nullopt;
    return HandoverAnswer{static_cast<tto_helper_refusal>(input_() % 13), input_()};
  }
  FromInput& input_;
};

void drain(int fd) {
  std::byte buffer[TTO_HELPER_MAX_MESSAGE];
  alignas(cmsghdr) std::byte control[CMSG_SPACE(sizeof(int) * 4)];
  for (;;) {
    iovec piece{buffer, sizeof buffer};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (::recvmsg(fd, &message, MSG_DONTWAIT) <= 0) return;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c))
      for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
        int passed = -1;
        std::memcpy(&passed, CMSG_DATA(c) + i * sizeof passed, sizeof passed);
        ::close(passed);
      }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  FromInput input{data, bytes};
  Host host(input);
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return 0;
  const Fd client(pair[0]);
  Session session(host, 1, Peer{1, 1000, 1000}, Fd(pair[1]));
  tto_helper_hello hello{};
  hello.header = {TTO_HELPER_MAGIC, TTO_HELPER_HELLO, 0, 1, sizeof hello};
  hello.version = TTO_HELPER_VERSION;
  bool goes_on = ::send(client.get(), &hello, sizeof hello, 0) == sizeof hello && session.on_readable();
  ttod::testing::MessageMaker<FromInput> maker(input, 2);
  const std::vector<int> descriptors{client.get()};
  while (goes_on && input.left > 0) {
    if (ttod::testing::send_made(client.get(), maker.make(), descriptors, MSG_DONTWAIT))
      goes_on = session.on_readable();
    if (goes_on && input() % 2 == 0) goes_on = session.on_inspected(std::move(host.inspected));
    if (goes_on && input() % 2 == 0) goes_on = session.on_handover_answer({TTO_REFUSED_NONE, input()});
    if (goes_on && input() % 8 == 0) goes_on = session.send_event({});
    if (goes_on && input() % 8 == 0) goes_on = session.answer_release();
    drain(client.get());
  }
  const int lowest = ::dup(0);  // grows with every descriptor that is lost
  ::close(lowest);
  if (lowest > 200) std::abort();
  return 0;
}
