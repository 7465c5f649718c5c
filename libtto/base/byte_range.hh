// Positions in a TCP stream as 64-bit sequence numbers. The low 32 bits are the number on the wire; the high bits
// start at 1, so that subtracting a window from an early number never wraps. `<` is honest on these.
#pragma once

#include <cstdint>

namespace tto {

using StreamOffset = uint64_t;

/// The offset at which a connection with initial sequence number `isn` starts (its SYN occupies it).
constexpr StreamOffset first_offset(uint32_t isn) { return (uint64_t{1} << 32) | isn; }

/// Half-open range [begin, end).
struct ByteRange {
  StreamOffset begin = 0;
  StreamOffset end = 0;

  constexpr bool operator==(const ByteRange&) const = default;
  constexpr uint64_t size() const { return end - begin; }
  constexpr bool empty() const { return begin >= end; }
};

}  // namespace tto
