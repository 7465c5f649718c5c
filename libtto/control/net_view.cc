#include "libtto/control/net_view.hh"

#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <netinet/in.h>

#include <algorithm>
#include <unordered_map>

#include "libtto/control/rtnetlink.hh"

namespace tto::control {
namespace {

constexpr size_t kRouteCacheEntries = 512;  // a power of two
constexpr int kDumpAttempts = 8;            // a dump torn by changes is asked for again
constexpr int kRefreshDatagrams = 256;      // per refresh(); the rest stays readable
constexpr uint16_t kValidNeighbor = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;

constexpr int kGroups[] = {RTNLGRP_LINK,        RTNLGRP_NEIGH,      RTNLGRP_IPV4_IFADDR,
                           RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
                           RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,  RTNLGRP_NEXTHOP};

uint64_t mix(uint64_t h) {
  h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
  h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
  return h ^ (h >> 31);
}
uint64_t hash_of(const wire::IpAddress& a, uint64_t salt) {
  uint64_t halves[2];
  std::memcpy(halves, a.bytes.data(), 16);
  return mix(mix(halves[0] + salt) + halves[1]);
}

/// An address on an interface, ours or a neighbour's.
struct OnLink {
  int ifindex = 0;
  wire::IpAddress address;
  bool operator==(const OnLink&) const = default;
};
struct OnLinkHash {
  size_t operator()(const OnLink& k) const { return hash_of(k.address, static_cast<uint64_t>(k.ifindex)); }
};

struct RouteKey {
  wire::IpAddress destination;
  wire::IpAddress source;  // all zero: the kernel chooses
  int oif = 0;
  uint32_t mark = 0;
  uint8_t tos = 0;
  bool operator==(const RouteKey&) const = default;
};
uint64_t hash_of(const RouteKey& k) {
  const uint64_t salt = static_cast<uint64_t>(k.oif) << 40 ^ static_cast<uint64_t>(k.mark) << 8 ^ k.tos;
  return hash_of(k.destination, hash_of(k.source, salt));
}

struct CachedRoute {
  uint64_t epoch = 0;  // 0: empty
  RouteKey key;
  RouteAnswer answer;
  RouteRefusal refusal = RouteRefusal::kNone;
};

bool read_address(std::span<const uint8_t> data, int family, wire::IpAddress& out) {
  if (family == AF_INET && data.size() == 4) {
    uint32_t v4;
    std::memcpy(&v4, data.data(), 4);
    out = wire::IpAddress::from_v4(v4);
    return true;
  }
  if (family == AF_INET6 && data.size() == 16) {
    out = wire::IpAddress::from_v6(data.data());
    return true;
  }
  return false;
}

bool read_mac(std::span<const uint8_t> data, wire::MacAddress& out) {
  if (data.size() != out.bytes.size()) return false;
  std::memcpy(out.bytes.data(), data.data(), out.bytes.size());
  return true;
}

void add_address(NetlinkRequest& request, uint16_t type, const wire::IpAddress& address) {
  if (address.is_v4())
    request.add(type, &address.bytes[12], 4);
  else
    request.add(type, address.bytes.data(), 16);
}

/// A VLAN interface says its tag; any other leaves both fields 0.
void read_vlan(const Attributes& attributes, Link& link) {
  const Attributes info(attributes.get(IFLA_LINKINFO));
  const auto kind = info.get(IFLA_INFO_KIND);
  if (kind.size() < 4 || std::memcmp(kind.data(), "vlan", 4) != 0 || (kind.size() > 4 && kind[4] != 0)) return;
  link.vlan = Attributes(info.get(IFLA_INFO_DATA)).u16(IFLA_VLAN_ID);
  link.lower_ifindex = static_cast<int>(attributes.u32(IFLA_LINK));
}

RouteRefusal refusal_of_error(int error) {
  switch (error) {
    case -ENETUNREACH:
    case -EHOSTUNREACH:
      return RouteRefusal::kUnreachable;
    case -EACCES:
    case -EPERM:
      return RouteRefusal::kProhibited;
    case -EAGAIN:
    case -ENOBUFS:
    case -ENOMEM:
    case -EBADF:
      return RouteRefusal::kNetlinkFailed;
    default:  // EINVAL: a blackhole, or a source that is not ours; ENODEV: no such interface
      return RouteRefusal::kUnsupported;
  }
}

RouteRefusal refusal_of_type(uint8_t type) {
  switch (type) {
    case RTN_UNICAST:
    case RTN_LOCAL:
    case RTN_BROADCAST:
    case RTN_MULTICAST:
      return RouteRefusal::kNone;
    case RTN_UNREACHABLE:
      return RouteRefusal::kUnreachable;
    case RTN_PROHIBIT:
      return RouteRefusal::kProhibited;
    default:  // blackhole, throw, anycast, NAT
      return RouteRefusal::kUnsupported;
  }
}

/// RTA_VIA: a next hop of either family, behind a 16-bit family.
bool read_via(std::span<const uint8_t> data, wire::IpAddress& out) {
  uint16_t family;
  if (data.size() < sizeof(family)) return false;
  std::memcpy(&family, data.data(), sizeof(family));
  return read_address(data.subspan(sizeof(family)), family, out);
}

}  // namespace

struct NetView::Impl {
  NetlinkSocket queries, news;
  uint64_t generation = 1;
  bool needs_dump = false;   // notifications were lost
  uint64_t route_epoch = 1;  // moves when a cached route may be wrong; neighbours do not matter to routes
  std::unordered_map<int, Link> links;
  std::unordered_map<OnLink, uint8_t, OnLinkHash> addresses;  // value: the scope
  std::unordered_map<OnLink, wire::MacAddress, OnLinkHash> neighbors;
  std::array<CachedRoute, kRouteCacheEntries> routes{};

  void changed(bool affects_routes) {
    ++generation;
    if (affects_routes) ++route_epoch;
  }

  // --- what the kernel says ----------------------------------------------------------------------------------------
  void take(const NetlinkMessage& m) {
    switch (m.header.nlmsg_type) {
      case RTM_NEWLINK:
      case RTM_DELLINK:
        return take_link(m, m.header.nlmsg_type == RTM_NEWLINK);
      case RTM_NEWADDR:
      case RTM_DELADDR:
        return take_address(m, m.header.nlmsg_type == RTM_NEWADDR);
      case RTM_NEWNEIGH:
      case RTM_DELNEIGH:
        return take_neighbor(m, m.header.nlmsg_type == RTM_NEWNEIGH);
      case RTM_NEWROUTE:
      case RTM_DELROUTE:
        // Entries of the kernel's own cache (IPv6) are no news.
        if ((m.fixed<rtmsg>().rtm_flags & RTM_F_CLONED) == 0) changed(true);
        return;
      case RTM_NEWRULE:
      case RTM_DELRULE:
      case RTM_NEWNEXTHOP:
      case RTM_DELNEXTHOP:
        return changed(true);
      default:
        return;
    }
  }

  void take_link(const NetlinkMessage& m, bool is_new) {
    const auto info = m.fixed<ifinfomsg>();
    if (info.ifi_family != AF_UNSPEC) return;  // a bridge's view of its ports
    if (!is_new) {
      const auto is_on = [&](const auto& entry) { return entry.first.ifindex == info.ifi_index; };
      links.erase(info.ifi_index);
      std::erase_if(addresses, is_on);
      std::erase_if(neighbors, is_on);
      return changed(true);
    }
    const auto attributes = Attributes::behind<ifinfomsg>(m);
    Link link;
    link.ifindex = info.ifi_index;
    const auto name = attributes.get(IFLA_IFNAME);
    if (!name.empty()) std::memcpy(link.name, name.data(), std::min(name.size(), sizeof(link.name) - 1));
    link.mtu_bytes = attributes.u32(IFLA_MTU);
    read_mac(attributes.get(IFLA_ADDRESS), link.mac);
    // The carrier itself: IFF_RUNNING follows it up to a second later.
    link.is_up = (info.ifi_flags & (IFF_UP | IFF_LOWER_UP)) == (IFF_UP | IFF_LOWER_UP);
    link.is_loopback = (info.ifi_flags & IFF_LOOPBACK) != 0;
    read_vlan(attributes, link);
    Link& held = links[link.ifindex];
    // Statistics and much else are announced too: only what is kept here counts as a change.
    if (held == link) return;
    held = link;
    changed(true);
  }

  void take_address(const NetlinkMessage& m, bool is_new) {
    const auto info = m.fixed<ifaddrmsg>();
    const auto attributes = Attributes::behind<ifaddrmsg>(m);
    // IFA_LOCAL is our end of a point-to-point link, IFA_ADDRESS then the peer's; IPv6 may have only the latter.
    const auto data = attributes.has(IFA_LOCAL) ? attributes.get(IFA_LOCAL) : attributes.get(IFA_ADDRESS);
    OnLink key{static_cast<int>(info.ifa_index), {}};
    if (!read_address(data, info.ifa_family, key.address)) return;
    const uint32_t flags = attributes.u32(IFA_FLAGS, info.ifa_flags);
    const bool is_usable = (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) == 0 || (flags & IFA_F_OPTIMISTIC) != 0;
    if (is_new && is_usable) {
      if (addresses.insert({key, info.ifa_scope}).second) changed(true);
    } else if (addresses.erase(key) != 0) {
      changed(true);
    }
  }

  void take_neighbor(const NetlinkMessage& m, bool is_new) {
    const auto info = m.fixed<ndmsg>();
    const auto attributes = Attributes::behind<ndmsg>(m);
    OnLink key{info.ndm_ifindex, {}};
    if (!read_address(attributes.get(NDA_DST), info.ndm_family, key.address)) return;
    wire::MacAddress mac;
    if (is_new && (info.ndm_state & kValidNeighbor) != 0 && read_mac(attributes.get(NDA_LLADDR), mac)) {
      const auto [entry, is_first] = neighbors.insert({key, mac});
      if (!is_first && entry->second == mac) return;  // reachable, stale, probed: the same answer
      entry->second = mac;
      changed(false);
    } else if (neighbors.erase(key) != 0) {
      changed(false);
    }
  }

  // --- dumps -------------------------------------------------------------------------------------------------------
  template <typename Body>
  bool dump(uint16_t type) {
    for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
      NetlinkRequest request(type, NLM_F_DUMP, Body{});
      const int result = queries.ask(request, [&](const NetlinkMessage& m) { take(m); });
      if (result == 0) return true;
      if (result != -EINTR && result != -EBUSY) return false;
    }
    return false;
  }

  /// All from the beginning: at the start, and after the kernel dropped notifications.
  bool dump_all() {
    links.clear();
    addresses.clear();
    neighbors.clear();
    changed(true);
    return dump<ifinfomsg>(RTM_GETLINK) && dump<ifaddrmsg>(RTM_GETADDR) && dump<ndmsg>(RTM_GETNEIGH);
  }

  // --- routes ------------------------------------------------------------------------------------------------------
  RouteRefusal read_route(const NetlinkMessage& m, const RouteKey& key, RouteAnswer& out) const {
    const auto route = m.fixed<rtmsg>();
    const auto attributes = Attributes::behind<rtmsg>(m);
    if (const auto refusal = refusal_of_type(route.rtm_type); refusal != RouteRefusal::kNone) return refusal;
    if (attributes.has(RTA_ENCAP)) return RouteRefusal::kUnsupported;  // MPLS, SRv6 and their like
    out.ifindex = static_cast<int>(attributes.u32(RTA_OIF));
    const Link* link = find_link(out.ifindex);
    if (link == nullptr) return RouteRefusal::kUnsupported;
    out.source = key.source;
    read_address(attributes.get(RTA_PREFSRC), route.rtm_family, out.source);
    out.next_hop = key.destination;
    if (attributes.has(RTA_GATEWAY)) read_address(attributes.get(RTA_GATEWAY), route.rtm_family, out.next_hop);
    if (attributes.has(RTA_VIA) && !read_via(attributes.get(RTA_VIA), out.next_hop)) return RouteRefusal::kUnsupported;
    const uint32_t metric = Attributes(attributes.get(RTA_METRICS)).u32(RTAX_MTU);
    out.mtu_bytes = metric != 0 ? std::min(metric, link->mtu_bytes) : link->mtu_bytes;
    out.is_local = route.rtm_type == RTN_LOCAL;
    out.is_broadcast_or_multicast = route.rtm_type == RTN_BROADCAST || route.rtm_type == RTN_MULTICAST;
    return RouteRefusal::kNone;
  }

  RouteRefusal ask_route(const RouteKey& key, RouteAnswer& out) {
    const bool is_v4 = key.destination.is_v4();
    const uint8_t prefix_bits = is_v4 ? 32 : 128;
    const bool has_source = key.source != wire::IpAddress{};
    rtmsg body{};
    body.rtm_family = is_v4 ? AF_INET : AF_INET6;
    body.rtm_dst_len = prefix_bits;
    body.rtm_src_len = has_source ? prefix_bits : uint8_t{0};
    body.rtm_tos = is_v4 ? key.tos & 0xfc : uint8_t{0};  // the kernel refuses ECN bits, and a TOS for IPv6
    NetlinkRequest request(RTM_GETROUTE, 0, body);
    add_address(request, RTA_DST, key.destination);
    if (has_source) add_address(request, RTA_SRC, key.source);
    if (key.oif != 0) request.add(RTA_OIF, static_cast<uint32_t>(key.oif));
    if (key.mark != 0) request.add(RTA_MARK, key.mark);
    const uint8_t tcp = IPPROTO_TCP;
    request.add(RTA_IP_PROTO, &tcp, sizeof(tcp));
    RouteRefusal refusal = RouteRefusal::kNetlinkFailed;
    const int result = queries.ask(request, [&](const NetlinkMessage& m) {
      if (m.header.nlmsg_type == RTM_NEWROUTE) refusal = read_route(m, key, out);
    });
    return result == 0 ? refusal : refusal_of_error(result);
  }

  const Link* find_link(int ifindex) const {
    const auto found = links.find(ifindex);
    return found == links.end() ? nullptr : &found->second;
  }
};

NetView::NetView() : impl_(std::make_unique<Impl>()) {}
NetView::~NetView() = default;

void NetView::close() {
  impl_->queries.close();
  impl_->news.close();
}

bool NetView::open() {
  // Notifications first: what changes during the dumps is then heard of.
  return impl_->news.open(kGroups) == 0 && impl_->queries.open({}) == 0 && impl_->dump_all();
}

// Once its queue has overflowed, the kernel drops news without another word until the queue is empty. So what is left
// there is thrown away first, and everything is asked for again only then.
bool NetView::refresh() {
  const uint64_t before = impl_->generation;
  long bytes = 0;
  for (int i = 0; i < kRefreshDatagrams && bytes != -EAGAIN; ++i) {
    bytes = impl_->news.receive([&](const NetlinkMessage& m) {
      if (!impl_->needs_dump) impl_->take(m);
    });
    if (bytes < 0 && bytes != -EAGAIN) {
      if (bytes != -ENOBUFS) break;
      impl_->needs_dump = true;
      impl_->changed(true);
    }
  }
  if (impl_->needs_dump && bytes == -EAGAIN) impl_->needs_dump = !impl_->dump_all();
  return impl_->generation != before;
}

int NetView::notification_fd() const { return impl_->news.fd(); }
uint64_t NetView::generation() const { return impl_->generation; }
const Link* NetView::link(int ifindex) const { return impl_->find_link(ifindex); }

bool NetView::is_local_address(const wire::IpAddress& address) const {
  if (address.is_v4() && address.bytes[12] == 127) return true;
  for (const auto& [ifindex, link] : impl_->links) {
    if (impl_->addresses.contains({ifindex, address})) return true;
  }
  return false;
}

Expected<RouteAnswer, RouteRefusal> NetView::route(const wire::IpAddress& destination, const wire::IpAddress* source,
                                                   int oif, uint8_t tos, uint32_t mark) {
  RouteKey key{destination, {}, oif, mark, tos};
  const wire::IpAddress any_v4 = wire::IpAddress::from_v4(0);
  if (source != nullptr && *source != any_v4) key.source = *source;
  CachedRoute& slot = impl_->routes[hash_of(key) & (kRouteCacheEntries - 1)];
  if (slot.epoch != impl_->route_epoch || slot.key != key) {
    RouteAnswer answer;
    const RouteRefusal refusal = impl_->ask_route(key, answer);
    if (refusal == RouteRefusal::kNetlinkFailed) return Unexpected{refusal};  // not worth remembering
    slot = {impl_->route_epoch, key, answer, refusal};
  }
  if (slot.refusal != RouteRefusal::kNone) return Unexpected{slot.refusal};
  return slot.answer;
}

bool NetView::neighbor(int ifindex, const wire::IpAddress& next_hop, wire::MacAddress& mac) const {
  const auto found = impl_->neighbors.find({ifindex, next_hop});
  if (found == impl_->neighbors.end()) return false;
  mac = found->second;
  return true;
}

bool NetView::has_link_local(int ifindex) const {
  const auto is_one = [&](const auto& entry) {
    const auto& [on, scope] = entry;
    return on.ifindex == ifindex && !on.address.is_v4() && scope == RT_SCOPE_LINK;
  };
  return std::any_of(impl_->addresses.begin(), impl_->addresses.end(), is_one);
}

}  // namespace tto::control
