// The eleven states of RFC 9293 §3.3.2.
#pragma once

#include <cstdint>

namespace tto::tcp {

enum class State : uint8_t {
  kClosed,
  kListen,  // used by listener slots in the stats page; a Connection is never in it
  kSynSent,
  kSynReceived,
  kEstablished,
  kFinWait1,
  kFinWait2,
  kCloseWait,
  kClosing,
  kLastAck,
  kTimeWait,
};

/// "SYN-SENT", as the RFC prints it.
const char* name(State state);

}  // namespace tto::tcp
