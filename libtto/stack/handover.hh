// From user space to the kernel, in place: a connection's state and both of its queues become those of the kernel socket
// behind its descriptor (DESIGN 2.2).
//
//   stack's lock ─ transmit ring drained ─ begin ─▶ kernel socket in repair mode ─ queues, window ─ end ─▶ live
//                ─ bytes never sent, the peer's FIN, half closes ─▶ the slot is *departed* for some seconds
//
// While the lock is held nothing is processed, so what arrives stays in the receive ring: held, not dropped. Whatever the
// ring brings for a departed connection is given to the kernel socket (Environment::inject), a lost race costs nothing.
// Out-of-order data is dropped, the peer sends it again. Restored: RFC 9293's variables, RFC 7323 and RFC 2018 options;
// not: congestion window, RTT.
#pragma once

#include <sys/uio.h>

#include <cstdint>

#include "kmod-helper/protocol/helper_protocol.h"
#include "libtto/base/time.hh"

namespace tto::stack {

/// struct tcp_repair_window of the kernel.
struct RepairWindow {
  uint32_t snd_wl1 = 0;
  uint32_t snd_wnd = 0;
  uint32_t max_window = 0;
  uint32_t rcv_wnd = 0;
  uint32_t rcv_wup = 0;
};

/// The kernel socket that takes a connection over. All calls under the stack's lock; they may make system calls.
class HandoverTarget {
 public:
  /// The socket goes into repair mode with these numbers. Returns the handover's id; 0: refused, it is as it was.
  virtual uint64_t begin(const tto_helper_release_item& flow, const tto_helper_restore& restore) = 0;
  enum class Queue : uint8_t { kReceived = 1, kSent = 2 };  // TCP_REPAIR_QUEUE's numbers
  /// Appends to a queue of the socket in repair mode: all of it, or false.
  virtual bool restore(Queue queue, const iovec* pieces, int count) = 0;
  virtual bool restore_window(const RepairWindow& window) = 0;
  /// Its FIN is sent and not acknowledged, without a word on the wire. In repair mode, after the queues.
  virtual bool restore_fin() = 0;
  /// Back to what it was before begin().
  virtual void cancel(uint64_t id) = 0;
  /// The socket is live, the flow is the kernel's; `is_silent`: without a window probe. False: both are gone.
  virtual bool end(uint64_t id, bool is_silent) = 0;
  /// To the live socket: bytes that were never sent, all of them. False: they did not fit; the socket is reset.
  virtual bool send(const iovec* pieces, int count) = 0;
  virtual void shut(int how) = 0;
  /// Waits, with a bound, until the live socket has the peer's FIN that was injected. Before, a read might send a window
  /// update to a peer that is gone, and the reset that answers it would overtake the end of the stream.
  virtual void await_fin() = 0;

 protected:
  ~HandoverTarget() = default;
};

enum class HandoverResult : uint8_t {
  kDone,
  kNotNow,   // the handshake is not done, or the connection is over
  kRefused,  // nothing changed
  kLost,     // the connection ended on the way
};

/// How long frames that arrive for a departed connection are passed on.
inline constexpr Duration kDepartedTime = seconds(5);

}  // namespace tto::stack
