// What passes between the device and the engine: headers as values and byte counts, never payload.
#pragma once

#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/wire/seq32.hh"
#include "libtto/wire/tcp_options.hh"

namespace tto::tcp {

/// A received segment, or several merged by the coalescer (aggregate header rules: REQUIREMENTS D6).
struct SegmentIn {
  wire::Seq32 seq;       // of the first segment
  wire::Seq32 ack;       // of the last
  uint8_t flags = 0;     // wire::kFin …, accumulated
  uint8_t ip_tos = 0;    // DSCP and ECN, common to all merged
  uint8_t ip_ttl = 0;
  uint16_t window = 0;   // of the last, as on the wire (unscaled)
  uint16_t urgent_pointer = 0;
  uint32_t payload_bytes = 0;
  uint16_t segments_merged = 1;
  uint16_t acks_merged = 0;   // duplicate-free pure ACKs merged
  uint32_t largest_segment_bytes = 0;  // payload of the largest one merged; for the delayed-ACK rule
  wire::TcpOptions options;
};

/// A segment to send, or a pseudo frame: `payload` may exceed `mss_bytes`, then the segmenter cuts it (D8); `seq` and
/// options are those of the first cut, FIN and PSH go on the last.
struct SegmentOut {
  StreamOffset seq = 0;
  StreamOffset ack = 0;  // meaningful if flags has ACK
  ByteRange payload;     // stream bytes to carry, empty for a pure ACK, SYN, FIN or RST
  uint32_t mss_bytes = 0;  // payload limit of one segment, options already deducted
  uint16_t window = 0;   // as on the wire
  uint16_t urgent_pointer = 0;
  uint8_t flags = 0;
  uint8_t ecn = 0;       // IP ECN field
  bool is_retransmission = false;
  wire::TcpOptions options;
};

}  // namespace tto::tcp
