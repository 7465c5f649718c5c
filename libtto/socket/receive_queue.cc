#include "libtto/socket/receive_queue.hh"

#include <algorithm>
#include <cstring>

#include "libtto/base/check.hh"

namespace tto::socket {

using memory::FrameHandle;

void ReceiveQueue::init(memory::FramePool* pool, uint32_t owner_slot, StreamOffset start) {
  pool_ = pool;
  owner_ = owner_slot;
  head_ = tail_ = hint_ = {};
  frame_count_ = 0;
  held_bytes_ = 0;
  read_ = start;
}

void ReceiveQueue::insert(FrameHandle head, StreamOffset first, ByteRange keep) {
  keep.begin = std::max(keep.begin, read_);
  StreamOffset at = first;
  while (head) {
    tto_frame_desc& d = desc(head);
    const FrameHandle next{d.next};
    const StreamOffset begin = at, end = at + d.data_bytes;
    at = end;
    const ByteRange kept{std::max(begin, keep.begin), std::min(end, keep.end)};
    if (kept.empty()) {
      pool_->drop(head, TTO_FRAME_RECEIVED);
    } else {
      d.next = TTO_FRAME_NULL;
      d.stream_offset = kept.begin;
      d.data_offset = static_cast<uint16_t>(d.data_offset + (kept.begin - begin));
      d.data_bytes = static_cast<uint16_t>(kept.size());
      insert_frame(head);
    }
    head = next;
  }
}

// The frame in front of which nothing at or after `at` begins: where the search for an overlap starts. Null: the head.
FrameHandle ReceiveQueue::last_before(StreamOffset at) const {
  if (!head_ || desc(head_).stream_offset >= at) return {};
  if (desc(tail_).stream_offset < at) return tail_;
  FrameHandle f = hint_ && desc(hint_).stream_offset < at ? hint_ : head_;
  for (FrameHandle next = next_of(f); next && desc(next).stream_offset < at; next = next_of(f)) f = next;
  return f;
}

void ReceiveQueue::insert_frame(FrameHandle frame) {
  tto_frame_desc& d = desc(frame);
  const FrameHandle before = last_before(d.stream_offset);
  if (before && end_of(before) > d.stream_offset) {
    const uint64_t held = std::min<uint64_t>(end_of(before) - d.stream_offset, d.data_bytes);
    trim_front(frame, static_cast<uint32_t>(held));
  }
  // What follows and overlaps: its bytes came first. Those inside the new frame are copied into it, so that it need not
  // be split; one that reaches beyond it cuts it short.
  for (FrameHandle next = before ? next_of(before) : head_; next && d.data_bytes > 0;) {
    const tto_frame_desc& n = desc(next);
    const StreamOffset end = d.stream_offset + d.data_bytes;
    if (n.stream_offset >= end) break;
    if (n.stream_offset + n.data_bytes >= end) {
      d.data_bytes = static_cast<uint16_t>(n.stream_offset - d.stream_offset);
      break;
    }
    std::memcpy(pool_->data(frame) + d.data_offset + (n.stream_offset - d.stream_offset),
                pool_->data(next) + n.data_offset, n.data_bytes);
    const FrameHandle after{n.next};
    unlink_after(before, next);
    next = after;
  }
  if (d.data_bytes == 0) {
    pool_->drop(frame, TTO_FRAME_RECEIVED);
    return;
  }
  d.state = static_cast<uint8_t>((d.state & ~TTO_FRAME_RECEIVED) | TTO_FRAME_RX_QUEUED);
  d.owner = owner_;
  d.next = before ? desc(before).next : head_.raw;
  (before ? desc(before).next : head_.raw) = frame.raw;
  if (d.next == TTO_FRAME_NULL) tail_ = frame;
  hint_ = frame;
  ++frame_count_;
  held_bytes_ += d.data_bytes;
}

void ReceiveQueue::trim_front(FrameHandle frame, uint32_t bytes) {
  tto_frame_desc& d = desc(frame);
  d.stream_offset += bytes;
  d.data_offset = static_cast<uint16_t>(d.data_offset + bytes);
  d.data_bytes = static_cast<uint16_t>(d.data_bytes - bytes);
}

void ReceiveQueue::unlink_after(FrameHandle before, FrameHandle frame) {
  tto_frame_desc& d = desc(frame);
  (before ? desc(before).next : head_.raw) = d.next;
  if (tail_ == frame) tail_ = before;
  if (hint_ == frame) hint_ = before;
  --frame_count_;
  held_bytes_ -= d.data_bytes;
  pool_->drop(frame, TTO_FRAME_RX_QUEUED);
}

void ReceiveQueue::drop_head() { unlink_after({}, head_); }

uint64_t ReceiveQueue::read(const iovec* iov, int count, StreamOffset readable_end, bool peek, uint64_t ahead) {
  uint64_t copied = 0;
  StreamOffset at = read_ + ahead;
  FrameHandle frame = head_;
  while (ahead != 0 && frame && end_of(frame) <= at) frame = next_of(frame);
  size_t into = 0;  // within iov[i]
  for (int i = 0; i < count && at < readable_end;) {
    if (into == iov[i].iov_len) {
      ++i;
      into = 0;
      continue;
    }
    if (!TTO_SOUND(frame && desc(frame).stream_offset <= at && end_of(frame) > at)) break;
    const tto_frame_desc& d = desc(frame);
    const uint64_t in_frame = std::min<uint64_t>(end_of(frame), readable_end) - at;
    const size_t n = std::min<size_t>(in_frame, iov[i].iov_len - into);
    std::memcpy(static_cast<std::byte*>(iov[i].iov_base) + into,
                pool_->data(frame) + d.data_offset + (at - d.stream_offset), n);
    into += n;
    at += n;
    copied += n;
    if (at != end_of(frame)) continue;
    frame = next_of(frame);
    if (!peek) drop_head();
  }
  if (peek) return copied;
  if (head_ && desc(head_).stream_offset < at) {
    const auto taken = static_cast<uint32_t>(at - desc(head_).stream_offset);
    trim_front(head_, taken);
    held_bytes_ -= taken;
  }
  read_ = at;
  return copied;
}

bool ReceiveQueue::peek_at(StreamOffset offset, std::byte& byte) const {
  for (FrameHandle f = head_; f && desc(f).stream_offset <= offset; f = next_of(f)) {
    if (end_of(f) <= offset) continue;
    byte = static_cast<std::byte*>(pool_->data(f))[desc(f).data_offset + (offset - desc(f).stream_offset)];
    return true;
  }
  return false;
}

uint64_t ReceiveQueue::discard(uint64_t bytes, StreamOffset readable_end) {
  const StreamOffset to = std::min(readable_end, read_ + bytes);
  if (to <= read_) return 0;
  const uint64_t dropped = to - read_;
  while (head_ && end_of(head_) <= to) drop_head();
  if (head_ && desc(head_).stream_offset < to) {
    const auto taken = static_cast<uint32_t>(to - desc(head_).stream_offset);
    trim_front(head_, taken);
    held_bytes_ -= taken;
  }
  read_ = to;
  return dropped;
}

void ReceiveQueue::collapse() {
  FrameHandle f = head_;
  while (f) {
    const FrameHandle next = next_of(f);
    if (!next) break;
    tto_frame_desc& d = desc(f);
    tto_frame_desc& n = desc(next);
    const uint32_t room = memory::kFrameBytes - d.data_offset - d.data_bytes;
    // Moving a few bytes of a full frame into the next gap would copy the whole queue to gain nothing.
    const bool gains = (n.data_bytes <= room || room >= memory::kFrameBytes / 4) && d.refs == 0 && n.refs == 0;
    if (end_of(f) != n.stream_offset || room == 0 || !gains) {
      f = next;
      continue;
    }
    const uint32_t moved = std::min<uint32_t>(room, n.data_bytes);
    std::memcpy(pool_->data(f) + d.data_offset + d.data_bytes, pool_->data(next) + n.data_offset, moved);
    d.data_bytes = static_cast<uint16_t>(d.data_bytes + moved);
    held_bytes_ += moved;
    if (moved == n.data_bytes) {
      unlink_after(f, next);
    } else {
      trim_front(next, moved);
      held_bytes_ -= moved;
      f = next;
    }
  }
}

void ReceiveQueue::clear() {
  while (head_) drop_head();
}

bool ReceiveQueue::check_consistency() const {
  uint32_t frames = 0;
  uint64_t bytes = 0;
  StreamOffset at = read_;
  FrameHandle last;
  for (FrameHandle f = head_; f; f = next_of(f)) {
    if (++frames > frame_count_) return false;
    const tto_frame_desc& d = desc(f);
    if (d.stream_offset < at || d.data_bytes == 0 || d.owner != owner_) return false;
    if ((d.state & TTO_FRAME_RX_QUEUED) == 0 || uint32_t{d.data_offset} + d.data_bytes > memory::kFrameBytes) return false;
    at = d.stream_offset + d.data_bytes;
    bytes += d.data_bytes;
    last = f;
  }
  return frames == frame_count_ && bytes == held_bytes_ && last == tail_;
}

}  // namespace tto::socket
