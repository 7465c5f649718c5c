#include "tools/tto/pcapng_merge.hh"

#include <cstring>

#include "libtto/port/pcapng.hh"

namespace tto::tools {
namespace {

constexpr uint32_t kSection = 0x0a0d0d0a, kInterface = 1, kEnhancedPacket = 6;
constexpr uint32_t kMaxBlockBytes = 1u << 20, kMinPacketBytes = 32;

uint32_t word(const std::byte* at) {
  uint32_t w;
  std::memcpy(&w, at, sizeof w);
  return w;
}

}  // namespace

Buffer section_header() {
  Buffer block(256);
  block.resize(port::pcapng::encode_section(block, "tto capture"));
  return block;
}

bool StreamReader::feed(const std::byte* data, size_t bytes, Buffer* out) {
  pending_.insert(pending_.end(), data, data + bytes);
  size_t at = 0;
  while (pending_.size() - at >= 12) {
    const std::byte* block = pending_.data() + at;
    const uint32_t length = word(block + 4);
    if (length < 12 || length % 4 != 0 || length > kMaxBlockBytes) return false;
    if (pending_.size() - at < length) break;
    if (word(block + length - 4) != length || !take_block(block, word(block), length, out)) return false;
    at += length;
  }
  pending_.erase(pending_.begin(), pending_.begin() + ptrdiff_t(at));
  return true;
}

bool StreamReader::take_block(const std::byte* block, uint32_t type, uint32_t bytes, Buffer* out) {
  if (type == kSection) return true;  // the file has its own
  if (type == kInterface) {
    if (has_interface_ || bytes < 20) return false;
    has_interface_ = true;
    interface_ = (*next_interface_)++;
    out->insert(out->end(), block, block + bytes);
    return true;
  }
  if (type != kEnhancedPacket || !has_interface_ || bytes < kMinPacketBytes) return false;
  const uint32_t captured = word(block + 20);
  if (captured > bytes - kMinPacketBytes) return false;
  const size_t from = out->size();
  out->insert(out->end(), block, block + bytes);
  std::memcpy(out->data() + from + 8, &interface_, sizeof interface_);
  ++packets_;
  return true;
}

}  // namespace tto::tools
