#include "libtto/wire/arp.hh"

#include <gtest/gtest.h>

#include "tests/unit/wire/fixtures.hh"

namespace tto::wire {
namespace {

using namespace fixtures;

ArpPacket reply() {
  return {ArpPacket::Operation::kReply, 0, {{2, 0, 0, 0, 0, 1}}, {{2, 0, 0, 0, 0, 2}}, ip("10.0.0.1"), ip("10.0.0.2")};
}
Bytes emit(const ArpPacket& packet) {
  Bytes f(kMaxArpFrameBytes);
  f.resize(emit_arp(packet, f.data()));
  return f;
}

TEST(Arp, emit__then_parse_is_the_identity) {
  for (const uint16_t vlan : {uint16_t{0}, uint16_t{7}}) {
    ArpPacket packet = reply();
    packet.vlan = vlan;
    const Bytes f = emit(packet);
    EXPECT_EQ(f.size(), vlan == 0 ? 42u : 46u);
    const auto parsed = parse_arp(f);
    ASSERT_TRUE(parsed);
    EXPECT_EQ(*parsed, packet);
  }
}

TEST(Arp, emit__requests_go_to_everyone_replies_to_their_target) {
  ArpPacket packet = reply();
  EXPECT_EQ(emit(packet)[5], 2);
  packet.operation = ArpPacket::Operation::kRequest;
  EXPECT_EQ(emit(packet)[5], 0xff);
}

TEST(Arp, parse__refuses_what_is_cut_or_of_another_kind) {
  const Bytes whole = emit(reply());
  for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
    EXPECT_EQ(parse_arp(std::span(whole).first(bytes)).error(), stats::DropReason::k_truncated);
  }
  for (const size_t at : {12, 14, 16, 18, 19, 20}) {
    Bytes f = whole;
    f[at] ^= 0x40;
    EXPECT_EQ(parse_arp(f).error(), stats::DropReason::k_ethertype) << at;
  }
}

}  // namespace
}  // namespace tto::wire
