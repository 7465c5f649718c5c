#include "kmod-helper/served_namespace.hh"

#include <bpf/libbpf.h>
#include <endian.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/inet_diag.h>
#include <linux/neighbour.h>
#include <linux/sock_diag.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "kmod-helper/filters.hh"
#include "kmod-helper/log.hh"
#include "kmod-helper/netns.hh"

namespace ttod {
namespace {

constexpr size_t kNeighborsPerNamespace = 4096;
constexpr auto kProbeInterval = std::chrono::seconds(15);  // below the kernel's base reachable time of 30 s
constexpr auto kFilterMemory = std::chrono::milliseconds(200);
constexpr uint32_t kMulticastGroups = RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;

/// Peers on these hand over frames whose TCP checksum was left to a device that never comes (DESIGN 2.13).
bool leaves_partial_checksums(const std::string& kind) { return kind == "veth"; }

std::array<uint8_t, 16> address_of(int family, const void* data) {
  if (family == AF_INET6) return tto::wire::IpAddress::from_v6(data).bytes;
  uint32_t v4 = 0;
  std::memcpy(&v4, data, 4);
  return tto::wire::IpAddress::from_v4(v4).bytes;
}

/// Of the program that an earlier ttod left on the device.
XdpMode attached_mode(int netns, int ifindex) {
  NetnsScope inside(netns);
  LIBBPF_OPTS(bpf_xdp_query_opts, found);
  const bool is_native = bpf_xdp_query(ifindex, 0, &found) == 0 && found.attach_mode == XDP_ATTACHED_DRV;
  return is_native ? XdpMode::kNative : XdpMode::kGeneric;
}

bool is_usable(uint16_t nud_state) {
  return (nud_state & (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP)) != 0;
}

}  // namespace

void NicNumbers::sweep() {
  for (const uint32_t nic : steering_.sweep()) {
    used_[nic] = true;
    left_.insert(nic);
  }
}

std::optional<uint32_t> NicNumbers::take(uint64_t netns_cookie, uint32_t ifindex, uint32_t uid) {
  if (uid != 0 && nics_of_user_[uid] >= kNicsPerUser) {
    LOG_LIMITED(kNotice, "uid %u: interface %u is not served: it has %u already", uid, ifindex, kNicsPerUser);
    return std::nullopt;
  }
  for (const uint32_t nic : left_) {
    const tto_nic_info info = steering_.nic_info(nic);
    if (info.netns_cookie != netns_cookie || info.ifindex != ifindex) continue;
    left_.erase(nic);
    user_of_[nic] = uid;
    ++nics_of_user_[uid];
    return nic;
  }
  for (uint32_t nic = 1; nic < TTO_MAX_NICS; ++nic) {  // 0 stays unused: a zeroed key matches nothing
    if (used_[nic]) continue;
    used_[nic] = true;
    user_of_[nic] = uid;
    ++nics_of_user_[uid];
    return nic;
  }
  return std::nullopt;
}

void NicNumbers::give_back(uint32_t nic) {
  steering_.remove_nic_entries(nic);  // or they would speak of the next device with this number
  used_[nic] = false;
  discount_nic(nic);
}

void NicNumbers::leave(uint32_t nic) {
  left_.insert(nic);
  discount_nic(nic);
}

void NicNumbers::discount_nic(uint32_t nic) {
  const auto user = user_of_.find(nic);
  if (user == user_of_.end()) return;
  if (--nics_of_user_[user->second] == 0) nics_of_user_.erase(user->second);
  user_of_.erase(user);
}

bool NicNumbers::try_count_neighbor(uint32_t uid) {
  size_t& count = neighbors_of_user_[uid];
  if (uid != 0 && count >= kNeighborsPerUser) return false;
  ++count;
  return true;
}

void NicNumbers::discount_neighbors(uint32_t uid, size_t count) {
  const auto at = neighbors_of_user_.find(uid);
  if (at != neighbors_of_user_.end() && (at->second -= std::min(at->second, count)) == 0) neighbors_of_user_.erase(at);
}

void NicNumbers::maintain() {
  for (auto at = left_.begin(); at != left_.end();) {
    const uint32_t nic = *at;
    if (steering_.nic_has_entries(nic)) {
      ++at;
      continue;
    }
    SteerLink link;
    if (steering_.adopt_steer(nic, link) == 0) steering_.detach_steer(nic, link);
    steering_.clear_nic(nic);
    used_[nic] = false;
    LOG_INFO("nic %u: left by an earlier ttod, no entries any more: detached", nic);
    at = left_.erase(at);
  }
}

ServedNamespace::ServedNamespace(Steering& steering, NicNumbers& numbers, const Policy& policy, Fd netns,
                                 uint64_t cookie, uint32_t uid)
    : steering_(steering), numbers_(numbers), policy_(policy), netns_(std::move(netns)), cookie_(cookie), uid_(uid) {}

ServedNamespace::~ServedNamespace() {
  numbers_.discount_neighbors(uid_, neighbors_.size());
  for (auto& [ifindex, device] : devices_) {
    if (device.link.link && steering_.nic_has_entries(device.nic_id)) {
      numbers_.leave(device.nic_id);  // of processes that outlived an earlier ttod
      continue;
    }
    if (device.link.link) detach(device);
    numbers_.give_back(device.nic_id);
  }
}

void ServedNamespace::leave() { devices_.clear(); }

void ServedNamespace::open() {
  NetnsScope inside(netns_.get());
  int status = notifications_.open(NETLINK_ROUTE, kMulticastGroups);
  if (status == 0) status = requests_.open(NETLINK_ROUTE);
  if (status != 0) throw std::system_error(status, std::generic_category(), "rtnetlink");
  open_diagnosis();
  const int error = injector_.open();
  if (error != 0) LOG_WARNING("no raw sockets (errno %d): handed over connections lose frames on their way", error);
  read_links_and_addresses();
  read_neighbors();
}

bool ServedNamespace::add_link(const nlmsghdr* message, std::map<int, Nic>& links) {
  if (message->nlmsg_type != RTM_NEWLINK) return false;
  const auto* info = static_cast<const ifinfomsg*>(NLMSG_DATA(message));
  const NetlinkAttributes attributes(message, sizeof *info);
  if (info->ifi_type != ARPHRD_ETHER || attributes.has(IFLA_MASTER)) return false;
  Nic nic;
  nic.ifindex = nic.device = info->ifi_index;
  // The carrier itself: IFF_RUNNING follows it up to a second later.
  nic.is_up = (info->ifi_flags & IFF_UP) != 0 && (info->ifi_flags & IFF_LOWER_UP) != 0;
  nic.name = attributes.text(IFLA_IFNAME);
  nic.mtu = attributes.u32(IFLA_MTU, 1500);
  if (const void* mac = attributes.data(IFLA_ADDRESS, 6)) std::memcpy(nic.mac.data(), mac, 6);
  if (!is_interface_allowed(policy_, nic.name)) return false;
  const NetlinkAttributes link_info = attributes.nested(IFLA_LINKINFO);
  nic.kind = link_info.text(IFLA_INFO_KIND);
  if (nic.kind == "vlan") {
    // On a veth the tag travels beside the frame, where XDP does not see it; so only on devices of hardware.
    if (attributes.has(IFLA_LINK_NETNSID)) return false;
    nic.device = static_cast<int>(attributes.u32(IFLA_LINK, 0));
    const void* id = link_info.nested(IFLA_INFO_DATA).data(IFLA_VLAN_ID, 2);
    if (id == nullptr) return false;
    std::memcpy(&nic.vlan, id, 2);
  } else if (!nic.kind.empty() && nic.kind != "veth") {
    return false;  // bridges, bonds, tunnels and the like stay with the kernel
  }
  links.emplace(nic.ifindex, std::move(nic));
  return true;
}

void ServedNamespace::read_links_and_addresses() {
  std::map<int, Nic> found;
  NetlinkRequest links(RTM_GETLINK, NLM_F_DUMP);
  links.body(ifinfomsg{});
  requests_.dump(links, [&](const nlmsghdr* m) { add_link(m, found); });
  std::erase_if(found, [&](const auto& item) {
    const Nic& nic = item.second;
    if (nic.device == nic.ifindex) return false;
    const auto parent = found.find(nic.device);
    return parent == found.end() || !parent->second.kind.empty();
  });
  NetlinkRequest addresses(RTM_GETADDR, NLM_F_DUMP);
  addresses.body(ifaddrmsg{});
  requests_.dump(addresses, [&](const nlmsghdr* m) {
    const auto* info = static_cast<const ifaddrmsg*>(NLMSG_DATA(m));
    const auto nic = found.find(static_cast<int>(info->ifa_index));
    if (nic == found.end()) return;
    const NetlinkAttributes attributes(m, sizeof *info);
    if ((attributes.u32(IFA_FLAGS, info->ifa_flags) & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) != 0) return;
    const size_t bytes = info->ifa_family == AF_INET6 ? 16 : 4;
    const void* address = attributes.data(IFA_LOCAL, bytes);
    if (address == nullptr) address = attributes.data(IFA_ADDRESS, bytes);
    if (address != nullptr) nic->second.addresses.insert(address_of(info->ifa_family, address));
  });
  nics_ = std::move(found);
  adopt_devices();
}

/// Gives every device its number, and forgets those that are gone.
void ServedNamespace::adopt_devices() {
  for (auto at = devices_.begin(); at != devices_.end();) {
    if (nics_.count(at->first) != 0) {
      ++at;
      continue;
    }
    if (at->second.link.link) detach(at->second);
    numbers_.give_back(at->second.nic_id);
    at = devices_.erase(at);
  }
  for (auto& [ifindex, nic] : nics_) {
    if (nic.device != nic.ifindex) continue;
    auto known = devices_.find(ifindex);
    if (known == devices_.end()) {
      const std::optional<uint32_t> number = numbers_.take(cookie_, static_cast<uint32_t>(ifindex), uid_);
      if (!number) continue;
      Device device;
      device.nic_id = *number;
      device.ifindex = ifindex;
      device.is_veth = nic.kind == "veth";
      device.mac = nic.mac;
      device.idle_since = Clock::now();
      if (steering_.adopt_steer(*number, device.link) == 0) {
        device.link.mode = attached_mode(netns_.get(), ifindex);
        LOG_INFO("%s: adopted the steering program of an earlier ttod", nic.name.c_str());
      }
      known = devices_.emplace(ifindex, std::move(device)).first;
      if (known->second.link.link) publish(known->second);
    } else if (known->second.mac != nic.mac) {
      for (const auto& [other, on] : nics_)
        if (on.device == ifindex) {
          tto_nic_mac_key key{.netns_cookie = cookie_, .mac = {}, .vlan = on.vlan};
          std::memcpy(key.mac, known->second.mac.data(), 6);
          steering_.clear_nic_mac(key);
        }
      known->second.mac = nic.mac;
      if (known->second.link.link) publish(known->second);
    }
  }
  for (auto& [ifindex, nic] : nics_) {
    const auto device = devices_.find(nic.device);
    nic.nic_id = device != devices_.end() ? device->second.nic_id : 0;
  }
  std::erase_if(nics_, [](const auto& item) { return item.second.nic_id == 0; });
  // Neighbours of an interface that is gone went with its number, and nobody announces them any more.
  numbers_.discount_neighbors(
      uid_, std::erase_if(neighbors_, [this](const auto& item) { return nics_.count(item.first.first) == 0; }));
}

void ServedNamespace::read_neighbors() {
  for (const int family : {AF_INET, AF_INET6}) {
    NetlinkRequest request(RTM_GETNEIGH, NLM_F_DUMP);
    ndmsg body{};
    body.ndm_family = static_cast<uint8_t>(family);
    request.body(body);
    requests_.dump(request, [&](const nlmsghdr* m) { take_neighbor(m); });
  }
}

void ServedNamespace::take_neighbor(const nlmsghdr* message) {
  const auto* info = static_cast<const ndmsg*>(NLMSG_DATA(message));
  if (info->ndm_family != AF_INET && info->ndm_family != AF_INET6) return;
  const NetlinkAttributes attributes(message, sizeof *info);
  const void* address = attributes.data(NDA_DST, info->ndm_family == AF_INET6 ? 16 : 4);
  if (address == nullptr || nics_.count(info->ndm_ifindex) == 0) return;
  const NeighborId id{info->ndm_ifindex, address_of(info->ndm_family, address)};
  const void* mac_bytes = attributes.data(NDA_LLADDR, 6);
  std::optional<Mac> mac;
  if (message->nlmsg_type == RTM_NEWNEIGH && mac_bytes != nullptr && is_usable(info->ndm_state)) {
    mac.emplace();
    std::memcpy(mac->data(), mac_bytes, 6);
  }
  if (mac && (info->ndm_state & (NUD_PERMANENT | NUD_NOARP)) != 0) {
    fixed_neighbors_.insert(id);
  } else {
    fixed_neighbors_.erase(id);
  }
  const auto known = neighbors_.find(id);
  if (known != neighbors_.end()) {
    if (mac && known->second == *mac) return;
    const Mac old = known->second;
    neighbors_.erase(known);
    numbers_.discount_neighbors(uid_, 1);
    const bool is_shared = std::any_of(neighbors_.begin(), neighbors_.end(), [&](const auto& other) {
      return other.first.first == id.first && other.second == old;
    });
    if (!is_shared) publish_neighbor(id.first, old, false);
  }
  // Next hops of connections are few, and always followed.
  const bool is_needed = held_next_hops_.count(id) != 0 || neighbors_.size() < kNeighborsPerNamespace;
  if (mac && is_needed && numbers_.try_count_neighbor(uid_)) {
    neighbors_[id] = *mac;
    publish_neighbor(id.first, *mac, true);
  }
}

void ServedNamespace::publish_neighbor(int ifindex, const Mac& mac, bool present) {
  const Nic& nic = nics_.at(ifindex);
  tto_neighbor_key key{.nic = nic.nic_id, .vlan = nic.vlan, .mac = {}};
  std::memcpy(key.mac, mac.data(), 6);
  if (!present) {
    steering_.remove_neighbor(key);
  } else if (steering_.add_neighbor(key) != 0) {
    LOG_WARNING("%s: the neighbour table is full", nic.name.c_str());
  }
}

/// Tells the programs about an attached device: its MAC, and those of its neighbours.
void ServedNamespace::publish(const Device& device) {
  NetnsScope inside(netns_.get());
  tto_nic_info info{};
  std::memcpy(info.mac, device.mac.data(), 6);
  info.ifindex = static_cast<uint32_t>(device.ifindex);
  info.netns_cookie = cookie_;
  const int status = steering_.set_nic(device.nic_id, info);
  if (status != 0) LOG_ERROR("nic %u: cannot enter its device: errno %d", device.nic_id, status);
  for (const auto& [ifindex, nic] : nics_) {
    if (nic.device != device.ifindex) continue;
    tto_nic_mac_key key{.netns_cookie = cookie_, .mac = {}, .vlan = nic.vlan};
    std::memcpy(key.mac, device.mac.data(), 6);
    steering_.set_nic_mac(key, device.nic_id);
  }
}

tto_helper_nic ServedNamespace::describe(const Nic& nic) const {
  tto_helper_nic out{};
  out.nic_id = nic.nic_id;
  out.ifindex = static_cast<uint32_t>(nic.ifindex);
  out.mtu_bytes = nic.mtu;
  out.vlan = nic.vlan;
  std::memcpy(out.mac, nic.mac.data(), 6);
  const auto device = devices_.find(nic.device);
  if (device != devices_.end()) out.xdp_mode = static_cast<uint8_t>(device->second.link.mode);
  out.partial_checksums = leaves_partial_checksums(nic.kind) ? 1 : 0;
  nic.name.copy(out.name, sizeof out.name - 1);
  return out;
}

/// Rules may come at any time, so every grant asks; a burst of grants asks once.
bool ServedNamespace::is_filtered(Device& device, const Nic& nic) {
  const Clock::time_point now = Clock::now();
  if (now - device.filters_read < kFilterMemory) return device.is_filtered;
  NetnsScope inside(netns_.get());
  std::string filter = find_firewall();
  if (filter.empty()) filter = find_tc_filter(device.ifindex);
  device.filters_read = now;
  if (!filter.empty() && !device.is_filtered)
    LOG_NOTICE("%s: not accelerated: %s (allow_filtered would)", nic.name.c_str(), filter.c_str());
  device.is_filtered = !filter.empty();
  return device.is_filtered;
}

std::vector<tto_helper_event> ServedNamespace::take_mode_events() { return std::exchange(mode_events_, {}); }

tto_helper_refusal ServedNamespace::hold(const Nic& nic) {
  const auto at = devices_.find(nic.device);
  if (at == devices_.end()) return TTO_REFUSED_NO_NIC;
  Device& device = at->second;
  if (!policy_.allow_filtered && is_filtered(device, nic)) return TTO_REFUSED_FILTERED;
  if (!device.link.link) {
    const tto_helper_refusal refusal = attach(device, nic);
    if (refusal != TTO_REFUSED_NONE) return refusal;
  }
  ++device.holds;
  return TTO_REFUSED_NONE;
}

void ServedNamespace::drop(uint32_t nic_id) {
  for (auto& [ifindex, device] : devices_) {
    if (device.nic_id != nic_id || device.holds == 0) continue;
    if (--device.holds == 0) device.idle_since = Clock::now();
  }
}

void ServedNamespace::probe_neighbor(int ifindex, const std::array<uint8_t, 16>& address) {
  // A use makes the kernel forget that an entry is permanent (NEIGH_UPDATE_F_USE), and look for a host of its own.
  if (fixed_neighbors_.count({ifindex, address}) != 0) return;
  const tto::wire::IpAddress ip{address};
  ndmsg body{};
  body.ndm_family = ip.is_v4() ? AF_INET : AF_INET6;
  body.ndm_ifindex = ifindex;
  body.ndm_state = NUD_NONE;
  body.ndm_flags = NTF_USE;
  NetlinkRequest request(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_ACK);
  request.body(body);
  request.attribute(NDA_DST, ip.is_v4() ? &ip.bytes[12] : ip.bytes.data(), ip.is_v4() ? 4 : 16);
  const int status = requests_.request(request);
  if (status != 0) LOG_DEBUG("neighbour probe on interface %d: errno %d", ifindex, status);
}

std::optional<Mac> ServedNamespace::hold_next_hop(int ifindex, const tto::wire::IpAddress& next_hop) {
  const NeighborId id{ifindex, next_hop.bytes};
  ++held_next_hops_[id];
  const auto known = neighbors_.find(id);
  if (known != neighbors_.end()) return known->second;
  probe_neighbor(ifindex, next_hop.bytes);
  return std::nullopt;
}

void ServedNamespace::drop_next_hop(int ifindex, const tto::wire::IpAddress& next_hop) {
  const auto at = held_next_hops_.find({ifindex, next_hop.bytes});
  if (at != held_next_hops_.end() && --at->second == 0) held_next_hops_.erase(at);
}

std::vector<ReservedPort> ServedNamespace::reserve_ports(const tto::wire::IpAddress& address, size_t count) {
  std::vector<ReservedPort> reserved;
  NetnsScope inside(netns_.get());
  for (size_t i = 0; i < count; ++i) {
    ReservedPort one;
    one.socket.reset(::socket(address.is_v4() ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
    if (!one.socket) break;
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    if (address.is_v4()) v4.sin_addr.s_addr = address.v4();
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    std::memcpy(&v6.sin6_addr, address.bytes.data(), 16);
    auto* name = address.is_v4() ? reinterpret_cast<sockaddr*>(&v4) : reinterpret_cast<sockaddr*>(&v6);
    socklen_t bytes = address.is_v4() ? sizeof v4 : sizeof v6;
    // Not SO_REUSEADDR: the port would not be ours alone.
    if (::bind(one.socket.get(), name, bytes) != 0 || ::getsockname(one.socket.get(), name, &bytes) != 0) break;
    one.port = be16toh(address.is_v4() ? v4.sin_port : v6.sin6_port);
    reserved.push_back(std::move(one));
  }
  return reserved;
}

/// A dump tells a kernel that has no diagnosis of TCP (ENOENT) from one that finds nothing; a lookup does not.
void ServedNamespace::open_diagnosis() {
  inet_diag_req_v2 body{};
  body.sdiag_family = AF_INET;
  body.sdiag_protocol = IPPROTO_TCP;
  NetlinkRequest request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
  request.body(body);  // of no state: an empty answer
  has_diagnosis_ = diag_.open(NETLINK_SOCK_DIAG) == 0 && diag_.dump(request, nullptr) == 0;
  if (!has_diagnosis_) LOG_WARNING("no socket diagnosis (INET_DIAG): flows cannot be checked, and none are granted");
}

ServedNamespace::KernelSocket ServedNamespace::kernel_socket(const tto::wire::FourTuple& tuple, uint32_t ifindex) {
  KernelSocket out;
  if (!has_diagnosis_) return out;
  const bool is_v4 = tuple.local.is_v4();
  inet_diag_req_v2 body{};
  body.sdiag_family = is_v4 ? AF_INET : AF_INET6;
  body.sdiag_protocol = IPPROTO_TCP;
  body.idiag_states = ~0u;
  body.id.idiag_sport = htobe16(tuple.local_port);
  body.id.idiag_dport = htobe16(tuple.remote_port);
  body.id.idiag_if = ifindex;  // sockets bound to this device, and those bound to none
  body.id.idiag_cookie[0] = body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  std::memcpy(body.id.idiag_src, is_v4 ? &tuple.local.bytes[12] : tuple.local.bytes.data(), is_v4 ? 4 : 16);
  std::memcpy(body.id.idiag_dst, is_v4 ? &tuple.remote.bytes[12] : tuple.remote.bytes.data(), is_v4 ? 4 : 16);
  NetlinkRequest request(SOCK_DIAG_BY_FAMILY, NLM_F_ACK);
  request.body(body);
  const int status = diag_.dump(request, [&](const nlmsghdr* m) {
    if (m->nlmsg_type != SOCK_DIAG_BY_FAMILY) return;
    const auto* found = static_cast<const inet_diag_msg*>(NLMSG_DATA(m));
    // Without an exact match the kernel answers with the listener, whose remote port is 0.
    if (found->id.idiag_dport == body.id.idiag_dport)
      out.cookie = found->id.idiag_cookie[0] | static_cast<uint64_t>(found->id.idiag_cookie[1]) << 32;
  });
  out.is_known = status == 0 || status == ENOENT;
  return out;
}

ServedNamespace::Changes ServedNamespace::refresh() {
  bool changed = false;
  const bool complete = notifications_.take_notifications([&](const nlmsghdr* m) {
    switch (m->nlmsg_type) {
      case RTM_NEWNEIGH:
      case RTM_DELNEIGH:
        take_neighbor(m);
        break;
      case RTM_NEWLINK:
      case RTM_DELLINK:
      case RTM_NEWADDR:
      case RTM_DELADDR:
        changed = true;
        break;
      default:
        break;
    }
  });
  Changes changes;
  if (complete && !changed) return changes;
  changes.nics_or_addresses = true;
  std::map<int, tto_helper_nic> before;
  for (const auto& [ifindex, nic] : nics_) before.emplace(ifindex, describe(nic));
  read_links_and_addresses();
  // What was announced of an interface before it counted was not taken, and is not announced again.
  const bool has_new =
      std::any_of(nics_.begin(), nics_.end(), [&](const auto& nic) { return before.count(nic.first) == 0; });
  if (!complete || has_new) read_neighbors();
  const auto tell = [&](tto_helper_event_kind kind, const tto_helper_nic& nic) {
    tto_helper_event event{};
    event.kind = kind;
    event.nic = nic;
    changes.events.push_back(event);
  };
  for (const auto& [ifindex, old] : before)
    if (nics_.count(ifindex) == 0) tell(TTO_EVENT_NIC_LOST, old);
  for (const auto& [ifindex, nic] : nics_) {
    const tto_helper_nic now = describe(nic);
    const auto old = before.find(ifindex);
    if (old == before.end() || std::memcmp(&old->second, &now, sizeof now) != 0) tell(TTO_EVENT_NIC_CHANGED, now);
  }
  return changes;
}

void ServedNamespace::maintain(Clock::time_point now) {
  const auto linger = std::chrono::milliseconds(policy_.detach_after_ms);
  for (auto& [ifindex, device] : devices_) {
    keep_attached(device);
    if (!device.link.link || device.holds > 0 || now - device.idle_since < linger) continue;
    // Accepted connections have entries that no lease counts.
    if (steering_.nic_has_entries(device.nic_id)) {
      device.idle_since = now;
      continue;
    }
    detach(device);
  }
  if (now < next_probe_) return;
  next_probe_ = now + kProbeInterval;
  for (const auto& [id, holds] : held_next_hops_) probe_neighbor(id.first, id.second);
}

}  // namespace ttod
