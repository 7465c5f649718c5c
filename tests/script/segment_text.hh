// Segments as the scripts write them, and back (docs/testing.md, "Scripts"). Numbers are relative: `seq` of what arrives
// and `ack` of what leaves count from the peer's SYN, the other two from ours.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "libtto/wire/frame.hh"

namespace tto::script {

/// What a script says is wrong, or what the stack did wrong; the text is all there is to it.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Options as written. For a segment that leaves, what is absent here is not looked at, and a missing number is any.
struct OptionText {
  bool others_allowed = false;  // "*"
  std::optional<uint32_t> mss, window_scale;
  bool sack_permitted = false;
  bool has_timestamps = false;
  std::optional<uint32_t> ts_val, ts_ecr;  // absent: "*"
  bool echoes_last = false;                // ts_ecr is "last": the last TSval the stack sent
  std::vector<std::pair<int64_t, int64_t>> sack;
  std::vector<uint8_t> raw;  // "hex": bytes put in front of the others, arriving segments only
};

struct SegmentText {
  uint8_t flags = 0;
  std::optional<int64_t> seq, ack;
  uint32_t payload_bytes = 0;
  std::optional<uint32_t> window, urgent, tos, ttl;
  std::optional<OptionText> options;
  // Arriving segments only.
  std::optional<uint32_t> data_offset;      // in words, instead of the true one
  bool has_bad_checksum = false;            // TCP
  bool is_fragment = false;                 // IPv4: more fragments follow
  bool has_ip_options = false;              // IPv4: four NOPs
  uint8_t reserved = 0;                     // the four bits beside the data offset
  std::string source, destination;          // instead of the peer's and ours
  std::optional<uint16_t> source_port, destination_port;
};

/// "SA" to bits and back; "-" is none.
uint8_t flags_of(const std::string& text);
std::string flags_text(uint8_t flags);

/// words: FLAGS [SEQ[+BYTES]] [ack N] [win N] … [<options>], the options as one word.
SegmentText parse_segment(const std::vector<std::string>& words, size_t from);
OptionText parse_options(const std::string& inside);

/// A frame seen, in relative numbers.
struct Seen {
  uint8_t flags = 0;
  int64_t seq = 0, ack = 0;
  uint32_t payload_bytes = 0;
  uint16_t window = 0, urgent = 0;
  uint8_t tos = 0, ttl = 0;
  wire::TcpOptions options;
  std::vector<std::pair<int64_t, int64_t>> sack;  // relative
};
std::string text_of(const Seen& seen);
/// Empty: it is what was expected. Else what differs.
std::string difference(const SegmentText& expected, const Seen& seen);

int64_t number_of(const std::string& text);

}  // namespace tto::script
