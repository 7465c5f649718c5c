// Segments for which there is no connection: what a listener does with them, and the RST for the rest (RFC 9293
// §3.10.7.1, §3.10.7.2). No state.
#pragma once

#include <cstdint>

#include "libtto/tcp/segment.hh"

namespace tto::tcp {

/// The RST that answers `segment` at a closed port. False: it must not be answered (it is a RST itself).
bool reset_for(const SegmentIn& segment, SegmentOut& reset);

enum class ListenAction : uint8_t {
  kDrop,
  kReset,  // answer with reset_for()
  kOpen,   // a SYN: Connection::open_passive
};
ListenAction at_listener(const SegmentIn& segment);

}  // namespace tto::tcp
