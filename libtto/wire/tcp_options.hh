// TCP options as values (RFC 9293 §3.2, RFC 7323, RFC 2018). Unknown kinds are skipped while parsing; a length of 0, 1
// or past the header ends parsing (R1). What is here can only be legal.
#pragma once

#include <array>
#include <cstdint>

#include "libtto/wire/seq32.hh"

namespace tto::wire {

struct SackBlock {
  Seq32 left;   // first sequence number of the block
  Seq32 right;  // the one after its last
  constexpr bool operator==(const SackBlock&) const = default;
};

struct TcpOptions {
  uint16_t mss = 0;            // 0: absent. SYN only (R5)
  bool has_window_scale = false;  // SYN only
  uint8_t window_scale = 0;    // as sent; users clamp to 14 (R6)
  bool sack_permitted = false;  // SYN only
  bool has_timestamps = false;
  uint32_t ts_val = 0;
  uint32_t ts_ecr = 0;
  uint8_t sack_count = 0;
  std::array<SackBlock, 4> sack{};

  constexpr bool operator==(const TcpOptions&) const = default;
};

}  // namespace tto::wire
