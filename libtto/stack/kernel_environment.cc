#include "libtto/stack/kernel_environment.hh"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "libtto/base/sys.hh"
#include "libtto/stack/clock.hh"

namespace tto::stack {
namespace {

// How long a release may wait for others to go with it.
constexpr Duration kReleasePatience = milliseconds(50);

/// What added to a moment of our clock gives nanoseconds since 1970.
int64_t clock_epoch_ns() {
  timespec t;
  sys::clock_gettime(CLOCK_REALTIME, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec - read_clock().ns;
}

}  // namespace

stats::Counter reason_of(tto_helper_refusal refusal) {
  using C = stats::Counter;
  switch (refusal) {
    case TTO_REFUSED_NONE: break;
    case TTO_REFUSED_VERSION: return C::kernel_helper_version;
    case TTO_REFUSED_MALFORMED: return C::kernel_bad_socket;
    case TTO_REFUSED_POLICY: return C::kernel_policy;
    case TTO_REFUSED_LIMIT: return C::kernel_limit;
    case TTO_REFUSED_NO_NIC: return C::kernel_no_nic;
    case TTO_REFUSED_FILTERED: return C::kernel_filtered;
    case TTO_REFUSED_FOREIGN_XDP: return C::kernel_foreign_xdp;
    case TTO_REFUSED_BAD_SOCKET: return C::kernel_bad_socket;
    case TTO_REFUSED_IN_USE: return C::kernel_in_use;
    case TTO_REFUSED_NO_RESOURCE: return C::kernel_no_resource;
    case TTO_REFUSED_NO_ROUTE: return C::kernel_no_route;
    case TTO_REFUSED_NOT_OWNER: return C::kernel_bad_socket;
  }
  return C::kernel_no_resource;
}

void KernelEnvironment::set_nics(const tto_helper_port& port) {
  slot_ = port.slot;
  nic_count_ = std::min<uint32_t>(port.nic_count, TTO_HELPER_MAX_NICS);
  std::copy_n(port.nics, nic_count_, nics_);
}

const tto_helper_nic* KernelEnvironment::nic_at(int ifindex) const {
  for (uint32_t i = 0; i < nic_count_; ++i) {
    if (nics_[i].ifindex == static_cast<uint32_t>(ifindex)) return &nics_[i];
  }
  return nullptr;
}

Expected<KernelEnvironment::Resolved, stats::Counter> KernelEnvironment::resolve(const RouteQuery& q) {
  const auto route = net.route(q.destination, q.source, q.oif, q.tos, q.mark);
  if (!route.has_value()) return Unexpected{stats::Counter::kernel_no_route};
  if (route->is_local) return Unexpected{stats::Counter::kernel_local};
  if (route->is_broadcast_or_multicast) return Unexpected{stats::Counter::kernel_no_route};
  const tto_helper_nic* nic = nic_at(route->ifindex);
  const control::Link* link = net.link(route->ifindex);
  if (nic == nullptr || link == nullptr || !link->is_up) return Unexpected{stats::Counter::kernel_no_nic};
  Resolved out;
  out.hop.ifindex = route->ifindex;
  out.hop.link_mtu_bytes = link->mtu_bytes;
  out.hop.mtu_bytes = route->mtu_bytes != 0 ? std::min(route->mtu_bytes, link->mtu_bytes) : link->mtu_bytes;
  out.hop.headers.source_mac = link->mac;
  out.hop.headers.vlan = nic->vlan;
  out.hop.source = q.source != nullptr ? *q.source : route->source;
  out.next_hop_address = route->next_hop;
  out.has_mac = net.neighbor(route->ifindex, route->next_hop, out.hop.headers.destination_mac);
  return out;
}

Expected<Environment::NextHop, stats::Counter> KernelEnvironment::next_hop(const wire::IpAddress& destination,
                                                                           const wire::IpAddress* source, int oif) {
  const auto resolved = resolve({destination, source, oif, 0, 0});
  if (!resolved.has_value()) return Unexpected{resolved.error()};
  if (!resolved->has_mac) return Unexpected{stats::Counter::kernel_no_neighbor};
  return resolved->hop;
}

void KernelEnvironment::release_flow(const device::FlowKey& key, int ifindex, uint64_t grant_id, uint32_t iss) {
  if (!helper.is_connected()) return;
  tto_helper_release_item item{};
  item.grant_id = grant_id;
  std::copy(key.tuple.local.bytes.begin(), key.tuple.local.bytes.end(), item.flow.local);
  std::copy(key.tuple.remote.bytes.begin(), key.tuple.remote.bytes.end(), item.flow.remote);
  item.flow.local_port = key.tuple.local_port;
  item.flow.remote_port = key.tuple.remote_port;
  item.flow.ifindex = static_cast<uint32_t>(ifindex);
  item.iss = iss;
  // A placeholder of the application's keeps its port until ttod lets go of it: at once. Nobody waits for the rest.
  const bool is_urgent = grant_id != 0 && !tuples_.forget(grant_id);
  flush_at_ = std::min(flush_at_, is_urgent ? Instant{} : read_clock() + kReleasePatience);
  helper.release(item);
}

bool KernelEnvironment::keep_flow(uint64_t grant_id, uint32_t next_seq) {
  return helper.is_connected() && tuples_.give_back(grant_id, next_seq, read_clock());
}

Instant KernelEnvironment::next_event() {
  return helper.is_connected() ? std::min(flush_at_, tuples_.next_idle()) : kNever;
}

Expected<KernelEnvironment::Lease, tto_helper_refusal> KernelEnvironment::lease_tuple(
    const control::LeaseTarget& target, Instant now) {
  Lease out;
  tto_helper_event event;
  while (helper.poll_event(event)) on_event(event);  // with ttod went the ports that it reserved
  if (!helper.is_connected()) return Unexpected{TTO_REFUSED_NO_RESOURCE};
  if (tuples_.take(target, now, out.tuple)) return out;
  tto_helper_lease wish{};
  wish.slot = slot_;
  wish.count = tuples_.wish(target);
  std::copy(target.local.bytes.begin(), target.local.bytes.end(), wish.local);
  std::copy(target.remote.bytes.begin(), target.remote.bytes.end(), wish.remote);
  std::copy(target.next_hop.bytes.begin(), target.next_hop.bytes.end(), wish.next_hop);
  wish.remote_port = target.remote_port;
  wish.ifindex = static_cast<uint32_t>(target.ifindex);
  tto_helper_leased_tuple fresh[TTO_HELPER_MAX_LEASE];
  const auto count = helper.lease(wish, fresh, out.mac);
  if (!count.has_value()) return Unexpected{count.error()};
  const size_t kept = tuples_.add(target, {fresh, *count}, now);
  for (size_t i = std::max<size_t>(kept, 1); i < *count; ++i) release_tuple(fresh[i].grant_id);
  if (kept > 0) {
    tuples_.take(target, now, out.tuple);
  } else {
    out.tuple = {fresh[0].grant_id, fresh[0].local_port, false, 0};
  }
  return out;
}

void KernelEnvironment::release_tuple(uint64_t grant_id) {
  tto_helper_release_item item{};
  item.grant_id = grant_id;
  flush_at_ = std::min(flush_at_, read_clock() + kReleasePatience);
  helper.release(item);
}

void KernelEnvironment::release_listener(uint64_t grant_id) {
  if (!helper.is_connected()) return;
  tto_helper_release_item item{};
  item.grant_id = grant_id;
  (void)helper.release_now(item);  // late: the port becomes free a little after the close
}

void KernelEnvironment::inject(uint64_t handover_id, std::span<const uint8_t> packet) {
  (void)helper.inject(handover_id, packet);  // without ttod it is as if lost on the way
}

void KernelEnvironment::refresh(Instant now) {
  net.refresh();
  if (!helper.is_connected()) {
    if (tuples_.free_count() != 0) tuples_.clear();  // ttod reserves their ports no more
    return;
  }
  control::LeasedTuple idle;
  while (tuples_.take_idle(now, idle)) release_tuple(idle.grant_id);
  if (now >= flush_at_) {
    helper.flush();
    flush_at_ = kNever;
  }
  tto_helper_event event;
  while (helper.poll_event(event)) on_event(event);
}

KernelEnvironment::Capture::Capture(port::FramePort& inner, memory::FramePool& pool)
    : recorder(inner, pool, clock_epoch_ns()) {}

port::FramePort& KernelEnvironment::observed_port(port::FramePort& port, memory::FramePool& pool, Instant now) {
  if (page_ == nullptr) return port;
  if (!capture_.has_value()) {
    if (!port::LiveCapture::is_wanted(page_, now)) return port;
    capture_.emplace(port, pool);
  }
  capture_->live.poll(page_, now);
  if (capture_->live.is_recording()) return capture_->recorder;
  capture_.reset();
  return port;
}

void KernelEnvironment::set_page(tto_stats_page* page) {
  page_ = page;
  show_nics();
}

void KernelEnvironment::show_nics() {
  if (page_ == nullptr) return;
  static_assert(std::extent_v<decltype(tto_stats_page::nics)> >= TTO_HELPER_MAX_NICS, "the page has a place for every one");
  for (uint32_t i = 0; i < nic_count_; ++i) {
    page_->nics[i].ifindex = nics_[i].ifindex;
    page_->nics[i].xdp_mode = nics_[i].xdp_mode;
    memcpy(page_->nics[i].name, nics_[i].name, sizeof page_->nics[i].name);
  }
  page_->nic_count = nic_count_;
}

void KernelEnvironment::abandon() {
  helper.abandon();
  if (capture_.has_value()) capture_->live.abandon();
  page_ = nullptr;
}

void KernelEnvironment::on_event(const tto_helper_event& event) {
  ++nic_generation_;
  take_event(event);
  show_nics();
}

void KernelEnvironment::take_event(const tto_helper_event& event) {
  switch (event.kind) {
    case TTO_EVENT_NIC_CHANGED:
      for (uint32_t i = 0; i < nic_count_; ++i) {
        if (nics_[i].nic_id != event.nic.nic_id) continue;
        nics_[i] = event.nic;
        return;
      }
      if (nic_count_ < TTO_HELPER_MAX_NICS) nics_[nic_count_++] = event.nic;
      return;
    case TTO_EVENT_NIC_LOST:
      for (uint32_t i = 0; i < nic_count_; ++i) {
        if (nics_[i].nic_id != event.nic.nic_id) continue;
        nics_[i] = nics_[--nic_count_];
        return;
      }
      return;
    case TTO_EVENT_PORT_REVOKED: is_revoked_ = true; return;
    default: return;
  }
}

}  // namespace tto::stack
