#include "libtto/wire/tcp_options.hh"

#include "libtto/wire/bytes.hh"

namespace tto::wire {
namespace {

constexpr uint8_t kEnd = 0, kNop = 1, kMss = 2, kWindowScale = 3, kSackPermitted = 4, kSack = 5, kTimestamps = 8;
constexpr size_t kTimestampsBytes = 12;  // with two NOPs in front
constexpr size_t kSackBlockBytes = 8;
// NOP NOP timestamps, and nothing else: what almost every segment carries.
constexpr uint32_t kOnlyTimestamps = 0x0101080a;

void take_sack(const uint8_t* body, size_t bytes, TcpOptions& out) {
  if (bytes == 0 || bytes % kSackBlockBytes != 0 || bytes / kSackBlockBytes > out.sack.size()) return;
  out.sack_count = static_cast<uint8_t>(bytes / kSackBlockBytes);
  for (size_t i = 0; i < out.sack_count; ++i) {
    out.sack[i] = {{load32(body + i * kSackBlockBytes)}, {load32(body + i * kSackBlockBytes + 4)}};
  }
}

void take_option(uint8_t kind, const uint8_t* body, size_t bytes, bool is_syn, TcpOptions& out) {
  switch (kind) {
    case kMss:
      if (is_syn && bytes == 2) out.mss = load16(body);
      break;
    case kWindowScale:
      if (is_syn && bytes == 1) {
        out.has_window_scale = true;
        out.window_scale = body[0];
      }
      break;
    case kSackPermitted:
      if (is_syn && bytes == 0) out.sack_permitted = true;
      break;
    case kSack:
      if (!is_syn) take_sack(body, bytes, out);
      break;
    case kTimestamps:
      if (bytes == 8) {
        out.has_timestamps = true;
        out.ts_val = load32(body);
        out.ts_ecr = load32(body + 4);
      }
      break;
    default:  // R1: unknown kinds are skipped
      break;
  }
}

size_t bytes_without_sack(const TcpOptions& options) {
  size_t bytes = 0;
  if (options.mss != 0) bytes += 4;
  if (options.has_timestamps)
    bytes += kTimestampsBytes;
  else if (options.sack_permitted)
    bytes += 4;
  if (options.has_window_scale) bytes += 4;
  return bytes;
}

}  // namespace

TcpOptions parse_tcp_options(std::span<const uint8_t> field, bool is_syn) {
  TcpOptions out;
  if (field.size() == kTimestampsBytes && load32(field.data()) == kOnlyTimestamps) {
    out.has_timestamps = true;
    out.ts_val = load32(&field[4]);
    out.ts_ecr = load32(&field[8]);
    return out;
  }
  size_t at = 0;
  while (at < field.size()) {
    const uint8_t kind = field[at];
    if (kind == kEnd) break;
    if (kind == kNop) {
      ++at;
      continue;
    }
    if (at + 1 >= field.size()) break;
    const size_t length = field[at + 1];
    if (length < 2 || length > field.size() - at) break;  // R1
    take_option(kind, field.data() + at + 2, length - 2, is_syn, out);
    at += length;
  }
  return out;
}

size_t sack_blocks_that_fit(const TcpOptions& options) {
  const size_t used = bytes_without_sack(options);
  const size_t room = (kMaxTcpOptionsBytes - used - 4) / kSackBlockBytes;
  const size_t wanted = options.sack_count < options.sack.size() ? options.sack_count : options.sack.size();
  return wanted < room ? wanted : room;
}

size_t tcp_options_bytes(const TcpOptions& options) {
  const size_t blocks = sack_blocks_that_fit(options);
  return bytes_without_sack(options) + (blocks > 0 ? 4 + blocks * kSackBlockBytes : 0);
}

size_t emit_tcp_options(const TcpOptions& options, uint8_t* at) {
  uint8_t* const start = at;
  if (options.mss != 0) {
    at[0] = kMss;
    at[1] = 4;
    store16(at + 2, options.mss);
    at += 4;
  }
  if (options.has_timestamps) {
    at[0] = options.sack_permitted ? kSackPermitted : kNop;
    at[1] = options.sack_permitted ? 2 : kNop;
    at[2] = kTimestamps;
    at[3] = 10;
    store32(at + 4, options.ts_val);
    store32(at + 8, options.ts_ecr);
    at += kTimestampsBytes;
  } else if (options.sack_permitted) {
    store32(at, 0x01010000 | kSackPermitted << 8 | 2);
    at += 4;
  }
  if (options.has_window_scale) {
    at[0] = kNop;
    at[1] = kWindowScale;
    at[2] = 3;
    at[3] = options.window_scale;
    at += 4;
  }
  if (const size_t blocks = sack_blocks_that_fit(options); blocks > 0) {
    at[0] = at[1] = kNop;
    at[2] = kSack;
    at[3] = static_cast<uint8_t>(2 + blocks * kSackBlockBytes);
    at += 4;
    for (size_t i = 0; i < blocks; ++i, at += kSackBlockBytes) {
      store32(at, options.sack[i].left.raw);
      store32(at + 4, options.sack[i].right.raw);
    }
  }
  return static_cast<size_t>(at - start);
}

}  // namespace tto::wire
