#include "libtto/tcp/send_log.hh"

namespace tto::tcp {

void SendLog::reset(StreamOffset begin) {
  begin_ = begin;
  head_ = count_ = 0;
}

void SendLog::insert(uint32_t i, const Record& record) {
  for (uint32_t k = count_++; k > i; --k) at(k) = at(k - 1);
  at(i) = record;
}

void SendLog::erase(uint32_t first, uint32_t last) {
  for (uint32_t k = last; k < count_; ++k) at(first + k - last) = at(k);
  count_ -= last - first;
}

void SendLog::merge_with_next(uint32_t i) {
  Record& a = at(i);
  const Record& b = at(i + 1);
  const Instant first = std::min(a.first(), b.first()), last = std::max(a.last, b.last);
  a.end = b.end;
  a.last = last;
  a.span_ns = static_cast<uint32_t>(std::min<int64_t>((last - first).ns, UINT32_MAX));
  a.is_resent = a.is_resent || b.is_resent;
  erase(i + 1, i + 2);
}

void SendLog::make_room(uint32_t records) {
  while (count_ + records > kMaxRecords) {
    uint32_t best = 0;
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i + 1 < count_; ++i) {
      const int64_t apart = std::max(at(i).last, at(i + 1).last).ns - std::min(at(i).first(), at(i + 1).first()).ns;
      if (apart < least) {
        least = apart;
        best = i;
      }
    }
    merge_with_next(best);
  }
}

void SendLog::on_sent(StreamOffset end, Instant now, Duration grain) {
  if (end <= this->end()) return;
  if (count_ != 0) {
    Record& r = at(count_ - 1);
    if (!r.is_resent && now - r.first() <= std::min(grain, nanoseconds(UINT32_MAX))) {
      r.span_ns = static_cast<uint32_t>((now - r.first()).ns);
      r.last = now;
      r.end = end;
      return;
    }
  }
  make_room(1);
  at(count_++) = {end, now, 0, false};
}

// Makes `offset` a border between records.
void SendLog::split(StreamOffset offset) {
  StreamOffset from = begin_;
  for (uint32_t i = 0; i < count_; ++i) {
    const Record r = at(i);
    if (offset <= from) return;
    if (offset < r.end) {
      insert(i, {offset, r.last, r.span_ns, r.is_resent});
      return;
    }
    from = r.end;
  }
}

void SendLog::on_resent(ByteRange range, Instant now) {
  range = {std::max(range.begin, begin_), std::min(range.end, end())};
  if (range.empty()) return;
  make_room(2);
  split(range.begin);
  split(range.end);
  StreamOffset from = begin_;
  uint32_t first = 0;
  while (first < count_ && from < range.begin) from = at(first++).end;
  uint32_t last = first;
  while (last < count_ && at(last).end <= range.end) ++last;
  at(first) = {range.end, now, 0, true};
  erase(first + 1, last);
  // Neighbours resent in one go need no border.
  if (first > 0 && at(first - 1).is_resent && at(first - 1).last == now) merge_with_next(first - 1);
}

void SendLog::on_acked(StreamOffset una) {
  while (count_ != 0 && at(0).end <= una) {
    head_ = index(1);
    --count_;
  }
  begin_ = std::max(begin_, una);
}

}  // namespace tto::tcp
