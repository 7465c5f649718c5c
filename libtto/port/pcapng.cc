#include "libtto/port/pcapng.hh"

#include <cstring>

namespace tto::port::pcapng {
namespace {

constexpr uint32_t kSectionBlock = 0x0a0d0d0a;
constexpr uint32_t kInterfaceBlock = 1;
constexpr uint32_t kEnhancedPacketBlock = 6;
constexpr uint32_t kByteOrderMagic = 0x1a2b3c4d;
constexpr uint16_t kOptionEnd = 0;
constexpr uint16_t kOptionUserApplication = 4;  // of a section
constexpr uint16_t kOptionName = 2;             // of an interface
constexpr uint16_t kOptionTimeResolution = 9;   // of an interface
constexpr uint16_t kOptionFlags = 2;            // of a packet

/// Appends to a buffer; once something did not fit, nothing is written any more and finish() is 0.
class BlockWriter {
 public:
  BlockWriter(std::span<std::byte> out, uint32_t type) : out_(out) {
    put(type);
    put(uint32_t{0});  // length, filled in at the end
  }
  template <typename T>
  void put(T value) {
    put_bytes(&value, sizeof value);
  }
  void put_bytes(const void* data, size_t bytes) {
    if (overflow_ || bytes > out_.size() - used_) {
      overflow_ = true;
      return;
    }
    if (bytes > 0) std::memcpy(out_.data() + used_, data, bytes);
    used_ += bytes;
  }
  void pad() {
    static constexpr std::byte kZero[4] = {};
    put_bytes(kZero, (4 - used_ % 4) % 4);
  }
  void put_option(uint16_t code, const void* data, size_t bytes) {
    put(code);
    put(static_cast<uint16_t>(bytes));
    put_bytes(data, bytes);
    pad();
  }
  void put_option_end() {
    put(kOptionEnd);
    put(uint16_t{0});
  }
  size_t finish() {
    put(static_cast<uint32_t>(used_ + 4));
    if (overflow_) return 0;
    const auto total = static_cast<uint32_t>(used_);
    std::memcpy(out_.data() + 4, &total, sizeof total);
    return used_;
  }

 private:
  std::span<std::byte> out_;
  size_t used_ = 0;
  bool overflow_ = false;
};

}  // namespace

size_t encode_section(std::span<std::byte> out, std::string_view application) {
  BlockWriter block(out, kSectionBlock);
  block.put(kByteOrderMagic);
  block.put(uint16_t{1});  // version 1.0
  block.put(uint16_t{0});
  block.put(~uint64_t{0});  // section length: not known
  block.put_option(kOptionUserApplication, application.data(), application.size());
  block.put_option_end();
  return block.finish();
}

size_t encode_interface(std::span<std::byte> out, uint16_t link_type, uint32_t snap_bytes, std::string_view name) {
  BlockWriter block(out, kInterfaceBlock);
  block.put(link_type);
  block.put(uint16_t{0});
  block.put(snap_bytes);
  block.put_option(kOptionName, name.data(), name.size());
  const uint8_t nanoseconds = 9;  // 10^-9
  block.put_option(kOptionTimeResolution, &nanoseconds, 1);
  block.put_option_end();
  return block.finish();
}

size_t encode_packet(std::span<std::byte> out, const Packet& packet) {
  size_t captured = 0;
  for (const auto& piece : packet.pieces) captured += piece.size();
  BlockWriter block(out, kEnhancedPacketBlock);
  block.put(packet.interface);
  block.put(static_cast<uint32_t>(packet.time_ns >> 32));
  block.put(static_cast<uint32_t>(packet.time_ns));
  block.put(static_cast<uint32_t>(captured));
  block.put(packet.original_bytes);
  for (const auto& piece : packet.pieces) block.put_bytes(piece.data(), piece.size());
  block.pad();
  const auto flags = static_cast<uint32_t>(packet.direction);
  block.put_option(kOptionFlags, &flags, sizeof flags);
  block.put_option_end();
  return block.finish();
}

}  // namespace tto::port::pcapng
