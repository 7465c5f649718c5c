#include <gtest/gtest.h>

#include "tests/unit/wire/fixtures.hh"

namespace tto::wire {
namespace {

using namespace fixtures;
using stats::DropReason;

DropReason reason_of(const Bytes& f) {
  const auto result = parse(f);
  return result ? DropReason::kNone : result.error();
}
Bytes v4_frame() { return frame(headers("10.0.0.1", "10.0.0.2"), "hello"); }
Bytes v6_frame() { return frame(headers("fd00::1", "fd00::2"), "hello"); }

TEST(FrameParse, syn__every_field_as_the_bytes_say) {
  const auto f = parse(handmade_syn());
  ASSERT_TRUE(f) << static_cast<int>(f.error());
  EXPECT_EQ(f->kind, FrameView::Kind::kTcp);
  EXPECT_EQ(f->source, ip("10.9.0.1"));
  EXPECT_EQ(f->destination, ip("10.9.0.2"));
  EXPECT_EQ(f->source_mac.bytes[5], 1);
  EXPECT_EQ(f->destination_mac.bytes[5], 2);
  EXPECT_EQ(f->vlan, 0);
  EXPECT_EQ(f->ttl, 64);
  EXPECT_EQ(f->ip_id, 0x1c46);
  EXPECT_EQ(f->tcp.source_port, 45678);
  EXPECT_EQ(f->tcp.destination_port, 80);
  EXPECT_EQ(f->tcp.seq.raw, 0x11223344u);
  EXPECT_EQ(f->tcp.flags, kSyn);
  EXPECT_EQ(f->tcp.window, 64240);
  EXPECT_EQ(f->tcp.options.mss, 1460);
  EXPECT_EQ(f->tcp.options.window_scale, 7);
  EXPECT_EQ(f->tcp.options.ts_val, 0xdeadbeefu);
  EXPECT_EQ(f->payload_bytes, 0u);
  EXPECT_EQ(f->payload_offset, 74);
  EXPECT_EQ(f->tuple(), (FourTuple{ip("10.9.0.2"), ip("10.9.0.1"), 80, 45678}));
}

TEST(FrameParse, padding__behind_the_ip_packet_is_no_payload) {
  Bytes f = frame(headers("10.0.0.1", "10.0.0.2"), "");
  f.resize(60, 0xcc);
  const auto view = parse(f);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->payload_bytes, 0u);
  EXPECT_TRUE(verify_tcp_checksum(*view, f, 0, false));
}

TEST(FrameParse, vlan__one_tag_is_read_two_are_dropped) {
  FrameHeaders h = headers("10.0.0.1", "10.0.0.2");
  h.vlan = 100;
  Bytes f = frame(h, "hello");
  const auto view = parse(f);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->vlan, 100);
  EXPECT_EQ(view->payload_bytes, 5u);
  store16(&f[14], 0xe064);  // priority bits are not part of the id
  EXPECT_EQ(parse(f)->vlan, 100);
  store16(&f[16], kEtherVlan);
  EXPECT_EQ(reason_of(f), DropReason::k_ethertype);
  store16(&f[12], 0x88a8);
  EXPECT_EQ(reason_of(f), DropReason::k_ethertype);
}

TEST(FrameParse, truncated__at_every_length_below_the_whole) {
  for (const Bytes& whole : {handmade_syn(), v4_frame(), v6_frame()}) {
    for (size_t bytes = 0; bytes < whole.size(); ++bytes) {
      const Bytes cut(whole.begin(), whole.begin() + static_cast<long>(bytes));
      ASSERT_EQ(reason_of(cut), DropReason::k_truncated) << bytes;
    }
    EXPECT_EQ(reason_of(whole), DropReason::kNone);
  }
}

TEST(FrameParse, ethertype__what_is_neither_ipv4_nor_ipv6) {
  Bytes f = v4_frame();
  store16(&f[12], kEtherArp);
  EXPECT_EQ(reason_of(f), DropReason::k_ethertype);
}

TEST(FrameParse, ip_header__version_and_lengths) {
  Bytes f = v4_frame();
  f[14] = 0x55;
  EXPECT_EQ(reason_of(f), DropReason::k_ip_header);
  f[14] = 0x44;
  EXPECT_EQ(reason_of(f), DropReason::k_ip_header);
  f = v4_frame();
  store16(&f[16], 19);
  EXPECT_EQ(reason_of(f), DropReason::k_ip_header);
  f = v6_frame();
  f[14] = 0x40;
  EXPECT_EQ(reason_of(f), DropReason::k_ip_header);
}

TEST(FrameParse, ip_checksum__one_wrong_bit) {
  Bytes f = v4_frame();
  f[22] ^= 1;
  EXPECT_EQ(reason_of(f), DropReason::k_ip_checksum);
}

TEST(FrameParse, R80_fragments_are_dropped_and_ip_options_skipped) {
  for (const uint16_t field : {uint16_t{0x2000}, uint16_t{1}, uint16_t{0x1fff}}) {
    Bytes f = v4_frame();
    store16(&f[20], field);
    fix_ip_checksum(f);
    EXPECT_EQ(reason_of(f), DropReason::k_ip_fragment) << field;
  }
  Bytes f = v4_frame();
  f.insert(f.begin() + 34, {0x94, 4, 0, 0});  // router alert
  f[14] = 0x46;
  store16(&f[16], static_cast<uint16_t>(f.size() - 14));
  fix_ip_checksum(f);
  const auto view = parse(f);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->tcp_offset, 38);
  EXPECT_EQ(view->payload_bytes, 5u);
  EXPECT_TRUE(verify_tcp_checksum(*view, f, sum_bytes(&f[view->payload_offset], 5), false));
}

TEST(FrameParse, ip_protocol__and_extension_headers) {
  Bytes f = v4_frame();
  f[23] = 17;
  fix_ip_checksum(f);
  EXPECT_EQ(reason_of(f), DropReason::k_ip_protocol);
  for (const int next : {0, 43, 44, 50, 51, 60}) {
    f = v6_frame();
    f[20] = static_cast<uint8_t>(next);
    EXPECT_EQ(reason_of(f), DropReason::k_ipv6_extension);
  }
  f[20] = 17;
  EXPECT_EQ(reason_of(f), DropReason::k_ip_protocol);
}

TEST(FrameParse, R18_segments_from_or_to_what_is_not_unicast_vanish) {
  for (const char* bad : {"0.0.0.0", "127.0.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"}) {
    EXPECT_EQ(reason_of(frame(headers(bad, "10.0.0.2"), "")), DropReason::k_ip_address) << bad;
    EXPECT_EQ(reason_of(frame(headers("10.0.0.1", bad), "")), DropReason::k_ip_address) << bad;
  }
  for (const char* bad : {"::", "::1", "ff02::1"}) {
    EXPECT_EQ(reason_of(frame(headers(bad, "fd00::2"), "")), DropReason::k_ip_address) << bad;
    EXPECT_EQ(reason_of(frame(headers("fd00::1", bad), "")), DropReason::k_ip_address) << bad;
  }
  Bytes f = v4_frame();
  f[0] |= 1;
  EXPECT_EQ(reason_of(f), DropReason::k_ip_address);
  f = v4_frame();
  f[6] |= 1;  // an answer would go to many
  EXPECT_EQ(reason_of(f), DropReason::k_ip_address);
}

TEST(FrameParse, ip_address__a_v4_mapped_one_in_an_ipv6_packet_is_no_ipv4_flow) {
  Bytes f = v6_frame();
  const IpAddress mapped = ip("10.0.0.1");
  std::memcpy(&f[22], mapped.bytes.data(), 16);
  EXPECT_EQ(reason_of(f), DropReason::k_ip_address);
}

TEST(FrameParse, R33_data_offset_below_five_or_past_the_segment) {
  Bytes f = v4_frame();
  for (const int words : {0, 4, 15}) {
    f[46] = static_cast<uint8_t>(words << 4);
    EXPECT_EQ(reason_of(f), DropReason::k_tcp_header) << words;
  }
  f = v4_frame();
  store16(&f[16], 39);  // the IP packet ends inside the TCP header
  fix_ip_checksum(f);
  EXPECT_EQ(reason_of(f), DropReason::k_tcp_header);
}

TEST(FrameParse, chain__headers_in_the_first_piece_payload_beyond_it) {
  const std::string payload(20'000, 'x');
  const Bytes f = frame(headers("fd00::1", "fd00::2"), payload);
  const std::span<const uint8_t> first(f.data(), 1000);
  const auto view = parse_frame(first, static_cast<uint32_t>(f.size()));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->payload_bytes, payload.size());
  EXPECT_TRUE(verify_tcp_checksum(*view, first, sum_bytes(payload.data(), payload.size()), false));
  EXPECT_EQ(parse_frame(first.first(60), static_cast<uint32_t>(f.size())).error(), DropReason::k_truncated);
}

TEST(FrameParse, R33_checksum_full_or_partial_only_where_allowed) {
  for (Bytes f : {v4_frame(), v6_frame()}) {
    auto view = parse(f);
    ASSERT_TRUE(view);
    const size_t at = view->tcp_offset + 16u;
    const uint16_t payload_sum = sum_bytes("hello", 5);
    EXPECT_TRUE(verify_tcp_checksum(*view, f, payload_sum, false));
    EXPECT_FALSE(verify_tcp_checksum(*view, f, sum_bytes("jello", 5), true));
    EXPECT_FALSE(has_partial_checksum(*view));
    store_raw16(&f[at], pseudo_header_sum(view->source, view->destination, kProtocolTcp,
                                          view->payload_bytes + view->payload_offset - view->tcp_offset));
    view = parse(f);
    EXPECT_TRUE(has_partial_checksum(*view));
    EXPECT_TRUE(verify_tcp_checksum(*view, f, payload_sum, true));
    EXPECT_FALSE(verify_tcp_checksum(*view, f, payload_sum, false));
  }
}

/// Does a receiver take this frame for good?
bool is_taken(const Bytes& f, bool accept_partial) {
  const auto view = parse(f);
  if (!view || view->kind != FrameView::Kind::kTcp) return false;
  return verify_tcp_checksum(*view, f, sum_bytes(&f[view->payload_offset], view->payload_bytes), accept_partial);
}

/// IPv6 fields that no checksum covers, and that mean nothing to TCP's data: traffic class, flow label, hop limit.
bool is_uncovered(bool is_v4, size_t bit) {
  return !is_v4 && ((bit >= 15 * 8 && bit < 18 * 8) || (bit >= 14 * 8 && bit < 14 * 8 + 4) || bit / 8 == 21);
}

TEST(FrameParse, B1_a_full_checksum__shows_every_wrong_bit) {
  for (const bool is_v4 : {true, false}) {
    for (const bool accept_partial : {false, true}) {
      const Bytes good = is_v4 ? v4_frame() : v6_frame();
      ASSERT_TRUE(is_taken(good, accept_partial));
      for (size_t bit = 14 * 8; bit < good.size() * 8; ++bit) {
        Bytes f = good;
        f[bit / 8] = static_cast<uint8_t>(f[bit / 8] ^ (1 << (bit % 8)));
        EXPECT_EQ(is_taken(f, accept_partial), is_uncovered(is_v4, bit)) << "bit " << bit << (is_v4 ? " v4" : " v6");
      }
    }
  }
}

TEST(FrameParse, B1_a_partial_checksum__shows_wrong_bits_of_the_ip_header_and_of_itself_only) {
  for (const bool is_v4 : {true, false}) {
    Bytes good = is_v4 ? v4_frame() : v6_frame();
    const auto view = parse(good);
    const size_t tcp = view->tcp_offset, sum_at = tcp + 16u;
    store_raw16(&good[sum_at], pseudo_header_sum(view->source, view->destination, kProtocolTcp,
                                                 view->payload_bytes + view->payload_offset - view->tcp_offset));
    ASSERT_TRUE(is_taken(good, true));
    for (size_t bit = 14 * 8; bit < good.size() * 8; ++bit) {
      if (bit / 8 >= tcp + 12 && bit / 8 < tcp + 13) continue;  // the data offset: some values cannot be
      Bytes f = good;
      f[bit / 8] = static_cast<uint8_t>(f[bit / 8] ^ (1 << (bit % 8)));
      const bool is_shown = bit / 8 < tcp || (bit / 8 >= sum_at && bit / 8 < sum_at + 2);
      EXPECT_EQ(is_taken(f, true), !is_shown || is_uncovered(is_v4, bit)) << "bit " << bit << (is_v4 ? " v4" : " v6");
    }
  }
}

TEST(FrameParse, icmp__fragmentation_needed_quotes_our_tuple) {
  Bytes sent = frame(headers("10.0.0.2", "192.0.2.7"), std::string(100, 'x'));
  const Bytes quoted(sent.begin() + 14, sent.begin() + 14 + 28);  // IP header and 8 bytes
  Bytes f = icmp_error("10.0.0.1", "10.0.0.2", 3, 4, 1280, quoted);
  const auto view = parse(f);
  ASSERT_TRUE(view) << static_cast<int>(view.error());
  EXPECT_EQ(view->kind, FrameView::Kind::kIcmpError);
  EXPECT_EQ(view->icmp.type, 3);
  EXPECT_EQ(view->icmp.code, 4);
  EXPECT_EQ(view->icmp.mtu_bytes, 1280);
  EXPECT_EQ(view->icmp.tuple, (FourTuple{ip("10.0.0.2"), ip("192.0.2.7"), 45678, 80}));
  EXPECT_EQ(view->icmp.quoted_seq.raw, 1000u);
  f[f.size() - 1] ^= 1;
  EXPECT_EQ(reason_of(f), DropReason::k_icmp);
  EXPECT_EQ(parse(icmp_error("10.0.0.1", "10.0.0.2", 3, 1, 1280, quoted))->icmp.mtu_bytes, 0);
}

TEST(FrameParse, icmp__packet_too_big_of_ipv6) {
  Bytes sent = frame(headers("fd00::2", "2001:db8::7"), std::string(100, 'x'));
  const Bytes quoted(sent.begin() + 14, sent.end());
  auto view = parse(icmp_error("fd00::1", "fd00::2", 2, 0, 1400, quoted));
  ASSERT_TRUE(view) << static_cast<int>(view.error());
  EXPECT_EQ(view->icmp.mtu_bytes, 1400);
  EXPECT_EQ(view->icmp.tuple, (FourTuple{ip("fd00::2"), ip("2001:db8::7"), 45678, 80}));
  view = parse(icmp_error("fd00::1", "fd00::2", 2, 0, 1'000'000, quoted));
  EXPECT_EQ(view->icmp.mtu_bytes, 0xffff);
}

TEST(FrameParse, icmp__what_is_no_error_about_tcp) {
  Bytes sent = frame(headers("10.0.0.2", "192.0.2.7"), "");
  Bytes quoted(sent.begin() + 14, sent.begin() + 14 + 28);
  EXPECT_EQ(reason_of(icmp_error("10.0.0.1", "10.0.0.2", 8, 0, 0, quoted)), DropReason::k_ip_protocol);
  EXPECT_EQ(reason_of(icmp_error("10.0.0.1", "10.0.0.2", 5, 1, 0, quoted)), DropReason::k_ip_protocol);
  EXPECT_EQ(reason_of(icmp_error("10.0.0.1", "10.0.0.2", 3, 1, 0, {})), DropReason::k_icmp);
  EXPECT_EQ(reason_of(icmp_error("10.0.0.1", "10.0.0.2", 3, 1, 0, Bytes(quoted.begin(), quoted.end() - 1))),
            DropReason::k_icmp);
  quoted[9] = 17;
  EXPECT_EQ(reason_of(icmp_error("10.0.0.1", "10.0.0.2", 3, 3, 0, quoted)), DropReason::k_ip_protocol);
  quoted[9] = 6;
  quoted[0] = 0x4f;  // options that are not there
  EXPECT_EQ(reason_of(icmp_error("10.0.0.1", "10.0.0.2", 3, 1, 0, quoted)), DropReason::k_icmp);
}

}  // namespace
}  // namespace tto::wire
