#include <gtest/gtest.h>

#include "libtto/base/rng.hh"
#include "tests/unit/wire/fixtures.hh"

namespace tto::wire {
namespace {

using namespace fixtures;

TEST(FrameEmit, syn__byte_for_byte_the_handmade_one) {
  FrameHeaders h = headers("10.9.0.1", "10.9.0.2");
  h.ip_id = 0x1c46;
  h.seq = {0x11223344};
  h.ack = {0};
  h.flags = kSyn;
  h.window = 64240;
  h.options.mss = 1460;
  h.options.sack_permitted = h.options.has_timestamps = h.options.has_window_scale = true;
  h.options.ts_val = 0xdeadbeef;
  h.options.window_scale = 7;
  Bytes f = frame(h, "");
  const auto view = parse(f);
  ASSERT_TRUE(view);
  EXPECT_TRUE(verify_tcp_checksum(*view, f, 0, false));
  f[50] = f[51] = 0;  // the fixture has no TCP checksum
  EXPECT_EQ(f, handmade_syn());
}

TEST(FrameEmit, ipv4__df_is_set_and_the_header_sums_up) {
  const Bytes f = frame(headers("10.0.0.1", "10.0.0.2"), "abc");
  EXPECT_EQ(load16(&f[20]), 0x4000);
  EXPECT_EQ(load16(&f[18]), 0x1234);
  EXPECT_TRUE(is_valid_sum(sum_bytes(&f[14], 20)));
}

TEST(FrameEmit, ipv6__traffic_class_and_flow_label_share_a_word) {
  FrameHeaders h = headers("fd00::1", "fd00::2");
  h.tos = 0xb9;
  h.flow_label = 0xabcde;
  const Bytes f = frame(h, "abc");
  EXPECT_EQ(load32(&f[14]), 0x6b9abcdeu);
  EXPECT_EQ(parse(f)->tos, 0xb9);
}

TEST(FrameEmit, random_headers__parse_back_to_what_was_written) {
  constexpr uint64_t kSeed = 791;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Rng rng(kSeed);
  for (int round = 0; round < 5000; ++round) {
    const bool is_v4 = rng.below(2) == 0;
    FrameHeaders h = is_v4 ? headers("10.0.0.1", "10.0.0.2") : headers("fd00::1", "2001:db8::2");
    h.vlan = static_cast<uint16_t>(rng.below(3) == 0 ? rng.between(1, 4094) : 0);
    h.tos = static_cast<uint8_t>(rng.next());
    h.ttl = static_cast<uint8_t>(rng.next());
    h.source_port = static_cast<uint16_t>(rng.next());
    h.destination_port = static_cast<uint16_t>(rng.next());
    h.seq = {rng.next32()};
    h.ack = {rng.next32()};
    h.flags = static_cast<uint8_t>(rng.next());
    h.window = static_cast<uint16_t>(rng.next());
    h.urgent_pointer = static_cast<uint16_t>(rng.next());
    h.options.has_timestamps = rng.below(2) == 0;
    if (h.options.has_timestamps) h.options.ts_val = rng.next32(), h.options.ts_ecr = rng.next32();
    if ((h.flags & kSyn) != 0) h.options.mss = 1400;
    std::string payload(rng.below(2000), '\0');
    for (char& c : payload) c = static_cast<char>(rng.next());
    const Bytes f = frame(h, payload);
    ASSERT_EQ(f.size(), headers_bytes(h) + payload.size());
    const auto view = parse(f);
    ASSERT_TRUE(view) << static_cast<int>(view.error());
    ASSERT_TRUE(verify_tcp_checksum(*view, f, sum_bytes(payload.data(), payload.size()), false));
    ASSERT_EQ(view->vlan, h.vlan);
    ASSERT_EQ(view->tos, h.tos);
    ASSERT_EQ(view->ttl, h.ttl);
    ASSERT_EQ(view->source, h.source);
    ASSERT_EQ(view->destination, h.destination);
    ASSERT_EQ(view->tcp.source_port, h.source_port);
    ASSERT_EQ(view->tcp.destination_port, h.destination_port);
    ASSERT_EQ(view->tcp.seq, h.seq);
    ASSERT_EQ(view->tcp.ack, h.ack);
    ASSERT_EQ(view->tcp.flags, h.flags);
    ASSERT_EQ(view->tcp.window, h.window);
    ASSERT_EQ(view->tcp.urgent_pointer, h.urgent_pointer);
    ASSERT_EQ(view->tcp.options, h.options);
    ASSERT_EQ(view->payload_bytes, payload.size());
    ASSERT_EQ(std::string(f.begin() + view->payload_offset, f.end()), payload);
  }
}

}  // namespace
}  // namespace tto::wire
