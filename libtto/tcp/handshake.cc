#include "libtto/tcp/handshake.hh"

#include <algorithm>

namespace tto::tcp {

uint16_t announced_mss(const ConnectionConfig& config) {
  const uint16_t headers = config.is_v6 ? 60 : 40;
  const uint16_t floor = default_mss(config.is_v6);
  return config.mtu_bytes > headers + floor ? static_cast<uint16_t>(config.mtu_bytes - headers) : floor;
}

uint16_t default_mss(bool is_v6) { return is_v6 ? 1220 : 536; }

wire::TcpOptions syn_options(const ConnectionConfig& config, uint32_t ts_now) {
  wire::TcpOptions o;
  o.mss = announced_mss(config);
  o.sack_permitted = config.sack;
  o.has_window_scale = config.window_scaling;
  if (config.window_scaling) o.window_scale = std::min(config.receive_window_scale, kMaxWindowScale);
  o.has_timestamps = config.timestamps;
  if (config.timestamps) o.ts_val = ts_now;
  return o;
}

wire::TcpOptions syn_ack_options(const ConnectionConfig& config, const Agreed& agreed, uint32_t ts_now,
                                 uint32_t ts_recent) {
  wire::TcpOptions o;
  o.mss = announced_mss(config);
  o.sack_permitted = agreed.sack;
  o.has_window_scale = agreed.window_scaling;
  if (agreed.window_scaling) o.window_scale = agreed.rcv_scale;
  o.has_timestamps = agreed.timestamps;
  if (agreed.timestamps) {
    o.ts_val = ts_now;
    o.ts_ecr = ts_recent;
  }
  return o;
}

Agreed negotiate(const ConnectionConfig& config, const wire::TcpOptions& theirs) {
  Agreed a;
  a.peer_mss = theirs.mss != 0 ? theirs.mss : default_mss(config.is_v6);
  a.timestamps = config.timestamps && theirs.has_timestamps;
  a.sack = config.sack && theirs.sack_permitted;
  a.window_scaling = config.window_scaling && theirs.has_window_scale;
  if (a.window_scaling) {
    a.snd_scale = std::min(theirs.window_scale, kMaxWindowScale);
    a.rcv_scale = std::min(config.receive_window_scale, kMaxWindowScale);
  }
  return a;
}

}  // namespace tto::tcp
