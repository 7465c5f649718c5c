#include "libtto/tcp/listen.hh"

#include "libtto/wire/tcp_flags.hh"

namespace tto::tcp {

bool reset_for(const SegmentIn& segment, SegmentOut& reset) {
  if (segment.flags & wire::kRst) return false;
  reset = SegmentOut{};
  if (segment.flags & wire::kAck) {
    reset.seq = segment.ack.raw;
    reset.flags = wire::kRst;
    return true;
  }
  const uint32_t length =
      segment.payload_bytes + ((segment.flags & wire::kSyn) ? 1 : 0) + ((segment.flags & wire::kFin) ? 1 : 0);
  reset.seq = 0;
  reset.ack = segment.seq.raw + length;
  reset.flags = wire::kRst | wire::kAck;
  return true;
}

ListenAction at_listener(const SegmentIn& segment) {
  if (segment.flags & wire::kRst) return ListenAction::kDrop;
  if (segment.flags & wire::kAck) return ListenAction::kReset;
  return (segment.flags & wire::kSyn) ? ListenAction::kOpen : ListenAction::kDrop;
}

}  // namespace tto::tcp
