#include "libtto/stack/connection_defaults.hh"

#include <cstring>

namespace tto::stack {
namespace {

constexpr uint8_t kDefaultOrphanRetries = 8;  // what the kernel takes 0 for

}  // namespace

void apply_sysctls(const control::TcpSysctls& s, Opening opening, tcp::ConnectionConfig& config) {
  using Congestion = tcp::ConnectionConfig::Congestion;
  config.receive_buffer_bytes = s.rmem.initial;
  config.receive_window_scale = s.receive_window_scale();
  config.timestamps = s.timestamps;
  config.sack = s.sack;
  config.window_scaling = s.window_scaling;
  config.ecn = opening == Opening::kActive ? s.asks_for_ecn() : s.accepts_ecn();
  config.syn_retries = s.syn_retries;
  config.synack_retries = s.synack_retries;
  config.retries2 = s.retries2;
  config.orphan_retries = s.orphan_retries != 0 ? s.orphan_retries : kDefaultOrphanRetries;
  config.keepalive_idle = seconds(s.keepalive_time_s);
  config.keepalive_interval = seconds(s.keepalive_interval_s);
  config.keepalive_probes = s.keepalive_probes;
  config.fin_timeout = seconds(s.fin_timeout_s);
  config.min_rto = microseconds(s.min_rto_us);
  config.mtu_probing = s.mtu_probing;
  config.mtu_base_mss = s.base_mss;
  config.rack_tail_probe = s.early_retrans != 0;
  config.slow_start_after_idle = s.slow_start_after_idle;
  config.congestion = std::strcmp(s.congestion_control, "reno") == 0 ? Congestion::kReno : Congestion::kCubic;
}

}  // namespace tto::stack
