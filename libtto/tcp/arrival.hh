// A received segment with its 32-bit numbers widened to offsets: what the steps of input.cc hand to each other.
#pragma once

#include "libtto/tcp/connection.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::tcp {

struct Connection::Arrival {
  const SegmentIn& segment;
  Instant now;
  StreamOffset seq;  // of its first octet, SYN counted
  StreamOffset ack;
  StreamOffset end;   // after its last octet, FIN counted
  ByteRange payload;  // trimmed as the steps go
  bool fin;           // until trimmed

  Arrival(const SegmentIn& s, StreamOffset rcv_nxt, StreamOffset snd_una, Instant at)
      : segment(s), now(at), seq(s.seq.widen_near(rcv_nxt)), ack(s.ack.widen_near(snd_una)), fin(has(wire::kFin)) {
    payload.begin = seq + (has(wire::kSyn) ? 1 : 0);
    payload.end = payload.begin + s.payload_bytes;
    end = payload.end + (fin ? 1 : 0);
  }
  bool has(uint8_t flag) const { return (segment.flags & flag) != 0; }
  uint64_t length() const { return end - seq; }
};

}  // namespace tto::tcp
