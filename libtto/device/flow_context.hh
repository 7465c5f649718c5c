// What the device remembers of one flow (D1), apart from how it is found. No TCP state lives here: everything is
// learned from the segments that pass in both directions, and a context may vanish at any time without harm to the
// connection.
#pragma once

#include <cstdint>

#include "libtto/base/time.hh"
#include "libtto/device/wqe.hh"

namespace tto::device {

inline constexpr uint32_t kNoIndex = ~0u;

/// Membership in an IndexList.
struct IndexLink {
  uint32_t prev = kNoIndex;
  uint32_t next = kNoIndex;
  bool linked = false;
};

struct FlowContext {
  FlowKey key;
  uint32_t hash = 0;
  uint32_t generation = 0;
  bool in_use = false;
  bool bound = false;  // has an owner; else autonomous: made by a segment with payload, retired at will

  // owner
  uint64_t cookie = 0;
  uint32_t owner_slot = ~0u;

  // transmit side: how its frames look, and what receive decisions use of what we sent (D7)
  PathHeaders path;
  uint16_t ip_id = 0;
  bool has_sent_ack = false;
  bool has_sent_end = false;
  wire::Seq32 last_sent_ack;
  wire::Seq32 sent_end;  // after the last sequence number sent: no honest acknowledgment lies beyond
  uint16_t last_sent_window = 0;

  // receive side: what the next segment is judged by
  bool has_expected = false;
  bool has_ack = false;
  bool has_delivered_ack = false;
  wire::Seq32 expected;  // next sequence number
  wire::Seq32 last_ack_received;
  wire::Seq32 last_ack_delivered;
  uint16_t last_window = 0;
  uint32_t last_ts_val = 0;
  Instant last_activity;
  Instant last_delivery{INT64_MIN / 2};  // of an aggregate

  // the aggregate being gathered: its header (D6) and its placed payload
  bool gathering = false;
  ReceiveCompletion gathered;
  memory::FrameHandle tail;     // of gathered.head
  Instant gathered_since;       // arrival of its first packet
  Instant ack_since = kNever;   // arrival of its first packet that advanced the ACK
  std::byte* buffer = nullptr;  // the RQ buffer it is placed in, if gathered.in_rq_buffer
  uint32_t buffer_bytes = 0;

  // posted RQ buffers, oldest first
  uint32_t rq_head = kNoIndex;
  uint32_t rq_tail = kNoIndex;

  IndexLink active;  // among flows that are gathering, oldest aggregate first
  IndexLink lru;     // among autonomous flows, least recently used first
};

}  // namespace tto::device
