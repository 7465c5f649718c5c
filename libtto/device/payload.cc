#include "libtto/device/payload.hh"

#include "libtto/wire/checksum.hh"

namespace tto::device {
namespace {

constexpr size_t kLineBytes = 64;

template <typename SumPiece>
bool sum_frames(memory::FramePool& pool, Arrival& arrival, SumPiece sum_piece) {
  uint16_t sum = 0;
  size_t offset = 0;
  for (memory::FrameHandle frame = arrival.completion.head; frame;) {
    const tto_frame_desc& desc = pool.desc(frame);
    const uint16_t part = sum_piece(offset, pool.data(frame) + desc.data_offset, size_t{desc.data_bytes});
    sum = wire::add_sums(sum, wire::at_offset(part, offset));
    offset += desc.data_bytes;
    frame = memory::FrameHandle{desc.next};
  }
  if (!arrival.is_verified) {
    arrival.is_verified = wire::verify_tcp_checksum(arrival.view, arrival.first_piece, sum, false);
  }
  return arrival.is_verified;
}

/// A first frame that held headers only has done its duty.
void release_empty_head(memory::FramePool& pool, Arrival& arrival) {
  const memory::FrameHandle head = arrival.completion.head;
  if (!head || pool.desc(head).data_bytes != 0) return;
  arrival.completion.head = memory::FrameHandle{pool.desc(head).next};
  --arrival.completion.frame_count;
  if (!arrival.completion.head) arrival.tail = {};
  pool.drop(head, TTO_FRAME_RECEIVED);
}

}  // namespace

uint16_t copy_aligned_and_sum(std::byte* to, const std::byte* from, size_t bytes) {
  const size_t to_boundary = (kLineBytes - reinterpret_cast<uintptr_t>(to) % kLineBytes) % kLineBytes;
  if (to_boundary == 0 || bytes < 2 * kLineBytes) return wire::copy_and_sum(to, from, bytes);
  const uint16_t head = wire::copy_and_sum(to, from, to_boundary);
  const uint16_t rest = wire::copy_and_sum(to + to_boundary, from + to_boundary, bytes - to_boundary);
  return wire::add_sums(head, wire::at_offset(rest, to_boundary));
}

bool verify_payload(memory::FramePool& pool, Arrival& arrival) {
  const auto sum = [](size_t, const std::byte* from, size_t bytes) { return wire::sum_bytes(from, bytes); };
  if (!arrival.is_verified && !sum_frames(pool, arrival, sum)) return false;
  release_empty_head(pool, arrival);
  return true;
}

bool copy_and_verify(memory::FramePool& pool, Arrival& arrival, std::byte* target) {
  return sum_frames(pool, arrival, [target](size_t offset, const std::byte* from, size_t bytes) {
    return copy_aligned_and_sum(target + offset, from, bytes);
  });
}

}  // namespace tto::device
