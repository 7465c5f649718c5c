// What the application wrote and the peer has not acknowledged: frames linked by desc.next, in stream order, each with at
// most one segment's payload at kTxDataOffset. Bytes never move; a frame is split by copy only when a segment must begin
// or end inside it (window edge, smaller path MTU). No allocation: the links live in the region (DESIGN 2.17 b).
//
//   begin() ── sent, not acknowledged ── sent() ── not sent ── end()
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/memory/frame_pool.hh"

namespace tto::socket {

class SendQueue {
 public:
  /// Payload bytes that fit into one frame.
  static constexpr uint32_t kFrameCapacity = memory::kFrameBytes - memory::kTxDataOffset;

  void init(memory::FramePool* pool, uint32_t owner_slot, StreamOffset start);
  /// Copies up to `limit` bytes of the vector, from its `skip`th on, into frames, `segment_bytes` to a segment (a segment
  /// larger than a frame is several frames), filling the last unsent segment first; sums while copying. Returns the bytes
  /// taken: fewer if the pool runs dry.
  uint64_t append(const iovec* iov, int count, uint64_t skip, uint64_t limit, uint32_t segment_bytes);
  /// First frame of `range`, which lies in the queue. Every segment of `segment_bytes` cut from it then begins and ends
  /// at a frame boundary and is at most `max_frames` frames (split or merged by copy if need be). `range.end` moves down
  /// if that found no free frame. Null, with an empty range, if nothing can be sent.
  memory::FrameHandle frames_for(ByteRange& range, uint32_t segment_bytes, uint32_t max_frames);
  void mark_sent(StreamOffset up_to);  // frames below are closed for appending
  void acknowledge(StreamOffset una);  // releases what lies wholly below
  void clear();

  StreamOffset begin() const { return begin_; }
  StreamOffset end() const { return end_; }
  uint64_t true_size_bytes() const { return uint64_t{frame_count_} * memory::kFrameBytes; }
  memory::FrameHandle head() const { return head_; }
  uint32_t frame_count() const { return frame_count_; }
  /// The frames hold [begin(), end()) without gap or overlap, and their count is right. For tests.
  bool check_consistency() const;

 private:
  struct Place {  // a frame and the one before it
    memory::FrameHandle before, frame;
  };
  tto_frame_desc& desc(memory::FrameHandle frame) const { return pool_->desc(frame); }
  StreamOffset end_of(memory::FrameHandle frame) const { return desc(frame).stream_offset + desc(frame).data_bytes; }
  memory::FrameHandle next_of(memory::FrameHandle frame) const { return memory::FrameHandle{desc(frame).next}; }
  memory::FrameHandle new_frame(StreamOffset at);
  Place find(StreamOffset at) const;
  bool split(memory::FrameHandle frame, StreamOffset at);
  bool merge(Place first, StreamOffset end);
  bool cut(Place& place, StreamOffset end, uint32_t max_frames);
  uint64_t room_in_tail(uint32_t segment_bytes) const;
  void fill(memory::FrameHandle frame, const std::byte* from, size_t bytes);
  void forget(memory::FrameHandle frame);

  memory::FramePool* pool_ = nullptr;
  memory::FrameHandle head_, tail_;
  memory::FrameHandle cursor_[2];     // where searches begin: [0] for sent bytes, [1] for those not sent yet
  uint32_t frame_count_ = 0;
  uint32_t owner_ = ~0u;
  uint32_t tail_segment_bytes_ = 0;   // of the segment being filled
  StreamOffset begin_ = 0, end_ = 0, sent_ = 0;
};

}  // namespace tto::socket
