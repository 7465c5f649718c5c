#include "libtto/device/segmenter.hh"

#include <algorithm>

#include "libtto/wire/checksum.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::device {
namespace {

using memory::FrameHandle;
using stats::Counter;
using tcp::SegmentOut;

// More than any window: a request beyond it is a mistake.
constexpr uint64_t kMaxRequestBytes = uint64_t{1} << 30;

/// Headers of the first cut; flags of the last.
wire::FrameHeaders headers_of(const FlowKey& key, const PathHeaders& path, const SegmentOut& segment) {
  wire::FrameHeaders h;
  h.source_mac = path.source_mac;
  h.destination_mac = path.destination_mac;
  h.vlan = path.vlan;
  h.source = key.tuple.local;
  h.destination = key.tuple.remote;
  h.tos = static_cast<uint8_t>((path.tos & ~wire::kEcnMask) | (segment.ecn & wire::kEcnMask));
  h.ttl = path.ttl;
  h.source_port = key.tuple.local_port;
  h.destination_port = key.tuple.remote_port;
  h.seq = wire::narrow(segment.seq);
  h.ack = wire::narrow(segment.ack);
  h.flags = segment.flags;
  h.window = segment.window;
  h.urgent_pointer = segment.urgent_pointer;
  h.options = segment.options;
  return h;
}

/// Headers of the cut that starts `offset` bytes into the request.
void cut_headers(const SegmentOut& segment, uint64_t offset, bool is_last, wire::FrameHeaders& h) {
  h.seq = wire::narrow(segment.seq + offset);
  uint8_t flags = segment.flags;
  if (!is_last) flags = static_cast<uint8_t>(flags & ~(wire::kPsh | wire::kFin));
  if (offset > 0) flags = static_cast<uint8_t>(flags & ~(wire::kCwr | wire::kSyn));
  h.urgent_pointer = 0;
  if ((flags & wire::kUrg) != 0) {
    if (segment.urgent_pointer > offset) {
      h.urgent_pointer = static_cast<uint16_t>(segment.urgent_pointer - offset);
    } else {
      flags = static_cast<uint8_t>(flags & ~wire::kUrg);
    }
  }
  h.flags = flags;
}

/// D7: what the flow's receive decisions use of what we send.
void note_sending(FlowContext& flow, const SegmentOut& segment) {
  if ((segment.flags & wire::kAck) != 0) {
    flow.has_sent_ack = true;
    flow.last_sent_ack = wire::narrow(segment.ack);
    flow.last_sent_window = segment.window;
  }
  const bool takes_number = (segment.flags & (wire::kSyn | wire::kFin)) != 0;
  const wire::Seq32 end = wire::narrow(segment.seq + segment.payload.size() + (takes_number ? 1 : 0));
  if (!flow.has_sent_end || static_cast<int32_t>(end.raw - flow.sent_end.raw) > 0) flow.sent_end = end;
  flow.has_sent_end = true;
}

}  // namespace

// --- validation ----------------------------------------------------------------------------------------------------

bool Segmenter::is_known(FrameHandle frame) const {
  if (!frame || frame.region() >= memory::kMaxRegions) return false;
  const memory::Region& region = pool_.region(frame.region());
  return region.header != nullptr && frame.index() < region.header->frame_count;
}

SendStatus Segmenter::check_frame(const FlowContext& flow, FrameHandle frame, StreamOffset offset,
                                  size_t header_bytes) {
  if (!is_known(frame)) return SendStatus::kBadBuffer;
  const tto_frame_desc& desc = pool_.desc(frame);
  if ((desc.state & TTO_FRAME_TX_QUEUED) == 0 || desc.owner != flow.owner_slot) return SendStatus::kNotOwner;
  const bool in_bounds = desc.data_bytes > 0 && desc.data_offset >= header_bytes &&
                         uint32_t{desc.data_offset} + desc.data_bytes <= memory::kFrameBytes;
  return in_bounds && desc.stream_offset == offset ? SendStatus::kOk : SendStatus::kBadBuffer;
}

SendStatus Segmenter::validate(const SendRequest& request) {
  const FlowContext* flow = flows_.bound(request.flow);
  if (flow == nullptr) return SendStatus::kNotOwner;
  const SegmentOut& segment = request.segment;
  if (segment.payload.empty()) return SendStatus::kOk;
  if (segment.payload.size() > kMaxRequestBytes) return SendStatus::kTooLong;
  const size_t header_bytes = wire::headers_bytes(headers_of(flow->key, flow->path, segment));
  StreamOffset at = segment.payload.begin;
  for (FrameHandle frame = request.head; at < segment.payload.end;) {
    const SendStatus status = check_frame(*flow, frame, at, header_bytes);
    if (status != SendStatus::kOk) return status;
    const tto_frame_desc& desc = pool_.desc(frame);
    if (desc.data_bytes > segment.mss_bytes) return SendStatus::kTooLong;
    at += desc.data_bytes;
    frame = FrameHandle{desc.next};
  }
  return at == segment.payload.end ? SendStatus::kOk : SendStatus::kBadBuffer;
}

// --- the queue -----------------------------------------------------------------------------------------------------

size_t Segmenter::push(port::FramePort& port, BoundedRing<SendWork>& sq, BoundedRing<SendCompletion>& completions,
                       Instant now) {
  reclaim(port);
  if (sq.empty()) return 0;
  Batch batch{port, port.tx_space(), now};
  while (!sq.empty()) {
    if (sq.front().is_done) {
      sq.pop();
      continue;
    }
    counters_.add_owned(Counter::sq_context_load);
    if (!execute(batch, sq.front(), completions) || (look_ahead_ && !execute_same_flow(batch, sq, completions))) {
      counters_.add_owned(Counter::tx_ring_full);
      break;
    }
  }
  flush(batch);
  return batch.frames_sent;
}

/// D15: what the head's flow has further back is done now, while its context is at hand; in order within the flow.
bool Segmenter::execute_same_flow(Batch& batch, BoundedRing<SendWork>& sq, BoundedRing<SendCompletion>& completions) {
  const FlowId flow = sq.front().request.flow;
  const size_t last = std::min(sq.size(), kLookAhead);
  for (size_t i = 1; i < last; ++i) {
    SendWork& work = sq.at(i);
    if (work.is_done || work.request.flow != flow) continue;
    if (!execute(batch, work, completions)) return false;
  }
  return true;
}

/// False: no room; the work keeps what is left of it.
bool Segmenter::execute(Batch& batch, SendWork& work, BoundedRing<SendCompletion>& completions) {
  FlowContext* flow = flows_.bound(work.request.flow);
  const Outcome outcome = flow == nullptr ? Outcome::kStale : send_request(batch, *flow, work);
  if (outcome == Outcome::kNoRoom) return false;
  if (outcome == Outcome::kStale) counters_.add_owned(Counter::sq_stale);
  work.is_done = true;
  if (work.request.signaled) {
    const SendStatus failure = flow == nullptr ? SendStatus::kNotOwner : SendStatus::kBadBuffer;
    completions.push(
        {work.request.flow, work.request.wr_id, work.sent_to, outcome == Outcome::kDone ? SendStatus::kOk : failure});
  }
  return true;
}

Segmenter::Outcome Segmenter::send_request(Batch& batch, FlowContext& flow, SendWork& work) {
  const SegmentOut& segment = work.request.segment;
  note_sending(flow, segment);
  wire::FrameHeaders headers = headers_of(flow.key, flow.path, segment);
  Outcome outcome = Outcome::kDone;
  if (segment.payload.empty()) {
    headers.ip_id = flow.ip_id;
    outcome = emit_bare(batch, headers);
    if (outcome == Outcome::kDone) ++flow.ip_id;
  }
  while (outcome == Outcome::kDone && work.sent_to < segment.payload.end) {
    outcome = send_cut(batch, flow, work, headers);
  }
  return outcome;
}

Segmenter::Outcome Segmenter::send_cut(Batch& batch, FlowContext& flow, SendWork& work, wire::FrameHeaders& headers) {
  const SegmentOut& segment = work.request.segment;
  Group group;
  // Frames are checked again: an acknowledgment may have freed them while the request waited for room.
  if (!gather(flow, work, wire::headers_bytes(headers), batch.port.caps().max_slices, group)) return Outcome::kStale;
  const bool is_last = work.sent_to + group.bytes >= segment.payload.end;
  cut_headers(segment, work.sent_to - segment.payload.begin, is_last, headers);
  headers.ip_id = flow.ip_id;
  if (group.is_in_flight) {
    if (is_last && (segment.flags & wire::kFin) != 0) {
      // The payload is on its way, but it may have left without the FIN.
      cut_headers(segment, segment.payload.size(), true, headers);
      const Outcome outcome = emit_bare(batch, headers);
      if (outcome != Outcome::kDone) return outcome;
      ++flow.ip_id;
    }
    counters_.add_owned(Counter::sq_still_in_flight);
  } else {
    if (batch.room < group.count) return Outcome::kNoRoom;
    emit_group(batch, group, headers);
    ++flow.ip_id;
  }
  work.sent_to += group.bytes;
  work.next = group.next;
  return Outcome::kDone;
}

/// The frames of the next cut. Several only where one segment does not fit into one frame (jumbo).
bool Segmenter::gather(const FlowContext& flow, const SendWork& work, size_t header_bytes, size_t max_slices,
                       Group& group) {
  const uint32_t mss = work.request.segment.mss_bytes;
  const bool is_jumbo = mss > memory::kFrameBytes - memory::kTxDataOffset;
  const size_t limit = is_jumbo ? std::clamp<size_t>(max_slices, 1, kMaxSlices) : 1;
  const StreamOffset end = work.request.segment.payload.end;
  StreamOffset at = work.sent_to;
  FrameHandle frame = work.next;
  while (group.count < limit && at < end) {
    if (check_frame(flow, frame, at, group.count == 0 ? header_bytes : 0) != SendStatus::kOk) return false;
    const tto_frame_desc& desc = pool_.desc(frame);
    if (at + desc.data_bytes > end) return false;
    if (group.bytes + desc.data_bytes > mss) break;
    group.frames[group.count++] = frame;
    group.bytes += desc.data_bytes;
    group.is_in_flight = group.is_in_flight || (desc.state & TTO_FRAME_IN_FLIGHT) != 0;
    at += desc.data_bytes;
    frame = FrameHandle{desc.next};
  }
  group.next = frame;
  return group.count > 0;
}

// --- frames --------------------------------------------------------------------------------------------------------

uint16_t Segmenter::sum_of(const Group& group) {
  uint16_t sum = 0;
  size_t offset = 0;
  for (size_t i = 0; i < group.count; ++i) {
    tto_frame_desc& desc = pool_.desc(group.frames[i]);
    if (desc.has_sum == 0) {
      desc.payload_sum = wire::sum_bytes(pool_.data(group.frames[i]) + desc.data_offset, desc.data_bytes);
      desc.has_sum = 1;
    }
    sum = wire::add_sums(sum, wire::at_offset(desc.payload_sum, offset));
    offset += desc.data_bytes;
  }
  return sum;
}

void Segmenter::emit_group(Batch& batch, const Group& group, const wire::FrameHeaders& headers) {
  if (batch.count + group.count > kBatchSlices) flush(batch);
  const FrameHandle first = group.frames[0];
  auto* payload = reinterpret_cast<uint8_t*>(pool_.data(first)) + pool_.desc(first).data_offset;
  const size_t header_bytes = wire::emit_headers(headers, payload, group.bytes, sum_of(group));
  for (size_t i = 0; i < group.count; ++i) {
    tto_frame_desc& desc = pool_.desc(group.frames[i]);
    const size_t in_front = i == 0 ? header_bytes : 0;
    batch.slices[batch.count++] = {group.frames[i], static_cast<uint16_t>(desc.data_offset - in_front),
                                   static_cast<uint16_t>(desc.data_bytes + in_front), i + 1 < group.count};
    desc.state = static_cast<uint8_t>(desc.state | TTO_FRAME_IN_FLIGHT);
    if (desc.transmissions != 0xff) ++desc.transmissions;
  }
  batch.room -= group.count;
  ++batch.frames_sent;
  counters_.add_owned(Counter::tx_frame);
  counters_.add_owned(Counter::tx_frame_byte, group.bytes + header_bytes);
}

/// A segment without payload. An empty pool loses it, as a network may: TCP sends again what matters, and what has
/// payload must not wait behind it.
Segmenter::Outcome Segmenter::emit_bare(Batch& batch, const wire::FrameHeaders& headers) {
  if (batch.room == 0) return Outcome::kNoRoom;
  const FrameHandle frame = pool_.take(TTO_FRAME_HEADER);
  if (!frame) {
    counters_.add_owned(Counter::pool_empty);
    counters_.add_owned(Counter::sq_no_frame);
    return Outcome::kDone;
  }
  if (batch.count == kBatchSlices) flush(batch);
  auto* end = reinterpret_cast<uint8_t*>(pool_.data(frame)) + memory::kTxDataOffset;
  const size_t bytes = wire::emit_headers(headers, end, 0, 0);
  tto_frame_desc& desc = pool_.desc(frame);
  desc.state = TTO_FRAME_HEADER | TTO_FRAME_IN_FLIGHT;
  batch.slices[batch.count++] = {frame, static_cast<uint16_t>(memory::kTxDataOffset - bytes),
                                 static_cast<uint16_t>(bytes), false};
  --batch.room;
  ++batch.frames_sent;
  counters_.add_owned(Counter::tx_frame);
  counters_.add_owned(Counter::tx_frame_byte, bytes);
  return Outcome::kDone;
}

void Segmenter::flush(Batch& batch) {
  const size_t taken = batch.count == 0 ? 0 : batch.port.tx_burst({batch.slices, batch.count}, batch.now);
  // The room was asked for beforehand; what is refused all the same (a chain the port finds bad) is as lost on the
  // wire.
  for (size_t i = taken; i < batch.count; ++i) {
    pool_.drop(batch.slices[i].frame, TTO_FRAME_IN_FLIGHT | TTO_FRAME_HEADER);
  }
  batch.count = 0;
}

void Segmenter::reclaim(port::FramePort& port) {
  FrameHandle frames[kBatchSlices];
  size_t count = 0;
  do {
    count = port.reclaim(frames);
    for (size_t i = 0; i < count; ++i) pool_.drop(frames[i], TTO_FRAME_IN_FLIGHT | TTO_FRAME_HEADER);
  } while (count == kBatchSlices);
}

bool Segmenter::send_unbound(port::FramePort& port, const FlowKey& key, const PathHeaders& path,
                             const SegmentOut& segment, Instant now) {
  // D12: what has an owner is sent by its owner only.
  const uint32_t index = flows_.find(key);
  if (index != kNoIndex && flows_.at(index).bound) return false;
  reclaim(port);
  Batch batch{port, port.tx_space(), now};
  emit_bare(batch, headers_of(key, path, segment));
  flush(batch);
  return batch.frames_sent == 1;
}

}  // namespace tto::device
