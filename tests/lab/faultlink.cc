// A bad link: carries every frame between two interfaces of its namespace, with faults.hh's plan for each direction.
//
//   faultlink IF_A IF_B [--seed N] [--faults PLAN] [--a-to-b PLAN] [--b-to-a PLAN]
//
// Prints a line when it carries, its counts as one JSON object a line on SIGUSR1 and at its end (SIGTERM, SIGINT).
// Frames are taken and given by packet sockets, with the kernel's note on unfinished checksums (PACKET_VNET_HDR), so
// that a CHECKSUM_PARTIAL frame stays one. Aggregates of segmentation offload and VLAN tags are not carried: the lab
// turns the former off, or a fault would befall 40 frames at once. What the sockets lose themselves is counted too.
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cinttypes>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/lab/faults.hh"

using faults::Frame;
using faults::Lane;

namespace {

constexpr unsigned kBurst = 64;

/// What PACKET_VNET_HDR puts before a frame. (linux/virtio_net.h is not C++.)
struct VnetHeader {
  uint8_t flags, gso_type;
  uint16_t header_bytes, gso_bytes, checksum_start, checksum_offset;
};
static_assert(sizeof(VnetHeader) == 10);
constexpr uint8_t kNeedsChecksum = 1;
constexpr uint8_t kNoGso = 0;
constexpr int kSocketBytes = 64 << 20;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

/// An interface: a packet socket that sees what arrives there and sends what is given to it.
class End {
 public:
  explicit End(const char* name) {
    const unsigned index = if_nametoindex(name);
    fd_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (index == 0 || fd_ < 0) die(name);
    const int on = 1;
    if (setsockopt(fd_, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) != 0 ||
        setsockopt(fd_, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) != 0 ||
        setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &kSocketBytes, sizeof kSocketBytes) != 0 ||
        setsockopt(fd_, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBytes, sizeof kSocketBytes) != 0)
      die("setsockopt");
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(index);
    if (bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) die("bind");
    for (unsigned i = 0; i < kBurst; ++i) {
      buffers_[i].resize(Frame::kMaxBytes);
      vectors_[i][0] = {&headers_[i], sizeof headers_[i]};
    }
  }

  int fd() const { return fd_; }

  /// Gives a burst of arrived frames to the lane; false when there are no more.
  bool receive(Lane& lane) {
    for (unsigned i = 0; i < kBurst; ++i) {
      vectors_[i][1] = {buffers_[i].data(), buffers_[i].size()};
      messages_[i].msg_hdr = {};
      messages_[i].msg_hdr.msg_iov = vectors_[i].data();
      messages_[i].msg_hdr.msg_iovlen = 2;
    }
    const int n = recvmmsg(fd_, messages_.data(), kBurst, 0, nullptr);
    const uint64_t now = now_ns();
    for (int i = 0; i < n; ++i) {
      const VnetHeader& header = headers_[static_cast<size_t>(i)];
      const size_t bytes = messages_[static_cast<size_t>(i)].msg_len - sizeof header;
      if (header.gso_type != kNoGso || (messages_[static_cast<size_t>(i)].msg_hdr.msg_flags & MSG_TRUNC)) {
        ++too_long;
        continue;
      }
      auto frame = std::make_unique<Frame>();
      const uint8_t* data = buffers_[static_cast<size_t>(i)].data();
      frame->bytes.assign(data, data + bytes);
      frame->needs_checksum = header.flags & kNeedsChecksum;
      frame->checksum_start = header.checksum_start;
      frame->checksum_offset = header.checksum_offset;
      lane.arrive(std::move(frame), now);
    }
    return n == static_cast<int>(kBurst);
  }

  /// Sends what is due.
  void send(Lane& lane) {
    for (;;) {
      std::array<std::unique_ptr<Frame>, kBurst> burst;
      unsigned n = 0;
      const uint64_t now = now_ns();
      while (n < kBurst && (burst[n] = lane.leave(now)) != nullptr) ++n;
      if (n == 0) return;
      for (unsigned i = 0; i < n; ++i) {
        headers_[i] = {};
        if (burst[i]->needs_checksum) {
          headers_[i].flags = kNeedsChecksum;
          headers_[i].checksum_start = burst[i]->checksum_start;
          headers_[i].checksum_offset = burst[i]->checksum_offset;
        }
        vectors_[i][1] = {burst[i]->bytes.data(), burst[i]->bytes.size()};
        messages_[i].msg_hdr = {};
        messages_[i].msg_hdr.msg_iov = vectors_[i].data();
        messages_[i].msg_hdr.msg_iovlen = 2;
      }
      send_all(n);
    }
  }

  /// Frames that the socket had no room for, since the last call: the machine was too slow for the link.
  uint64_t overrun() {
    tpacket_stats stats{};
    socklen_t length = sizeof stats;
    if (getsockopt(fd_, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0) overrun_ += stats.tp_drops;
    return overrun_;
  }

  uint64_t too_long = 0;  // aggregates, or longer than any MTU
  uint64_t refused = 0;   // the interface took them not

 private:
  void send_all(unsigned n) {
    for (unsigned done = 0; done < n;) {
      const int sent = sendmmsg(fd_, messages_.data() + done, n - done, 0);
      if (sent > 0) {
        done += static_cast<unsigned>(sent);
      } else if (errno == EAGAIN) {  // the interface's queue is full: wait, as a link does
        pollfd room{fd_, POLLOUT, 0};
        poll(&room, 1, 100);
      } else if (errno != EINTR) {
        ++refused;
        ++done;
      }
    }
  }

  int fd_;
  uint64_t overrun_ = 0;
  std::array<std::vector<uint8_t>, kBurst> buffers_;
  std::array<VnetHeader, kBurst> headers_{};
  std::array<std::array<iovec, 2>, kBurst> vectors_{};
  std::array<mmsghdr, kBurst> messages_{};
};

struct Direction {
  const char* name;
  End& from;
  End& to;
  Lane lane;
};

void print(std::array<Direction, 2>& directions) {
  std::string text = "{";
  for (Direction& d : directions) {
    const faults::Counts& c = d.lane.counts();
    const std::pair<const char*, uint64_t> values[] = {{"frames", c.frames},
                                                       {"bytes", c.bytes},
                                                       {"left", c.left},
                                                       {"lost", c.lost},
                                                       {"duplicated", c.duplicated},
                                                       {"reordered", c.reordered},
                                                       {"corrupted", c.corrupted},
                                                       {"corrupted_payload", c.corrupted_payload},
                                                       {"queue_dropped", c.queue_dropped},
                                                       {"held", d.lane.held()},
                                                       {"overrun", d.from.overrun()},
                                                       {"too_long", d.from.too_long},
                                                       {"refused", d.to.refused}};
    text += (text.size() > 1 ? ", \"" : "\"") + std::string(d.name) + "\": {";
    for (const auto& [name, value] : values)
      text += (name == values[0].first ? "\"" : ", \"") + std::string(name) + "\": " + std::to_string(value);
    text += "}";
  }
  std::printf("%s}\n", text.c_str());
  std::fflush(stdout);
}

[[noreturn]] void usage() {
  std::fprintf(stderr, "usage: faultlink IF_A IF_B [--seed N] [--faults PLAN] [--a-to-b PLAN] [--b-to-a PLAN]\n");
  std::exit(2);
}

struct Options {
  uint64_t seed = 1;
  faults::Plan a_to_b, b_to_a;
};

Options parse(int argc, char** argv) {
  Options options;
  if (argc < 3 || argc % 2 == 0) usage();
  for (int i = 3; i < argc; i += 2) {
    const std::string name = argv[i];
    std::string error;
    bool good = true;
    if (name == "--seed")
      options.seed = std::strtoull(argv[i + 1], nullptr, 0);
    else if (name != "--faults" && name != "--a-to-b" && name != "--b-to-a")
      usage();
    if (name == "--faults" || name == "--a-to-b") good = faults::parse_plan(argv[i + 1], options.a_to_b, error);
    if (good && (name == "--faults" || name == "--b-to-a"))
      good = faults::parse_plan(argv[i + 1], options.b_to_a, error);
    if (!good) {
      std::fprintf(stderr, "faultlink: %s: not a fault: \"%s\"\n", name.c_str(), error.c_str());
      std::exit(2);
    }
  }
  return options;
}

/// Sleeps until a frame arrives, one is due, or a signal comes.
void wait(std::array<pollfd, 3>& fds, const std::array<Direction, 2>& directions) {
  const uint64_t next = std::min(directions[0].lane.next_event(), directions[1].lane.next_event());
  const uint64_t now = now_ns(), left = next > now ? next - now : 0;
  const timespec timeout{static_cast<time_t>(left / 1'000'000'000u), static_cast<long>(left % 1'000'000'000u)};
  if (ppoll(fds.data(), fds.size(), next == UINT64_MAX ? nullptr : &timeout, nullptr) < 0 && errno != EINTR)
    die("ppoll");
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  sigset_t signals;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT, SIGUSR1}) sigaddset(&signals, s);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
  prctl(PR_SET_TIMERSLACK, 1);

  End a(argv[1]), b(argv[2]);
  // Two seeds far apart: the directions do not share their luck.
  std::array<Direction, 2> directions{Direction{"a_to_b", a, b, Lane(options.a_to_b, options.seed)},
                                      Direction{"b_to_a", b, a, Lane(options.b_to_a, ~options.seed)}};
  std::printf("carrying, seed %" PRIu64 "\n", options.seed);
  std::fflush(stdout);
  std::array<pollfd, 3> fds{pollfd{a.fd(), POLLIN, 0}, pollfd{b.fd(), POLLIN, 0}, pollfd{signal_fd, POLLIN, 0}};
  for (;;) {
    wait(fds, directions);
    if (fds[2].revents & POLLIN) {
      signalfd_siginfo info;
      if (read(signal_fd, &info, sizeof info) != sizeof info) die("signalfd");
      print(directions);
      if (info.ssi_signo != SIGUSR1) return 0;
    }
    for (Direction& d : directions) {
      while (d.from.receive(d.lane)) d.to.send(d.lane);
      d.to.send(d.lane);
    }
  }
}
