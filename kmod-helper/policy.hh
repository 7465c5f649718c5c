// Who may have what. The policy is a value read once from a TOML file (ttod.toml documents every key); decisions are
// pure functions of it and a request, so they are tested without a daemon.
//
// Without a file: every user may use every Ethernet interface, within the default limits.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kmod-helper/virtual_ports.hh"
#include "libtto/wire/address.hh"

namespace ttod {

/// A bad file: what() names the file, the line and the key.
class ConfigError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct AddressPrefix {
  tto::wire::IpAddress address;
  int bits = 0;  // of the 16-byte form
  bool contains(const tto::wire::IpAddress& other) const;
};

struct PortRange {
  uint16_t first = 0, last = 65535;
};

/// All of the conditions that are given must hold; an empty list is no condition.
struct Rule {
  bool allow = true;
  std::vector<uint32_t> uids, gids;
  std::vector<std::string> interfaces;  // globs
  std::vector<AddressPrefix> local, remote;
  std::vector<PortRange> local_ports, remote_ports;
  bool is_for_listen = true, is_for_connect = true;
};

struct Limits {
  uint32_t sessions_per_user = 256, sessions_per_process = 16;
  uint32_t ports_per_user = 64, ports_per_process = 8;
  uint32_t listens_per_user = 2048, listens_per_process = 256;
  uint32_t flows_per_user = 131072, flows_per_process = 65536;  // opened or leased, and the same number accepted
  uint32_t leases_per_user = 16384;  // local ports that ttod reserves for him, in all namespaces together
  uint32_t frames_per_port = 65536;
  uint64_t pinned_mib_per_user = 2048;
};

enum class XdpChoice : uint8_t { kAuto, kNative, kGeneric };  // auto: generic on veth, else native if the driver can

struct Policy {
  std::string socket_path = TTO_HELPER_DEFAULT_PATH;
  uint32_t socket_mode = 0666;
  std::string bpffs = "/sys/fs/bpf";
  std::string pin_dir = "/sys/fs/bpf/tto";
  std::vector<std::string> interfaces = {"*"};
  bool allow_filtered = false;
  XdpChoice xdp_mode = XdpChoice::kAuto;
  uint32_t detach_after_ms = 2000;
  PortConfig port;
  Limits limits;
  std::vector<Rule> rules;  // the first that matches decides; none: allowed
};

/// What a client asks for.
struct PolicyRequest {
  uint32_t uid = 0, gid = 0;
  bool is_listen = false;
  std::string_view interface;
  tto::wire::IpAddress local, remote;  // remote: connects only
  uint16_t local_port = 0, remote_port = 0;
};

Policy parse_policy(std::string_view text, const std::string& file_name);
Policy load_policy(const std::string& path);
/// The policy as the file would have to be written, all defaults included.
std::string print_policy(const Policy& policy);

bool is_interface_allowed(const Policy& policy, std::string_view name);
bool is_allowed(const Policy& policy, const PolicyRequest& request);

}  // namespace ttod
