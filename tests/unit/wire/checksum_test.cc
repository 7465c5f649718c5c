#include "libtto/wire/checksum.hh"

#include <gtest/gtest.h>

#include <vector>

#include "libtto/base/rng.hh"

namespace tto::wire {
namespace {

constexpr uint64_t kSeed = 9293;

// Word by word, as RFC 1071 says it.
uint16_t plain_sum(const uint8_t* data, size_t bytes) {
  uint64_t sum = 0;
  for (size_t i = 0; i + 1 < bytes; i += 2) sum += static_cast<uint64_t>(data[i]) | data[i + 1] << 8;
  if (bytes % 2 != 0) sum += data[bytes - 1];
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

std::vector<uint8_t> random_bytes(Rng& rng, size_t count) {
  std::vector<uint8_t> bytes(count);
  for (auto& b : bytes) b = static_cast<uint8_t>(rng.next());
  return bytes;
}

TEST(Checksum, sum_bytes__the_example_of_rfc_1071) {
  const uint8_t data[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(__builtin_bswap16(sum_bytes(data, sizeof(data))), 0xddf2);
  EXPECT_EQ(__builtin_bswap16(checksum_of(sum_bytes(data, sizeof(data)))), 0x220d);
}

TEST(Checksum, sum_bytes__every_short_length_and_alignment_in_both_twins) {
  Rng rng(kSeed);
  const auto data = random_bytes(rng, 400);
  for (size_t offset = 0; offset < 33; ++offset) {
    for (size_t bytes = 0; bytes + offset <= 330; ++bytes) {
      const uint16_t expected = plain_sum(&data[offset], bytes);
      ASSERT_EQ(portable::sum_bytes(&data[offset], bytes), expected) << offset << "+" << bytes;
      ASSERT_EQ(sum_bytes(&data[offset], bytes), expected) << offset << "+" << bytes;
      if (has_avx2()) {
        ASSERT_EQ(avx2::sum_bytes(&data[offset], bytes), expected) << offset << "+" << bytes;
      }
    }
  }
}

TEST(Checksum, sum_bytes__large_and_extreme_content) {
  Rng rng(kSeed);
  for (const int fill : {0x00, 0xff, -1}) {
    auto data = random_bytes(rng, (1 << 20) + 77);
    if (fill >= 0) std::fill(data.begin(), data.end(), static_cast<uint8_t>(fill));
    for (const size_t bytes : {data.size(), data.size() - 1, size_t{65535}, size_t{9000}}) {
      const uint16_t expected = plain_sum(data.data(), bytes);
      ASSERT_EQ(portable::sum_bytes(data.data(), bytes), expected);
      if (has_avx2()) {
        ASSERT_EQ(avx2::sum_bytes(data.data(), bytes), expected);
      }
    }
  }
}

TEST(Checksum, copy_and_sum__copies_exactly_and_sums_the_same) {
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Rng rng(kSeed);
  using Copy = uint16_t (*)(void*, const void*, size_t);
  for (const Copy copy : {Copy{&portable::copy_and_sum}, Copy{&avx2::copy_and_sum}, Copy{&copy_and_sum}}) {
    if (copy == &avx2::copy_and_sum && !has_avx2()) continue;
    for (int round = 0; round < 2000; ++round) {
      const size_t bytes = rng.below(round % 10 == 0 ? 5000 : 300);
      const size_t from_at = rng.below(40), to_at = rng.below(40);
      const auto from = random_bytes(rng, from_at + bytes);
      std::vector<uint8_t> to(to_at + bytes + 40, 0xee);
      const auto before = to;
      ASSERT_EQ(copy(&to[to_at], from.data() + from_at, bytes), plain_sum(from.data() + from_at, bytes));
      auto expected = before;
      std::copy(from.begin() + static_cast<long>(from_at), from.end(), expected.begin() + static_cast<long>(to_at));
      ASSERT_EQ(to, expected) << "bytes " << bytes;
    }
  }
}

TEST(Checksum, at_offset__parts_cut_anywhere_add_up) {
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Rng rng(kSeed);
  for (int round = 0; round < 2000; ++round) {
    const auto data = random_bytes(rng, 1 + rng.below(3000));
    uint16_t sum = 0;
    for (size_t at = 0; at < data.size();) {
      const size_t bytes = std::min<size_t>(data.size() - at, rng.below(700));
      sum = add_sums(sum, at_offset(sum_bytes(&data[at], bytes), at));
      at += bytes;
    }
    ASSERT_EQ(sum, plain_sum(data.data(), data.size()));
  }
}

TEST(Checksum, update_checksum__equals_summing_again) {
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  Rng rng(kSeed);
  for (int round = 0; round < 20'000; ++round) {
    auto data = random_bytes(rng, 20);
    data[10] = data[11] = 0;
    const uint16_t before = checksum_of(plain_sum(data.data(), 20));
    uint16_t old_word, new_word = round % 7 == 0 ? uint16_t{0} : static_cast<uint16_t>(rng.next());
    std::memcpy(&old_word, &data[4], 2);
    std::memcpy(&data[4], &new_word, 2);
    const uint16_t updated = update_checksum(before, old_word, new_word);
    ASSERT_EQ(updated, checksum_of(plain_sum(data.data(), 20)));
    std::memcpy(&data[10], &updated, 2);
    ASSERT_TRUE(is_valid_sum(plain_sum(data.data(), 20)));
  }
}

TEST(Checksum, pseudo_header_sum__equals_the_header_written_out) {
  Rng rng(kSeed);
  for (int round = 0; round < 500; ++round) {
    const uint32_t length = static_cast<uint32_t>(rng.below(70'000));
    const uint8_t l[4] = {static_cast<uint8_t>(length >> 24), static_cast<uint8_t>(length >> 16),
                          static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)};
    const uint32_t a = rng.next32(), b = rng.next32();
    uint8_t v4[12] = {};
    std::memcpy(v4, &a, 4);
    std::memcpy(v4 + 4, &b, 4);
    v4[9] = 6;
    // The RFC's v4 pseudo-header has a 16-bit length; longer ones carry into it.
    const uint16_t expected4 = add_sums(plain_sum(v4, 12), plain_sum(l, 4));
    ASSERT_EQ(pseudo_header_sum(IpAddress::from_v4(a), IpAddress::from_v4(b), 6, length), expected4);
    auto v6 = random_bytes(rng, 40);
    v6[0] = 0xfd;
    v6[16] = 0xfd;
    std::memcpy(&v6[32], l, 4);
    v6[36] = v6[37] = v6[38] = 0;
    v6[39] = 6;
    ASSERT_EQ(pseudo_header_sum(IpAddress::from_v6(&v6[0]), IpAddress::from_v6(&v6[16]), 6, length),
              plain_sum(v6.data(), 40));
  }
}

}  // namespace
}  // namespace tto::wire
