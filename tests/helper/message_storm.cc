// A real ttod under structured messages of a client that means harm, with sockets of every kind:
//   ttod_message_storm [MESSAGES [SEED]]
// It must be serving when they are through, and nothing of the client may be left.
#include <algorithm>
#include <random>

#include "tests/helper/by_hand.hh"
#include "tests/helper/message_maker.hh"

namespace ttod::testing {
namespace {

struct Numbers {
  std::mt19937 random;
  uint32_t operator()() { return static_cast<uint32_t>(random()); }
};

std::vector<int> make_descriptors() {
  std::vector<int> all;
  const int on = 1;
  for (uint16_t port = 7700; port < 7708; ++port) {
    all.push_back(bound_socket("10.91.0.1", port, false));
    all.push_back(bound_socket("fd91::1", port, false));
  }
  all.push_back(bound_socket("0.0.0.0", 7710, true));
  all.push_back(bound_socket("10.91.0.1", 7711, true));
  for (int i = 0; i < 4; ++i) {
    all.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    setsockopt(all.back(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    all.push_back(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  }
  all.push_back(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  all.push_back(open("/dev/null", O_RDWR | O_CLOEXEC));
  return all;
}

/// Takes what is there; false: the session is over.
bool drain(int fd) {
  std::byte buffer[TTO_HELPER_MAX_MESSAGE];
  for (;;) {
    const ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);  // descriptors that come along are closed
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
  }
}

/// The client: 0 if it got all its messages out.
int storm(const std::string& path, uint64_t messages, uint32_t seed) {
  Numbers numbers{std::mt19937(seed)};
  const std::vector<int> descriptors = make_descriptors();
  uint64_t sessions = 0;
  for (uint64_t sent = 0; sent < messages; ++sessions) {
    PortClient c;
    if (!becomes([&] { return c.open(path, 256) == 0; })) return 1;  // his last port may not be free yet
    MessageMaker<Numbers> maker(numbers, c.description.nics[0].ifindex);
    while (sent < messages) {
      pollfd one{c.helper.fd(), POLLOUT, 0};
      if (poll(&one, 1, 5000) != 1) return 2;  // ttod reads no more
      if (send_made(c.helper.fd(), maker.make(), descriptors, MSG_DONTWAIT)) ++sent;
      if (!drain(c.helper.fd())) break;
    }
  }
  std::printf("%llu messages in %llu sessions\n", static_cast<unsigned long long>(messages),
              static_cast<unsigned long long>(sessions));
  std::fflush(stdout);
  return 0;
}

int run(uint64_t messages, uint32_t seed) {
  Lab lab(TTOD_BINARY);
  if (!lab.start_daemon("[port]\nframes = 256\n[xdp]\ndetach_after_ms = 0\n")) return 10;
  Client client(lab.a, [&] { return storm(lab.socket, messages, seed); });
  if (const int failed = client.wait(); failed != 0) {
    std::printf("client: %d\n%s\n", failed, lab.log().c_str());
    return 11;
  }
  Client next(lab.a, [&] {
    PortClient c;
    return c.open(lab.socket);
  });
  if (next.wait() != 0 || waitpid(lab.daemon, nullptr, WNOHANG) != 0) {
    std::printf("%s\n", lab.log().c_str());
    return 12;
  }
  return becomes([&] { return lab.entries("tto_flt") == 0 && lab.entries("tto_olt") == 0; }) ? 0 : 13;
}

}  // namespace
}  // namespace ttod::testing

int main(int argc, char** argv) {
  if (!ttod::testing::has_root()) {
    std::printf("[  SKIPPED ] needs root and namespaces\n");
    return 0;
  }
  const uint64_t messages = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 10'000;
  const auto seed = static_cast<uint32_t>(argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 20261122);
  std::printf("%llu messages, seed %u\n", static_cast<unsigned long long>(messages), seed);
  const int result = ttod::testing::run(messages, seed);
  std::printf("%s\n", result == 0 ? "ok" : "failed");
  return result;
}
