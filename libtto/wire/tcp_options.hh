// TCP options as values (RFC 9293 §3.2, RFC 7323, RFC 2018). Unknown kinds are skipped while parsing; a length of 0, 1
// or past the header ends parsing (R1). What is here can only be legal.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "libtto/wire/seq32.hh"

namespace tto::wire {

struct SackBlock {
  Seq32 left;   // first sequence number of the block
  Seq32 right;  // the one after its last
  constexpr bool operator==(const SackBlock&) const = default;
};

struct TcpOptions {
  uint16_t mss = 0;               // 0: absent. SYN only (R5)
  bool has_window_scale = false;  // SYN only
  uint8_t window_scale = 0;       // as sent; users clamp to 14 (R6)
  bool sack_permitted = false;    // SYN only
  bool has_timestamps = false;
  uint32_t ts_val = 0;
  uint32_t ts_ecr = 0;
  uint8_t sack_count = 0;
  std::array<SackBlock, 4> sack{};

  constexpr bool operator==(const TcpOptions&) const = default;
};

inline constexpr size_t kMaxTcpOptionsBytes = 40;

/// `field`: everything between the fixed header and the payload. An option of a known kind with a wrong length is
/// skipped. MSS, window scale and SACK-permitted count only in a SYN (R5), SACK blocks only outside one.
TcpOptions parse_tcp_options(std::span<const uint8_t> field, bool is_syn);

/// How many SACK blocks fit beside the other options.
size_t sack_blocks_that_fit(const TcpOptions& options);
/// What emit_tcp_options() will write: a multiple of 4, at most kMaxTcpOptionsBytes.
size_t tcp_options_bytes(const TcpOptions& options);
/// Writes the options, padded by NOPs so that each long one is aligned; SACK blocks beyond sack_blocks_that_fit() are
/// left out. Returns the length.
size_t emit_tcp_options(const TcpOptions& options, uint8_t* at);

}  // namespace tto::wire
