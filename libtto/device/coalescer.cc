#include "libtto/device/coalescer.hh"

#include <algorithm>

#include "libtto/device/payload.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::device {
namespace {

using stats::Counter;
using tcp::SegmentIn;

// Not a matter of policy: keeps the counts of an aggregate in 16 bits.
constexpr uint16_t kMaxMerged = 4096;
// What a segment of a bulk transfer carries at least.
constexpr uint32_t kBulkSegmentBytes = 1024;

constexpr Counter counter_of(Termination why) {
  switch (why) {
    case Termination::kBurstEnd:
      return Counter::aggregate_burst_end;
    case Termination::kOutOfOrder:
      return Counter::aggregate_out_of_order;
    case Termination::kFlags:
      return Counter::aggregate_flags;
    case Termination::kSackPresent:
      return Counter::aggregate_sack_present;
    case Termination::kTosChanged:
      return Counter::aggregate_tos_changed;
    case Termination::kAckedBytes:
      return Counter::aggregate_acked_bytes;
    case Termination::kAckAge:
      return Counter::aggregate_ack_age;
    case Termination::kAggregationTimer:
      return Counter::aggregate_timer;
    case Termination::kAggregationLength:
      return Counter::aggregate_length;
    case Termination::kRetired:
      return Counter::aggregate_retired;
    case Termination::kDuplicateAck:
      return Counter::aggregate_duplicate_ack;
    case Termination::kOptionsChanged:
      return Counter::aggregate_options_changed;
    case Termination::kNoBuffer:
      return Counter::aggregate_no_buffer;
    case Termination::kBufferFull:
      return Counter::aggregate_buffer_full;
    case Termination::kNotGathered:
    case Termination::kCount:
      break;
  }
  return Counter::aggregate_not_gathered;
}

/// How far `a` lies after `b`; negative: before. Only for numbers known to be near each other.
int32_t distance(wire::Seq32 a, wire::Seq32 b) { return static_cast<int32_t>(a.raw - b.raw); }

wire::Seq32 after(const SegmentIn& in) {
  const uint32_t syn = (in.flags & wire::kSyn) != 0 ? 1 : 0;
  const uint32_t fin = (in.flags & wire::kFin) != 0 ? 1 : 0;
  return {in.seq.raw + in.payload_bytes + syn + fin};
}

bool acknowledges_unsent(const FlowContext& flow, const SegmentIn& in) {
  return flow.has_sent_end && distance(in.ack, flow.sent_end) > 0;
}

void note_delivered(FlowContext& flow, wire::Seq32 ack) {
  if (!flow.has_delivered_ack || distance(ack, flow.last_ack_delivered) > 0) flow.last_ack_delivered = ack;
  flow.has_delivered_ack = true;
}

bool is_older_timestamp(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

}  // namespace

// --- a segment, in the order it goes -------------------------------------------------------------------------------

void Coalescer::on_segment(uint32_t index, Arrival& arrival, Instant now) {
  now_ = now;
  FlowContext& flow = parts_.flows.at(index);
  const bool in_order = is_in_order(flow, arrival.completion.segment);
  const Plan todo = plan(flow, arrival.completion.segment, in_order);
  bool placed = false;
  if (!place(flow, todo.step, arrival, placed)) {
    parts_.counters.drop(stats::DropReason::k_tcp_checksum);
    parts_.pool.drop_chain(arrival.completion.head, TTO_FRAME_RECEIVED);
    return;
  }
  parts_.flows.touch(index, now);
  if (todo.step != Step::kMerge) deliver(index, todo.why);
  switch (todo.step) {
    case Step::kAlone:
      pass_alone(index, flow, arrival, todo.why);
      break;
    case Step::kStart:
      start(index, flow, arrival, placed, now);
      break;
    case Step::kMerge:
      if (flow.gathering) {
        merge(flow, arrival, placed);
      } else {
        start(index, flow, arrival, placed, now);
      }
      break;
  }
  note_arrival(flow, arrival.completion.segment, in_order, now);
  if (todo.step != Step::kAlone) deliver_if_due(index, flow);
}

bool Coalescer::is_in_order(const FlowContext& flow, const SegmentIn& in) const {
  if (flow.has_expected && in.seq == flow.expected) return true;
  if (flow.has_sent_ack) return !flow.gathering && in.seq == flow.last_sent_ack;
  return !flow.has_expected;
}

Coalescer::Plan Coalescer::plan(const FlowContext& flow, const SegmentIn& in, bool in_order) const {
  if (!config_.coalesce) return {Step::kAlone, Termination::kNotGathered};
  constexpr uint8_t kGathered = wire::kAck | wire::kPsh | wire::kFin;
  if ((in.flags & ~kGathered) != 0 || (in.flags & wire::kAck) == 0) return {Step::kAlone, Termination::kFlags};
  if (in.options.sack_count > 0) return {Step::kAlone, Termination::kSackPresent};
  if (!in_order) return {Step::kAlone, Termination::kOutOfOrder};
  if (acknowledges_unsent(flow, in)) return {Step::kAlone, Termination::kOutOfOrder};
  if (flow.has_ack) {
    const int32_t advance = distance(in.ack, flow.last_ack_received);
    if (advance < 0) return {Step::kAlone, Termination::kOutOfOrder};
    const bool is_pure = in.payload_bytes == 0 && (in.flags & wire::kFin) == 0;
    // RFC 5681 §2: no data, same acknowledgment, same window. Whether data is outstanding the engine knows.
    if (is_pure && advance == 0 && in.window == flow.last_window) return {Step::kAlone, Termination::kDuplicateAck};
  }
  if (flow.gathering) return plan_beside_gathered(flow, in);
  return {Step::kMerge, Termination::kBurstEnd};
}

Coalescer::Plan Coalescer::plan_beside_gathered(const FlowContext& flow, const SegmentIn& in) const {
  const SegmentIn& so_far = flow.gathered.segment;
  if (in.ip_tos != so_far.ip_tos) return {Step::kStart, Termination::kTosChanged};
  const bool same_options = in.options.has_timestamps == so_far.options.has_timestamps &&
                            !(in.options.has_timestamps && is_older_timestamp(in.options.ts_val, flow.last_ts_val));
  if (!same_options) return {Step::kStart, Termination::kOptionsChanged};
  // Two window updates, the second taking back the first, would look like a duplicate ACK when merged.
  const bool nothing_new =
      so_far.payload_bytes + in.payload_bytes == 0 && flow.has_delivered_ack && in.ack == flow.last_ack_delivered;
  if (nothing_new) return {Step::kStart, Termination::kDuplicateAck};
  if (so_far.payload_bytes + in.payload_bytes > config_.ral_bytes || so_far.segments_merged >= kMaxMerged) {
    return {Step::kStart, Termination::kAggregationLength};
  }
  if (flow.gathered.in_rq_buffer && in.payload_bytes > flow.buffer_bytes - so_far.payload_bytes) {
    return {Step::kStart, Termination::kBufferFull};
  }
  return {Step::kMerge, Termination::kBurstEnd};
}

/// D10: in-order payload goes to the current buffer if it is an RQ buffer, or to the next RQ buffer if a new one is
/// needed and it fits; else it stays in its frames. False: the checksum is wrong.
bool Coalescer::place(FlowContext& flow, Step step, Arrival& arrival, bool& placed) {
  const SegmentIn& in = arrival.completion.segment;
  const bool continues = step == Step::kMerge && flow.gathering && flow.gathered.segment.payload_bytes > 0;
  std::byte* target = nullptr;
  if (step != Step::kAlone && flow.bound && in.payload_bytes > 0) {
    if (continues) {
      if (flow.gathered.in_rq_buffer) target = flow.buffer + flow.gathered.segment.payload_bytes;
    } else if (const PostedBuffer* next = parts_.rq.front(flow); next != nullptr && next->bytes >= in.payload_bytes) {
      target = next->data;
    }
  }
  if (target == nullptr) return verify_payload(parts_.pool, arrival);
  if (!copy_and_verify(parts_.pool, arrival, target)) return false;
  placed = true;
  return true;
}

void Coalescer::start(uint32_t index, FlowContext& flow, const Arrival& arrival, bool placed, Instant now) {
  flow.gathering = true;
  flow.gathered = arrival.completion;
  flow.gathered.flow = parts_.flows.id_of(index);
  flow.gathered.head = {};
  flow.gathered.frame_count = 0;
  flow.tail = {};
  SegmentIn& so_far = flow.gathered.segment;
  so_far.payload_bytes = so_far.acks_merged = so_far.segments_merged = 0;
  so_far.flags = 0;
  flow.gathered_since = now;
  flow.ack_since = kNever;
  parts_.flows.active().push_back(index);
  merge(flow, arrival, placed);
}

void Coalescer::merge(FlowContext& flow, const Arrival& arrival, bool placed) {
  const SegmentIn& in = arrival.completion.segment;
  SegmentIn& so_far = flow.gathered.segment;
  if (placed) {
    if (so_far.payload_bytes == 0) {
      const PostedBuffer& buffer = *parts_.rq.front(flow);
      flow.buffer = buffer.data;
      flow.buffer_bytes = buffer.bytes;
      flow.gathered.in_rq_buffer = true;
      flow.gathered.wr_id = buffer.wr_id;
      parts_.rq.pop(flow);
    }
    parts_.pool.drop_chain(arrival.completion.head, TTO_FRAME_RECEIVED);
    parts_.counters.add_owned(Counter::rq_placed_byte, in.payload_bytes);
  } else if (arrival.completion.head) {
    append_frames(flow, arrival);
  }
  so_far.ack = in.ack;
  so_far.window = in.window;
  so_far.flags = static_cast<uint8_t>(so_far.flags | in.flags);
  so_far.ip_ttl = std::min(so_far.ip_ttl, in.ip_ttl);
  so_far.payload_bytes += in.payload_bytes;
  so_far.largest_segment_bytes = std::max(so_far.largest_segment_bytes, in.payload_bytes);
  ++so_far.segments_merged;
  if (in.payload_bytes == 0) ++so_far.acks_merged;
}

void Coalescer::append_frames(FlowContext& flow, const Arrival& arrival) {
  if (flow.gathered.head) {
    parts_.pool.desc(flow.tail).next = arrival.completion.head.raw;
  } else {
    flow.gathered.head = arrival.completion.head;
  }
  flow.tail = arrival.tail;
  flow.gathered.frame_count += arrival.completion.frame_count;
}

void Coalescer::pass_alone(uint32_t index, FlowContext& flow, const Arrival& arrival, Termination why) {
  ReceiveCompletion alone = arrival.completion;
  alone.flow = parts_.flows.id_of(index);
  alone.termination = why;
  alone.segment.segments_merged = 1;
  alone.segment.acks_merged = 0;
  alone.segment.largest_segment_bytes = alone.segment.payload_bytes;
  const bool acknowledges = (alone.segment.flags & wire::kAck) != 0 && !acknowledges_unsent(flow, alone.segment);
  if (post(alone) && acknowledges) note_delivered(flow, alone.segment.ack);
}

/// What the flow's next segment will be judged by. An acknowledgment of what we never sent (D7) is the engine's
/// business and must not make us take the true ones for old.
void Coalescer::note_arrival(FlowContext& flow, const SegmentIn& in, bool in_order, Instant now) {
  if ((in.flags & wire::kAck) != 0 && !acknowledges_unsent(flow, in)) {
    const int32_t advance = flow.has_ack ? distance(in.ack, flow.last_ack_received) : 0;
    if (advance > 0 && flow.gathering && flow.ack_since == kNever) flow.ack_since = now;
    if (advance > 0 || !flow.has_ack || (in.flags & wire::kSyn) != 0) flow.last_ack_received = in.ack;
    if (advance >= 0) flow.last_window = in.window;
    flow.has_ack = true;
  }
  if (in.options.has_timestamps) flow.last_ts_val = in.options.ts_val;
  // A hole in a bound flow stays expected until it is filled or until what we acknowledge passes it (D7). Nobody
  // acknowledges through us for an autonomous flow, so it follows what arrives.
  if (in_order || !flow.bound || (in.flags & wire::kSyn) != 0) {
    flow.expected = after(in);
    flow.has_expected = true;
  }
}

void Coalescer::deliver_if_due(uint32_t index, FlowContext& flow) {
  const SegmentIn& so_far = flow.gathered.segment;
  if ((so_far.flags & ~wire::kAck) != 0) return deliver(index, Termination::kFlags);
  if (so_far.payload_bytes >= config_.ral_bytes) return deliver(index, Termination::kAggregationLength);
  const int32_t undelivered = flow.has_delivered_ack ? distance(so_far.ack, flow.last_ack_delivered) : 0;
  if (undelivered > 0 && static_cast<uint32_t>(undelivered) > config_.receive_acked_bytes_aggregation) {
    deliver(index, Termination::kAckedBytes);
  }
}

// --- delivery ------------------------------------------------------------------------------------------------------

void Coalescer::deliver(uint32_t index, Termination why) {
  FlowContext& flow = parts_.flows.at(index);
  if (!flow.gathering) return;
  flow.gathering = false;
  parts_.flows.active().remove(index);
  flow.gathered.termination = why;
  flow.last_delivery = now_;
  note_delivered(flow, flow.gathered.segment.ack);
  flow.buffer = nullptr;
  parts_.counters.add_owned(Counter::rx_segment_merged, flow.gathered.segment.segments_merged - 1u);
  post(flow.gathered);
}

void Coalescer::pass(const ReceiveCompletion& completion) { post(completion); }

bool Coalescer::post(const ReceiveCompletion& completion) {
  if (!parts_.cq.push(completion)) {
    parts_.counters.drop(stats::DropReason::k_cq_full, completion.segment.segments_merged);
    parts_.pool.drop_chain(completion.head, TTO_FRAME_RECEIVED);
    return false;
  }
  parts_.counters.add_owned(Counter::rx_aggregate);
  parts_.counters.add_owned(counter_of(completion.termination));
  if (armed_ == Device::Arm::kNone) return true;
  const bool is_solicited = (completion.segment.flags & ~wire::kAck) != 0 || !completion.flow;
  if (armed_ == Device::Arm::kSolicited && !is_solicited) return true;
  armed_ = Device::Arm::kNone;
  notify_(notify_context_);
  return true;
}

void Coalescer::arm(Device::Arm kind, void (*notify)(void*), void* context) {
  armed_ = notify == nullptr ? Device::Arm::kNone : kind;
  notify_ = notify;
  notify_context_ = context;
}

// --- time ----------------------------------------------------------------------------------------------------------

void Coalescer::end_burst(bool ring_empty, Instant now) {
  now_ = now;
  if (!ring_empty || config_.timeout_aggregation > Duration{}) return;
  for (uint32_t index = parts_.flows.active().first(); index != kNoIndex;) {
    const uint32_t next = parts_.flows.active().next(index);
    if (held_until(parts_.flows.at(index)) <= now) deliver(index, Termination::kBurstEnd);
    index = next;
  }
}

/// Bulk comes in a steady stream of full segments: then its next delivery may wait until the interval is over.
Instant Coalescer::held_until(const FlowContext& flow) const {
  if (flow.gathered.segment.largest_segment_bytes < kBulkSegmentBytes) return Instant{};
  return flow.last_delivery + config_.bulk_interval;
}

/// Without a TimeoutAggregation nothing is held longer than an acknowledgment may be, even under an endless burst.
Instant Coalescer::deadline_of(const FlowContext& flow) const {
  const bool has_timer = config_.timeout_aggregation > Duration{};
  const Instant by_timer =
      flow.gathered_since + (has_timer ? config_.timeout_aggregation : config_.timeout_ack_aggregation);
  const Instant by_ack = flow.ack_since == kNever ? kNever : flow.ack_since + config_.timeout_ack_aggregation;
  const bool is_held = held_until(flow) > flow.gathered_since;
  const Instant by_interval = is_held ? held_until(flow) : kNever;
  return std::min({by_timer, by_ack, by_interval});
}

void Coalescer::expire(Instant now) {
  now_ = now;
  for (uint32_t index = parts_.flows.active().first(); index != kNoIndex;) {
    const uint32_t next = parts_.flows.active().next(index);
    const FlowContext& flow = parts_.flows.at(index);
    if (deadline_of(flow) <= now) {
      const bool by_ack = flow.ack_since != kNever && flow.ack_since + config_.timeout_ack_aggregation <= now;
      deliver(index, by_ack ? Termination::kAckAge : Termination::kAggregationTimer);
    }
    index = next;
  }
}

Instant Coalescer::next_deadline() const {
  Instant earliest = kNever;
  const IndexList& active = parts_.flows.active();
  for (uint32_t index = active.first(); index != kNoIndex; index = active.next(index)) {
    earliest = std::min(earliest, deadline_of(parts_.flows.at(index)));
  }
  return earliest;
}

size_t Coalescer::frames_that_fit() const {
  // A frame may deliver an aggregate and go up alone; what it adds to completions and open aggregates together is one.
  const size_t promised = parts_.flows.active().size();
  return parts_.cq.space() > promised ? parts_.cq.space() - promised : 0;
}

}  // namespace tto::device
