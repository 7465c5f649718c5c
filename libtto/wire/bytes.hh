// Numbers in network byte order at any address.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace tto::wire {

static_assert(std::endian::native == std::endian::little);

inline uint16_t load16(const uint8_t* at) {
  uint16_t v;
  std::memcpy(&v, at, 2);
  return __builtin_bswap16(v);
}
inline uint32_t load32(const uint8_t* at) {
  uint32_t v;
  std::memcpy(&v, at, 4);
  return __builtin_bswap32(v);
}
inline void store16(uint8_t* at, uint16_t value) {
  value = __builtin_bswap16(value);
  std::memcpy(at, &value, 2);
}
inline void store32(uint8_t* at, uint32_t value) {
  value = __builtin_bswap32(value);
  std::memcpy(at, &value, 4);
}

/// A 16-bit word as it lies in memory: what checksum fields and sums are kept as.
inline uint16_t load_raw16(const uint8_t* at) {
  uint16_t v;
  std::memcpy(&v, at, 2);
  return v;
}
inline void store_raw16(uint8_t* at, uint16_t value) { std::memcpy(at, &value, 2); }

}  // namespace tto::wire
