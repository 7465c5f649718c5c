// Option negotiation (RFC 9293 §3.7.1, RFC 7323, RFC 2018): what we offer in a SYN and what both agreed on.
#pragma once

#include <cstdint>

#include "libtto/tcp/connection_config.hh"
#include "libtto/wire/tcp_options.hh"

namespace tto::tcp {

/// What holds on a connection once both SYNs are known.
struct Agreed {
  bool timestamps = false;
  bool window_scaling = false;
  bool sack = false;
  uint8_t snd_scale = 0;  // of the windows we receive
  uint8_t rcv_scale = 0;  // of the windows we announce
  uint16_t peer_mss = 0;  // as announced, or the default (R3)
};

inline constexpr uint8_t kMaxWindowScale = 14;
inline constexpr uint32_t kTimestampOptionBytes = 12;  // with its padding

/// The MSS we announce (R2), and the least a peer must accept.
uint16_t announced_mss(const ConnectionConfig& config);
uint16_t default_mss(bool is_v6);

/// Options of our SYN.
wire::TcpOptions syn_options(const ConnectionConfig& config, uint32_t ts_now);
/// Options of our SYN-ACK: only what the peer's SYN offered too.
wire::TcpOptions syn_ack_options(const ConnectionConfig& config, const Agreed& agreed, uint32_t ts_now,
                                 uint32_t ts_recent);
/// `theirs`: the options of the peer's SYN or SYN-ACK.
Agreed negotiate(const ConnectionConfig& config, const wire::TcpOptions& theirs);

}  // namespace tto::tcp
