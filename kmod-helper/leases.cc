#include "kmod-helper/leases.hh"

#include <arpa/inet.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <system_error>

#include "kmod-helper/log.hh"

namespace ttod {
namespace {

using tto::wire::IpAddress;

constexpr size_t kRechecksPerTurn = 4096;  // some milliseconds

tto_helper_grant refused(tto_helper_refusal reason) {
  tto_helper_grant grant{};
  grant.reason = reason;
  return grant;
}

bool is_same_key(const tto_listen_key& a, const tto_listen_key& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

tto_flow_key flow_key(const Nic& nic, const tto_helper_flow& flow) {
  tto_flow_key key{};
  key.nic = nic.nic_id;
  key.vlan = nic.vlan;
  std::memcpy(key.local, flow.local, 16);
  std::memcpy(key.remote, flow.remote, 16);
  key.local_port = htons(flow.local_port);
  key.remote_port = htons(flow.remote_port);
  return key;
}

tto::wire::FourTuple tuple_of(const tto_helper_flow& flow) {
  tto::wire::FourTuple tuple;
  std::memcpy(tuple.local.bytes.data(), flow.local, 16);
  std::memcpy(tuple.remote.bytes.data(), flow.remote, 16);
  tuple.local_port = flow.local_port;
  tuple.remote_port = flow.remote_port;
  return tuple;
}

size_t left_of(size_t limit, size_t used) { return used < limit ? limit - used : 0; }

/// Is the port the socket's own at this address? It may be another user's in the other family, or on another device.
bool may_use(const Placeholder& bound, const IpAddress& local, uint32_t ifindex) {
  if (bound.bound_ifindex != 0 && static_cast<uint32_t>(bound.bound_ifindex) != ifindex) return false;
  if (!bound.is_wildcard) return bound.address == local;
  return local.is_v4() ? bound.serves_v4 : bound.serves_v6;
}

/// The entries a listener should have on one NIC.
std::vector<tto_listen_key> wanted_keys(const Placeholder& bound, const Nic& nic) {
  std::vector<tto_listen_key> keys;
  if (bound.bound_ifindex != 0 && bound.bound_ifindex != nic.ifindex) return keys;
  for (const auto& bytes : nic.addresses) {
    const IpAddress address{bytes};
    const bool serves =
        bound.is_wildcard ? (address.is_v4() ? bound.serves_v4 : bound.serves_v6) : address == bound.address;
    if (!serves) continue;
    tto_listen_key key{};
    key.nic = nic.nic_id;
    key.vlan = nic.vlan;
    key.port = htons(bound.port);
    std::memcpy(key.local, bytes.data(), 16);
    keys.push_back(key);
  }
  return keys;
}

template <typename Key>
size_t value_of(const std::map<Key, size_t>& counts, const Key& key) {
  const auto at = counts.find(key);
  return at == counts.end() ? 0 : at->second;
}

template <typename Key>
void count_down(std::map<Key, size_t>& counts, const Key& key) {
  const auto at = counts.find(key);
  if (at != counts.end() && --at->second == 0) counts.erase(at);
}

}  // namespace

Leases::Leases(Steering& steering, const Policy& policy)
    : steering_(steering), policy_(policy), watch_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!watch_) throw std::system_error(errno, std::generic_category(), "epoll");
}

size_t Leases::Counts::left(const LeaseOwner& owner, size_t per_process, size_t per_user) const {
  return std::min(left_of(per_process, value_of(of_process, owner.pid)),
                  left_of(per_user, value_of(of_user, owner.uid)));
}

void Leases::Counts::add(const LeaseOwner& owner) {
  ++of_process[owner.pid];
  ++of_user[owner.uid];
}

void Leases::Counts::remove(const LeaseOwner& owner) {
  count_down(of_process, owner.pid);
  count_down(of_user, owner.uid);
}

int Leases::write_group(const tto_listen_key& key) {
  tto_listen_group group{};
  group.state = TTO_ENTRY_STEER;
  for (const uint64_t id : groups_[key]) {
    const uint32_t slot = listens_.at(id).owner.slot;
    const auto end = group.slots + group.count;
    if (std::find(group.slots, end, slot) != end) continue;
    if (group.count == TTO_GROUP_SLOTS) break;
    group.slots[group.count++] = slot;
  }
  if (group.count > 0) return steering_.set_listen(key, group);
  steering_.remove_listen(key);
  return 0;
}

tto_helper_refusal Leases::install_key(uint64_t id, Listen& lease, const Nic& nic, const tto_listen_key& key) {
  PolicyRequest request;
  request.uid = lease.owner.uid;
  request.gid = lease.owner.gid;
  request.is_listen = true;
  request.interface = nic.name;
  std::memcpy(request.local.bytes.data(), key.local, 16);
  request.local_port = lease.bound.port;
  if (!is_allowed(policy_, request)) return TTO_REFUSED_POLICY;

  // Sharing is the kernel's rule: all of them asked for it (SO_REUSEPORT; the kernel checked that the users agree).
  const auto sharing = groups_.find(key);
  if (sharing == groups_.end() || sharing->second.empty()) {
    tto_listen_group left{};
    if (steering_.find_listen(key, left) && left.count > 0 && !lease.bound.reuse_port) return TTO_REFUSED_IN_USE;
  } else {
    if (!lease.bound.reuse_port) return TTO_REFUSED_IN_USE;
    std::set<uint32_t> slots{lease.owner.slot};
    for (const uint64_t other : sharing->second) {
      if (!listens_.at(other).bound.reuse_port) return TTO_REFUSED_IN_USE;
      slots.insert(listens_.at(other).owner.slot);
    }
    if (slots.size() > TTO_GROUP_SLOTS) return TTO_REFUSED_LIMIT;
  }
  const tto_helper_refusal refusal = lease.netns->hold(nic);
  if (refusal != TTO_REFUSED_NONE) return refusal;
  groups_[key].push_back(id);
  lease.keys.push_back(key);
  if (write_group(key) == 0) return TTO_REFUSED_NONE;
  remove_key(id, key);
  return TTO_REFUSED_NO_RESOURCE;
}

void Leases::remove_key(uint64_t id, const tto_listen_key& key) {
  Listen& lease = listens_.at(id);
  std::erase_if(lease.keys, [&](const tto_listen_key& k) { return is_same_key(k, key); });
  std::erase(groups_[key], id);
  write_group(key);
  if (groups_[key].empty()) groups_.erase(key);
  lease.netns->drop(key.nic);
}

/// Brings the entries in line with the namespace. The first refusal if nothing could be installed.
tto_helper_refusal Leases::install(uint64_t id, Listen& lease) {
  std::vector<tto_listen_key> all;
  tto_helper_refusal first = TTO_REFUSED_NONE;
  for (const auto& [ifindex, nic] : lease.netns->nics()) {
    for (const tto_listen_key& key : wanted_keys(lease.bound, nic)) {
      all.push_back(key);
      const bool has = std::any_of(lease.keys.begin(), lease.keys.end(),
                                   [&](const tto_listen_key& k) { return is_same_key(k, key); });
      if (has) continue;
      const tto_helper_refusal refusal = install_key(id, lease, nic, key);
      if (refusal != TTO_REFUSED_NONE && first == TTO_REFUSED_NONE) first = refusal;
    }
  }
  const std::vector<tto_listen_key> installed = lease.keys;
  for (const tto_listen_key& key : installed) {
    const bool is_wanted =
        std::any_of(all.begin(), all.end(), [&](const tto_listen_key& k) { return is_same_key(k, key); });
    if (!is_wanted) remove_key(id, key);
  }
  if (!lease.keys.empty()) return TTO_REFUSED_NONE;
  if (first != TTO_REFUSED_NONE) return first;
  // Nothing to listen on yet: a wildcard waits for an address, anything else is not ours.
  return lease.bound.is_wildcard && !lease.netns->nics().empty() ? TTO_REFUSED_NONE : TTO_REFUSED_NO_NIC;
}

tto_helper_grant Leases::listen(const LeaseOwner& owner, ServedNamespace& netns, ClientSocket placeholder) {
  if (listen_counts_.left(owner, policy_.limits.listens_per_process, policy_.limits.listens_per_user) == 0)
    return refused(TTO_REFUSED_LIMIT);
  const std::optional<Placeholder>& bound = placeholder.bound;
  // A socket that is bound only proves nothing: with SO_REUSEADDR somebody else may be listening on its port.
  if (!bound || !bound->is_listening) return refused(TTO_REFUSED_BAD_SOCKET);
  const uint64_t id = next_id_++;
  auto held = std::make_shared<const Fd>(std::move(placeholder.fd));
  const auto at = listens_.emplace(id, Listen{owner, &netns, std::move(held), *bound, {}}).first;
  listen_counts_.add(owner);
  watch(id, *at->second.placeholder);
  const tto_helper_refusal refusal = install(id, at->second);
  if (refusal != TTO_REFUSED_NONE) {
    end(at);
    return refused(refusal);
  }
  tto_helper_grant grant{};
  grant.grant_id = id;
  return grant;
}

/// Whether this owner may have the tuple, and which NIC it is on. Does not look at who else has it.
tto_helper_refusal Leases::check_flow(const LeaseOwner& owner, const ServedNamespace& netns,
                                      const tto_helper_flow& flow, const Nic** nic) const {
  const tto::wire::FourTuple tuple = tuple_of(flow);
  const auto at = netns.nics().find(static_cast<int>(flow.ifindex));
  if (at == netns.nics().end() || at->second.addresses.count(tuple.local.bytes) == 0) return TTO_REFUSED_NO_NIC;
  *nic = &at->second;
  PolicyRequest request;
  request.uid = owner.uid;
  request.gid = owner.gid;
  request.interface = at->second.name;
  request.local = tuple.local;
  request.remote = tuple.remote;
  request.local_port = flow.local_port;
  request.remote_port = flow.remote_port;
  return is_allowed(policy_, request) ? TTO_REFUSED_NONE : TTO_REFUSED_POLICY;
}

tto_helper_grant Leases::install_flow(const LeaseOwner& owner, ServedNamespace& netns, const Nic& nic,
                                      const tto_helper_flow& flow, Fd placeholder, bool is_leased) {
  const tto_helper_refusal refusal = netns.hold(nic);
  if (refusal != TTO_REFUSED_NONE) return refused(refusal);
  const tto_flow_key key = flow_key(nic, flow);
  const int status = steering_.add_flow(key, owner.slot);
  if (status != 0) {
    netns.drop(key.nic);
    return refused(status == EEXIST ? TTO_REFUSED_IN_USE : TTO_REFUSED_NO_RESOURCE);
  }
  tto_helper_grant grant{};
  grant.grant_id = next_id_++;
  IpAddress next_hop;
  std::memcpy(next_hop.bytes.data(), flow.next_hop, 16);
  if (const std::optional<Mac> mac = netns.hold_next_hop(nic.ifindex, next_hop))
    std::memcpy(grant.next_hop_mac, mac->data(), 6);
  flow_counts_.add(owner);
  auto held = std::make_shared<const Fd>(std::move(placeholder));
  if (is_leased) {
    ++lease_counts_[owner.uid];
  } else {
    watch(grant.grant_id, *held);
  }
  flows_.emplace(grant.grant_id, Flow{owner, &netns, std::move(held), is_leased, key, nic.ifindex, next_hop});
  return grant;
}

tto_helper_grant Leases::open_flow(const LeaseOwner& owner, ServedNamespace& netns, ClientSocket placeholder,
                                   const tto_helper_flow& flow) {
  if (flow_counts_.left(owner, policy_.limits.flows_per_process, policy_.limits.flows_per_user) == 0)
    return refused(TTO_REFUSED_LIMIT);
  const std::optional<Placeholder>& bound = placeholder.bound;
  const tto::wire::FourTuple tuple = tuple_of(flow);
  if (!bound || bound->is_listening || bound->port != flow.local_port || flow.remote_port == 0 ||
      tuple.local.is_v4() != tuple.remote.is_v4() || !may_use(*bound, tuple.local, flow.ifindex))
    return refused(TTO_REFUSED_BAD_SOCKET);
  const Nic* nic = nullptr;
  if (const tto_helper_refusal refusal = check_flow(owner, netns, flow, &nic); refusal != TTO_REFUSED_NONE)
    return refused(refusal);
  const auto [is_known, cookie] = netns.kernel_socket(tuple, flow.ifindex);
  if (!is_known) return refused(TTO_REFUSED_NO_RESOURCE);
  if (cookie != 0) return refused(TTO_REFUSED_IN_USE);
  return install_flow(owner, netns, *nic, flow, std::move(placeholder.fd), false);
}

tto_helper_refusal Leases::lease(const LeaseOwner& owner, ServedNamespace& netns, const tto_helper_lease& wish,
                                 tto_helper_leased& out) {
  tto_helper_flow flow{};
  std::memcpy(flow.local, wish.local, 16);
  std::memcpy(flow.remote, wish.remote, 16);
  std::memcpy(flow.next_hop, wish.next_hop, 16);
  flow.remote_port = wish.remote_port;
  flow.ifindex = wish.ifindex;
  const tto::wire::FourTuple tuple = tuple_of(flow);
  if (wish.remote_port == 0 || tuple.local.is_v4() != tuple.remote.is_v4()) return TTO_REFUSED_BAD_SOCKET;
  // Before anything is reserved. The rules may speak of local ports too: each is asked about again below.
  const auto nic_at = netns.nics().find(static_cast<int>(wish.ifindex));
  if (nic_at == netns.nics().end() || nic_at->second.addresses.count(tuple.local.bytes) == 0) return TTO_REFUSED_NO_NIC;
  const Limits& limits = policy_.limits;
  const size_t left_of_flows = flow_counts_.left(owner, limits.flows_per_process, limits.flows_per_user);
  const size_t left_of_leases = left_of(limits.leases_per_user, value_of(lease_counts_, owner.uid));
  const size_t count = std::min({size_t{wish.count}, left_of_flows, left_of_leases});
  if (count == 0) return TTO_REFUSED_LIMIT;
  // No kernel connection can have a tuple of these: nobody else may bind the port at this address while we have it.
  tto_helper_refusal first = TTO_REFUSED_NO_RESOURCE;
  for (ReservedPort& reserved : netns.reserve_ports(tuple.local, count)) {
    flow.local_port = reserved.port;
    const Nic* nic = nullptr;
    tto_helper_grant grant = refused(check_flow(owner, netns, flow, &nic));
    if (grant.reason == TTO_REFUSED_NONE)
      grant = install_flow(owner, netns, *nic, flow, std::move(reserved.socket), true);
    if (grant.grant_id == 0) {
      first = static_cast<tto_helper_refusal>(grant.reason);
      continue;
    }
    std::memcpy(out.next_hop_mac, grant.next_hop_mac, 6);
    out.tuples[out.count++] = {grant.grant_id, reserved.port, {}};
  }
  return out.count > 0 ? TTO_REFUSED_NONE : first;
}

void Leases::end(std::map<uint64_t, Listen>::iterator at) {
  const std::vector<tto_listen_key> keys = at->second.keys;
  for (const tto_listen_key& key : keys) remove_key(at->first, key);
  listen_counts_.remove(at->second.owner);
  ::epoll_ctl(watch_.get(), EPOLL_CTL_DEL, at->second.placeholder->get(), nullptr);
  listens_.erase(at);
}

void Leases::end(std::map<uint64_t, Flow>::iterator at) {
  const Flow& flow = at->second;
  steering_.remove_flow(flow.key, flow.owner.slot);
  flow.netns->drop_next_hop(flow.ifindex, flow.next_hop);
  flow.netns->drop(flow.key.nic);
  flow_counts_.remove(flow.owner);
  if (flow.is_leased) count_down(lease_counts_, flow.owner.uid);
  ::epoll_ctl(watch_.get(), EPOLL_CTL_DEL, flow.placeholder->get(), nullptr);
  flows_.erase(at);
}

bool Leases::release(uint32_t session, uint64_t grant_id) {
  if (const auto at = listens_.find(grant_id); at != listens_.end() && at->second.owner.session == session) {
    end(at);
    return true;
  }
  if (const auto at = flows_.find(grant_id); at != flows_.end() && at->second.owner.session == session) {
    end(at);
    return true;
  }
  return false;
}

bool Leases::release_accepted(uint32_t slot, const ServedNamespace& netns, const tto_helper_flow& flow, uint32_t iss) {
  const auto nic = netns.nics().find(static_cast<int>(flow.ifindex));
  if (nic == netns.nics().end()) return false;
  const tto_flow_key key = flow_key(nic->second, flow);
  tto_flow_value value{};
  return steering_.find_flow(key, value) && value.accepted != 0 && ntohl(value.iss) == iss &&
         steering_.remove_flow(key, slot);
}

void Leases::release_all(uint32_t session) {
  for (auto at = listens_.begin(); at != listens_.end();) {
    const auto here = at++;
    if (here->second.owner.session == session) end(here);
  }
  for (auto at = flows_.begin(); at != flows_.end();) {
    const auto here = at++;
    if (here->second.owner.session == session) end(here);
  }
}

void Leases::follow(ServedNamespace& netns) {
  for (auto& [id, lease] : listens_)
    if (lease.netns == &netns) install(id, lease);
}

bool Leases::Recheck::is_held() const {
  if (!is_listening) return bound_port(placeholder->get()) == port;
  const std::optional<Placeholder> now = read_placeholder(placeholder->get());
  return now && now->is_listening && now->port == port;
}

/// Whatever takes a port away from a socket wakes who waits for errors of it.
void Leases::watch(uint64_t grant, const Fd& placeholder) {
  epoll_event event{};
  event.events = EPOLLET;
  event.data.u64 = grant;
  if (::epoll_ctl(watch_.get(), EPOLL_CTL_ADD, placeholder.get(), &event) != 0)
    LOG_LIMITED(kWarning, "cannot watch a placeholder: errno %d", errno);  // it is looked at from time to time
}

void Leases::add_recheck(std::map<uint32_t, Rechecks>& to, uint64_t grant) const {
  if (const auto at = listens_.find(grant); at != listens_.end()) {
    Rechecks& list = to[at->second.owner.session];
    list.owner = at->second.owner;
    list.of_session.push_back({grant, at->second.placeholder, at->second.bound.port, true});
  } else if (const auto flow = flows_.find(grant); flow != flows_.end() && !flow->second.is_leased) {
    Rechecks& list = to[flow->second.owner.session];
    list.owner = flow->second.owner;
    list.of_session.push_back({grant, flow->second.placeholder, ntohs(flow->second.key.local_port), false});
  }
}

std::map<uint32_t, Leases::Rechecks> Leases::take_rechecks(bool also_others,
                                                           const std::function<bool(uint32_t)>& is_busy) {
  std::map<uint32_t, Rechecks> due;
  std::array<epoll_event, 256> changed;
  const int count = ::epoll_wait(watch_.get(), changed.data(), static_cast<int>(changed.size()), 0);
  for (int i = 0; i < count; ++i) changed_.insert(changed[static_cast<size_t>(i)].data.u64);
  for (const uint64_t grant : changed_) add_recheck(due, grant);
  changed_.clear();
  if (also_others) {
    for (const auto& [id, lease] : listens_) add_recheck(due, id);
    auto at = flows_.lower_bound(next_recheck_);
    for (size_t done = 0; at != flows_.end() && done < kRechecksPerTurn; ++at, ++done) add_recheck(due, at->first);
    next_recheck_ = at == flows_.end() ? 0 : at->first;
  }
  for (auto at = due.begin(); at != due.end();) {
    const auto here = at++;
    if (!is_busy(here->first)) continue;
    for (const Recheck& one : here->second.of_session) changed_.insert(one.grant);
    due.erase(here);
  }
  return due;
}

void Leases::end_given_up(uint32_t session, uint64_t grant) {
  if (release(session, grant)) LOG_LIMITED(kNotice, "session %u gave up a port: its entries go", session);
}

bool Leases::has_flow(const LeaseOwner& owner, const ServedNamespace& netns,
                      const tto_helper_release_item& item) const {
  const auto nic = netns.nics().find(static_cast<int>(item.flow.ifindex));
  if (nic == netns.nics().end()) return false;
  const tto_flow_key key = flow_key(nic->second, item.flow);
  tto_flow_value value{};
  if (!steering_.find_flow(key, value) || value.slot != owner.slot) return false;
  if (item.grant_id == 0) return value.accepted != 0 && ntohl(value.iss) == item.iss;
  const auto at = flows_.find(item.grant_id);
  return at != flows_.end() && at->second.owner.session == owner.session &&
         std::memcmp(&at->second.key, &key, sizeof key) == 0;
}

void Leases::release_flow(const LeaseOwner& owner, const ServedNamespace& netns, const tto_helper_release_item& item) {
  if (item.grant_id != 0) {
    release(owner.session, item.grant_id);
  } else {
    release_accepted(owner.slot, netns, item.flow, item.iss);
  }
}

}  // namespace ttod
