#include "libtto/tcp/sack_scoreboard.hh"

#include <algorithm>

namespace tto::tcp {

uint64_t SackScoreboard::add(ByteRange range) {
  if (range.empty()) return 0;
  uint32_t first = 0;
  while (first < count_ && ranges_[first].end < range.begin) ++first;
  uint32_t last = first;  // [first, last) touch or overlap `range`
  uint64_t known = 0;
  ByteRange merged = range;
  while (last < count_ && ranges_[last].begin <= range.end) {
    const ByteRange& r = ranges_[last];
    const StreamOffset from = std::max(r.begin, range.begin), to = std::min(r.end, range.end);
    if (to > from) known += to - from;
    merged.begin = std::min(merged.begin, r.begin);
    merged.end = std::max(merged.end, r.end);
    ++last;
  }
  if (first == last) {
    if (count_ == kMaxRanges) {
      if (first == count_) return 0;  // the highest of all: forgotten at once
      --count_;
    }
    std::copy_backward(ranges_.begin() + first, ranges_.begin() + count_, ranges_.begin() + count_ + 1);
    ++count_;
  } else if (last - first > 1) {
    std::copy(ranges_.begin() + last, ranges_.begin() + count_, ranges_.begin() + first + 1);
    count_ -= last - first - 1;
  }
  ranges_[first] = merged;
  return range.size() - known;
}

void SackScoreboard::advance(StreamOffset una) {
  uint32_t gone = 0;
  while (gone < count_ && ranges_[gone].end <= una) ++gone;
  if (gone != 0) {
    std::copy(ranges_.begin() + gone, ranges_.begin() + count_, ranges_.begin());
    count_ -= gone;
  }
  if (count_ != 0) ranges_[0].begin = std::max(ranges_[0].begin, una);
}

uint64_t SackScoreboard::sacked_in(ByteRange range) const {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count_ && ranges_[i].begin < range.end; ++i) {
    const StreamOffset from = std::max(ranges_[i].begin, range.begin), to = std::min(ranges_[i].end, range.end);
    if (to > from) bytes += to - from;
  }
  return bytes;
}

StreamOffset SackScoreboard::lost_edge(uint32_t mss_bytes) const {
  uint64_t above = 0;
  for (uint32_t i = count_, islands = 1; i-- > 0; ++islands) {
    above += ranges_[i].size();
    if (islands >= kDupThresh || above > uint64_t{kDupThresh - 1} * mss_bytes) return ranges_[i].begin;
  }
  return 0;
}

ByteRange SackScoreboard::first_hole(ByteRange range) const {
  for (uint32_t i = 0; i < count_ && !range.empty(); ++i) {
    const ByteRange& r = ranges_[i];
    if (r.end <= range.begin) continue;
    if (r.begin > range.begin) return {range.begin, std::min(range.end, r.begin)};
    range.begin = r.end;
  }
  return range.empty() ? ByteRange{} : range;
}

}  // namespace tto::tcp
