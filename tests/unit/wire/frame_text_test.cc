#include "libtto/wire/frame_text.hh"

#include <gtest/gtest.h>

#include "libtto/wire/arp.hh"
#include "tests/unit/wire/fixtures.hh"

namespace tto::wire {
namespace {

using namespace fixtures;

std::string text(const Bytes& f) {
  char room[kFrameTextBytes];
  return std::string(frame_text(f, static_cast<uint32_t>(f.size()), room));
}

TEST(FrameText, tcp__one_line) {
  EXPECT_EQ(text(handmade_syn()),
            "10.9.0.1:45678 > 10.9.0.2:80 [S] seq 287454020 win 64240 len 0 <mss 1460 sackOK ts 3735928559 0 ws 7>");
  FrameHeaders h = headers("fd00::1", "2001:db8::2");
  h.vlan = 5;
  h.tos = kCe;
  h.options.sack_count = 2;
  h.options.sack[0] = {{10}, {20}};
  h.options.sack[1] = {{30}, {40}};
  EXPECT_EQ(text(frame(h, "abc")),
            "vlan 5 [fd00::1]:45678 > [2001:db8::2]:80 [P.] seq 1000 ack 2000 win 512 len 3 CE <sack 10-20 30-40>");
}

TEST(FrameText, others__icmp_arp_and_what_is_dropped) {
  const Bytes sent = frame(headers("10.0.0.2", "192.0.2.7"), "");
  EXPECT_EQ(text(icmp_error("10.0.0.1", "10.0.0.2", 3, 4, 1280, Bytes(sent.begin() + 14, sent.end()))),
            "10.0.0.1 > 10.0.0.2 icmp 3/4 mtu 1280 about 10.0.0.2:45678 > 192.0.2.7:80 seq 1000");
  Bytes arp(kMaxArpFrameBytes);
  arp.resize(emit_arp({ArpPacket::Operation::kReply, 0, {{2, 0, 0, 0, 0, 0xab}}, {}, ip("10.0.0.1"), ip("10.0.0.2")},
                      arp.data()));
  EXPECT_EQ(text(arp), "arp 10.0.0.1 is-at 02:00:00:00:00:ab");
  EXPECT_EQ(text(Bytes(10)), "frame of 10 bytes: drop_truncated");
}

TEST(FrameText, address__as_inet_ntop_prints_it) {
  for (const char* a : {"1.2.3.4", "fd00::1", "::", "::1", "1::", "1:0:0:2::3", "1:2:3:4:5:6:7:8", "2001:db8::1:0:0:1",
                        "1:0:2:3:4:5:6:7", "fe80::abcd:0:12:3456"}) {
    char room[64];
    EXPECT_EQ(address_text(ip(a), room), a);
  }
}

TEST(FrameText, short_buffer__cuts_the_line) {
  char room[10];
  const Bytes f = handmade_syn();
  EXPECT_EQ(frame_text(f, static_cast<uint32_t>(f.size()), room), "10.9.0.1:4");
  EXPECT_EQ(frame_text(f, static_cast<uint32_t>(f.size()), {}), "");
}

}  // namespace
}  // namespace tto::wire
