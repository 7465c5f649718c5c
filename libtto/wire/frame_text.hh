// Frames, addresses and TCP headers as one line of text, much as tcpdump prints them: for traces and test failures.
// Writes into the caller's buffer and never allocates.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "libtto/wire/frame.hh"

namespace tto::wire {

/// Enough for any line.
inline constexpr size_t kFrameTextBytes = 400;

/// "10.0.0.1:80 > 10.0.0.2:4000 [S.] seq 7 ack 9 win 64240 len 0 <mss 1460 sackOK ts 1 2 ws 7>", or why it would be
/// dropped. What does not fit into `out` is cut off.
std::string_view frame_text(std::span<const uint8_t> first_piece, uint32_t total_bytes, std::span<char> out);
/// "10.0.0.1" or "fd00::1" (RFC 5952).
std::string_view address_text(const IpAddress& address, std::span<char> out);

}  // namespace tto::wire
