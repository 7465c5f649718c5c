// What a connection is made with: fixed at its opening but for the few things that Connection's set_ calls change.
#pragma once

#include <cstdint>

#include "libtto/base/time.hh"

namespace tto::tcp {

/// What a connection is made with. Defaults are Linux's; the owner fills them from the placeholder socket and the
/// namespace's sysctls.
struct ConnectionConfig {
  uint32_t iss = 0;           // from tcp/isn.hh
  uint16_t mtu_bytes = 1500;  // interface MTU (announced MSS: R2)
  uint16_t path_mtu_bytes = 1500;
  uint8_t mtu_probing = 0;       // as net.ipv4.tcp_mtu_probing: 0 never, 1 after a black hole, 2 always
  uint32_t mtu_base_mss = 1024;  // what is tried first then (tcp_base_mss)
  bool is_v6 = false;
  uint32_t receive_buffer_bytes = 131072;  // current limit; may grow by set_receive_buffer
  uint8_t receive_window_scale = 7;
  bool timestamps = true;
  uint32_t ts_offset = 0;  // TSval = now in ms + this
  bool sack = true;
  bool window_scaling = true;
  bool rack_tail_probe = true;  // RFC 8985 §7 (tcp_early_retrans)
  bool ecn = false;             // asked for in our SYN; granted to a peer that asks (RFC 3168)
  bool nodelay = false;
  bool cork = false;
  uint8_t syn_retries = 6;
  uint8_t synack_retries = 5;
  uint8_t retries2 = 15;
  uint8_t orphan_retries = 8;
  Duration user_timeout{};  // 0: R2 decides
  bool keepalive = false;
  Duration keepalive_idle = seconds(7200);
  Duration keepalive_interval = seconds(75);
  uint8_t keepalive_probes = 9;
  Duration fin_timeout = seconds(60);
  Duration time_wait = seconds(60);
  Duration delayed_ack = milliseconds(40);
  Duration min_rto = milliseconds(200);
  uint32_t initial_window_segments = 10;
  bool slow_start_after_idle = true;
  enum class Congestion : uint8_t { kCubic, kReno } congestion = Congestion::kCubic;
};

}  // namespace tto::tcp
