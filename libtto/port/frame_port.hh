// A frame port: frames in, frames out. The only OS-facing part of the data path, and the seam at which tests plug in.
//
//                    post_fill                     rx_burst
//   FramePool ──frames──────────▶ [ fill ring ] ──▶ kernel ──▶ [ rx ring ] ──frames──▶ device
//                    reclaim                       tx_burst
//   FramePool ◀──frames────── [ completion ring ] ◀── kernel ◀── [ tx ring ] ◀──frames── device
//
// Ownership: a frame given to post_fill or tx_burst belongs to the port until rx_burst or reclaim returns it.
// Threads: all calls under the stack's lock, except wait_fd, which may be polled by anyone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "libtto/base/time.hh"
#include "libtto/memory/frame_handle.hh"

namespace tto::port {

/// One piece of a frame. A frame larger than a chunk is a chain: all pieces but the last have `more` set; headers are
/// wholly in the first piece (the port refuses, and counts, a chain for which that is not so).
struct FrameSlice {
  memory::FrameHandle frame;
  uint16_t offset = 0;  // of the first byte, from the frame's start
  uint16_t length = 0;
  bool more = false;
};

struct PortCaps {
  uint32_t mtu_bytes = 1500;              // largest L3 packet it carries
  uint32_t max_slices = 1;                // longest chain, both ways
  bool accepts_partial_checksum = false;  // peers may leave only the pseudo-header sum (DESIGN 2.13)
  bool registers_buffers = false;         // can send from registered application memory
  bool needs_wakeup = false;
  bool zero_copy = false;
};

/// What the port itself lost or refused; frames that never reached rx_burst.
struct PortFigures {
  uint64_t rx_dropped = 0, rx_ring_full = 0, fill_ring_empty = 0, tx_invalid = 0, rx_bad_chain = 0;
};

class FramePort {
 public:
  virtual ~FramePort() = default;

  virtual const PortCaps& caps() const = 0;
  /// The pool region whose frames this port carries, and no others.
  virtual uint32_t region() const { return 0; }
  /// Gives free frames to receive into. Returns how many were taken (ring space); the rest stay the caller's.
  virtual size_t post_fill(std::span<const memory::FrameHandle> frames) = 0;
  virtual size_t fill_space() const = 0;
  /// Received slices, whole chains only. `now` is for ports that model time; others ignore it.
  virtual size_t rx_burst(std::span<FrameSlice> out, Instant now) = 0;
  /// Queues slices for transmission, whole chains only; returns how many were taken. Nothing leaves before kick().
  virtual size_t tx_burst(std::span<const FrameSlice> slices, Instant now) = 0;
  virtual size_t tx_space() const = 0;
  /// Frames whose transmission is over.
  virtual size_t reclaim(std::span<memory::FrameHandle> out) = 0;
  /// Makes queued frames leave and, with `receive`, lets the kernel run its receive side (busy poll); at most one
  /// system call, none when nothing needs waking.
  virtual void kick(bool receive) = 0;
  /// A descriptor that polls readable while rx_burst would return something; -1: the port has none (tests).
  virtual int wait_fd() const = 0;
  /// Earliest time at which rx_burst will have something without anyone sending more; kNever if unknown.
  virtual Instant next_event() const { return kNever; }
  virtual PortFigures figures() const = 0;
};

}  // namespace tto::port
