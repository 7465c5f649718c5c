#include "libtto/stack/stack.hh"

#include <algorithm>

#include "libtto/stack/stack_impl.hh"
#include "libtto/tcp/isn.hh"

namespace tto::stack {
namespace {

constexpr uint32_t kBeyondOldConnection = 65537;

device::DeviceConfig device_config(const StackConfig& config) {
  device::DeviceConfig d = config.device;
  d.hash_secret[0] = uint64_t{config.isn_secret[0]} << 32 | config.isn_secret[2];
  d.hash_secret[1] = uint64_t{config.isn_secret[1]} << 32 | config.isn_secret[3];
  return d;
}

/// With the region in it before anything is made that takes frames.
memory::FramePool& pool_for(const PortBinding& binding, memory::FramePool& own) {
  if (binding.pool != nullptr) return *binding.pool;
  own.add_region(binding.region);
  return own;
}

}  // namespace

Stack::Impl::Impl(Stack& owner, const StackConfig& config, const PortBinding& b, Environment& env,
                  std::atomic<uint64_t>* words)
    : stack(owner),
      environment(env),
      port(b.port),
      binding(b),
      counters(words),
      pool(pool_for(b, own_pool)),
      slots(b.region),
      device(device_config(config), pool, counters),
      wheel(Instant{}),
      sockets(b.region.header->connection_count),
      listeners(config.device.listener_capacity),
      slot_of_flow(new uint32_t[config.device.flow_capacity]()) {
  shared.stack = &owner;
  shared.pool = &pool;
  shared.send_frames_limit = static_cast<uint32_t>(pool.frame_count() / 2);
  fill_capacity = std::min(port->fill_space(), pool.frame_count() / 2);
}

Stack::Stack(const StackConfig& config, const PortBinding& binding, Environment& environment,
             std::atomic<uint64_t>* counters)
    : config_(config), counters_(counters), impl_(new Impl(*this, config_, binding, environment, counters)) {}

Stack::~Stack() = default;

int Stack::wait_fd() const {
  return impl_->binding.wait_fd >= 0 ? impl_->binding.wait_fd : impl_->port->wait_fd();
}

size_t Stack::connection_count() const { return impl_->live_sockets; }
bool Stack::has_sleepers() const { return impl_->waiters.leader != nullptr || !impl_->waiters.followers.empty(); }
bool Stack::has_listeners() const { return impl_->listener_count != 0; }

bool Stack::has_live_flow(const wire::FourTuple& tuple) const {
  for (uint32_t n = 0; n < impl_->sockets.capacity(); ++n) {
    const Impl::Socket* s = impl_->sockets.find(n);
    if (s != nullptr && s->phase_ != Impl::Phase::kFree && s->key_.tuple == tuple &&
        s->connection_.state() != tcp::State::kTimeWait)
      return true;
  }
  return false;
}

socket::StreamSocket* Stack::connect(const ConnectRequest& request, Instant now, stats::Counter* reason) {
  Impl& i = *impl_;
  const device::FlowKey key{request.tuple, request.next_hop.headers.vlan};
  StreamOffset after_old = 0;
  if (const device::FlowId flow = i.device.find_flow(key); flow && flow.index < config_.device.flow_capacity) {
    Impl::Socket* old = i.sockets.find(i.slot_of_flow[flow.index]);
    if (old != nullptr && old->flow_ == flow && old->phase_ == Impl::Phase::kDeparted) {
      i.free_socket(*old);
    } else if (old != nullptr && old->flow_ == flow && old->phase_ == Impl::Phase::kOrphan &&
        old->connection_.state() == tcp::State::kTimeWait) {
      after_old = old->connection_.snd_nxt();
      i.free_socket(*old);
    }
  }
  Impl::Socket* s = i.new_socket(key, request.next_hop.headers, now);
  if (s == nullptr) {
    i.environment.release_flow(key, request.next_hop.ifindex, request.grant_id, 0);
    *reason = stats::Counter::kernel_no_resource;
    return nullptr;
  }
  tcp::ConnectionConfig config = request.config;
  config.iss = tcp::initial_sequence_number(request.tuple, config_.isn_secret, now);
  // Beyond anything of the connection that this tuple had before (RFC 6191).
  if (after_old != 0) config.iss = static_cast<uint32_t>(after_old) + kBeyondOldConnection;
  if (const uint32_t least = request.next_seq + kBeyondOldConnection;
      request.continues && static_cast<int32_t>(config.iss - least) < 0)
    config.iss = least;
  config.ts_offset = tcp::timestamp_offset(request.tuple, config_.isn_secret);
  config.mtu_bytes = static_cast<uint16_t>(std::min<uint32_t>(request.next_hop.link_mtu_bytes, 65535));
  config.path_mtu_bytes = static_cast<uint16_t>(std::min<uint32_t>(request.next_hop.mtu_bytes, 65535));
  config.is_v6 = !request.tuple.local.is_v4();
  s->ifindex_ = request.next_hop.ifindex;
  s->bound_ifindex_ = request.bound_ifindex;
  s->grant_id_ = request.grant_id;
  s->is_active_open_ = true;
  s->connection_.open_active(config, now);
  i.start(*s, request.send_buffer_bytes,
          request.receive_buffer_bytes != 0 ? request.receive_buffer_bytes : config.receive_buffer_bytes,
          request.limits);
  counters_.add_owned(stats::Counter::connection_active);
  return s;
}

socket::ListenSocket* Stack::listen(const ListenRequest& request, stats::Counter* reason) {
  Impl& i = *impl_;
  uint32_t index = 0;
  while (index < i.listener_count && i.listeners.find(index)->in_use) ++index;
  Impl::Listener* l = i.listeners.make(index);
  if (l == nullptr) {
    *reason = stats::Counter::kernel_no_resource;
    return nullptr;
  }
  const uint64_t cookie = Impl::cookie_of(l->life, index);
  bool added = i.device.add_listener(request.address, request.port, cookie);
  const bool is_any_v6 = request.is_v6 && request.address == wire::IpAddress{};
  if (added && is_any_v6 && !request.v6_only &&
      !i.device.add_listener(wire::IpAddress::from_v4(0), request.port, cookie)) {
    i.device.remove_listener(request.address, request.port);
    added = false;
  }
  if (!added) {
    i.environment.release_listener(request.grant_id);
    *reason = stats::Counter::kernel_no_resource;
    return nullptr;
  }
  l->request = request;
  l->in_use = true;
  l->stack_ = this;
  l->address_ = request.address;
  l->port_ = request.port;
  l->set_backlog(request.backlog);
  l->readiness().update(0, 0);  // it may have ended ready, in an earlier life
  i.listener_count = std::max(i.listener_count, index + 1);
  i.waiters.unpark();
  return l;
}

void Stack::close_listener(socket::ListenSocket* listener, Instant now) {
  Impl& i = *impl_;
  auto* l = static_cast<Impl::Listener*>(listener);
  while (Impl::Socket* child = l->first_ready()) {
    l->remove(*child);
    child->listener_ = nullptr;
    child->abort(now);
  }
  while (Impl::Socket* child = l->oldest_half_open()) i.free_socket(*child);
  i.device.remove_listener(l->request.address, l->request.port);
  if (l->request.is_v6 && !l->request.v6_only && l->request.address == wire::IpAddress{}) {
    i.device.remove_listener(wire::IpAddress::from_v4(0), l->request.port);
  }
  i.environment.release_listener(l->request.grant_id);
  l->in_use = false;
  ++l->life;
  while (i.listener_count > 0 && !i.listeners.find(i.listener_count - 1)->in_use) --i.listener_count;
}

HandoverResult Stack::hand_over(socket::StreamSocket& stream, HandoverTarget& target, Instant now) {
  return impl_->hand_over(stream, target, now);
}

socket::StreamSocket* Stack::next_unfinished(uint32_t from) {
  for (uint32_t i = from; i < impl_->sockets.capacity(); ++i) {
    Impl::Socket* s = impl_->sockets.find(i);
    if (s == nullptr || s->phase_ == Impl::Phase::kFree || s->phase_ == Impl::Phase::kDeparted) continue;
    if (s->connection_.state() != tcp::State::kClosed && s->connection_.state() != tcp::State::kTimeWait) return s;
  }
  return nullptr;
}

bool Stack::check_consistency() const {
  const Impl& i = *impl_;
  uint64_t send_frames = 0, receive_frames = 0;
  size_t live = 0;
  for (uint32_t n = 0; n < i.sockets.capacity(); ++n) {
    const Impl::Socket* s = i.sockets.find(n);
    if (s == nullptr || s->phase_ == Impl::Phase::kFree) continue;
    ++live;
    if (s->slot_ != n || !s->send_queue_.check_consistency()) return false;
    if (s->is_receiving_ && !s->receive_queue_.check_consistency()) return false;
    send_frames += s->send_queue_.frame_count();
    receive_frames += s->receive_queue_.frame_count();
  }
  uint64_t tx_queued = 0, rx_queued = 0;
  const memory::Region& region = i.binding.region;
  for (uint32_t n = 0; n < region.header->frame_count; ++n) {
    if ((region.descs[n].state & TTO_FRAME_TX_QUEUED) != 0) ++tx_queued;
    if ((region.descs[n].state & TTO_FRAME_RX_QUEUED) != 0) ++rx_queued;
  }
  return live == i.live_sockets && send_frames == tx_queued && send_frames == i.shared.send_frames &&
         receive_frames == rx_queued && i.slots.free_count() + live == i.sockets.capacity() && i.pool.check_consistency();
}

}  // namespace tto::stack
