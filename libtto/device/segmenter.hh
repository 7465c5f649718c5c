// Large send (D8): requests of the SQ become frames. The payload stays where the send queue put it; headers are written
// in front of it, so a frame belongs to one transmission at a time and is not touched while the port has it.
//
//   request ─▶ [frame][frame][frame]…      one segment per frame; with jumbo MSS consecutive frames up to MSS make one
//                 │ headers, checksum from desc.payload_sum
//                 ▼
//              port.tx_burst, state + IN_FLIGHT ─▶ reclaim, state − IN_FLIGHT
//
// Cuts of one request: seq advances, IP id advances, options are the same, PSH and FIN on the last, CWR on the first
// (RFC 3168 §6.1.2), the urgent pointer keeps pointing at the same byte. A segment whose frame the port still has is
// not sent again: it is on its way. Segments without payload take a frame of their own (TTO_FRAME_HEADER).
#pragma once

#include <span>

#include "libtto/device/flow_table.hh"
#include "libtto/device/rings.hh"
#include "libtto/wire/frame.hh"

namespace tto::device {

/// An entry of the SQ: a request and how far it is.
struct SendWork {
  SendRequest request;
  StreamOffset sent_to = 0;  // payload before this is out
  memory::FrameHandle next;  // frame of sent_to
  bool is_done = false;      // executed ahead of its turn (D15)
};

class Segmenter {
 public:
  Segmenter(FlowTable& flows, memory::FramePool& pool, stats::Counters& counters, bool look_ahead)
      : flows_(flows), pool_(pool), counters_(counters), look_ahead_(look_ahead) {}

  /// D11, D12: the flow is bound, and every frame of the chain is the flow's, holds what the request says, and has room
  /// for headers. Touches nothing.
  SendStatus validate(const SendRequest& request);
  /// Executes the SQ from its head as far as the port has room. Returns frames sent.
  size_t push(port::FramePort& port, BoundedRing<SendWork>& sq, BoundedRing<SendCompletion>& completions, Instant now);
  bool send_unbound(port::FramePort& port, const FlowKey& key, const PathHeaders& path, const tcp::SegmentOut& segment,
                    Instant now);
  /// Takes back what the port has sent.
  void reclaim(port::FramePort& port);

 private:
  static constexpr size_t kBatchSlices = 64;
  static constexpr size_t kMaxSlices = 18;
  static constexpr size_t kLookAhead = 16;

  /// What goes to the port in one call.
  struct Batch {
    port::FramePort& port;
    size_t room;  // in the port's ring
    Instant now;
    size_t count = 0;
    size_t frames_sent = 0;
    port::FrameSlice slices[kBatchSlices] = {};
  };
  /// Consecutive frames that make one segment.
  struct Group {
    memory::FrameHandle frames[kMaxSlices];
    size_t count = 0;
    uint32_t bytes = 0;
    bool is_in_flight = false;
    memory::FrameHandle next;
  };
  enum class Outcome : uint8_t { kDone, kNoRoom, kStale };

  bool is_known(memory::FrameHandle frame) const;
  SendStatus check_frame(const FlowContext& flow, memory::FrameHandle frame, StreamOffset offset, size_t header_bytes);
  bool execute(Batch& batch, SendWork& work, BoundedRing<SendCompletion>& completions);
  bool execute_same_flow(Batch& batch, BoundedRing<SendWork>& sq, BoundedRing<SendCompletion>& completions);
  Outcome send_request(Batch& batch, FlowContext& flow, SendWork& work);
  Outcome send_cut(Batch& batch, FlowContext& flow, SendWork& work, wire::FrameHeaders& headers);
  bool gather(const FlowContext& flow, const SendWork& work, size_t header_bytes, size_t max_slices, Group& group);
  void emit_group(Batch& batch, const Group& group, const wire::FrameHeaders& headers);
  Outcome emit_bare(Batch& batch, const wire::FrameHeaders& headers);
  uint16_t sum_of(const Group& group);
  void flush(Batch& batch);

  FlowTable& flows_;
  memory::FramePool& pool_;
  stats::Counters& counters_;
  bool look_ahead_;
};

}  // namespace tto::device
