// From the engine to the device: what a connection wants to send, and the export record that goes before it.
#include <algorithm>

#include "libtto/base/check.hh"
#include "libtto/stack/stack_impl.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::stack {
namespace {

constexpr int kMaxEmitsPerVisit = 64;
constexpr Duration kRetryWithoutFrame = milliseconds(1);

}  // namespace

// Asks the engine until it has nothing more to say, and sets its timer. False: the port has no room; the socket is to be
// visited again.
bool Stack::Impl::emit(Socket& s, Instant now) {
  if (s.path_changed_) {
    device.set_path(s.flow_, s.path_);
    s.path_changed_ = false;
  }
  s.limit_window();
  for (int n = 0; n < kMaxEmitsPerVisit; ++n) {
    const tcp::Output output = s.connection_.next_output(now);
    if (output.kind != tcp::Output::Kind::kEmit) {
      wheel.arm(s.timer_, output.kind == tcp::Output::Kind::kWaitUntil ? output.at : kNever);
      return true;
    }
    if (lets_ride(s, output, now)) return true;
    Posted posted = post(s, output, now);
    if (posted == Posted::kNoRoom) {
      commit(s, now);
      device.push_frames(*port, now);
      posted = post(s, output, now);
    }
    if (posted == Posted::kNoRoom) {
      counters.add_owned(stats::Counter::tx_ring_full);
      return false;
    }
    if (posted == Posted::kNoFrame) {
      counters.add_owned(stats::Counter::pool_empty);
      wheel.arm(s.timer_, now + kRetryWithoutFrame);
      return true;
    }
  }
  wheel.arm(s.timer_, now);  // its turn is over; the others first
  return true;
}

/// The application that was just handed something will often answer, or close, within microseconds. What it does not
/// send for leaves before it waits, or after a while.
bool Stack::Impl::lets_ride(Socket& s, const tcp::Output& output, Instant now) {
  const Duration most = stack.config_.ack_ride;
  if (most == Duration{}) return false;
  const bool is_bare_ack = output.segment.payload.empty() && output.segment.flags == wire::kAck;
  const bool may_ride = acks_ride && is_bare_ack && s.phase_ != Phase::kOrphan && s.connection_.ack_may_ride();
  if (may_ride && s.ride_until_ == Instant{}) s.ride_until_ = now + most;
  s.is_riding_ = may_ride && now < s.ride_until_;
  if (!s.is_riding_) {
    s.ride_until_ = {};
    return false;
  }
  wheel.arm(s.timer_, std::min(s.ride_until_, s.connection_.next_deadline()));
  return true;
}

Stack::Impl::Posted Stack::Impl::post(Socket& s, const tcp::Output& output, Instant now) {
  device::SendRequest request{.flow = s.flow_, .segment = output.segment, .head = {}, .wr_id = 0, .signaled = false};
  ByteRange& payload = request.segment.payload;
  if (!payload.empty()) {
    const uint32_t before = s.send_queue_.frame_count();
    // The device makes one frame of each of ours, but for segments that do not fit into one.
    const uint32_t mss = request.segment.mss_bytes;
    const uint32_t max_frames = mss > socket::SendQueue::kFrameCapacity ? port->caps().max_slices : 1;
    request.head = s.send_queue_.frames_for(payload, mss, max_frames);
    s.count_send_frames(before);
    if (!request.head) return Posted::kNoFrame;
    if (payload.end != output.segment.payload.end) {
      request.segment.flags = static_cast<uint8_t>(request.segment.flags & ~(wire::kFin | wire::kPsh));
    }
  }
  const device::SendStatus status = device.post_send(request);
  if (status == device::SendStatus::kNoSpace) return Posted::kNoRoom;
  if (!TTO_SOUND(status == device::SendStatus::kOk)) {
    s.connection_.app_abort(now);  // the end of this connection only
    return Posted::kNoFrame;
  }
  const StreamOffset sent_to = payload.end;
  s.connection_.on_emitted(output, sent_to, now);
  s.send_queue_.mark_sent(sent_to);
  return Posted::kYes;
}

void Stack::Impl::commit(Socket& s, Instant now) {
  tto_connection_record record{};
  s.connection_.fill_record(record);
  const wire::FourTuple& tuple = s.key_.tuple;
  record.family = tuple.local.is_v4() ? 4 : 6;
  record.tos = s.path_.tos;
  std::copy(tuple.local.bytes.begin(), tuple.local.bytes.end(), record.local);
  std::copy(tuple.remote.bytes.begin(), tuple.remote.bytes.end(), record.remote);
  record.local_port = tuple.local_port;
  record.remote_port = tuple.remote_port;
  record.ifindex = static_cast<uint32_t>(s.ifindex_);
  record.tx_head = s.send_queue_.head().raw;
  record.tx_frames = s.send_queue_.frame_count();
  record.rx_head = s.receive_queue_.head().raw;
  record.rx_frames = s.receive_queue_.frame_count();
  if (s.is_receiving_) record.rcv_read = s.receive_queue_.read_position();
  slots.commit(s.slot_, record);
  if (now - s.figures_shown_at_ >= milliseconds(1)) {
    s.figures_shown_at_ = now;
    show_figures(s);
  }
}

void Stack::Impl::show_figures(Socket& s) {
  const tcp::Figures f = s.connection_.figures();
  tto_connection_figures& out = slots.figures(s.slot_);
  out.rx_byte = s.is_receiving_ ? s.connection_.receive_end() - s.connection_.first_receive_byte() : 0;
  const StreamOffset sent = s.connection_.snd_nxt(), first = s.connection_.first_send_byte();
  out.tx_byte = sent > first ? sent - first : 0;
  out.rx_segment = f.segments_received;
  out.tx_segment = f.segments_sent;
  out.rx_aggregate = s.rx_aggregates_;
  out.retransmit_segment = f.retransmitted_segments;
  out.rto_expired = f.rto_expirations;
  out.ooo_segment = f.out_of_order_segments;
  out.dup_ack = f.duplicate_acks;
  out.drop_segment = s.rx_refused_;
  out.srtt_us = static_cast<uint32_t>(f.srtt.micros());
  out.rttvar_us = static_cast<uint32_t>(f.rttvar.micros());
  out.rto_us = static_cast<uint32_t>(f.rto.micros());
  out.cwnd_bytes = f.cwnd_bytes;
  out.ssthresh_bytes = f.ssthresh_bytes;
  out.mss = f.mss_bytes;
  out.fd = s.fd_;
}

}  // namespace tto::stack
