// Damaged frames: whatever a peer sends, parsing ends, stays inside the frame and never trips anything.
#include <gtest/gtest.h>

#include <memory>

#include "libtto/base/rng.hh"
#include "libtto/wire/arp.hh"
#include "libtto/wire/frame_text.hh"
#include "tests/unit/wire/fixtures.hh"

namespace tto::wire {
namespace {

using namespace fixtures;

std::vector<Bytes> seeds() {
  const Bytes sent4 = frame(headers("10.0.0.2", "192.0.2.7"), "payload");
  const Bytes sent6 = frame(headers("fd00::2", "2001:db8::7"), "payload");
  FrameHeaders tagged = headers("10.0.0.1", "10.0.0.2");
  tagged.vlan = 9;
  tagged.options.has_timestamps = true;
  tagged.options.sack_count = 3;
  Bytes arp(kMaxArpFrameBytes);
  arp.resize(emit_arp({ArpPacket::Operation::kRequest, 0, {}, {}, ip("10.0.0.1"), ip("10.0.0.2")}, arp.data()));
  return {handmade_syn(),
          sent4,
          sent6,
          frame(tagged, std::string(300, 'x')),
          icmp_error("10.0.0.1", "10.0.0.2", 3, 4, 1280, Bytes(sent4.begin() + 14, sent4.end())),
          icmp_error("fd00::1", "fd00::2", 2, 0, 1280, Bytes(sent6.begin() + 14, sent6.end())),
          arp};
}

void mutate(Rng& rng, Bytes& f) {
  for (uint64_t i = rng.below(6); i > 0 && !f.empty(); --i) {
    uint8_t& b = f[rng.below(rng.below(3) == 0 ? f.size() : std::min<size_t>(f.size(), 80))];
    switch (rng.below(4)) {
      case 0:
        b = static_cast<uint8_t>(b ^ (1 << rng.below(8)));
        break;
      case 1:
        b = static_cast<uint8_t>(rng.next());
        break;
      case 2:
        b = rng.below(2) == 0 ? 0 : 0xff;
        break;
      default:
        b = static_cast<uint8_t>(b + (rng.below(2) == 0 ? 1 : -1));
        break;
    }
  }
  if (rng.below(4) == 0) f.resize(rng.below(f.size() + 40));
  // Most damage dies at the IPv4 header checksum; repair it often, to reach what lies behind.
  if (f.size() >= 34 && load16(&f[12]) == kEtherIpv4 && f.size() >= 14 + (f[14] & 0xf) * size_t{4} &&
      rng.below(4) != 0) {
    fix_ip_checksum(f);
  }
}

void check_view(const FrameView& v, size_t piece_bytes, uint32_t total_bytes) {
  ASSERT_LE(v.payload_offset, piece_bytes);
  ASSERT_LE(v.payload_offset + v.payload_bytes, total_bytes);
  ASSERT_LT(v.ip_offset, v.tcp_offset);
  ASSERT_LT(v.tcp_offset, v.payload_offset);
  ASSERT_EQ(v.source.version(), v.ip_version);
  ASSERT_EQ(v.destination.version(), v.ip_version);
  ASSERT_LE(v.tcp.options.sack_count, v.tcp.options.sack.size());
}

TEST(WireMutation, parse__random_damage_stays_inside_the_frame) {
  constexpr uint64_t kSeed = 4711;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Rng rng(kSeed);
  const auto originals = seeds();
  int parsed = 0, dropped = 0;
  for (int round = 0; round < 150'000; ++round) {
    Bytes f = originals[rng.below(originals.size())];
    mutate(rng, f);
    // An allocation of exactly this size: the sanitizer sees the first byte read beyond it.
    const auto exact = std::make_unique<uint8_t[]>(f.size());
    std::copy(f.begin(), f.end(), exact.get());
    const size_t piece_bytes = rng.below(8) == 0 ? rng.below(f.size() + 1) : f.size();
    const std::span<const uint8_t> piece(exact.get(), piece_bytes);
    const auto total_bytes = static_cast<uint32_t>(f.size());
    const auto view = parse_frame(piece, total_bytes);
    (view ? parsed : dropped)++;
    if (view) {
      check_view(*view, piece_bytes, total_bytes);
      if (HasFatalFailure()) return;
      if (view->kind == FrameView::Kind::kTcp) (void)verify_tcp_checksum(*view, piece, 0, true);
    } else {
      ASSERT_NE(view.error(), stats::DropReason::kNone);
    }
    char room[kFrameTextBytes];
    ASSERT_GT(frame_text(piece, total_bytes, room).size(), 0u);
  }
  EXPECT_GT(parsed, 10'000);
  EXPECT_GT(dropped, 10'000);
}

TEST(WireMutation, options__random_fields_end_and_stay_legal) {
  constexpr uint64_t kSeed = 4712;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Rng rng(kSeed);
  constexpr uint8_t kLikely[] = {0, 1, 2, 3, 4, 5, 8, 10, 18, 34, 254};
  for (int round = 0; round < 100'000; ++round) {
    const size_t bytes = rng.below(kMaxTcpOptionsBytes + 1);
    const auto field = std::make_unique<uint8_t[]>(bytes);
    for (size_t i = 0; i < bytes; ++i) {
      field[i] = rng.below(2) == 0 ? kLikely[rng.below(sizeof(kLikely))] : static_cast<uint8_t>(rng.next());
    }
    const TcpOptions o = parse_tcp_options({field.get(), bytes}, rng.below(2) == 0);
    ASSERT_LE(o.sack_count, o.sack.size());
    ASSERT_LE(tcp_options_bytes(o), kMaxTcpOptionsBytes);
  }
}

}  // namespace
}  // namespace tto::wire
