// What may be injected: one whole TCP segment of the very tuple, with checksums that ttod makes.
#include "kmod-helper/inject.hh"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "libtto/wire/checksum.hh"
#include "tests/helper/port_client.hh"

namespace ttod::testing {
namespace {

using tto::wire::FourTuple;
using Packet = std::vector<uint8_t>;

constexpr size_t kEthernetBytes = 14;

FourTuple tuple_of(bool is_v6) {
  return {ip(is_v6 ? "fd00::1" : "10.0.0.1"), ip(is_v6 ? "fd00::2" : "10.0.0.2"), 80, 4000};
}

/// From the tuple's remote side, with timestamps and five bytes.
Packet good_packet(const FourTuple& tuple) {
  tto::wire::FrameHeaders h;
  h.source = tuple.remote;
  h.destination = tuple.local;
  h.source_port = tuple.remote_port;
  h.destination_port = tuple.local_port;
  h.flags = tto::wire::kAck;
  h.options.has_timestamps = true;
  const tto::testing::Bytes frame = PortClient::frame(h, "hello");
  const auto* first = reinterpret_cast<const uint8_t*>(frame.data());
  return {first + kEthernetBytes, first + frame.size()};
}

size_t ip_bytes(const FourTuple& tuple) { return tuple.local.is_v4() ? 20 : 40; }

bool has_good_checksum(const Packet& packet, const FourTuple& tuple) {
  const size_t at = ip_bytes(tuple);
  const auto bytes = static_cast<uint32_t>(packet.size() - at);
  return tto::wire::is_valid_sum(
      tto::wire::add_sums(tto::wire::sum_bytes(&packet[at], bytes),
                          tto::wire::pseudo_header_sum(tuple.remote, tuple.local, IPPROTO_TCP, bytes)));
}

TEST(Inject, whole_segment_of_the_tuple__gets_a_full_checksum) {
  for (const bool is_v6 : {false, true}) {
    const FourTuple tuple = tuple_of(is_v6);
    Packet packet = good_packet(tuple);
    packet[ip_bytes(tuple) + 16] ^= 0x5a;  // as the sum of a pseudo-header would be: not the right one
    EXPECT_FALSE(has_good_checksum(packet, tuple));
    EXPECT_TRUE(make_injectable(packet, tuple));
    EXPECT_TRUE(has_good_checksum(packet, tuple));
    packet.pop_back();
    EXPECT_FALSE(make_injectable(packet, tuple)) << "shorter than IP says";
    Packet other = good_packet(tuple_of(!is_v6));
    EXPECT_FALSE(make_injectable(other, tuple)) << "of the other family";
  }
}

TEST(Inject, every_bit_of_the_headers__that_matters_is_checked) {
  for (const bool is_v6 : {false, true}) {
    const FourTuple tuple = tuple_of(is_v6);
    const Packet good = good_packet(tuple);
    const size_t tcp = ip_bytes(tuple);
    for (size_t bit = 0; bit < (tcp + 13) * 8; ++bit) {
      Packet packet = good;
      packet[bit / 8] = static_cast<uint8_t>(packet[bit / 8] ^ 1 << bit % 8);
      const size_t byte = bit / 8;
      // Free: type of service, identification, DF, time to live, checksum; flow label, hop limit; sequence numbers.
      bool is_free =
          is_v6 ? (byte == 0 && bit % 8 < 4) || (byte >= 1 && byte <= 3) || byte == 7
                : byte == 1 || byte == 4 || byte == 5 || bit == 6 * 8 + 6 || byte == 8 || byte == 10 || byte == 11;
      is_free = is_free || (byte >= tcp + 4 && byte < tcp + 12) || (byte == tcp + 12 && bit % 8 < 4);
      if (byte == tcp + 12 && bit % 8 >= 4) {  // the header's length: 32 bytes; others that fit are as good
        const size_t header = (packet[byte] >> 4) * size_t{4};
        is_free = header >= 20 && header <= good.size() - tcp;
      }
      EXPECT_EQ(make_injectable(packet, tuple), is_free)
          << (is_v6 ? "v6" : "v4") << " byte " << byte << " bit " << bit % 8;
    }
  }
}

TEST(Inject, noise_of_every_length__stays_inside) {
  std::mt19937 random(20261122);
  for (const bool is_v6 : {false, true}) {
    const FourTuple tuple = tuple_of(is_v6);
    for (size_t bytes = 0; bytes < 120; ++bytes) {
      Packet packet = good_packet(tuple);
      packet.resize(bytes);
      packet.shrink_to_fit();
      EXPECT_EQ(make_injectable(packet, tuple), bytes == good_packet(tuple).size());
      for (uint8_t& b : packet) b = static_cast<uint8_t>(random());
      EXPECT_FALSE(make_injectable(packet, tuple));
    }
  }
}

}  // namespace
}  // namespace ttod::testing
