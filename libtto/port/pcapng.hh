// pcapng blocks (draft-ietf-opsawg-pcapng), encoded into a caller's buffer. Pure functions: each returns the bytes
// written, or 0 if the buffer is too small. Host byte order, as the format allows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace tto::port::pcapng {

inline constexpr uint16_t kLinkEthernet = 1;

enum class Direction : uint8_t { kUnknown = 0, kIn = 1, kOut = 2 };

/// The first block of a file. `application` names the writer.
size_t encode_section(std::span<std::byte> out, std::string_view application);
/// An interface; packets name interfaces by the order of these blocks. Time stamps are in nanoseconds.
size_t encode_interface(std::span<std::byte> out, uint16_t link_type, uint32_t snap_bytes, std::string_view name);

struct Packet {
  uint32_t interface = 0;
  uint64_t time_ns = 0;  // since 1970
  Direction direction = Direction::kUnknown;
  uint32_t original_bytes = 0;
  std::span<const std::span<const std::byte>> pieces;  // what is captured of it
};
size_t encode_packet(std::span<std::byte> out, const Packet& packet);
/// What encode_packet needs for so many captured bytes.
constexpr size_t packet_block_bytes(size_t captured_bytes) { return 32 + (captured_bytes + 3) / 4 * 4 + 12; }

}  // namespace tto::port::pcapng
