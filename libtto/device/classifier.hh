// From the slices of one received frame to an arrival: what its headers say, and its payload as a chain of frames.
#pragma once

#include <span>

#include "libtto/device/arrival.hh"
#include "libtto/port/frame_port.hh"
#include "libtto/stats/counters.hh"

namespace tto::device {

/// How many of `slices` belong to the first frame; 0 if its chain does not end among them.
size_t chain_length(std::span<const port::FrameSlice> slices);

class Classifier {
 public:
  Classifier(memory::FramePool& pool, stats::Counters& counters) : pool_(pool), counters_(counters) {}

  /// Takes over the frames of `chain` (one frame's slices). True: `out` is a TCP segment, checksum not yet verified, or
  /// an ICMP error (target kIcmp, checksum verified). False: dropped and counted.
  bool classify(std::span<const port::FrameSlice> chain, bool accepts_partial_checksum, Arrival& out);
  /// A frame that is not to be looked at.
  void drop(std::span<const port::FrameSlice> chain, stats::DropReason reason);

 private:
  void fill_segment(Arrival& out) const;
  void fill_icmp(Arrival& out) const;
  void link_payload(std::span<const port::FrameSlice> chain, Arrival& out);

  memory::FramePool& pool_;
  stats::Counters& counters_;
};

}  // namespace tto::device
