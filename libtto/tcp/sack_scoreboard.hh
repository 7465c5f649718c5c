// What the peer said it holds beyond the cumulative acknowledgement (RFC 2018), and what follows from it (RFC 6675).
//
// Bounded: a peer may report more islands than fit; then the highest are forgotten, which costs a retransmission and
// never correctness, because a SACK is only advice.
#pragma once

#include <array>
#include <cstdint>

#include "libtto/base/byte_range.hh"

namespace tto::tcp {

class SackScoreboard {
 public:
  static constexpr uint32_t kMaxRanges = 20;
  static constexpr uint32_t kDupThresh = 3;

  /// Returns the bytes that were not known before. `range` lies in (una, nxt]: the caller checked.
  uint64_t add(ByteRange range);
  /// Forgets what lies below.
  void advance(StreamOffset una);
  void clear() { count_ = 0; }

  bool empty() const { return count_ == 0; }
  uint32_t count() const { return count_; }
  /// SACKed bytes inside `range`.
  uint64_t sacked_in(ByteRange range) const;
  /// IsLost() of RFC 6675 §4 for all bytes at once: what is not SACKed below this offset is lost. 0: nothing is.
  StreamOffset lost_edge(uint32_t mss_bytes) const;
  /// The first part of `range` that is not SACKed; empty: none.
  ByteRange first_hole(ByteRange range) const;
  /// After the highest SACKed byte; 0: none.
  StreamOffset highest() const { return count_ == 0 ? 0 : ranges_[count_ - 1].end; }

 private:
  std::array<ByteRange, kMaxRanges> ranges_;  // sorted, disjoint, not touching
  uint32_t count_ = 0;
};

}  // namespace tto::tcp
