// What the kernel knows about links, addresses, routes and neighbours of a namespace, read through rtnetlink and
// followed live (DESIGN 2.7: the kernel stays the authority). Route decisions are the kernel's own (RTM_GETROUTE per
// destination, cached until any route, rule, address or link changes), so policy routing, VRFs and multipath are
// obeyed.
//
// Threads: under the stack's lock. System calls: raw, on two netlink sockets (queries, notifications).
#pragma once

#include <cstdint>
#include <memory>

#include "libtto/base/result.hh"
#include "libtto/wire/address.hh"

namespace tto::control {

struct Link {
  int ifindex = 0;
  char name[16] = {};
  uint32_t mtu_bytes = 0;
  wire::MacAddress mac;
  bool is_up = false;
  bool is_loopback = false;
  uint16_t vlan = 0;      // of an 802.1Q interface: its id,
  int lower_ifindex = 0;  // and the interface whose frames carry the tag

  bool operator==(const Link&) const = default;
};

struct RouteAnswer {
  int ifindex = 0;
  wire::IpAddress source;
  wire::IpAddress next_hop;  // the destination itself if on-link
  uint32_t mtu_bytes = 0;    // of the route, else of the link; the kernel's learned path MTU included
  bool is_local = false;     // an address of this host
  bool is_broadcast_or_multicast = false;
};

enum class RouteRefusal : uint8_t { kNone, kUnreachable, kProhibited, kUnsupported, kNetlinkFailed };

class NetView {
 public:
  NetView();
  ~NetView();
  /// Opens the netlink sockets in the calling thread's namespace and reads links, addresses and neighbours.
  bool open();
  /// Closes them; nothing may be asked any more.
  void close();
  /// Takes what the kernel announced since; never blocks. True if anything changed (generation() then differs).
  bool refresh();
  /// Readable when refresh() would do something.
  int notification_fd() const;
  uint64_t generation() const;

  const Link* link(int ifindex) const;
  bool is_local_address(const wire::IpAddress& address) const;
  /// `source` may be null (the kernel chooses); `oif` 0: any; `tos`, `mark` as set on the socket.
  Expected<RouteAnswer, RouteRefusal> route(const wire::IpAddress& destination, const wire::IpAddress* source, int oif,
                                            uint8_t tos, uint32_t mark);
  /// False: not resolved (yet); ttod resolves leased next hops, refresh() will bring it.
  bool neighbor(int ifindex, const wire::IpAddress& next_hop, wire::MacAddress& mac) const;
  /// Has the interface an IPv6 link-local address that may be used (duplicate address detection is over)? Without one
  /// the kernel solicits no IPv6 neighbour by itself, only on behalf of a packet, with that packet's source.
  bool has_link_local(int ifindex) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tto::control
