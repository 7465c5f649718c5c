// The maps behind the BPF programs (bpf/steer_maps.h), as ttod sees them: typed entries, kept in a pin directory so
// that they outlive ttod. Also loads the three programs: steer once per NIC, txcheck and xsk once.
//
// Which network namespace the calling thread is in matters for three calls: device numbers given to a devmap, and
// links, are looked up there; each says so.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kmod-helper/bpf/steer_maps.h"
#include "kmod-helper/fd.hh"

struct tto_txcheck;
struct tto_xsk;

namespace ttod {

enum class XdpMode : uint8_t { kNone = 0, kGeneric = 1, kNative = 2 };  // as tto_helper_nic.xdp_mode

/// A steering program on one device.
struct SteerLink {
  Fd link;
  XdpMode mode = XdpMode::kNone;
};

class Steering {
 public:
  Steering();
  ~Steering();

  /// Loads txcheck and xsk, making or adopting the pinned maps in `pin_dir` (a directory on a bpffs). Maps of another
  /// layout are removed with their links. Throws std::runtime_error.
  void open(const std::string& pin_dir);
  const std::string& pin_dir() const { return pin_dir_; }

  // Entries. The errno of the map operation, 0 if done.
  int add_flow(const tto_flow_key& key, uint32_t slot);
  bool find_flow(const tto_flow_key& key, tto_flow_value& out) const;
  /// Removes the entry if `slot` owns it.
  bool remove_flow(const tto_flow_key& key, uint32_t slot);
  int set_listen(const tto_listen_key& key, const tto_listen_group& group);
  bool find_listen(const tto_listen_key& key, tto_listen_group& out) const;
  void remove_listen(const tto_listen_key& key);
  void for_each_flow(const std::function<void(const tto_flow_key&, const tto_flow_value&)>& visit) const;
  void for_each_listen(const std::function<void(const tto_listen_key&, const tto_listen_group&)>& visit) const;

  // Slots: a virtual port each.
  /// `host_ifindex` in the calling thread's namespace.
  int open_slot(uint32_t slot, uint32_t host_ifindex, uint64_t netns_cookie, uint32_t flow_limit);
  /// From here on nothing of the slot leaves, and nothing arrives.
  void silence_slot(uint32_t slot);
  /// Of a silent slot: the entries that txcheck made; as many as it counted, and no look at the table if it made none.
  size_t remove_accepted(uint32_t slot);
  /// Silences it and removes every entry of it, whoever made it. Returns how many flow entries went.
  size_t close_slot(uint32_t slot);
  /// Is there a device behind the slot's number? (It goes by itself with the namespace of a dead owner.)
  bool slot_has_device(uint32_t slot) const;
  int map_port(uint32_t host_ifindex, uint32_t slot);
  int map_xsk(uint32_t client_ifindex, int xsk);

  // NICs.
  /// `info.ifindex` in the calling thread's namespace.
  int set_nic(uint32_t nic, const tto_nic_info& info);
  tto_nic_info nic_info(uint32_t nic) const;
  void clear_nic(uint32_t nic);
  bool nic_has_device(uint32_t nic) const;
  int set_nic_mac(const tto_nic_mac_key& key, uint32_t nic);
  void clear_nic_mac(const tto_nic_mac_key& key);
  int add_neighbor(const tto_neighbor_key& key);
  void remove_neighbor(const tto_neighbor_key& key);

  /// Attaches steer to a device of the calling thread's namespace and pins the link. EBUSY or EEXIST: another XDP
  /// program is there. Returns 0 or an errno.
  int attach_steer(uint32_t nic, uint32_t ifindex, XdpMode mode, SteerLink& out);
  void detach_steer(uint32_t nic, SteerLink& link);
  /// False: somebody else detached it, or the device is gone.
  bool is_attached(const SteerLink& link) const;
  int txcheck_program() const;
  int xsk_program() const;

  std::vector<uint64_t> steer_counts() const;
  tto_tx_counts tx_counts(uint32_t slot) const;

  /// What an earlier ttod left: removes links whose device is gone and entries whose slot or NIC is. Returns the NIC
  /// numbers of links that still steer.
  std::vector<uint32_t> sweep();
  /// Takes over such a link.
  int adopt_steer(uint32_t nic, SteerLink& out);
  void remove_nic_entries(uint32_t nic);
  /// Has anyone an entry on this NIC?
  bool nic_has_entries(uint32_t nic) const;
  std::string link_pin(uint32_t nic) const;

 private:
  bool load();
  int map_fd(const char* name) const;

  std::string pin_dir_;
  tto_txcheck* txcheck_ = nullptr;
  tto_xsk* xsk_ = nullptr;
  int flt_ = -1, olt_ = -1, slot_devs_ = -1, nic_devs_ = -1, nic_info_ = -1, slot_info_fd_ = -1, nic_macs_ = -1;
  int neighbors_ = -1, seen_macs_ = -1, steer_counts_ = -1, tx_counts_ = -1;
  tto_slot_info* slot_info_ = nullptr;  // mapped: flow_count is shared with txcheck
};

/// Removes every pin under `pin_dir` and the directory; returns how many there were.
size_t remove_pins(const std::string& pin_dir);
/// Mounts a bpffs at `where` if none is there. Throws std::system_error.
void ensure_bpffs(const std::string& where);

}  // namespace ttod
