// What the peer sent and the application has not read: in-order frames first, out-of-order ones behind them, linked by
// desc.next in stream order without overlap (the first copy of a byte wins, R30). By reference: the frames are those
// the port received into. Small payloads in big frames are collapsed by copy when true size presses (DESIGN 2.8).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/memory/frame_pool.hh"

namespace tto::socket {

class ReceiveQueue {
 public:
  void init(memory::FramePool* pool, uint32_t owner_slot, StreamOffset start);
  /// Takes a chain (state TTO_FRAME_RECEIVED) carrying stream bytes from `first` on; keeps what lies in `keep` and is
  /// not held yet, drops the rest.
  void insert(memory::FrameHandle head, StreamOffset first, ByteRange keep);
  /// Copies out bytes in [read_position(), readable_end); `peek` leaves them, and may begin `ahead` bytes further on.
  /// Returns the bytes copied.
  uint64_t read(const iovec* iov, int count, StreamOffset readable_end, bool peek, uint64_t ahead = 0);
  /// One byte, which stays; false if it is not held.
  bool peek_at(StreamOffset offset, std::byte& byte) const;
  /// Drops without copying (MSG_TRUNC).
  uint64_t discard(uint64_t bytes, StreamOffset readable_end);
  /// Moves payload together, within neighbouring frames without a gap between them, so that fewer frames hold it.
  void collapse();
  void clear();

  StreamOffset read_position() const { return read_; }
  uint64_t true_size_bytes() const { return uint64_t{frame_count_} * memory::kFrameBytes; }
  uint64_t held_bytes() const { return held_bytes_; }
  memory::FrameHandle head() const { return head_; }
  uint32_t frame_count() const { return frame_count_; }
  /// The frames are in order, do not overlap, and the counts are right. For tests.
  bool check_consistency() const;

 private:
  tto_frame_desc& desc(memory::FrameHandle frame) const { return pool_->desc(frame); }
  StreamOffset end_of(memory::FrameHandle frame) const { return desc(frame).stream_offset + desc(frame).data_bytes; }
  memory::FrameHandle next_of(memory::FrameHandle frame) const { return memory::FrameHandle{desc(frame).next}; }
  void insert_frame(memory::FrameHandle frame);
  memory::FrameHandle last_before(StreamOffset at) const;
  void unlink_after(memory::FrameHandle before, memory::FrameHandle frame);
  void trim_front(memory::FrameHandle frame, uint32_t bytes);
  void drop_head();

  memory::FramePool* pool_ = nullptr;
  memory::FrameHandle head_, tail_;
  memory::FrameHandle hint_;  // inserted last: the next one mostly belongs behind it
  uint32_t frame_count_ = 0;
  uint32_t owner_ = ~0u;
  uint64_t held_bytes_ = 0;
  StreamOffset read_ = 0;
};

}  // namespace tto::socket
