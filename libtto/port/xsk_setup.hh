// The privileged half of an AF_XDP port: socket, UMEM over a mapped state region, rings, busy polling, bind. ttod runs
// it and passes the descriptor on; the process maps the rings with XskPort. Raw system calls only. Call it in the
// device's network namespace: the socket belongs to the namespace it is made in.
#pragma once

#include <cstdint>

#include "kmod-helper/protocol/helper_protocol.h"
#include "libtto/base/result.hh"
#include "libtto/memory/frame_pool.hh"

namespace tto::port {

/// Slices of the longest frame: the kernel's socket buffer has one linear part and 17 fragments.
inline constexpr uint32_t kXskMaxSlices = 18;

struct XskConfig {
  uint32_t ifindex = 0;
  uint32_t queue = 0;
  uint32_t mtu_bytes = 1500;  // of the device, told to the port
  // Powers of two. The pool must be larger than the fill ring, or nothing is left to send with.
  uint32_t fill_entries = 1024, completion_entries = 1024, rx_entries = 1024, tx_entries = 1024;
  bool multi_buffer = true;
  bool need_wakeup = true;
  bool zero_copy = false;     // else copy mode, on any device
  uint32_t busy_poll_us = 0;  // 0: off; else preferred busy polling, if the device has napi_defer_hard_irqs set
  uint32_t busy_poll_budget = 64;
};

/// Makes the socket and binds it. Fills the ring, size and mode fields of `out`; slot, region_id and the NICs are the
/// caller's. The descriptor (close-on-exec), or an errno: EBUSY while the queue has an owner or has just lost one.
Expected<int, int> xsk_open(const memory::Region& region, const XskConfig& config, tto_helper_port* out);

}  // namespace tto::port
