// How far a socket's receive window may open: what all sockets of a stack together let their peers send has to find
// frames at the port, or the kernel drops it there, a whole aggregate at a time (docs/decisions/0001).
//
// Counted in frames, by what a frame of this peer's carries. A socket counts while payload comes to it; idle ones, whose
// windows may be wide and are not used, do not. Each gets what the others have left, at least its equal share of all,
// and always a few segments: with very many busy peers the sum passes the limit by those few.
#include <algorithm>

#include "libtto/socket/stream_socket.hh"

namespace tto::socket {
namespace {

constexpr uint32_t kSliceBytes = memory::kFrameBytes - 256;  // of received data in a frame, behind the kernel's headroom
constexpr uint32_t kHeaderBytes = 66;                        // of a frame on the link, in its first slice
constexpr uint32_t kLeastSegments = 4;

}  // namespace

// Small payloads in big frames count for what they are, but for no less than half of a full one: a peer that asks
// little questions shall still be able to send a large one.
uint32_t StreamSocket::frame_payload_bytes() const {
  const uint32_t mss = std::max(connection_.effective_mss(), 1u);
  const uint32_t full = mss / ((mss + kHeaderBytes + kSliceBytes - 1) / kSliceBytes);
  if (mean_payload_bytes_ == 0) return std::max(full, 1u);
  return std::clamp(mean_payload_bytes_, std::max(full / 2, 1u), kSliceBytes);
}

void StreamSocket::note_receiving(uint32_t bytes, uint32_t frames, Instant now) {
  payload_at_ = now;
  if (frames > 0) {
    const uint32_t mean = bytes / frames;
    mean_payload_bytes_ = mean_payload_bytes_ == 0 ? mean : (7 * mean_payload_bytes_ + mean) / 8;
  }
  if (!receiving_link_.is_linked()) {
    ++shared_->receiving_count;
  } else {
    receiving_link_.unlink();
  }
  shared_->receiving.push_back(receiving_link_);
}

void StreamSocket::stop_receiving() {
  if (!receiving_link_.is_linked()) return;
  receiving_link_.unlink();
  --shared_->receiving_count;
  shared_->promised_frames -= promised_frames_;
  promised_frames_ = 0;
}

void StreamSocket::count_promise() {
  if (!receiving_link_.is_linked()) return;
  const uint64_t per_frame = frame_payload_bytes();
  const auto frames = static_cast<uint32_t>(
      std::min<uint64_t>((connection_.receive_window() + per_frame - 1) / per_frame, uint32_t{1} << 30));
  shared_->promised_frames += frames - promised_frames_;
  promised_frames_ = frames;
}

void StreamSocket::limit_window() {
  count_promise();
  const uint32_t limit = shared_->promisable_frames;
  const uint32_t others = shared_->promised_frames - promised_frames_;
  const uint32_t left = limit > others ? limit - others : 0;
  const uint32_t sharers = shared_->receiving_count + (receiving_link_.is_linked() ? 0 : 1);
  const uint64_t allowed = std::min(left, std::max(limit / sharers, left / 2));
  connection_.set_receive_window_limit(
      std::max<uint64_t>(allowed * frame_payload_bytes(), uint64_t{kLeastSegments} * connection_.effective_mss()));
}

}  // namespace tto::socket
