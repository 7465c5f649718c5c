// From the device's completions to the engine: connections, listeners, ICMP, and segments of nobody.
#include <algorithm>
#include <cerrno>

#include "libtto/stack/icmp_errors.hh"
#include "libtto/stack/stack_impl.hh"
#include "libtto/tcp/isn.hh"
#include "libtto/tcp/listen.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::stack {

using device::ReceiveCompletion;
using Target = device::ReceiveCompletion::Target;

void Stack::Impl::on_completion(ReceiveCompletion& c, Instant now) {
  switch (c.target) {
    case Target::kFlow: on_flow_segment(c, now); break;
    case Target::kListener: on_listener_segment(c, now); break;
    case Target::kNone: reply_with_reset(c, now); break;
    case Target::kIcmp: on_icmp(c, now); break;
  }
  if (c.head) pool.drop_chain(c.head, TTO_FRAME_RECEIVED);  // what nobody took
}

void Stack::Impl::on_flow_segment(ReceiveCompletion& c, Instant now) {
  Socket* s = socket_of(c.cookie);
  if (s == nullptr) return reply_with_reset(c, now);
  if (s->phase_ == Phase::kDeparted) return inject_arrival(*s, c);
  if (s->phase_ == Phase::kHalfOpen && s->listener_->is_full() && (c.segment.flags & (wire::kSyn | wire::kRst)) == 0) {
    // No place to accept it into: as if lost. The SYN-ACK comes again, and with it the final ACK (R19).
    counters.add_owned(stats::Counter::accept_queue_full);
    return;
  }
  if (may_give_way(*s, c.segment)) {
    if (Listener* listener = listener_for(c.key.tuple); listener != nullptr) return replace_with_child(*s, *listener, c, now);
  }
  ++s->rx_aggregates_;
  refuse_payload_under_pressure(*s, c);
  const tcp::Verdict verdict = s->connection_.on_segment(c.segment, now);
  if (!s->is_receiving_ && s->connection_.state() > tcp::State::kSynSent) s->start_receiving(now);
  if (c.head && !verdict.keep.empty() && s->is_receiving_ && !s->close_begun_) {
    const uint32_t syn = (c.segment.flags & wire::kSyn) != 0 ? 1 : 0;
    const StreamOffset first = wire::Seq32{c.segment.seq.raw + syn}.widen_near(verdict.keep.begin);
    s->take_payload(c.head, first, verdict.keep, now);
    c.head = {};
  }
  after_change(*s, now);
}

// Near the end of the pool, frames go to data that is next in order, and to sockets that hold few already; the rest is
// taken as if it had been lost. Nothing the engine believes to be held is ever dropped.
void Stack::Impl::refuse_payload_under_pressure(Socket& s, ReceiveCompletion& c) {
  if (!c.head) return;
  const size_t free = pool.free_count();
  if (free * 8 >= pool.frame_count()) return;
  const StreamOffset seq = s.is_receiving_ ? c.segment.seq.widen_near(s.connection_.receive_end()) : 0;
  const bool in_order = seq <= s.connection_.receive_end();
  if (in_order && s.receive_queue_.frame_count() <= 2 * free) return;
  counters.add_owned(stats::Counter::rx_payload_refused, c.frame_count);
  s.rx_refused_ += c.frame_count;
  c.segment.payload_bytes = 0;
  c.segment.flags = static_cast<uint8_t>(c.segment.flags & ~(wire::kFin | wire::kPsh));
  pool.drop_chain(c.head, TTO_FRAME_RECEIVED);
  c.head = {};
}

// --- listeners -----------------------------------------------------------------------------------------------------

void Stack::Impl::on_listener_segment(const ReceiveCompletion& c, Instant now) {
  Listener* listener = listener_of(c.cookie);
  if (listener == nullptr) return reply_with_reset(c, now);
  switch (tcp::at_listener(c.segment)) {
    case tcp::ListenAction::kDrop: return;
    case tcp::ListenAction::kReset: return reply_with_reset(c, now);
    case tcp::ListenAction::kOpen: open_child(*listener, c, now); return;
  }
}

/// A SYN may open a new connection on this tuple (R57), also while the application still holds the old one's socket.
bool Stack::Impl::may_give_way(const Socket& s, const tcp::SegmentIn& segment) {
  if (s.phase_ != Phase::kOrphan && (s.phase_ != Phase::kOwned || s.grant_id_ != 0)) return false;
  if (s.connection_.state() != tcp::State::kClosed) return s.connection_.accepts_new_syn(segment);
  return (segment.flags & (wire::kSyn | wire::kAck | wire::kRst)) == wire::kSyn;
}

// A connection in TIME-WAIT makes room for the next one of its tuple, which takes the steering entry over: no word to
// ttod, which every one of a busy client's connections would need otherwise.
void Stack::Impl::replace_with_child(Socket& old, Listener& listener, const ReceiveCompletion& c, Instant now) {
  if (old.grant_id_ != 0) {  // we opened the old one: the entry is not a listener's
    free_socket(old);
    open_child(listener, c, now);
    return;
  }
  const int ifindex = old.ifindex_;
  const auto iss = static_cast<uint32_t>(old.connection_.first_send_byte() - 1);
  if (old.phase_ == Phase::kOrphan) {
    discard(old);
  } else {  // the socket stays the application's, and has no connection any more
    old.connection_.app_abort(now);
    device.unbind_flow(old.flow_);
    old.flow_ = {};
    after_change(old, now);
  }
  if (!open_child(listener, c, now)) environment.release_flow(c.key, ifindex, 0, iss);
}

bool Stack::Impl::open_child(Listener& listener, const ReceiveCompletion& c, Instant now) {
  if (listener.is_full() || !make_room_half_open(listener, now)) {
    counters.add_owned(stats::Counter::syn_dropped);
    return false;
  }
  // The answer goes back the way the SYN came until the route says otherwise.
  device::PathHeaders path{c.destination_mac, c.source_mac, c.key.vlan, listener.request.tos, listener.request.ttl};
  tcp::ConnectionConfig config = listener.request.config;
  const wire::FourTuple& tuple = c.key.tuple;
  config.is_v6 = !tuple.local.is_v4();
  const tto_helper_nic* nic = nic_of(path);
  const uint32_t mtu = nic != nullptr ? nic->mtu_bytes : port->caps().mtu_bytes;
  config.mtu_bytes = config.path_mtu_bytes = static_cast<uint16_t>(std::min<uint32_t>(mtu, 65535));
  int ifindex = nic != nullptr ? static_cast<int>(nic->ifindex) : 0;
  if (const auto hop = environment.next_hop(tuple.remote, &tuple.local, 0); hop.has_value() &&
      (ifindex == 0 || hop->ifindex == ifindex)) {
    path.source_mac = hop->headers.source_mac;
    path.destination_mac = hop->headers.destination_mac;
    config.mtu_bytes = static_cast<uint16_t>(std::min<uint32_t>(hop->link_mtu_bytes, 65535));
    config.path_mtu_bytes = static_cast<uint16_t>(std::min<uint32_t>(hop->mtu_bytes, 65535));
    ifindex = hop->ifindex;
  }
  Socket* s = new_socket(c.key, path, now);
  if (s == nullptr) {
    counters.add_owned(stats::Counter::syn_dropped);
    return false;
  }
  s->ifindex_ = ifindex;
  config.iss = tcp::initial_sequence_number(tuple, stack.config_.isn_secret, now);
  config.ts_offset = tcp::timestamp_offset(tuple, stack.config_.isn_secret);
  s->connection_.open_passive(config, c.segment, now);
  start(*s, listener.request.send_buffer_bytes, listener.request.receive_buffer_bytes,
        listener.request.limits);
  s->start_receiving(now);
  s->phase_since_ = now;
  listener.add_half_open(*s);
  counters.add_owned(stats::Counter::connection_passive);
  after_change(*s, now);
  return true;
}

bool Stack::Impl::make_room_half_open(Listener& listener, Instant now) {
  if (listener.half_open_count() < listener.half_open_limit()) return true;
  Socket* oldest = listener.oldest_half_open();
  if (oldest == nullptr || now - oldest->phase_since_ < seconds(1)) return false;
  free_socket(*oldest);
  return true;
}

Stack::Impl::Listener* Stack::Impl::listener_for(const wire::FourTuple& tuple) {
  Listener* wildcard = nullptr;
  for (uint32_t i = 0; i < listener_count; ++i) {
    Listener* l = listeners.find(i);
    if (l == nullptr || !l->in_use || l->request.port != tuple.local_port) continue;
    if (l->request.address == tuple.local) return l;
    const wire::IpAddress any = tuple.local.is_v4() ? wire::IpAddress::from_v4(0) : wire::IpAddress{};
    const bool takes_v4 = l->request.is_v6 && !l->request.v6_only && l->request.address == wire::IpAddress{};
    if (l->request.address == any || (tuple.local.is_v4() && takes_v4)) wildcard = l;
  }
  return wildcard;
}

// --- nobody's ------------------------------------------------------------------------------------------------------

void Stack::Impl::reply_with_reset(const ReceiveCompletion& c, Instant now) {
  tcp::SegmentOut reset;
  if (!tcp::reset_for(c.segment, reset)) return;
  const device::PathHeaders path{c.destination_mac, c.source_mac, c.key.vlan, 0, 64};
  if (device.send_unbound(*port, c.key, path, reset, now)) counters.add_owned(stats::Counter::reset_sent_no_socket);
}

void Stack::Impl::on_icmp(const ReceiveCompletion& c, Instant now) {
  Socket* s = socket_of(c.cookie);
  if (s == nullptr || s->phase_ == Phase::kDeparted) return;
  const IcmpMeaning meaning = meaning_of_icmp(c.icmp.is_v6, c.icmp.type, c.icmp.code);
  if (meaning.is_path_mtu) {
    if (c.icmp.mtu_bytes != 0) s->connection_.on_path_mtu(c.icmp.mtu_bytes, c.icmp.quoted_seq, now);
  } else if (meaning.error != 0) {
    s->connection_.on_icmp_error(meaning.error, meaning.is_hard, c.icmp.quoted_seq, now);
  }
  after_change(*s, now);
}

}  // namespace tto::stack
