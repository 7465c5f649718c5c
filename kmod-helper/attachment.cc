// Where steer is attached: put there with a device's first entry, taken away with the last, and put there again if
// somebody else took it away.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kmod-helper/log.hh"
#include "kmod-helper/netns.hh"
#include "kmod-helper/served_namespace.hh"

namespace ttod {

tto_helper_refusal ServedNamespace::attach(Device& device, const Nic& nic) {
  NetnsScope inside(netns_.get());
  publish(device);
  // A driver without native mode answers EOPNOTSUPP, one that cannot now EINVAL or ERANGE.
  const XdpMode first = wanted_mode(device);
  const auto ifindex = static_cast<uint32_t>(device.ifindex);
  int status = steering_.attach_steer(device.nic_id, ifindex, first, device.link);
  const bool is_foreign = status == EBUSY || status == EEXIST;
  if (status != 0 && !is_foreign && policy_.xdp_mode == XdpChoice::kAuto && first == XdpMode::kNative)
    status = steering_.attach_steer(device.nic_id, ifindex, XdpMode::kGeneric, device.link);
  const bool is_news = !std::exchange(device.is_refused, status != 0);
  if (status == EBUSY || status == EEXIST) {
    if (is_news) LOG_NOTICE("%s: not accelerated: another XDP program is attached", nic.name.c_str());
    return TTO_REFUSED_FOREIGN_XDP;
  }
  if (status != 0) {
    if (is_news) LOG_ERROR("%s: cannot attach the steering program: errno %d", nic.name.c_str(), status);
    return TTO_REFUSED_NO_RESOURCE;
  }
  device.is_lost = false;
  LOG_INFO("%s (nic %u): steering program attached, %s mode", nic.name.c_str(), device.nic_id,
           device.link.mode == XdpMode::kNative ? "native" : "generic");
  note_mode_change(device);
  return TTO_REFUSED_NONE;
}

XdpMode ServedNamespace::port_mode() {
  if (port_mode_ != XdpMode::kNone) return port_mode_;
  const auto may_be_native = [](const auto& item) {
    const Device& device = item.second;
    return device.link.link ? device.link.mode == XdpMode::kNative : !device.is_veth;
  };
  const bool is_native = policy_.xdp_mode == XdpChoice::kNative ||
                         (policy_.xdp_mode == XdpChoice::kAuto && std::any_of(devices_.begin(), devices_.end(), may_be_native));
  return port_mode_ = is_native ? XdpMode::kNative : XdpMode::kGeneric;
}

/// On a veth a native program cuts everyone's aggregates and costs more than a generic one (docs/decisions/0005). Where the
/// ports are generic, whatever comes later is too: a native redirect would not reach them.
XdpMode ServedNamespace::wanted_mode(const Device& device) {
  if (policy_.xdp_mode == XdpChoice::kNative) return XdpMode::kNative;
  return device.is_veth ? XdpMode::kGeneric : port_mode();
}

void ServedNamespace::detach(Device& device) {
  steering_.detach_steer(device.nic_id, device.link);
  steering_.clear_nic(device.nic_id);
  for (const auto& [ifindex, nic] : nics_) {
    if (nic.device != device.ifindex) continue;
    tto_nic_mac_key key{.netns_cookie = cookie_, .mac = {}, .vlan = nic.vlan};
    std::memcpy(key.mac, device.mac.data(), 6);
    steering_.clear_nic_mac(key);
  }
  LOG_INFO("nic %u: steering program detached", device.nic_id);
  note_mode_change(device);
}

/// Nobody tells when a link is detached by force, so it is asked. Until it is back the kernel gets the frames, and
/// answers those of connections that it does not know with RST.
void ServedNamespace::keep_attached(Device& device) {
  if (device.link.link) {
    if (steering_.is_attached(device.link)) return;
    LOG_WARNING("nic %u: somebody detached the steering program", device.nic_id);
    steering_.detach_steer(device.nic_id, device.link);
    device.is_lost = true;
    note_mode_change(device);
  }
  if (!device.is_lost) return;
  if (device.holds == 0 && !steering_.nic_has_entries(device.nic_id)) {  // whoever needs it next attaches it
    device.is_lost = false;
    return;
  }
  for (const auto& [ifindex, nic] : nics_)
    if (nic.device == device.ifindex) {
      attach(device, nic);
      return;
    }
}

void ServedNamespace::note_mode_change(const Device& device) {
  for (const auto& [ifindex, nic] : nics_) {
    if (nic.device != device.ifindex) continue;
    tto_helper_event event{};
    event.kind = TTO_EVENT_NIC_CHANGED;
    event.nic = describe(nic);
    mode_events_.push_back(event);
  }
}

}  // namespace ttod
