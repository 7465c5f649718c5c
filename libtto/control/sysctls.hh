// The kernel's TCP settings of a network namespace (net.ipv4.tcp_*, which serve IPv6 too), so that an accelerated
// connection behaves as the administrator told the kernel's to.
//
// Threads: under the stack's lock. System calls: raw openat, read and close under /proc/sys/net, at most once a second.
#pragma once

#include <cstdint>

#include "libtto/base/time.hh"

namespace tto::control {

/// Defaults are Linux's, for what cannot be read.
struct TcpSysctls {
  struct Memory {
    uint32_t least = 4096, initial = 0, most = 0;
  };
  Memory rmem{4096, 131072, 6291456};
  Memory wmem{4096, 16384, 4194304};
  uint32_t core_rmem_max = 212992;
  bool moderate_rcvbuf = true;
  bool timestamps = true;
  bool timestamp_offset = true;  // tcp_timestamps 1: a random offset per peer; 2: none
  bool sack = true;
  bool window_scaling = true;
  bool slow_start_after_idle = true;
  uint8_t ecn = 2;  // as the kernel numbers it: asks_for_ecn(), accepts_ecn()
  uint8_t mtu_probing = 0;  // 0 never, 1 after a black hole, 2 always
  uint32_t base_mss = 1024;
  uint8_t early_retrans = 3;  // 0: no tail loss probes
  uint8_t syn_retries = 6;
  uint8_t synack_retries = 5;
  uint8_t retries2 = 15;
  uint8_t orphan_retries = 0;  // 0 means 8
  uint8_t keepalive_probes = 9;
  uint32_t keepalive_time_s = 7200;
  uint32_t keepalive_interval_s = 75;
  uint32_t fin_timeout_s = 60;
  uint32_t min_rto_us = 200'000;
  uint32_t notsent_lowat_bytes = UINT32_MAX;
  char congestion_control[16] = "cubic";

  /// RFC 3168 in our own SYN; in the answer to a peer's that asks. (3 to 5 are the kernel's accurate ECN, of which
  /// classic ECN is the part that we speak.)
  bool asks_for_ecn() const { return ecn == 1 || ecn == 3 || ecn == 4; }
  bool accepts_ecn() const { return ecn != 0; }
  /// The shift that the kernel would announce: the largest window the buffer may ever grow to must be expressible.
  /// `locked_bytes`: SO_RCVBUF as set by the application, 0 if it left the size to the stack.
  uint8_t receive_window_scale(uint32_t locked_bytes = 0) const;
};

/// Reads the calling thread's namespace. False if not one setting could be read (no /proc); `out` then has defaults.
bool read_tcp_sysctls(TcpSysctls& out);

/// Remembers them for a second.
class SysctlCache {
 public:
  const TcpSysctls& get(Instant now);

 private:
  TcpSysctls values_;
  Instant read_at_;
  bool is_read_ = false;
};

}  // namespace tto::control
