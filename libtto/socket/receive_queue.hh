// What the peer sent and the application has not read: in-order frames first, out-of-order ones behind them, linked by
// desc.next in stream order without overlap (the first copy of a byte wins, R30). By reference: the frames are those
// the port received into. Small payloads in big frames are collapsed by copy when true size presses (DESIGN 2.8).
#pragma once

#include <sys/uio.h>

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
  /// Copies out bytes in [read(), readable_end); `peek` leaves them. Returns the bytes copied.
  uint64_t read(const iovec* iov, int count, StreamOffset readable_end, bool peek);
  /// Drops without copying (MSG_TRUNC).
  uint64_t discard(uint64_t bytes, StreamOffset readable_end);
  void clear();

  StreamOffset read_position() const { return read_; }
  uint64_t true_size_bytes() const { return uint64_t{frame_count_} * memory::kFrameBytes; }
  uint64_t held_bytes() const { return held_bytes_; }
  memory::FrameHandle head() const { return head_; }
  uint32_t frame_count() const { return frame_count_; }

 private:
  memory::FramePool* pool_ = nullptr;
  memory::FrameHandle head_, tail_;
  uint32_t frame_count_ = 0;
  uint32_t owner_ = ~0u;
  uint64_t held_bytes_ = 0;
  StreamOffset read_ = 0;
};

}  // namespace tto::socket
