// A set of stream bytes, kept as disjoint, non-touching ranges in order, in a fixed array: no allocation, and a bound
// on what a peer can make us remember. Used for out-of-order data, SACK scoreboards and what was lost.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "libtto/base/byte_range.hh"

namespace tto {

template <size_t Capacity>
class RangeSet {
 public:
  /// Adds a range, merging with those it overlaps or touches. False, and no change, if that would need more ranges
  /// than there is room for. An empty range is always accepted and adds nothing.
  bool add(ByteRange range) {
    if (range.empty()) return true;
    size_t first = first_ending_at_or_after(range.begin);
    size_t last = first;  // one past the ranges that merge
    while (last < count_ && ranges_[last].begin <= range.end) ++last;
    if (first == last) {
      if (count_ == Capacity) return false;
      for (size_t i = count_; i > first; --i) ranges_[i] = ranges_[i - 1];
      ranges_[first] = range;
      ++count_;
      return true;
    }
    if (ranges_[first].begin < range.begin) range.begin = ranges_[first].begin;
    if (ranges_[last - 1].end > range.end) range.end = ranges_[last - 1].end;
    ranges_[first] = range;
    erase(first + 1, last);
    return true;
  }

  /// Takes out all bytes of `range`. False, and no change, if a range had to be split and there was no room.
  bool remove(ByteRange range) {
    if (range.empty()) return true;
    size_t i = first_ending_after(range.begin);
    if (i == count_ || ranges_[i].begin >= range.end) return true;
    if (ranges_[i].begin < range.begin && ranges_[i].end > range.end) {
      if (count_ == Capacity) return false;
      for (size_t k = count_; k > i; --k) ranges_[k] = ranges_[k - 1];
      ++count_;
      ranges_[i].end = range.begin;
      ranges_[i + 1].begin = range.end;
      return true;
    }
    if (ranges_[i].begin < range.begin) ranges_[i++].end = range.begin;
    size_t last = i;
    while (last < count_ && ranges_[last].end <= range.end) ++last;
    if (last < count_ && ranges_[last].begin < range.end) ranges_[last].begin = range.end;
    erase(i, last);
    return true;
  }

  /// Forgets everything before `offset`.
  void trim_below(StreamOffset offset) {
    const size_t first = first_ending_after(offset);
    erase(0, first);
    if (count_ > 0 && ranges_[0].begin < offset) ranges_[0].begin = offset;
  }

  bool contains(StreamOffset offset) const {
    const size_t i = first_ending_after(offset);
    return i < count_ && ranges_[i].begin <= offset;
  }
  /// True if every byte of `range` is in the set; an empty range always is.
  bool contains(ByteRange range) const {
    if (range.empty()) return true;
    const size_t i = first_ending_after(range.begin);
    return i < count_ && ranges_[i].begin <= range.begin && range.end <= ranges_[i].end;
  }
  bool intersects(ByteRange range) const {
    const size_t i = first_ending_after(range.begin);
    return !range.empty() && i < count_ && ranges_[i].begin < range.end;
  }

  /// The first run of bytes inside `within` that is not in the set; empty (at within.end) if there is none.
  ByteRange first_gap(ByteRange within) const {
    StreamOffset at = within.begin;
    size_t i = first_ending_after(at);
    if (i < count_ && ranges_[i].begin <= at) at = ranges_[i++].end;
    if (at >= within.end) return {within.end, within.end};
    const StreamOffset stop = i < count_ && ranges_[i].begin < within.end ? ranges_[i].begin : within.end;
    return {at, stop};
  }

  /// How many bytes of `within` are in the set.
  uint64_t bytes_in(ByteRange within) const {
    uint64_t bytes = 0;
    for (size_t i = first_ending_after(within.begin); i < count_ && ranges_[i].begin < within.end; ++i) {
      const StreamOffset begin = ranges_[i].begin > within.begin ? ranges_[i].begin : within.begin;
      const StreamOffset end = ranges_[i].end < within.end ? ranges_[i].end : within.end;
      bytes += end - begin;
    }
    return bytes;
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const ByteRange& r : *this) sum += r.size();
    return sum;
  }

  bool empty() const { return count_ == 0; }
  bool full() const { return count_ == Capacity; }
  size_t size() const { return count_; }
  static constexpr size_t capacity() { return Capacity; }
  void clear() { count_ = 0; }

  const ByteRange& operator[](size_t i) const { return ranges_[i]; }
  const ByteRange& front() const { return ranges_[0]; }
  const ByteRange& back() const { return ranges_[count_ - 1]; }
  const ByteRange* begin() const { return ranges_.data(); }
  const ByteRange* end() const { return ranges_.data() + count_; }

 private:
  size_t first_ending_at_or_after(StreamOffset offset) const {
    size_t low = 0, high = count_;
    while (low < high) {
      const size_t middle = (low + high) / 2;
      if (ranges_[middle].end < offset)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
  size_t first_ending_after(StreamOffset offset) const {
    size_t i = first_ending_at_or_after(offset);
    if (i < count_ && ranges_[i].end == offset) ++i;
    return i;
  }
  void erase(size_t first, size_t last) {
    if (first == last) return;
    for (size_t i = last; i < count_; ++i) ranges_[first + i - last] = ranges_[i];
    count_ -= last - first;
  }

  std::array<ByteRange, Capacity> ranges_{};
  size_t count_ = 0;
};

}  // namespace tto
