// The four queues of the device (D9), as bounded rings in memory.
//
//   application                                                                   kernel side of the port
//     post_receive ──buffers─▶ [ RQ  ReceiveRing  ] ─┐
//                                                    ├─ payload ─▶ [ CQ  ReceiveCompletions ] ──poll──▶ engine
//     pool ────────frames────▶ [ GRQ GeneralStock ] ─┘                 │ armed: notify once (D13)
//                                 └─▶ port's fill ring ─▶ filled frames come back by reference, in rx_burst
//     post_send ──requests───▶ [ SQ  SendWork ] ──frames──▶ port
//                                 └─signaled─▶ [ SendCompletions ] ──poll_sends──▶ engine
//
// RQ buffers take in-order payload of one flow by copy, straight to where the application wants it. The GRQ takes all
// else by reference: its buffers are the frames the port receives into, so a frame on the GRQ is one on the fill ring.
// Posting to a ring is the doorbell: the device looks at its rings in every turn and never sleeps.
// Threads: under the stack's lock. Nothing here allocates after construction.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "libtto/device/flow_context.hh"
#include "libtto/device/lazy_array.hh"
#include "libtto/memory/frame_pool.hh"
#include "libtto/port/frame_port.hh"
#include "libtto/stats/counters.hh"

namespace tto::device {

/// First in, first out, at most `entries` (rounded up to a power of two).
template <typename T>
class BoundedRing {
 public:
  explicit BoundedRing(size_t entries) : items_(std::bit_ceil(entries < 2 ? size_t{2} : entries)) {}

  bool push(const T& item) {
    if (space() == 0) return false;
    items_[tail_++ & mask()] = item;
    return true;
  }
  T& front() { return items_[head_ & mask()]; }
  void pop() { ++head_; }
  /// The i-th from the front.
  T& at(size_t i) { return items_[(head_ + i) & mask()]; }

  size_t size() const { return tail_ - head_; }
  bool empty() const { return tail_ == head_; }
  size_t capacity() const { return items_.size(); }
  size_t space() const { return capacity() - size(); }

 private:
  size_t mask() const { return items_.size() - 1; }

  LazyArray<T> items_;
  size_t head_ = 0;
  size_t tail_ = 0;
};

/// A posted application buffer.
struct PostedBuffer {
  std::byte* data;
  uint32_t bytes;
  uint32_t next;  // of the same flow, or free
  uint64_t wr_id;
};

/// RQ: one ring of entries, drawn on by all flows; within a flow buffers are used in the order they were posted.
class ReceiveRing {
 public:
  explicit ReceiveRing(uint32_t entries) : entries_(entries) {}

  bool post(FlowContext& flow, void* data, uint32_t bytes, uint64_t wr_id) {
    uint32_t index = first_free_;
    if (index != kNoIndex) {
      first_free_ = entries_[index].next;
    } else if (untouched_ < entries_.size()) {
      index = untouched_++;
    } else {
      return false;
    }
    entries_[index] = {static_cast<std::byte*>(data), bytes, kNoIndex, wr_id};
    (flow.rq_tail != kNoIndex ? entries_[flow.rq_tail].next : flow.rq_head) = index;
    flow.rq_tail = index;
    return true;
  }
  /// The flow's oldest; null if none is posted.
  PostedBuffer* front(const FlowContext& flow) { return flow.rq_head == kNoIndex ? nullptr : &entries_[flow.rq_head]; }
  void pop(FlowContext& flow) { take_out(flow, kNoIndex, flow.rq_head); }
  /// Takes out the one posted with `wr_id`; false if it is not there.
  bool remove(FlowContext& flow, uint64_t wr_id) {
    uint32_t before = kNoIndex;
    for (uint32_t at = flow.rq_head; at != kNoIndex; before = at, at = entries_[at].next) {
      if (entries_[at].wr_id != wr_id) continue;
      take_out(flow, before, at);
      return true;
    }
    return false;
  }
  void clear(FlowContext& flow) {
    while (flow.rq_head != kNoIndex) pop(flow);
  }

 private:
  void take_out(FlowContext& flow, uint32_t before, uint32_t index) {
    (before != kNoIndex ? entries_[before].next : flow.rq_head) = entries_[index].next;
    if (flow.rq_tail == index) flow.rq_tail = before;
    entries_[index].next = first_free_;
    first_free_ = index;
  }

  LazyArray<PostedBuffer> entries_;
  uint32_t first_free_ = kNoIndex;
  uint32_t untouched_ = 0;
};

/// GRQ: keeps the port's fill ring stocked with frames from the pool. The ring never holds more than half of them, and
/// the last quarter is left for sending, so that neither an idle ring nor a flood of received data can stop us from
/// sending.
class GeneralStock {
 public:
  GeneralStock(memory::FramePool& pool, stats::Counters& counters) : pool_(pool), counters_(counters) {}

  /// Frames that left the fill ring since the last refill.
  void note_taken(size_t frames) {
    taken_ += frames;
    posted_ -= frames < posted_ ? frames : posted_;
  }
  /// Refills when a batch has gathered, or when `idle` and there is nothing better to do.
  void replenish(port::FramePort& port, bool idle) {
    if (!idle && taken_ < kBatch) return;
    taken_ = 0;
    const size_t most = pool_.frame_count() / 2;
    size_t wanted = std::min(port.fill_space(), most > posted_ ? most - posted_ : 0);
    while (wanted > 0) {
      const size_t reserve = pool_.frame_count() / 4;
      const size_t spare = pool_.free_count() > reserve ? pool_.free_count() - reserve : 0;
      if (spare == 0) {
        counters_.add_owned(stats::Counter::grq_short);
        return;
      }
      memory::FrameHandle frames[kBatch];
      const size_t got = pool_.take_for_fill(port.region(), frames, std::min({wanted, kBatch, spare}));
      const size_t posted = got == 0 ? 0 : port.post_fill({frames, got});
      for (size_t i = posted; i < got; ++i) pool_.drop(frames[i], TTO_FRAME_POSTED);
      if (posted == 0) return;
      wanted -= posted;
      posted_ += posted;
    }
  }

  /// Frames at the port and those that would follow them now.
  size_t ready_frames() const {
    const size_t reserve = pool_.frame_count() / 4;
    return posted_ + (pool_.free_count() > reserve ? pool_.free_count() - reserve : 0);
  }

 private:
  static constexpr size_t kBatch = 32;

  memory::FramePool& pool_;
  stats::Counters& counters_;
  size_t taken_ = 0;   // since the last refill
  size_t posted_ = 0;  // on the fill ring, or at the kernel
};

}  // namespace tto::device
