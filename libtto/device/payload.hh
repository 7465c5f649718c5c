// The payload of an arrival, which lies in one or more frames: verified in place, or while it is copied.
#pragma once

#include "libtto/device/arrival.hh"

namespace tto::device {

/// True if the TCP checksum is right; a first frame without payload is then given back, and head is null if there is
/// none.
bool verify_payload(memory::FramePool& pool, Arrival& arrival);
/// Copies the payload to `target` and verifies the checksum in the same pass. False: it was wrong; what lies in
/// `target` is then worth nothing.
bool copy_and_verify(memory::FramePool& pool, Arrival& arrival, std::byte* target);
/// wire::copy_and_sum, split at the first cache-line boundary of `to` so that all later stores are aligned (D16).
uint16_t copy_aligned_and_sum(std::byte* to, const std::byte* from, size_t bytes);

}  // namespace tto::device
