// Receive coalescing (D3–D7): gathers in-order segments of a flow into one aggregate and says why each was delivered.
//
//   plan(flow, arrival)          decides, changing nothing: merge · deliver, then start anew · deliver, then pass alone
//   checksum                     of the payload, while it is copied if it goes to a posted buffer (D10)
//   merge / start / pass         carry the plan out; a segment with a bad checksum has changed nothing
//
// A segment with PSH or FIN that is in order is merged as the last one of its aggregate, which is then delivered
// (kFlags): the engine takes payload before FIN, so this equals delivering first and passing the segment alone.
// Segments with any other flag but ACK, with SACK blocks, out of order, or duplicate ACKs go up alone, after what was
// gathered before them.
//
// In order means: at the sequence number after the last one seen, or, with nothing gathered, at the one we acknowledged
// last (D7), which brings a flow back into step after a hole was filled from the out-of-order queue.
//
// The aggregate's header (D6): seq, timestamps and options of the first segment; ack and window of the last; TOS
// common; TTL the least; payload the sum. IP id and checksum do not survive: every merged segment was verified, and the
// aggregate never travels on a wire.
#pragma once

#include "libtto/device/arrival.hh"
#include "libtto/device/device.hh"
#include "libtto/device/flow_table.hh"
#include "libtto/device/rings.hh"

namespace tto::device {

class Coalescer {
 public:
  struct Parts {
    FlowTable& flows;
    BoundedRing<ReceiveCompletion>& cq;
    ReceiveRing& rq;
    memory::FramePool& pool;
    stats::Counters& counters;
  };
  Coalescer(const DeviceConfig& config, const Parts& parts) : config_(config), parts_(parts) {}

  /// A segment of a flow in the table. Verifies its checksum; takes over its frames.
  void on_segment(uint32_t index, Arrival& arrival, Instant now);
  /// A completion that is not gathered: of no flow, or an ICMP error.
  void pass(const ReceiveCompletion& completion);
  /// Delivers what the flow has gathered, if anything.
  void deliver(uint32_t index, Termination why);
  /// The burst is over; `ring_empty`: the port had no more.
  void end_burst(bool ring_empty, Instant now);
  void expire(Instant now);
  Instant next_deadline() const;
  /// A bound on the completions that the next `frames` frames may make on top of those of all aggregates.
  size_t frames_that_fit() const;

  /// Wakes whoever armed the CQ.
  void arm(Device::Arm kind, void (*notify)(void*), void* context);

 private:
  enum class Step : uint8_t { kMerge, kStart, kAlone };
  struct Plan {
    Step step;
    Termination why;  // of what was gathered before, or of the segment that goes alone
  };

  Plan plan(const FlowContext& flow, const tcp::SegmentIn& in, bool in_order) const;
  Plan plan_beside_gathered(const FlowContext& flow, const tcp::SegmentIn& in) const;
  bool is_in_order(const FlowContext& flow, const tcp::SegmentIn& in) const;
  bool place(FlowContext& flow, Step step, Arrival& arrival, bool& placed);
  void start(uint32_t index, FlowContext& flow, const Arrival& arrival, bool placed, Instant now);
  void merge(FlowContext& flow, const Arrival& arrival, bool placed);
  void append_frames(FlowContext& flow, const Arrival& arrival);
  void note_arrival(FlowContext& flow, const tcp::SegmentIn& in, bool in_order, Instant now);
  void deliver_if_due(uint32_t index, FlowContext& flow);
  void pass_alone(uint32_t index, FlowContext& flow, const Arrival& arrival, Termination why);
  Instant held_until(const FlowContext& flow) const;
  Instant deadline_of(const FlowContext& flow) const;
  bool post(const ReceiveCompletion& completion);

  const DeviceConfig& config_;
  Parts parts_;
  Instant now_{};  // of the last call that told it
  Device::Arm armed_ = Device::Arm::kNone;
  void (*notify_)(void*) = nullptr;
  void* notify_context_ = nullptr;
};

}  // namespace tto::device
