// A received frame on its way from the classifier to the coalescer.
#pragma once

#include <span>

#include "libtto/device/wqe.hh"
#include "libtto/memory/frame_pool.hh"
#include "libtto/wire/frame.hh"

namespace tto::device {

/// `completion` holds the segment's header and the payload's frames; flow and cookie are filled in by those who find
/// out.
struct Arrival {
  ReceiveCompletion completion;
  memory::FrameHandle tail;  // of completion.head
  // For the checksum, which is verified last: while the payload is copied, if it is.
  wire::FrameView view;
  std::span<const uint8_t> first_piece;
  bool is_verified = false;  // the pseudo-header form on a link that allows it
};

}  // namespace tto::device
