// Which bytes beyond rcv.nxt have arrived, and the SACK blocks that say so (RFC 2018 §4, RFC 2883). Ranges only: the
// bytes are in the receive queue.
//
// Bounded: a segment that would need one range too many is not kept; it comes again.
#pragma once

#include <array>
#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/wire/tcp_options.hh"

namespace tto::tcp {

class Reassembly {
 public:
  static constexpr uint32_t kMaxRanges = 24;

  /// An out-of-order arrival, begin > rcv.nxt. False: no room, do not keep the bytes. What of it was there already is
  /// noted as a duplicate.
  bool insert(ByteRange range);
  /// `arrived` begins at rcv.nxt; returns where the in-order part ends now. What was there already is a duplicate.
  StreamOffset advance(ByteRange arrived);
  /// [begin, end) arrived a second time: reported once, in the next acknowledgement.
  void note_duplicate(ByteRange range);
  /// SACK blocks for an acknowledgement: D-SACK first, then newest first; `max_blocks` is what the header has room for.
  void fill_blocks(wire::TcpOptions& options, uint32_t max_blocks) const;
  void on_ack_sent() { duplicate_ = {}; }

  bool empty() const { return count_ == 0; }
  bool has_blocks() const { return count_ != 0 || !duplicate_.empty(); }
  uint32_t count() const { return count_; }
  ByteRange range(uint32_t i) const { return ranges_[i]; }

 private:
  static constexpr uint32_t kRecent = 4;
  const ByteRange* find(StreamOffset offset) const;
  void remember(StreamOffset offset);

  std::array<ByteRange, kMaxRanges> ranges_;    // sorted, disjoint, not touching
  std::array<StreamOffset, kRecent> recent_{};  // an offset inside each recently changed range, newest first
  ByteRange duplicate_;
  uint32_t count_ = 0;
};

}  // namespace tto::tcp
