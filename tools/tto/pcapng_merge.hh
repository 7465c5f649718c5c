// Joins the pcapng streams of several processes into one file: one section, one interface for each stream. The streams
// come from memory that other processes write, so every length is checked; a stream that makes no sense is given up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tto::tools {

using Buffer = std::vector<std::byte>;

/// The first block of the file.
Buffer section_header();

class StreamReader {
 public:
  /// `interface`: the number that packets of this stream get in the file. It is the next free one when the stream's
  /// interface block is met: `next_interface` is then counted up.
  explicit StreamReader(uint32_t* next_interface) : next_interface_(next_interface) {}

  /// Takes more of the stream and appends to `out` the whole blocks it now has. False: the stream made no sense.
  bool feed(const std::byte* data, size_t bytes, Buffer* out);
  uint64_t packet_count() const { return packets_; }

 private:
  bool take_block(const std::byte* block, uint32_t type, uint32_t bytes, Buffer* out);

  uint32_t* next_interface_;
  uint32_t interface_ = 0;
  bool has_interface_ = false;
  uint64_t packets_ = 0;
  Buffer pending_;
};

}  // namespace tto::tools
