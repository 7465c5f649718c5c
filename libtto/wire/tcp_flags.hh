// TCP flag bits as on the wire (RFC 9293 §3.1), and the IP ECN field (RFC 3168).
#pragma once

#include <cstdint>

namespace tto::wire {

inline constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAck = 0x10, kUrg = 0x20, kEce = 0x40,
                         kCwr = 0x80;
inline constexpr uint8_t kEcnMask = 0x03, kEct1 = 0x01, kEct0 = 0x02, kCe = 0x03;

}  // namespace tto::wire
