// One network namespace that clients live in: its interfaces, addresses and neighbours, followed live through
// rtnetlink, and the steering programs on its devices. Made on a client's first use, gone with the last (holding its
// descriptor would keep a deleted namespace alive).
//
// A Nic is an interface with addresses; a device is what steer is attached to. They are the same, except that a VLAN
// interface is a Nic on its parent's device. ttod's nic number names the device.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kmod-helper/fd.hh"
#include "kmod-helper/inject.hh"
#include "kmod-helper/netlink.hh"
#include "kmod-helper/policy.hh"
#include "kmod-helper/protocol/helper_protocol.h"
#include "kmod-helper/steering.hh"
#include "libtto/wire/address.hh"

namespace ttod {

using Clock = std::chrono::steady_clock;
using Mac = std::array<uint8_t, 6>;

/// ttod's device numbers, across namespaces. Numbers of links that an earlier ttod left are given out again only to the
/// same device, or when the link is gone.
///
/// A user who brings namespaces of his own could fill the tables with devices and neighbours, so both are counted for
/// the user on whose behalf a namespace came to be served; root has no limit but the tables'.
class NicNumbers {
 public:
  static constexpr uint32_t kNicsPerUser = 64, kNeighborsPerUser = 16384;
  explicit NicNumbers(Steering& steering) : steering_(steering), used_(TTO_MAX_NICS) {}
  void sweep();
  std::optional<uint32_t> take(uint64_t netns_cookie, uint32_t ifindex, uint32_t uid);
  bool try_count_neighbor(uint32_t uid);
  void discount_neighbors(uint32_t uid, size_t count);
  void give_back(uint32_t nic);
  /// Its link stays, with the entries of an earlier ttod's clients.
  void leave(uint32_t nic);
  /// Removes left links on which nobody has an entry any more.
  void maintain();
  size_t left_count() const { return left_.size(); }

 private:
  void discount_nic(uint32_t nic);

  Steering& steering_;
  std::vector<bool> used_;
  std::map<uint32_t, uint32_t> user_of_;  // by number
  std::map<uint32_t, uint32_t> nics_of_user_;
  std::map<uint32_t, size_t> neighbors_of_user_;
  std::set<uint32_t> left_;  // by an earlier ttod, not yet adopted
};

struct Nic {
  int ifindex = 0;
  int device = 0;  // ifindex of the device
  uint32_t nic_id = 0;
  uint16_t vlan = 0;
  bool is_up = false;
  uint32_t mtu = 0;
  Mac mac{};
  std::string name, kind;
  std::set<std::array<uint8_t, 16>> addresses;
};

/// A local port that nobody else gets while the socket is open.
struct ReservedPort {
  Fd socket;
  uint16_t port = 0;
};

class ServedNamespace {
 public:
  ServedNamespace(Steering& steering, NicNumbers& numbers, const Policy& policy, Fd netns, uint64_t cookie,
                  uint32_t uid);
  ~ServedNamespace();
  ServedNamespace(const ServedNamespace&) = delete;
  ServedNamespace& operator=(const ServedNamespace&) = delete;

  /// Opens the netlink sockets and reads everything. Throws std::system_error.
  void open();
  int notification_fd() const { return notifications_.fd(); }
  struct Changes {
    bool nics_or_addresses = false;        // wildcard listeners have to follow
    std::vector<tto_helper_event> events;  // what clients should hear of
  };
  /// Takes what the kernel announced.
  Changes refresh();

  /// NICs whose device was attached or detached since the last call: the kernel announces neither.
  std::vector<tto_helper_event> take_mode_events();

  uint64_t cookie() const { return cookie_; }
  int fd() const { return netns_.get(); }
  const std::map<int, Nic>& nics() const { return nics_; }
  tto_helper_nic describe(const Nic& nic) const;

  /// Attaches steer to the NIC's device if this is its first entry. TTO_REFUSED_NONE: one entry more is held.
  tto_helper_refusal hold(const Nic& nic);
  void drop(uint32_t nic_id);

  /// The next hop's MAC if known; starts resolution otherwise. Held next hops are kept reachable.
  std::optional<Mac> hold_next_hop(int ifindex, const tto::wire::IpAddress& next_hop);
  void drop_next_hop(int ifindex, const tto::wire::IpAddress& next_hop);

  /// At most `count` ports of the kernel's choice at this address, for connections that are not its own.
  std::vector<ReservedPort> reserve_ports(const tto::wire::IpAddress& address, size_t count);
  /// The kernel's socket of this very tuple, as frames of that interface find it.
  struct KernelSocket {
    bool is_known = false;  // false: the kernel does not say
    uint64_t cookie = 0;    // SO_COOKIE; 0: there is none
  };
  KernelSocket kernel_socket(const tto::wire::FourTuple& tuple, uint32_t ifindex);
  const Injector& injector() const { return injector_; }

  /// The mode of the client ends of its virtual ports, decided once: native if any NIC may redirect natively.
  XdpMode port_mode();

  /// ttod ends before its clients: the links stay pinned.
  void leave();
  /// The work that was put off: detaches devices long without entries, attaches again where somebody else detached,
  /// refreshes held next hops.
  void maintain(Clock::time_point now);

 private:
  struct Device {
    uint32_t nic_id = 0;
    int ifindex = 0;
    bool is_veth = false;
    Mac mac{};
    SteerLink link;
    uint32_t holds = 0;
    Clock::time_point filters_read;
    bool is_filtered = false;
    bool is_refused = false;  // by the last attempt to attach
    bool is_lost = false;     // somebody else detached it
    Clock::time_point idle_since;
  };
  using NeighborId = std::pair<int, std::array<uint8_t, 16>>;  // interface, address

  void open_diagnosis();
  void read_links_and_addresses();
  void read_neighbors();
  void take_neighbor(const nlmsghdr* message);
  void publish(const Device& device);
  void publish_neighbor(int ifindex, const Mac& mac, bool present);
  bool add_link(const nlmsghdr* message, std::map<int, Nic>& links);
  void adopt_devices();
  bool is_filtered(Device& device, const Nic& nic);
  tto_helper_refusal attach(Device& device, const Nic& nic);
  XdpMode wanted_mode(const Device& device);
  void detach(Device& device);
  void keep_attached(Device& device);
  void note_mode_change(const Device& device);
  void probe_neighbor(int ifindex, const std::array<uint8_t, 16>& address);

  Steering& steering_;
  NicNumbers& numbers_;
  const Policy& policy_;
  Fd netns_;
  uint64_t cookie_;
  uint32_t uid_;  // on whose behalf
  NetlinkSocket requests_, notifications_, diag_;
  bool has_diagnosis_ = false;
  Injector injector_;
  std::map<int, Nic> nics_;
  std::map<int, Device> devices_;
  std::map<NeighborId, Mac> neighbors_;
  std::set<NeighborId> fixed_neighbors_;  // permanent: never probed
  std::map<NeighborId, uint32_t> held_next_hops_;
  Clock::time_point next_probe_{};
  std::vector<tto_helper_event> mode_events_;
  XdpMode port_mode_ = XdpMode::kNone;  // not decided yet
};

}  // namespace ttod
