#include "kmod-helper/virtual_ports.hh"

#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string>
#include <system_error>

#include "kmod-helper/log.hh"
#include "kmod-helper/netns.hh"
#include "libtto/memory/region_mapping.hh"
#include "libtto/port/xsk_setup.hh"

#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif

namespace ttod {
namespace {

constexpr uint8_t kMaxBindFailures = 3;
constexpr int kTakeAttempts = 4;
constexpr uint32_t kMaxRingEntries = 2048;

int host_ifindex(uint32_t slot) { return static_cast<int>(2 * slot + 2); }
int client_ifindex(uint32_t slot) { return static_cast<int>(2 * slot + 3); }

/// An AF_XDP socket on queue 0 of an interface of the calling thread's namespace, its UMEM the region's frames (pinned
/// until the last descriptor is closed). EBUSY: another socket still holds the queue.
int make_xsk(int region_fd, uint32_t ifindex, uint32_t mtu, Fd& xsk, tto_helper_port& out) {
  tto::memory::RegionMapping region;
  const int status = region.map(region_fd);
  if (status != 0) return status;
  tto::port::XskConfig config;
  config.ifindex = ifindex;
  config.mtu_bytes = mtu;
  // Rings smaller than the pool, so that frames are left for the queues of connections while all rings are full.
  const uint32_t entries = std::min(kMaxRingEntries, std::bit_floor(std::max(region.header().frame_count / 4, 64u)));
  config.fill_entries = config.completion_entries = config.rx_entries = config.tx_entries = entries;
  auto opened = tto::port::xsk_open(region.region(), config, &out);
  if (!opened) return opened.error();
  xsk.reset(*opened);
  return 0;
}

/// IPv6 would make every new interface speak (router solicitations, MLD).
void silence_ipv6() {
  for (const char* scope : {"all", "default"}) {
    const std::string path = std::string("/proc/sys/net/ipv6/conf/") + scope + "/disable_ipv6";
    Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (file && ::write(file.get(), "1", 1) != 1) LOG_WARNING("cannot write %s: errno %d", path.c_str(), errno);
  }
}

}  // namespace

void VirtualPorts::open() {
  netns_ = netns_make_hidden();
  NetnsScope inside(netns_.get());
  silence_ipv6();
  const int status = netlink_.open(NETLINK_ROUTE);
  if (status != 0) throw std::system_error(status, std::generic_category(), "netlink in the hidden namespace");
  slots_.resize(std::min<uint32_t>(config_.slots, TTO_MAX_SLOTS));
  for (uint32_t s = 0; s < slots_.size(); ++s)
    if (steering_.slot_has_device(s)) slots_[s].pair = Pair::kForeign;
}

int VirtualPorts::make_pair(uint32_t slot) {
  const std::string number = std::to_string(slot);
  NetlinkRequest request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
  ifinfomsg link{};
  link.ifi_index = host_ifindex(slot);
  const uint32_t one = 1;
  request.body(link).text(IFLA_IFNAME, "host" + number).value(IFLA_MTU, config_.mtu);
  request.value(IFLA_NUM_TX_QUEUES, one).value(IFLA_NUM_RX_QUEUES, one);
  const size_t info = request.begin(IFLA_LINKINFO);
  request.text(IFLA_INFO_KIND, "veth");
  const size_t data = request.begin(IFLA_INFO_DATA);
  const size_t peer = request.begin(VETH_INFO_PEER);
  link.ifi_index = client_ifindex(slot);
  request.body(link).text(IFLA_IFNAME, "client" + number).value(IFLA_MTU, config_.mtu);
  request.value(IFLA_NUM_TX_QUEUES, one).value(IFLA_NUM_RX_QUEUES, one);
  request.end(peer);
  request.end(data);
  request.end(info);
  int status = netlink_.request(request);
  if (status != 0) return status;

  for (const int ifindex : {host_ifindex(slot), client_ifindex(slot)}) {
    NetlinkRequest up(RTM_NEWLINK, NLM_F_ACK);
    ifinfomsg which{};
    which.ifi_index = ifindex;
    which.ifi_flags = which.ifi_change = IFF_UP;
    up.body(which);
    if (status == 0) status = netlink_.request(up);
  }

  // The host end in generic mode: redirects then take the ordinary transmit path of the NIC, which needs nothing of it.
  if (status == 0)
    status = -bpf_xdp_attach(host_ifindex(slot), steering_.txcheck_program(), XDP_FLAGS_SKB_MODE, nullptr);
  slots_[slot].mode = XdpMode::kNone;
  if (status == 0) status = attach_client(slot, usual_mode_);
  if (status == 0) status = steering_.map_port(static_cast<uint32_t>(host_ifindex(slot)), slot);
  if (status != 0) delete_pair(slot);
  return status;
}

int VirtualPorts::attach_client(uint32_t slot, XdpMode mode) {
  const auto flags_of = [](XdpMode m) { return m == XdpMode::kNative ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE; };
  XdpMode& now = slots_[slot].mode;
  if (now == mode) return 0;
  // A device takes a program in one mode at a time.
  int status = now == XdpMode::kNone ? 0 : -bpf_xdp_detach(client_ifindex(slot), flags_of(now), nullptr);
  if (status == 0) now = XdpMode::kNone;
  if (status == 0) status = -bpf_xdp_attach(client_ifindex(slot), steering_.xsk_program(), flags_of(mode), nullptr);
  if (status == 0) now = mode;
  return status;
}

void VirtualPorts::delete_pair(uint32_t slot) {
  NetlinkRequest request(RTM_DELLINK, NLM_F_ACK);
  ifinfomsg link{};
  link.ifi_index = host_ifindex(slot);
  request.body(link);
  netlink_.request(request);
  slots_[slot].pair = Pair::kNone;
}

std::optional<uint32_t> VirtualPorts::idle_slot() {
  for (uint32_t s = 0; s < slots_.size(); ++s)
    if (slots_[s].pair == Pair::kIdle) return s;
  for (uint32_t s = 0; s < slots_.size(); ++s) {
    if (slots_[s].pair != Pair::kNone) continue;
    const int status = make_pair(s);
    if (status == 0) return s;
    LOG_ERROR("cannot make a virtual port: errno %d", status);
    return std::nullopt;
  }
  return std::nullopt;
}

/// When all slots are in use or resting: one that rests; at the second try what still holds it is cut off.
std::optional<uint32_t> VirtualPorts::rested_slot() {
  for (uint32_t s = 0; s < slots_.size(); ++s) {
    if (slots_[s].pair != Pair::kResting) continue;
    if (slots_[s].bind_failures++ == 0) return s;
    delete_pair(s);
    return make_pair(s) == 0 ? std::optional(s) : std::nullopt;
  }
  return std::nullopt;
}

std::optional<ReadyPort> VirtualPorts::make_ready(uint32_t slot, uint32_t frames, uint32_t connections, int& error) {
  ReadyPort port;
  port.slot = slot;
  port.frame_count = frames;
  port.connection_count = connections;
  const uint32_t region_id = next_region_++;
  auto region = tto::memory::make_region_fd(region_id, frames, connections);
  if (!region) {
    error = region.error();
    return std::nullopt;
  }
  port.region.reset(*region);
  error =
      make_xsk(port.region.get(), static_cast<uint32_t>(client_ifindex(slot)), config_.mtu, port.xsk, port.description);
  if (error == 0) error = steering_.map_xsk(static_cast<uint32_t>(client_ifindex(slot)), port.xsk.get());
  if (error != 0) return std::nullopt;
  tto_helper_port& d = port.description;
  d.slot = slot;
  d.region_id = region_id;
  d.region_bytes = bytes_of(frames, connections);
  slots_[slot].pair = Pair::kReady;
  return port;
}

std::optional<ReadyPort> VirtualPorts::take(const tto_helper_open_port& wish) {
  const uint32_t frames = wish.frame_count != 0 ? wish.frame_count : config_.frames;
  const uint32_t connections = wish.connection_count != 0 ? wish.connection_count : config_.connections;
  for (auto at = pool_.begin(); at != pool_.end(); ++at) {
    if (at->frame_count != frames || at->connection_count != connections) continue;
    ReadyPort port = std::move(*at);
    pool_.erase(at);
    slots_[port.slot].pair = Pair::kTaken;
    return port;
  }
  NetnsScope inside(netns_.get());
  for (int attempts = 0; attempts < kTakeAttempts; ++attempts) {
    std::optional<uint32_t> slot = idle_slot();
    if (!slot) slot = rested_slot();
    if (!slot) return std::nullopt;
    int error = 0;
    std::optional<ReadyPort> port = make_ready(*slot, frames, connections, error);
    if (port) {
      slots_[*slot].pair = Pair::kTaken;
      return port;
    }
    slots_[*slot].pair = error == EBUSY ? Pair::kResting : Pair::kIdle;
    if (error != EBUSY) {
      LOG_ERROR("cannot make the AF_XDP socket of slot %u: errno %d", *slot, error);
      return std::nullopt;
    }
  }
  return std::nullopt;
}

int VirtualPorts::set_mode(const ReadyPort& port, XdpMode mode) {
  NetnsScope inside(netns_.get());
  const int status = attach_client(port.slot, mode);
  if (status != 0) LOG_ERROR("slot %u: cannot attach the program of the client end: errno %d", port.slot, status);
  else usual_mode_ = mode;
  return status;
}

int VirtualPorts::activate(const ReadyPort& port, uint64_t netns_cookie, uint32_t flow_limit) {
  NetnsScope inside(netns_.get());
  return steering_.open_slot(port.slot, static_cast<uint32_t>(host_ifindex(port.slot)), netns_cookie, flow_limit);
}

void VirtualPorts::give_back(uint32_t slot) {
  steering_.silence_slot(slot);
  const size_t flows = steering_.remove_accepted(slot);
  if (flows > 0) LOG_DEBUG("slot %u: %zu flow entries swept", slot, flows);
  slots_[slot].pair = Pair::kResting;
  slots_[slot].bind_failures = 0;
}

void VirtualPorts::sweep_ended() {
  for (uint32_t s = 0; s < slots_.size(); ++s) {
    if (slots_[s].pair != Pair::kForeign || steering_.slot_has_device(s)) continue;
    steering_.close_slot(s);
    slots_[s].pair = Pair::kNone;
    LOG_INFO("slot %u: the process that outlived an earlier ttod has ended", s);
  }
}

bool VirtualPorts::maintain() {
  if (pool_.size() >= config_.pool) return false;
  NetnsScope inside(netns_.get());
  // A resting pair is tried first: it becomes ready, or shows that its last owner still holds it.
  for (uint32_t s = 0; s < slots_.size(); ++s) {
    if (slots_[s].pair != Pair::kResting) continue;
    int error = 0;
    if (auto port = make_ready(s, config_.frames, config_.connections, error)) {
      pool_.push_back(std::move(*port));
      return pool_.size() < config_.pool;
    }
    if (++slots_[s].bind_failures >= kMaxBindFailures) delete_pair(s);
    return true;
  }
  const std::optional<uint32_t> slot = idle_slot();
  if (!slot) return false;
  int error = 0;
  auto port = make_ready(*slot, config_.frames, config_.connections, error);
  if (!port) {
    LOG_ERROR("cannot make a port ahead: errno %d", error);
    slots_[*slot].pair = Pair::kResting;
    return false;
  }
  pool_.push_back(std::move(*port));
  return pool_.size() < config_.pool;
}

void set_busy_poll(int xsk, uint32_t busy_poll_us) {
  if (busy_poll_us == 0) return;
  const int on = 1, microseconds = static_cast<int>(std::min(busy_poll_us, 1'000'000u)), budget = 64;
  ::setsockopt(xsk, SOL_SOCKET, SO_PREFER_BUSY_POLL, &on, sizeof on);
  ::setsockopt(xsk, SOL_SOCKET, SO_BUSY_POLL, &microseconds, sizeof microseconds);
  ::setsockopt(xsk, SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof budget);
}

uint64_t VirtualPorts::bytes_of(uint32_t frame_count, uint32_t connection_count) const {
  return tto::memory::region_layout_compute(frame_count, connection_count).total_bytes;
}

}  // namespace ttod
