// B2: what a client writes into its transmit ring that is foreign or malformed does not leave, also while it rewrites
// the frames as they are checked. A packet socket on the far side sees everything that did leave.
#include <gtest/gtest.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>

#include <atomic>

#include "tests/helper/by_hand.hh"

namespace ttod::testing {
namespace {

using namespace tto::wire;  // NOLINT: flags all over

constexpr uint16_t kLocalPort = 7601, kRemotePort = 9, kForeignPort = 7602;
constexpr size_t kEthernet = 14, kIp = 20;

class Transmit : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_root()) GTEST_SKIP() << "needs root, namespaces and AF_XDP";
    ASSERT_TRUE(lab_.start_daemon());
    std::thread opener([&] {  // the thread changes its namespace, and ends
      if (!enter_netns(lab_.b)) return;
      wire_ = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
      sockaddr_ll nic{};
      nic.sll_family = AF_PACKET;
      nic.sll_protocol = htons(ETH_P_ALL);
      nic.sll_ifindex = static_cast<int>(if_nametoindex("nic0"));
      if (bind(wire_, reinterpret_cast<sockaddr*>(&nic), sizeof nic) != 0) std::abort();
      const int bytes = 64 << 20;
      setsockopt(wire_, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    });
    opener.join();
    ASSERT_GE(wire_, 0);
  }
  void TearDown() override {
    if (wire_ >= 0) close(wire_);
    if (HasFailure()) std::fprintf(stderr, "--- ttod\n%s\n", lab_.log().c_str());
  }

  struct Arrived {
    size_t good = 0, other = 0;
    std::string first_other;
  };
  /// What came over the wire since the last call and was sent by namespace a's client: neither the kernel's own
  /// (neighbour discovery, RST) nor outgoing.
  Arrived take_arrived() {
    Arrived arrived;
    char frame[2048];
    sockaddr_ll from{};
    socklen_t bytes = sizeof from;
    for (ssize_t got; (got = recvfrom(wire_, frame, sizeof frame, 0, reinterpret_cast<sockaddr*>(&from), &bytes)) >= 0;
         bytes = sizeof from) {
      if (from.sll_pkttype == PACKET_OUTGOING || is_of_kernel(frame, static_cast<size_t>(got))) continue;
      const std::string text(frame, static_cast<size_t>(got));
      if (text == good_) {
        ++arrived.good;
      } else if (arrived.other++ == 0) {
        arrived.first_other = text;
      }
    }
    return arrived;
  }
  static bool is_of_kernel(const char* frame, size_t bytes) {
    if (bytes < kEthernet + 1) return false;
    const uint16_t type = static_cast<uint16_t>(static_cast<uint8_t>(frame[12]) << 8 | static_cast<uint8_t>(frame[13]));
    if (type == ETH_P_ARP) return true;
    return type == ETH_P_IPV6 && bytes > kEthernet + 6 && (frame[kEthernet + 6] == 58 || frame[0] == 0x33);
  }
  uint64_t dropped() const {  // of all slots: frames[3..] of tto_tx_counts
    const std::string text = lab_.map("tto_tx_counts");
    uint64_t sum = 0;
    for (size_t at = text.find("\"frames\": ["); at != std::string::npos; at = text.find("\"frames\": [", at + 1)) {
      const char* next = text.c_str() + at + 11;
      for (int i = 0; i < 14; ++i) {
        char* end = nullptr;
        const uint64_t n = std::strtoull(next, &end, 10);
        if (i >= 3) sum += n;
        next = end + 1;
      }
    }
    return sum;
  }

  Lab lab_{TTOD_BINARY};
  int wire_ = -1;
  std::string good_;
};

std::string text_of(const tto::testing::Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
tto::testing::Bytes bytes_of(const std::string& text) {
  const auto* at = reinterpret_cast<const std::byte*>(text.data());
  return {at, at + text.size()};
}

/// What its owner may send, with 20 bytes of payload.
std::string good_frame(const tto_helper_nic& nic, const uint8_t next_hop[6]) {
  FrameHeaders h;
  std::memcpy(h.source_mac.bytes.data(), nic.mac, 6);
  std::memcpy(h.destination_mac.bytes.data(), next_hop, 6);
  h.source = ip("10.91.0.1");
  h.destination = ip("10.91.0.2");
  h.source_port = kLocalPort;
  h.destination_port = kRemotePort;
  h.flags = kRst;  // so that nobody answers
  return text_of(PortClient::frame(h, std::string(20, 'g')));
}

std::vector<std::string> bad_frames(const std::string& good) {
  std::vector<std::string> bad;
  const auto with = [&](const std::function<void(std::string&)>& change) {
    std::string frame = good;
    change(frame);
    bad.push_back(frame);
  };
  const auto at = [&](size_t offset, uint8_t value) {
    with([&](std::string& f) { f[offset] = static_cast<char>(value); });
  };
  at(5, 0x55);              // a destination that is no neighbour
  at(0, 0xff);              // nor is a group
  at(11, 0x55);             // another source MAC
  at(13, 0x06);             // ARP
  at(12, 0x86);             // no known type
  at(kEthernet, 0x46);      // IP options
  at(kEthernet, 0x65);      // IPv6 in the middle of IPv4
  at(kEthernet, 0x44);      // a header of 16 bytes
  at(kEthernet + 3, 10);    // shorter than its header
  at(kEthernet + 3, 200);   // longer than the frame
  at(kEthernet + 3, 59);    // shorter than the frame
  at(kEthernet + 6, 0x20);  // more fragments
  at(kEthernet + 7, 1);     // a later fragment
  for (const int protocol : {0, 1, 17, 41, 47, 132}) at(kEthernet + 9, static_cast<uint8_t>(protocol));
  at(kEthernet + 15, 77);  // another source
  at(kEthernet + 19, 3);   // another destination
  at(kEthernet + kIp + 1, static_cast<uint8_t>(kForeignPort & 0xff));
  at(kEthernet + kIp + 3, 10);                         // another destination port
  at(kEthernet + kIp + 12, 0x40);                      // a TCP header of 16 bytes
  at(kEthernet + kIp + 12, 0xf0);                      // and one longer than the segment
  for (const size_t bytes : {14, 20, 33, 34, 40, 53})  // the kernel drops what is shorter
    with([&](std::string& f) { f.resize(bytes); });
  with([](std::string& f) { f.append(1000, 'p'); });                               // longer than IP says
  with([](std::string& f) { f.insert(12, std::string("\x81\x00\x00\x05", 4)); });  // a tag
  with([](std::string& f) { f.insert(12, std::string("\x81\x00\x00\x00\x81\x00\x00\x05", 8)); });  // two
  with([](std::string& f) { f.insert(12, std::string("\x88\xa8\x00\x05", 4)); });
  with([](std::string& f) { std::swap_ranges(f.begin(), f.begin() + 6, f.begin() + 6); });
  // An IPv6 packet between v4-mapped addresses would have the keys of the IPv4 flow.
  with([](std::string& f) {
    std::string v6("\x60\x00\x00\x00\x00\x28\x06\x40", 8);
    const std::string mapped = std::string(10, '\0') + "\xff\xff";
    v6 += mapped + f.substr(kEthernet + 12, 4) + mapped + f.substr(kEthernet + 16, 4) + f.substr(kEthernet + kIp);
    f = f.substr(0, 12) + "\x86\xdd" + v6;
  });
  return bad;
}

struct Sender {
  PortClient c;
  int placeholder = -1;
  std::string good;

  int open(const std::string& socket) {
    if (const int failed = c.open(socket, 256)) return failed;
    placeholder = bound_socket("10.91.0.1", kLocalPort, false);
    const tto_helper_flow flow = ByHand::flow_between(c, ip("10.91.0.1"), kLocalPort, ip("10.91.0.2"), kRemotePort);
    const uint8_t none[6] = {};
    tto_helper_grant grant{};
    const bool is_open = becomes([&] {
      if (grant.grant_id != 0) c.helper.release_now({grant.grant_id, {}, 0, 0});
      return c.helper.open_flows({&flow, 1}, {&placeholder, 1}, {&grant, 1}) && grant.grant_id != 0 &&
             std::memcmp(grant.next_hop_mac, none, 6) != 0;
    });
    good = good_frame(c.description.nics[0], grant.next_hop_mac);
    return is_open ? 0 : 60;
  }
  bool send(const std::string& frame) {
    return becomes([&] {
      c.user->reclaim();
      return c.user->send(bytes_of(frame));
    });
  }
};

TEST_F(Transmit, B2_foreign_and_malformed_frames__do_not_leave_and_are_counted) {
  int report[2];
  ASSERT_EQ(pipe(report), 0);
  Gate is_checked;
  Client client(lab_.a, [&] {
    Sender s;
    if (const int failed = s.open(lab_.socket)) return failed;
    const std::vector<std::string> bad = bad_frames(s.good);
    if (!s.send(s.good)) return 1;
    for (const std::string& frame : bad)
      if (!s.send(frame)) return 2;
    if (!s.send(s.good)) return 3;
    const uint64_t count = bad.size();
    if (write(report[1], &count, sizeof count) != sizeof count) return 4;
    if (write(report[1], s.good.data(), s.good.size()) != static_cast<ssize_t>(s.good.size())) return 5;
    return is_checked.wait() ? 0 : 6;  // its counters go with its port
  });
  uint64_t bad = 0;
  good_.assign(kEthernet + 60, '\0');
  ASSERT_EQ(read(report[0], &bad, sizeof bad), static_cast<ssize_t>(sizeof bad));
  ASSERT_EQ(read(report[0], good_.data(), good_.size()), static_cast<ssize_t>(good_.size()));
  size_t good = 0;
  EXPECT_TRUE(becomes([&] {
    const Arrived arrived = take_arrived();
    EXPECT_EQ(arrived.other, 0u) << ::testing::PrintToString(arrived.first_other);
    return (good += arrived.good) == 2;
  })) << good
      << " of 2 good frames";
  EXPECT_TRUE(becomes([&] { return dropped() == bad; })) << dropped() << " counted of " << bad;
  is_checked.open();
  EXPECT_EQ(client.wait(), 0);
}

TEST_F(Transmit, B2_frames_rewritten_while_they_are_checked__leave_as_they_were_checked) {
  int report[2];
  ASSERT_EQ(pipe(report), 0);
  Gate has_seen_enough;
  Client client(lab_.a, [&] {
    Sender s;
    if (const int failed = s.open(lab_.socket)) return failed;
    if (write(report[1], s.good.data(), s.good.size()) != static_cast<ssize_t>(s.good.size())) return 1;
    // One thread turns the port of every frame of the region to a foreign one and back, as fast as it can.
    std::atomic<bool> goes_on{true};
    std::vector<volatile uint8_t*> ports;
    for (uint32_t i = 0; i < s.c.pool.frame_count(); ++i)
      ports.push_back(reinterpret_cast<volatile uint8_t*>(s.c.pool.data(tto::memory::FrameHandle::make(0, i))) +
                      tto::memory::kTxDataOffset + kEthernet + kIp + 1);
    std::thread rewriter([&] {
      while (goes_on.load(std::memory_order_relaxed))
        for (const uint8_t value : {static_cast<uint8_t>(kForeignPort & 0xff), static_cast<uint8_t>(kLocalPort & 0xff)})
          for (volatile uint8_t* port : ports) *port = value;
    });
    bool is_sent = true;
    while (is_sent && !has_seen_enough.wait(std::chrono::milliseconds(0))) is_sent = s.send(s.good);
    goes_on = false;
    rewriter.join();
    return is_sent ? 0 : 2;
  });
  good_.assign(kEthernet + 60, '\0');
  ASSERT_EQ(read(report[0], good_.data(), good_.size()), static_cast<ssize_t>(good_.size()));
  size_t good = 0;
  uint64_t bad = 0;
  const auto look = [&] {
    const Arrived arrived = take_arrived();
    EXPECT_EQ(arrived.other, 0u) << ::testing::PrintToString(arrived.first_other);
    good += arrived.good;
    bad = std::max(bad, dropped());
  };
  EXPECT_TRUE(becomes([&] {
    look();
    return good >= 100 && bad >= 20;  // both happened: the race is one
  })) << good
      << " good, " << bad << " dropped";
  has_seen_enough.open();
  EXPECT_EQ(client.wait(), 0);
  look();
}

}  // namespace
}  // namespace ttod::testing
