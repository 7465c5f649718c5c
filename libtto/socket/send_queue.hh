// What the application wrote and the peer has not acknowledged: frames linked by desc.next, in stream order, each with at
// most one segment's payload at kTxDataOffset. Bytes never move; a frame is split by copy only when a segment must end
// inside it (window edge, smaller path MTU). No allocation: the links live in the region (DESIGN 2.17 b).
#pragma once

#include <sys/uio.h>

#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/memory/frame_pool.hh"

namespace tto::socket {

class SendQueue {
 public:
  void init(memory::FramePool* pool, uint32_t owner_slot, StreamOffset start);
  /// Copies up to `limit` bytes of the vector into frames of at most `frame_payload_bytes`, filling the last unsent
  /// frame first; sums while copying. Returns the bytes taken (fewer if the pool runs dry), or -EFAULT handled upstream.
  uint64_t append(const iovec* iov, int count, uint64_t skip, uint64_t limit, uint32_t frame_payload_bytes);
  /// First frame of `range`, with frame boundaries at its begin and end (split by copy if need be); `range.end` moves
  /// down if a split found no frame. Null if nothing can be sent.
  memory::FrameHandle frames_for(ByteRange& range);
  void mark_sent(StreamOffset up_to);  // frames below are closed for appending
  void acknowledge(StreamOffset una);  // releases what lies wholly below
  void clear();

  StreamOffset begin() const { return begin_; }
  StreamOffset end() const { return end_; }
  uint64_t true_size_bytes() const { return uint64_t{frame_count_} * memory::kFrameBytes; }
  memory::FrameHandle head() const { return head_; }
  uint32_t frame_count() const { return frame_count_; }

 private:
  memory::FramePool* pool_ = nullptr;
  memory::FrameHandle head_, tail_, cursor_;
  uint32_t frame_count_ = 0;
  uint32_t owner_ = ~0u;
  StreamOffset begin_ = 0, end_ = 0, sent_ = 0;
};

}  // namespace tto::socket
