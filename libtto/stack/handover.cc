// The recipe, step by step; what a connection's state means to a kernel socket.
#include "libtto/stack/handover.hh"

#include <sys/socket.h>

#include <algorithm>

#include "libtto/stack/stack_impl.hh"

namespace tto::stack {
namespace {

constexpr int kMaxDrainTurns = 64;
constexpr uint32_t kBufferSlack = 128 * 1024;

bool is_movable(const tcp::Connection& connection) {
  switch (connection.state()) {
    case tcp::State::kEstablished:
    case tcp::State::kFinWait1:
    case tcp::State::kFinWait2:
    case tcp::State::kCloseWait:
    case tcp::State::kClosing:
    case tcp::State::kLastAck:
      return true;
    case tcp::State::kTimeWait:
    case tcp::State::kClosed:  // ended in order: what was not read yet, and the end of the stream, can still be told
      return connection.fin_acked() && connection.events().peer_closed && connection.events().error == 0;
    default:
      return false;
  }
}

uint32_t low(StreamOffset offset) { return static_cast<uint32_t>(offset); }
uint32_t capped(uint64_t bytes) { return static_cast<uint32_t>(std::min<uint64_t>(bytes, UINT32_MAX)); }

}  // namespace

// Without the flow's entry the transmit check drops what still lies in the rings, and the peer would wait for a
// retransmission.
void Stack::Impl::drain_transmit(Instant now) {
  for (int turn = 0; turn < kMaxDrainTurns; ++turn) {
    const size_t space = port->tx_space();
    device.push_frames(*port, now);
    port->kick(false);
    if (!device.has_work_queued() && port->tx_space() <= space) return;
  }
}

Stack::Impl::HandoverPlan Stack::Impl::plan_handover(const Socket& s, Instant now) const {
  const tcp::Connection& c = s.connection_;
  HandoverPlan p;
  c.fill_record(p.record);
  const tto_connection_record& r = p.record;
  p.read = s.close_begun_ || !s.is_receiving_ ? c.receive_end() : s.receive_queue_.read_position();
  p.receive_end = c.receive_end();
  // A FIN of ours has no byte: the kernel socket stands before it, and sends it once more.
  p.send_begin = std::min(c.snd_una(), c.snd_end());
  p.sent_end = std::clamp(c.snd_nxt(), p.send_begin, c.snd_end());
  p.send_end = c.snd_end();
  p.is_fin_acked = c.fin_acked();
  p.flow.grant_id = s.grant_id_;
  const wire::FourTuple& tuple = s.key_.tuple;
  std::copy(tuple.local.bytes.begin(), tuple.local.bytes.end(), p.flow.flow.local);
  std::copy(tuple.remote.bytes.begin(), tuple.remote.bytes.end(), p.flow.flow.remote);
  p.flow.flow.local_port = tuple.local_port;
  p.flow.flow.remote_port = tuple.remote_port;
  p.flow.flow.ifindex = static_cast<uint32_t>(s.ifindex_);
  p.flow.iss = low(c.first_send_byte() - 1);

  tto_helper_restore& out = p.restore;
  out.snd_una = low(p.send_begin);
  out.rcv_unread = low(p.read);
  out.snd_wscale = r.snd_wscale;
  out.rcv_wscale = r.rcv_wscale;
  if ((r.flags & TTO_REC_SACK) != 0) out.flags |= TTO_RESTORE_SACK;
  if ((r.flags & TTO_REC_TIMESTAMPS) != 0) {
    out.flags |= TTO_RESTORE_TIMESTAMPS;
    // Even: the low bit would make the kernel's clock one of microseconds.
    out.tsval = (static_cast<uint32_t>(now.ns / 1'000'000) + r.ts_offset + 1) & ~1u;
  }
  if (r.snd_wscale != 0 || r.rcv_wscale != 0) out.flags |= TTO_RESTORE_WSCALE;
  out.peer_mss = r.peer_mss;
  const uint64_t window = r.rcv_wnd_edge > p.receive_end ? r.rcv_wnd_edge - p.receive_end : 0;
  // Small segments weigh more in the kernel than their bytes.
  out.send_bytes = capped(2 * (p.send_end - p.send_begin) + kBufferSlack);
  out.receive_bytes = capped(std::max<uint64_t>(2 * (p.receive_end - p.read), s.receive_buffer_bytes_) + window);
  p.window = {low(r.snd_wl1), r.snd_wnd, std::max(r.snd_wnd, r.snd_wnd_max), capped(window), low(p.receive_end)};
  return p;
}

// Visits the bytes [begin, end) of a queue in vectors of frames; false as soon as `take` says so.
template <typename Take>
bool Stack::Impl::for_each_piece(memory::FrameHandle head, StreamOffset begin, StreamOffset end, Take take) {
  constexpr int kPieces = 16;
  iovec pieces[kPieces];
  int count = 0;
  for (memory::FrameHandle frame = head; frame && begin < end; frame = memory::FrameHandle{pool.desc(frame).next}) {
    const tto_frame_desc& d = pool.desc(frame);
    const StreamOffset frame_end = std::min(d.stream_offset + d.data_bytes, end);
    if (frame_end <= begin) continue;
    if (d.stream_offset > begin) return false;
    pieces[count++] = {pool.data(frame) + d.data_offset + (begin - d.stream_offset), frame_end - begin};
    begin = frame_end;
    if (count < kPieces) continue;
    if (!take(pieces, count)) return false;
    count = 0;
  }
  return begin >= end && (count == 0 || take(pieces, count));
}

bool Stack::Impl::restore_queues(Socket& s, const HandoverPlan& p, HandoverTarget& target) {
  const auto append_to = [&target](HandoverTarget::Queue queue) {
    return [&target, queue](const iovec* pieces, int count) { return target.restore(queue, pieces, count); };
  };
  return for_each_piece(s.receive_queue_.head(), p.read, p.receive_end, append_to(HandoverTarget::Queue::kReceived)) &&
         for_each_piece(s.send_queue_.head(), p.send_begin, p.sent_end, append_to(HandoverTarget::Queue::kSent)) &&
         target.restore_window(p.window) && (!p.is_fin_acked || target.restore_fin());
}

HandoverResult Stack::Impl::hand_over(Socket& s, HandoverTarget& target, Instant now) {
  if (s.phase_ != Phase::kOwned && s.phase_ != Phase::kOrphan) return HandoverResult::kNotNow;
  if (!is_movable(s.connection_)) return HandoverResult::kNotNow;
  drain_transmit(now);
  const HandoverPlan p = plan_handover(s, now);
  const uint64_t id = target.begin(p.flow, p.restore);
  if (id == 0) return HandoverResult::kRefused;
  if (!restore_queues(s, p, target)) {
    target.cancel(id);
    return HandoverResult::kRefused;
  }
  if (!target.end(id, p.is_fin_acked)) {
    s.own_error_ = ECONNABORTED;
    s.connection_.app_abort(now);
    s.touch();
    return HandoverResult::kLost;
  }
  const bool is_whole = for_each_piece(s.send_queue_.head(), p.sent_end, p.send_end,
                                       [&](const iovec* pieces, int count) { return target.send(pieces, count); });
  if (is_whole) finish_halves(s, p, id, target);
  depart(s, id, now);
  return HandoverResult::kDone;
}

// What was closed before is closed again: the peer's FIN comes from us; ours goes out a second time, or is acknowledged
// by us as it was before.
void Stack::Impl::finish_halves(const Socket& s, const HandoverPlan& p, uint64_t id, HandoverTarget& target) {
  const tto_connection_record& r = p.record;
  const bool has_fin = (r.flags & TTO_REC_FIN_RECEIVED) != 0;
  if (has_fin || p.is_fin_acked) {
    wire::FrameHeaders fin;
    fin.seq = wire::narrow(p.receive_end);
    fin.ack = wire::narrow(p.send_begin + (p.is_fin_acked ? 1 : 0));
    fin.flags = has_fin ? wire::kFin | wire::kAck : wire::kAck;
    fin.window = static_cast<uint16_t>(std::min<uint32_t>(r.snd_wnd >> r.snd_wscale, 65535));
    fin.options.has_timestamps = (r.flags & TTO_REC_TIMESTAMPS) != 0;
    fin.options.ts_val = r.ts_recent;
    fin.options.ts_ecr = p.restore.tsval;
    inject(s.key_.tuple, id, fin, {});
    if (has_fin) target.await_fin();
  }
  if (s.send_shut_ && !p.is_fin_acked) target.shut(SHUT_WR);
  if (s.receive_shut_) target.shut(SHUT_RD);
}

// Closed to the engine, bound in the device: what still comes is passed on.
void Stack::Impl::depart(Socket& s, uint64_t id, Instant now) {
  s.clear_queues();
  s.is_receiving_ = false;
  s.connection_ = tcp::Connection{};
  environment.forget_flow(s.grant_id_);
  s.handover_id_ = id;
  s.phase_ = Phase::kDeparted;
  s.fd_ = -1;
  s.dirty_link_.unlink();
  s.starved_link_.unlink();
  s.queue_link_.unlink();
  departed.push_back(s.queue_link_);
  wheel.arm(s.timer_, now + kDepartedTime);
  slots.withdraw(s.slot_);
}

}  // namespace tto::stack
