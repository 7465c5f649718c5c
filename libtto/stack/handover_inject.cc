// Frames of a departed connection, on their way to its kernel socket: as packets again, cut to what one message carries.
#include <algorithm>
#include <cstring>

#include "libtto/stack/stack_impl.hh"
#include "libtto/wire/frame.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::stack {
namespace {

constexpr uint32_t kMaxPieceBytes = 3072;
constexpr uint32_t kUsualSegmentBytes = 1448;

}  // namespace

// Checksums are ttod's to make.
void Stack::Impl::inject(const wire::FourTuple& tuple, uint64_t id, wire::FrameHeaders& headers,
                         std::span<const uint8_t> payload) {
  uint8_t packet[wire::kMaxHeaderBytes + kMaxPieceBytes];
  headers.source = tuple.remote;
  headers.destination = tuple.local;
  headers.source_port = tuple.remote_port;
  headers.destination_port = tuple.local_port;
  uint8_t* at = packet + wire::kMaxHeaderBytes;
  if (!payload.empty()) std::memcpy(at, payload.data(), payload.size());
  const size_t headers_bytes =
      wire::emit_headers(headers, at, static_cast<uint32_t>(payload.size()), 0) - wire::kEthernetBytes;
  counters.add_owned(stats::Counter::handover_injected);
  environment.inject(id, {at - headers_bytes, headers_bytes + payload.size()});
}

void Stack::Impl::inject_arrival(const Socket& s, const device::ReceiveCompletion& c) {
  const tcp::SegmentIn& segment = c.segment;
  wire::FrameHeaders h;
  h.tos = segment.ip_tos;
  h.ttl = segment.ip_ttl;
  h.ack = segment.ack;
  h.window = segment.window;
  h.options = segment.options;
  const uint32_t largest = segment.largest_segment_bytes != 0 ? segment.largest_segment_bytes : kUsualSegmentBytes;
  const uint32_t piece = std::min(largest, kMaxPieceBytes);
  uint8_t bytes[kMaxPieceBytes];
  memory::FrameHandle frame = c.head;
  uint32_t in_frame = 0;
  for (uint32_t done = 0;;) {
    const uint32_t wanted = std::min(piece, segment.payload_bytes - done);
    uint32_t filled = 0;
    while (filled < wanted && frame) {
      const tto_frame_desc& d = pool.desc(frame);
      const uint32_t n = std::min<uint32_t>(wanted - filled, d.data_bytes - in_frame);
      std::memcpy(bytes + filled, pool.data(frame) + d.data_offset + in_frame, n);
      filled += n;
      in_frame += n;
      if (in_frame < d.data_bytes) continue;
      frame = memory::FrameHandle{d.next};
      in_frame = 0;
    }
    const bool is_first = done == 0, is_last = done + filled >= segment.payload_bytes || filled < wanted;
    const uint32_t syn = !is_first && (segment.flags & wire::kSyn) != 0 ? 1 : 0;
    h.seq = wire::Seq32{segment.seq.raw + done + syn};
    h.flags = segment.flags;
    if (!is_first) h.flags = static_cast<uint8_t>(h.flags & ~(wire::kSyn | wire::kCwr));
    if (!is_last) h.flags = static_cast<uint8_t>(h.flags & ~(wire::kFin | wire::kPsh));
    const bool is_urgent = (segment.flags & wire::kUrg) != 0 && segment.urgent_pointer > done;
    if (!is_urgent) h.flags = static_cast<uint8_t>(h.flags & ~wire::kUrg);
    h.urgent_pointer = is_urgent ? static_cast<uint16_t>(segment.urgent_pointer - done) : uint16_t{0};
    inject(s.key_.tuple, s.handover_id_, h, {bytes, filled});
    done += filled;
    if (is_last) return;
  }
}

}  // namespace tto::stack
