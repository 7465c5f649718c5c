// What the rings carry. All are values; buffers are named by frame handle, or by registered-buffer id, never by pointer
// from outside.
#pragma once

#include <cstdint>

#include "libtto/memory/frame_handle.hh"
#include "libtto/tcp/segment.hh"
#include "libtto/wire/address.hh"

namespace tto::device {

/// Index into the flow table; generation-checked, so a stale id names nothing.
struct FlowId {
  uint32_t index = ~0u;
  uint32_t generation = 0;
  constexpr bool operator==(const FlowId&) const = default;
  constexpr explicit operator bool() const { return index != ~0u; }
};

/// Where a frame's tuple was seen: addresses, ports, ingress interface and VLAN.
struct FlowKey {
  wire::FourTuple tuple;
  uint16_t vlan = 0;  // 0: untagged
};

/// Why an aggregate was delivered (REQUIREMENTS D4, DESIGN 2.8).
enum class Termination : uint8_t {
  kBurstEnd,  // the burst ended with the ring empty: nothing is held back when traffic is sparse
  kOutOfOrder,
  kFlags,  // any flag but ACK
  kSackPresent,
  kTosChanged,
  kAckedBytes,         // ReceiveAckedBytesAggregation
  kAckAge,             // TimeoutAckAggregation
  kAggregationTimer,   // TimeoutAggregation
  kAggregationLength,  // RAL
  kRetired,            // flow table entry evicted or removed
  kDuplicateAck,
  kOptionsChanged,
  kNoBuffer,     // the posted buffer it was placed in is withdrawn
  kBufferFull,   // the next segment does not fit into the posted buffer (D10)
  kNotGathered,  // coalescing is off, or the segment is of no flow
  kCount,
};

/// A receive completion: one aggregate of one flow, or something that is nobody's flow.
struct ReceiveCompletion {
  enum class Target : uint8_t { kFlow, kListener, kNone, kIcmp } target = Target::kNone;
  Termination termination = Termination::kBurstEnd;
  bool in_rq_buffer = false;  // payload already lies in a posted RQ buffer (wr_id), else in frames
  FlowId flow;
  uint64_t cookie = 0;  // as bound to the flow or listener; 0 for kNone
  FlowKey key;          // whose
  wire::MacAddress source_mac, destination_mac;
  tcp::SegmentIn segment;
  memory::FrameHandle head;  // payload: descriptors linked by next, data_offset/data_bytes set; null if none.
  uint32_t frame_count = 0;  // The receiver of the completion owns them (state TTO_FRAME_RECEIVED).
  uint64_t wr_id = 0;        // of the RQ request, if in_rq_buffer
  // kIcmp: an ICMP or ICMPv6 error about one of our flows (flow and cookie are the quoted tuple's)
  struct Icmp {
    uint8_t type = 0, code = 0;
    bool is_v6 = false;
    uint16_t mtu_bytes = 0;
    wire::Seq32 quoted_seq;
  } icmp;
};

/// Layer 2 and 3 of what a flow sends; set once per path change.
struct PathHeaders {
  wire::MacAddress source_mac, destination_mac;
  uint16_t vlan = 0;
  uint8_t tos = 0;  // DSCP; the ECN bits come with each segment
  uint8_t ttl = 64;
};

enum class SendStatus : uint8_t { kOk, kBadBuffer, kNotOwner, kNoSpace, kTooLong };

/// A send request: headers and a pseudo frame's payload as a chain of send-queue frames.
struct SendRequest {
  FlowId flow;
  tcp::SegmentOut segment;
  memory::FrameHandle head;  // first frame of the payload; its stream_offset == segment.payload.begin
  uint64_t wr_id = 0;
  bool signaled = false;  // wants a send completion
};

/// A signaled request is done: sent up to `sent_to`, or found bad (kBadBuffer, kNotOwner) when its turn came.
struct SendCompletion {
  FlowId flow;
  uint64_t wr_id = 0;
  StreamOffset sent_to = 0;
  SendStatus status = SendStatus::kOk;
};

}  // namespace tto::device
