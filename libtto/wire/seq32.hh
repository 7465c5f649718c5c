// The 32-bit sequence number as the wire carries it (RFC 9293 §3.4). It knows equality and widening, nothing else:
// all arithmetic happens on 64-bit stream offsets.
#pragma once

#include <cstdint>

#include "libtto/base/byte_range.hh"

namespace tto::wire {

struct Seq32 {
  uint32_t raw = 0;

  constexpr bool operator==(const Seq32&) const = default;

  /// The offset nearest to `checkpoint` whose low 32 bits are this number.
  constexpr StreamOffset widen_near(StreamOffset checkpoint) const {
    return checkpoint + static_cast<StreamOffset>(
                            static_cast<int64_t>(static_cast<int32_t>(raw - static_cast<uint32_t>(checkpoint))));
  }
};

constexpr Seq32 narrow(StreamOffset offset) { return {static_cast<uint32_t>(offset)}; }

}  // namespace tto::wire
