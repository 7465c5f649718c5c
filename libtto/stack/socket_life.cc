// How a connection's slot is taken, what follows from a change of its state, and how it is given back.
#include <algorithm>

#include "libtto/base/check.hh"
#include "libtto/stack/stack_impl.hh"

namespace tto::stack {

Stack::Impl::Socket* Stack::Impl::socket_of(uint64_t cookie) {
  Socket* s = sockets.find(static_cast<uint32_t>(cookie));
  return s != nullptr && s->phase_ != Phase::kFree && s->life_ == cookie >> 32 ? s : nullptr;
}

Stack::Impl::Listener* Stack::Impl::listener_of(uint64_t cookie) {
  Listener* l = listeners.find(static_cast<uint32_t>(cookie));
  return l != nullptr && l->in_use && l->life == cookie >> 32 ? l : nullptr;
}

/// The interface with that address and VLAN; null if there is none (tests, bonds).
const tto_helper_nic* Stack::Impl::nic_of(const device::PathHeaders& path) const {
  for (uint32_t i = 0; i < binding.nic_count; ++i) {
    const tto_helper_nic& nic = binding.nics[i];
    if (std::equal(path.source_mac.bytes.begin(), path.source_mac.bytes.end(), nic.mac) && nic.vlan == path.vlan) {
      return &nic;
    }
  }
  return nullptr;
}

/// A slot, a flow entry bound to it, and queues that are not started yet. Null: no room.
Stack::Impl::Socket* Stack::Impl::new_socket(const device::FlowKey& key, const device::PathHeaders& path, Instant now) {
  uint32_t slot = slots.take();
  if (slot == memory::kNoSlot && (evict_departed() || evict_time_wait())) slot = slots.take();
  if (slot == memory::kNoSlot) return nullptr;
  Socket* s = sockets.make(slot);
  if (s == nullptr) {
    slots.free(slot);
    return nullptr;
  }
  s->init(&shared, slot);
  s->flow_ = device.bind_flow(key, cookie_of(s->life_, slot), slot);
  if (!s->flow_ && (evict_departed() || evict_time_wait())) s->flow_ = device.bind_flow(key, cookie_of(s->life_, slot), slot);
  if (!s->flow_) {
    slots.free(slot);
    return nullptr;
  }
  s->key_ = key;
  s->path_ = path;
  device.set_path(s->flow_, path);
  if (s->flow_.index < stack.config_.device.flow_capacity) slot_of_flow[s->flow_.index] = slot;
  s->phase_ = Phase::kOwned;
  s->read_round_start_ = now;
  ++live_sockets;
  waiters.unpark();
  return s;
}

void Stack::Impl::start(Socket& s, uint32_t send_buffer, uint32_t receive_buffer, const BufferLimits& limits) {
  s.send_queue_.init(&pool, s.slot_, s.connection_.first_send_byte());
  if (send_buffer != 0) s.send_buffer_bytes_ = send_buffer;
  if (receive_buffer != 0) {
    s.receive_buffer_bytes_ = receive_buffer;
    s.connection_.set_receive_buffer(receive_buffer);
  }
  s.send_buffer_max_ = limits.send_max_bytes;
  s.receive_buffer_max_ = limits.receive_max_bytes;
  s.notsent_lowat_ = limits.notsent_lowat_bytes;
  s.touch();
}

// After the engine was told something.
void Stack::Impl::after_change(Socket& s, Instant now) {
  s.note_progress(now);
  if (s.take_urgent_signal()) signal_urgent_data(s.fd());
  s.touch();
  if (s.phase_ != Phase::kHalfOpen) return;
  if (s.connection_.events().established) {
    s.phase_since_ = now;
    s.listener_->make_ready(s);
  }
}

// After a visit: watchers hear of it, and what is over goes.
void Stack::Impl::settle(Socket& s, Instant now) {
  s.note_progress(now);
  s.publish();
  const bool is_over = s.connection_.state() == tcp::State::kClosed;
  if (s.phase_ == Phase::kHalfOpen && is_over) return retire(s);
  if (s.phase_ != Phase::kOrphan) return;
  if (is_over) return retire(s);
  if (s.connection_.state() == tcp::State::kTimeWait && !s.queue_link_.is_linked()) {
    s.phase_since_ = now;
    s.clear_queues();
    time_wait.push_back(s.queue_link_);
  }
}

// The device may still have its last segment queued: the flow goes when that has left.
void Stack::Impl::retire(Socket& s) {
  if (s.phase_ == Phase::kHalfOpen) s.listener_->remove(s);
  s.phase_ = Phase::kOrphan;
  s.listener_ = nullptr;
  wheel.cancel(s.timer_);
  s.dirty_link_.unlink();
  retired.push_back(s.queue_link_);
}

void Stack::Impl::free_retired() {
  if (retired.empty() || device.has_work_queued()) return;
  while (IntrusiveNode* node = retired.pop_front()) free_socket(*socket_at(node));
}

/// With the tuple: its lease serves another connection, or goes back to ttod.
void Stack::Impl::free_socket(Socket& s) {
  if (s.phase_ == Phase::kDeparted) return discard(s);  // the tuple went with it
  const tcp::Connection& c = s.connection_;
  const bool is_over = c.state() == tcp::State::kClosed && c.fin_acked() && c.events().peer_closed;
  const bool is_kept =
      s.grant_id_ != 0 && is_over && environment.keep_flow(s.grant_id_, static_cast<uint32_t>(c.snd_nxt()));
  const bool gave_way = !s.flow_;  // the tuple is another connection's by now
  if (!is_kept && !gave_way)
    environment.release_flow(s.key_, s.ifindex_, s.grant_id_, static_cast<uint32_t>(c.first_send_byte() - 1));
  discard(s);
}

/// Without it.
void Stack::Impl::discard(Socket& s) {
  if (s.phase_ == Phase::kHalfOpen || s.phase_ == Phase::kAcceptable) s.listener_->remove(s);
  s.clear_queues();
  wheel.cancel(s.timer_);
  s.dirty_link_.unlink();
  s.starved_link_.unlink();
  s.queue_link_.unlink();
  device.unbind_flow(s.flow_);
  TTO_SOUND(!s.readiness_.has_watchers());
  const uint32_t slot = s.slot_, life = s.life_;
  s.~StreamSocket();
  new (&s) Socket();
  s.life_ = life + 1;
  slots.free(slot);
  --live_sockets;
}

bool Stack::Impl::evict_departed() {
  IntrusiveNode* oldest = departed.first();
  if (oldest != nullptr) free_socket(*socket_at(oldest));
  return oldest != nullptr;
}

bool Stack::Impl::evict_time_wait() {
  IntrusiveNode* oldest = time_wait.first();
  if (oldest == nullptr) return false;
  counters.add_owned(stats::Counter::time_wait_evicted);
  free_socket(*socket_at(oldest));
  return true;
}

// The kernel changed its mind about routes, neighbours, addresses or MTUs. A connection keeps its old path where there
// is no new one: the kernel's would be as unreachable.
void Stack::Impl::resolve_again(Socket& s, Instant now) {
  const auto hop = environment.next_hop(s.key_.tuple.remote, &s.key_.tuple.local, s.bound_ifindex_);
  if (!hop.has_value()) {
    if (hop.error() == stats::Counter::kernel_no_route) s.connection_.on_unreachable(ENETUNREACH);
    return;
  }
  if (s.ifindex_ == 0) s.ifindex_ = hop->ifindex;
  // The flow's steering entry is bound to its interface and VLAN; only the next hop on it can change.
  if (hop->ifindex != s.ifindex_ || hop->headers.vlan != s.key_.vlan) return;
  s.path_.source_mac = hop->headers.source_mac;
  s.path_.destination_mac = hop->headers.destination_mac;
  s.path_changed_ = true;
  const auto mtu = static_cast<uint16_t>(std::min<uint32_t>(hop->mtu_bytes, 65535));
  s.connection_.on_route_mtu(mtu, now);
  s.touch();
}

}  // namespace tto::stack
