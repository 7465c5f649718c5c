#include "libtto/tcp/reassembly.hh"

#include <algorithm>

namespace tto::tcp {

bool Reassembly::insert(ByteRange range) {
  uint32_t first = 0;
  while (first < count_ && ranges_[first].end < range.begin) ++first;
  uint32_t last = first;  // [first, last) touch or overlap `range`
  ByteRange merged = range;
  ByteRange twice;
  for (; last < count_ && ranges_[last].begin <= range.end; ++last) {
    const ByteRange& r = ranges_[last];
    const ByteRange both{std::max(r.begin, range.begin), std::min(r.end, range.end)};
    if (twice.empty() && !both.empty()) twice = both;
    merged.begin = std::min(merged.begin, r.begin);
    merged.end = std::max(merged.end, r.end);
  }
  if (first == last) {
    if (count_ == kMaxRanges) return false;
    std::copy_backward(ranges_.begin() + first, ranges_.begin() + count_, ranges_.begin() + count_ + 1);
    ++count_;
  } else if (last - first > 1) {
    std::copy(ranges_.begin() + last, ranges_.begin() + count_, ranges_.begin() + first + 1);
    count_ -= last - first - 1;
  }
  ranges_[first] = merged;
  if (!twice.empty()) note_duplicate(twice);
  remember(range.begin);
  return true;
}

StreamOffset Reassembly::advance(ByteRange arrived) {
  StreamOffset nxt = arrived.end;
  uint32_t gone = 0;
  ByteRange twice;
  while (gone < count_ && ranges_[gone].begin <= nxt) {
    const ByteRange& r = ranges_[gone];
    const ByteRange both{r.begin, std::min(r.end, arrived.end)};
    if (twice.empty() && !both.empty()) twice = both;
    nxt = std::max(nxt, r.end);
    ++gone;
  }
  if (gone != 0) {
    std::copy(ranges_.begin() + gone, ranges_.begin() + count_, ranges_.begin());
    count_ -= gone;
    if (!twice.empty()) note_duplicate(twice);
  }
  return nxt;
}

void Reassembly::note_duplicate(ByteRange range) { duplicate_ = range; }

const ByteRange* Reassembly::find(StreamOffset offset) const {
  for (uint32_t i = 0; i < count_; ++i)
    if (ranges_[i].begin <= offset && offset < ranges_[i].end) return &ranges_[i];
  return nullptr;
}

void Reassembly::remember(StreamOffset offset) {
  const ByteRange* range = find(offset);
  uint32_t keep = 0;
  std::array<StreamOffset, kRecent> older{};
  for (StreamOffset o : recent_)
    if (o != 0 && keep < kRecent - 1 && find(o) != range && find(o) != nullptr) older[keep++] = o;
  recent_.fill(0);
  recent_[0] = offset;
  std::copy(older.begin(), older.begin() + keep, recent_.begin() + 1);
}

void Reassembly::fill_blocks(wire::TcpOptions& options, uint32_t max_blocks) const {
  max_blocks = std::min<uint32_t>(max_blocks, static_cast<uint32_t>(options.sack.size()));
  options.sack_count = 0;
  const auto put = [&](ByteRange r) {
    if (options.sack_count >= max_blocks) return;
    const wire::SackBlock block{wire::narrow(r.begin), wire::narrow(r.end)};
    options.sack[options.sack_count++] = block;
  };
  const bool has_duplicate = !duplicate_.empty();
  if (has_duplicate) put(duplicate_);
  const uint32_t first = options.sack_count;
  const auto is_listed = [&](ByteRange r) {
    for (uint32_t i = first; i < options.sack_count; ++i)
      if (options.sack[i].left == wire::narrow(r.begin)) return true;
    return false;
  };
  for (StreamOffset o : recent_) {
    const ByteRange* r = o == 0 ? nullptr : find(o);
    if (r != nullptr && !is_listed(*r)) put(*r);
  }
  for (uint32_t i = 0; i < count_ && options.sack_count < max_blocks; ++i)
    if (!is_listed(ranges_[i])) put(ranges_[i]);
}

}  // namespace tto::tcp
