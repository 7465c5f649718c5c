#include "libtto/socket/send_queue.hh"

#include <algorithm>
#include <cstring>

#include "libtto/base/check.hh"
#include "libtto/wire/checksum.hh"

namespace tto::socket {

using memory::FrameHandle;

void SendQueue::init(memory::FramePool* pool, uint32_t owner_slot, StreamOffset start) {
  pool_ = pool;
  owner_ = owner_slot;
  head_ = tail_ = cursor_[0] = cursor_[1] = {};
  frame_count_ = tail_segment_bytes_ = 0;
  begin_ = end_ = sent_ = start;
}

FrameHandle SendQueue::new_frame(StreamOffset at) {
  const FrameHandle frame = pool_->take(TTO_FRAME_TX_QUEUED);
  if (!frame) return frame;
  tto_frame_desc& d = desc(frame);
  d.data_offset = memory::kTxDataOffset;
  d.stream_offset = at;
  d.owner = owner_;
  d.has_sum = 1;
  ++frame_count_;
  return frame;
}

uint64_t SendQueue::room_in_tail(uint32_t segment_bytes) const {
  if (!tail_ || desc(tail_).stream_offset < sent_ || tail_segment_bytes_ >= segment_bytes) return 0;
  const tto_frame_desc& d = desc(tail_);
  return std::min<uint64_t>(memory::kFrameBytes - d.data_offset - d.data_bytes, segment_bytes - tail_segment_bytes_);
}

// Copies behind the frame's payload and keeps its sum right, if it had one.
void SendQueue::fill(FrameHandle frame, const std::byte* from, size_t bytes) {
  tto_frame_desc& d = desc(frame);
  const uint16_t sum = wire::copy_and_sum(pool_->data(frame) + d.data_offset + d.data_bytes, from, bytes);
  d.payload_sum = wire::add_sums(d.payload_sum, wire::at_offset(sum, d.data_bytes));
  d.data_bytes = static_cast<uint16_t>(d.data_bytes + bytes);
}

uint64_t SendQueue::append(const iovec* iov, int count, uint64_t skip, uint64_t limit, uint32_t segment_bytes) {
  uint64_t taken = 0;
  for (int i = 0; i < count && taken < limit; ++i) {
    if (skip >= iov[i].iov_len) {
      skip -= iov[i].iov_len;
      continue;
    }
    const auto* from = static_cast<const std::byte*>(iov[i].iov_base) + skip;
    uint64_t left = std::min<uint64_t>(iov[i].iov_len - skip, limit - taken);
    skip = 0;
    while (left > 0) {
      uint64_t room = room_in_tail(segment_bytes);
      if (room == 0) {
        const FrameHandle frame = new_frame(end_);
        if (!frame) return taken;
        (tail_ ? desc(tail_).next : head_.raw) = frame.raw;
        tail_ = frame;
        if (tail_segment_bytes_ >= segment_bytes || sent_ == end_) tail_segment_bytes_ = 0;
        room = room_in_tail(segment_bytes);
      }
      const auto n = static_cast<uint32_t>(std::min(room, left));
      fill(tail_, from, n);
      tail_segment_bytes_ += n;
      end_ += n;
      from += n;
      left -= n;
      taken += n;
    }
  }
  return taken;
}

// The frame that holds the byte at `at`, which lies in the queue.
SendQueue::Place SendQueue::find(StreamOffset at) const {
  Place place{{}, head_};
  const FrameHandle start = cursor_[at < sent_ ? 0 : 1];
  if (start && end_of(start) <= at) place = {start, next_of(start)};
  while (place.frame && end_of(place.frame) <= at) place = {place.frame, next_of(place.frame)};
  return place;
}

// Makes a frame boundary at `at`, inside `frame`.
bool SendQueue::split(FrameHandle frame, StreamOffset at) {
  const FrameHandle rest = new_frame(at);
  if (!rest) return false;
  tto_frame_desc& d = desc(frame);
  tto_frame_desc& r = desc(rest);
  const auto stay = static_cast<uint16_t>(at - d.stream_offset);
  fill(rest, pool_->data(frame) + d.data_offset + stay, d.data_bytes - stay);
  r.transmissions = d.transmissions;
  r.next = d.next;
  d.next = rest.raw;
  d.data_bytes = stay;
  d.payload_sum = wire::sum_bytes(pool_->data(frame) + d.data_offset, stay);
  if (tail_ == frame) tail_ = rest;
  return true;
}

// Replaces the frames from `first` up to the boundary at `end` by as few as can hold their bytes.
bool SendQueue::merge(Place first, StreamOffset end) {
  const StreamOffset begin = desc(first.frame).stream_offset;
  const uint64_t wanted = (end - begin + kFrameCapacity - 1) / kFrameCapacity;
  if (pool_->free_count() < wanted) return false;
  FrameHandle new_head = new_frame(begin), to = new_head;
  FrameHandle from = first.frame;
  while (from && desc(from).stream_offset < end) {
    const tto_frame_desc& f = desc(from);
    for (uint32_t done = 0; done < f.data_bytes;) {
      if (desc(to).data_bytes == kFrameCapacity) {
        const FrameHandle next = new_frame(end_of(to));
        if (!TTO_SOUND(next)) return false;
        desc(to).next = next.raw;
        to = next;
      }
      const uint32_t n = std::min<uint32_t>(kFrameCapacity - desc(to).data_bytes, f.data_bytes - done);
      fill(to, pool_->data(from) + f.data_offset + done, n);
      done += n;
    }
    const FrameHandle next{f.next};
    desc(to).transmissions = f.transmissions;
    if (tail_ == from) tail_ = to;
    forget(from);
    from = next;
  }
  desc(to).next = from.raw;
  (first.before ? desc(first.before).next : head_.raw) = new_head.raw;
  return true;
}

// Makes the segment that starts with place.frame end at `end` and have at most `max_frames` frames; moves `place` behind it.
bool SendQueue::cut(Place& place, StreamOffset end, uint32_t max_frames) {
  uint32_t frames = 1;
  Place last = place;
  while (end_of(last.frame) < end) {
    last = {last.frame, next_of(last.frame)};
    if (!TTO_SOUND(last.frame)) return false;
    ++frames;
  }
  if (end_of(last.frame) > end && !split(last.frame, end)) return false;
  if (frames > max_frames) {
    if (!merge(place, end)) return false;
    last.frame = place.before ? next_of(place.before) : head_;
    while (end_of(last.frame) < end) last.frame = next_of(last.frame);
  }
  place = {last.frame, next_of(last.frame)};
  return true;
}

FrameHandle SendQueue::frames_for(ByteRange& range, uint32_t segment_bytes, uint32_t max_frames) {
  if (range.empty() || segment_bytes == 0 || !TTO_SOUND(range.begin >= begin_ && range.end <= end_)) {
    range.end = range.begin;
    return {};
  }
  Place place = find(range.begin);
  if (desc(place.frame).stream_offset < range.begin) {
    if (!split(place.frame, range.begin)) {
      range.end = range.begin;
      return {};
    }
    place = {place.frame, next_of(place.frame)};
  }
  const FrameHandle before = place.before;
  const bool is_new = range.begin >= sent_;
  for (StreamOffset at = range.begin; at < range.end;) {
    const StreamOffset end = std::min(at + segment_bytes, range.end);
    if (!cut(place, end, max_frames)) {
      range.end = at;
      break;
    }
    at = end;
  }
  if (range.empty()) return {};
  cursor_[is_new ? 1 : 0] = place.before;
  return before ? next_of(before) : head_;
}

void SendQueue::mark_sent(StreamOffset up_to) {
  up_to = std::min(up_to, end_);
  if (up_to <= sent_) return;
  sent_ = up_to;
  const uint64_t unsent = end_ - sent_;
  if (unsent < tail_segment_bytes_) tail_segment_bytes_ = static_cast<uint32_t>(unsent);
}

void SendQueue::forget(FrameHandle frame) {
  for (FrameHandle& cursor : cursor_) {
    if (cursor == frame) cursor = {};
  }
  --frame_count_;
  pool_->drop(frame, TTO_FRAME_TX_QUEUED);
}

void SendQueue::acknowledge(StreamOffset una) {
  una = std::min(una, end_);
  if (una <= begin_) return;
  begin_ = una;
  mark_sent(una);
  while (head_ && end_of(head_) <= una) {
    const FrameHandle next = next_of(head_);
    forget(head_);
    head_ = next;
  }
  if (!head_) {
    tail_ = {};
    return;
  }
  tto_frame_desc& d = desc(head_);
  if (d.stream_offset >= una) return;
  const auto gone = static_cast<uint16_t>(una - d.stream_offset);
  d.stream_offset = una;
  d.data_offset = static_cast<uint16_t>(d.data_offset + gone);
  d.data_bytes = static_cast<uint16_t>(d.data_bytes - gone);
  d.payload_sum = wire::sum_bytes(pool_->data(head_) + d.data_offset, d.data_bytes);
}

void SendQueue::clear() {
  while (head_) {
    const FrameHandle next = next_of(head_);
    forget(head_);
    head_ = next;
  }
  tail_ = {};
  begin_ = sent_ = end_;
  tail_segment_bytes_ = 0;
}

bool SendQueue::check_consistency() const {
  uint32_t frames = 0;
  StreamOffset at = begin_;
  FrameHandle last;
  for (FrameHandle f = head_; f; f = next_of(f)) {
    if (++frames > frame_count_) return false;
    const tto_frame_desc& d = desc(f);
    if (d.stream_offset != at || d.data_bytes == 0 || d.owner != owner_) return false;
    if ((d.state & TTO_FRAME_TX_QUEUED) == 0 || uint32_t{d.data_offset} + d.data_bytes > memory::kFrameBytes) return false;
    if (d.has_sum != 0 && d.payload_sum != wire::sum_bytes(pool_->data(f) + d.data_offset, d.data_bytes)) return false;
    at += d.data_bytes;
    last = f;
  }
  return at == end_ && frames == frame_count_ && last == tail_;
}

}  // namespace tto::socket
