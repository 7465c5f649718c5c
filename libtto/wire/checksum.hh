// The Internet checksum (RFC 1071): ones' complement sums, alone or in the same pass as a copy.
//
// A *sum* here is folded to 16 bits, not complemented, in the byte order of memory, of bytes taken from an even offset.
// It is 0 only if every byte is; so two sums of the same bytes are equal, however they were computed. A part that
// starts at an odd offset of the whole goes through at_offset() before it is added.
//
// Threads: any. The AVX2 twins are chosen at the first call; there is no static constructor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "libtto/wire/address.hh"

namespace tto::wire {

uint16_t sum_bytes(const void* data, size_t bytes);
/// memcpy and sum_bytes in one pass; the two must not overlap.
uint16_t copy_and_sum(void* to, const void* from, size_t bytes);

constexpr uint16_t fold(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}
constexpr uint16_t add_sums(uint16_t a, uint16_t b) {
  const uint32_t sum = static_cast<uint32_t>(a) + b;
  return static_cast<uint16_t>((sum & 0xffff) + (sum >> 16));
}
/// What a part's sum counts for when the part starts `offset` bytes into the whole.
constexpr uint16_t at_offset(uint16_t part, size_t offset) { return offset % 2 != 0 ? __builtin_bswap16(part) : part; }
/// The field that goes into the header for a sum over everything with the field as 0.
constexpr uint16_t checksum_of(uint16_t sum) { return static_cast<uint16_t>(~sum); }
/// True if the sum over everything, field included, is that of undamaged bytes.
constexpr bool is_valid_sum(uint16_t sum) { return sum == 0xffff; }
/// The checksum field after one 16-bit word (in memory order, like the field) changed (RFC 1624, equation 3).
constexpr uint16_t update_checksum(uint16_t checksum, uint16_t old_word, uint16_t new_word) {
  const uint32_t sum =
      static_cast<uint32_t>(static_cast<uint16_t>(~checksum)) + static_cast<uint16_t>(~old_word) + new_word;
  return static_cast<uint16_t>(~fold(sum));
}

/// The pseudo-header of RFC 9293 §3.1 and RFC 8200 §8.1; `bytes`: transport header and payload.
uint16_t pseudo_header_sum(const IpAddress& source, const IpAddress& destination, uint8_t protocol, uint32_t bytes);

namespace portable {
uint16_t sum_bytes(const void* data, size_t bytes);
uint16_t copy_and_sum(void* to, const void* from, size_t bytes);
}  // namespace portable

/// Only where has_avx2().
namespace avx2 {
uint16_t sum_bytes(const void* data, size_t bytes);
uint16_t copy_and_sum(void* to, const void* from, size_t bytes);
}  // namespace avx2

/// Both the CPU and the operating system's saved state.
bool has_avx2();

}  // namespace tto::wire
