// The TTO device as software: a NIC's receive-coalescing TCP engine between a frame port and the TCP engine.
//
//             post_receive (app buffers)      replenish (frame pool)
//                  │                               │
//                  ▼                               ▼
//                [ RQ ]                         [ GRQ ]
//                  └──────────────┬────────────────┘
//   port ─pull_frames─▶ parse ▶ classify (FLT, OLT) ▶ coalesce ▶ place ─▶ [ CQ ] ─poll─▶ engine
//   port ◀─push_frames─ checksum ◀ headers ◀ segment ◀ validate ◀─────── [ SQ ] ◀─post── engine
//
// Every frame has exactly one fate: rx_frame = rx_frame_delivered + rx_frame_passed + Σ drop_<reason>.
// A frame merged into an aggregate or waiting in the CQ is counted with its fate when poll() hands it over.
// Threads: all calls under the stack's lock. No call allocates after the constructor, none makes a system call (the
// port's do; push_frames does not kick the port, the caller decides when).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "libtto/base/time.hh"
#include "libtto/device/wqe.hh"
#include "libtto/memory/frame_pool.hh"
#include "libtto/port/frame_port.hh"
#include "libtto/stats/counters.hh"

namespace tto::device {

struct DeviceConfig {
  uint32_t flow_capacity = 16384;  // contexts
  uint32_t listener_capacity = 1024;
  uint32_t sq_entries = 1024;
  uint32_t cq_entries = 4096;
  uint32_t rq_entries = 256;
  bool coalesce = true;
  uint32_t ral_bytes = 65536;                        // RAL
  uint32_t receive_acked_bytes_aggregation = 65536;  // ReceiveAckedBytesAggregation
  Duration timeout_ack_aggregation = microseconds(200);
  Duration timeout_aggregation{};  // 0: deliver at burst end
  /// A flow that keeps bringing full segments is delivered at most once in this time, unless a flag or the size limit
  /// asks for it: fewer and larger aggregates, and fewer acknowledgments. What comes after a pause is never held. 0: off.
  Duration bulk_interval{};
  Duration terminate_no_activity_time = seconds(7200);
  bool look_ahead = true;
  uint64_t hash_secret[2] = {};  // random, so that nobody outside can aim for one hash chain
};

class Device {
 public:
  Device(const DeviceConfig& config, memory::FramePool& pool, stats::Counters& counters);
  ~Device();

  // --- tables ------------------------------------------------------------------------------------------------------
  /// Binds a flow to its owner; an autonomous entry of the same key is taken over. Null FlowId: the table is full of
  /// bound flows, or the key is bound already. `owner_slot`: the connection slot that desc.owner of every frame named
  /// in this flow's send requests must show (D11); ~0: frames that no slot owns.
  FlowId bind_flow(const FlowKey& key, uint64_t cookie, uint32_t owner_slot);
  void set_path(FlowId flow, const PathHeaders& path);
  /// What was gathered for it, and completions of it not yet polled, are then handed out as a listener's or nobody's:
  /// no completion carries the cookie of a flow that is gone. Its queued send requests are discarded.
  void unbind_flow(FlowId flow);
  /// Listener on (address, port); the all-zero address of a family is a wildcard. False: table full.
  bool add_listener(const wire::IpAddress& address, uint16_t port, uint64_t cookie);
  void remove_listener(const wire::IpAddress& address, uint16_t port);
  FlowId find_flow(const FlowKey& key) const;

  // --- receive -----------------------------------------------------------------------------------------------------
  /// Takes at most `burst` slices from the port through classification and coalescing to the CQ; refills the port.
  /// Returns the slices taken.
  size_t pull_frames(port::FramePort& port, Instant now, size_t burst);
  /// Delivers aggregates whose timers have run out. Called once per turn.
  void expire(Instant now);
  Instant next_deadline() const;
  /// Frames to receive into: at the port, and free ones that would be posted after them.
  size_t ready_frames() const;
  size_t poll(std::span<ReceiveCompletion> out);
  /// Posts an application buffer for in-order payload of `flow` (D10); it is used up by one completion, however full.
  /// False: ring full, unknown flow or an empty buffer.
  bool post_receive(FlowId flow, void* buffer, uint32_t bytes, uint64_t wr_id);
  /// Takes a buffer back, completing it if payload lies in it: its completion is then in the CQ. Returns the bytes that
  /// lie in it (0 if it had been completed before). After this the device never touches the buffer.
  uint32_t withdraw_receive(FlowId flow, uint64_t wr_id);

  // --- send --------------------------------------------------------------------------------------------------------
  /// Validates (D11, D12) and queues. kNoSpace: try again after push_frames.
  SendStatus post_send(const SendRequest& request);
  /// Headers in front of each frame's payload, checksums, and out to the port. Returns frames sent. What the port has
  /// no room for stays at the head of the SQ, partly sent requests included. Also takes back what the port has sent.
  size_t push_frames(port::FramePort& port, Instant now);
  /// Completions of requests posted with `signaled`.
  size_t poll_sends(std::span<SendCompletion> out);
  /// A lone RST or ACK for which there is no flow (closed port, TIME-WAIT owner gone): one frame, from `key`.
  bool send_unbound(port::FramePort& port, const FlowKey& key, const PathHeaders& path, const tcp::SegmentOut& segment,
                    Instant now);
  bool has_work_queued() const;

  // --- notification (D13) ------------------------------------------------------------------------------------------
  enum class Arm : uint8_t { kNone, kSolicited, kAny };
  /// The next completion of that kind calls `notify(context)` once. Solicited: with any flag but ACK, or of no flow.
  /// Unarmed costs nothing.
  void arm(Arm kind, void (*notify)(void*), void* context);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tto::device
