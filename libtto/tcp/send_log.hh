// When the bytes between snd.una and snd.nxt were last sent. The engine knows ranges, not frames, so times are kept per
// range too: what was sent within `grain` of each other shares a record, which bounds the memory, not the window.
//
// Bounded: when there is no room, the two neighbours closest in time become one record that bears the later time. Who
// asks "was this sent long enough ago?" then errs to the patient side.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/base/time.hh"

namespace tto::tcp {

class SendLog {
 public:
  static constexpr uint32_t kMaxRecords = 48;

  struct Record {
    StreamOffset end = 0;  // it begins where the one before it ends
    Instant last;          // of its bytes the latest was sent then
    uint32_t span_ns = 0;  // and the earliest this much before
    bool is_resent = false;
    Instant first() const { return {last.ns - span_ns}; }
  };

  void reset(StreamOffset begin);
  /// New data up to `end` was sent.
  void on_sent(StreamOffset end, Instant now, Duration grain);
  /// `range`, which lies inside, was sent again.
  void on_resent(ByteRange range, Instant now);
  void on_acked(StreamOffset una);

  StreamOffset begin() const { return begin_; }
  StreamOffset end() const { return count_ == 0 ? begin_ : at(count_ - 1).end; }
  uint32_t count() const { return count_; }

  /// Calls visit(part, record) for every part of `range`, in order.
  template <typename Visit>
  void for_each(ByteRange range, Visit&& visit) const {
    StreamOffset from = begin_;
    for (uint32_t i = 0; i < count_ && from < range.end; ++i) {
      const Record& r = at(i);
      const ByteRange part{std::max(from, range.begin), std::min(r.end, range.end)};
      if (!part.empty()) visit(part, r);
      from = r.end;
    }
  }

 private:
  uint32_t index(uint32_t i) const {
    i += head_;
    return i < kMaxRecords ? i : i - kMaxRecords;
  }
  Record& at(uint32_t i) { return records_[index(i)]; }
  const Record& at(uint32_t i) const { return records_[index(i)]; }
  void insert(uint32_t i, const Record& record);
  void erase(uint32_t first, uint32_t last);
  void split(StreamOffset offset);
  void merge_with_next(uint32_t i);
  void make_room(uint32_t records);

  std::array<Record, kMaxRecords> records_{};  // a ring
  StreamOffset begin_ = 0;
  uint32_t head_ = 0;
  uint32_t count_ = 0;
};

}  // namespace tto::tcp
