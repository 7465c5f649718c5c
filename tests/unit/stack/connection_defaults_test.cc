#include "libtto/stack/connection_defaults.hh"

#include <gtest/gtest.h>

#include <cstdio>
#include <tuple>

namespace tto::stack {
namespace {

using control::TcpSysctls;

TEST(ConnectionDefaults, apply_sysctls__sets_what_they_decide_and_nothing_else) {
  TcpSysctls s;
  s.rmem = {5000, 140000, 9000000};
  s.core_rmem_max = 0;
  s.timestamps = s.sack = s.slow_start_after_idle = false;
  s.syn_retries = 3;
  s.synack_retries = 2;
  s.retries2 = 7;
  s.orphan_retries = 4;
  s.keepalive_probes = 5;
  s.keepalive_time_s = 600;
  s.keepalive_interval_s = 11;
  s.fin_timeout_s = 30;
  s.min_rto_us = 50'000;
  std::snprintf(s.congestion_control, sizeof(s.congestion_control), "reno");
  tcp::ConnectionConfig c;
  c.iss = 99;
  c.mtu_bytes = 9000;
  apply_sysctls(s, Opening::kActive, c);
  EXPECT_EQ(c.iss, 99u);
  EXPECT_EQ(c.mtu_bytes, 9000);
  EXPECT_EQ(c.receive_buffer_bytes, 140000u);
  EXPECT_EQ(c.receive_window_scale, 8);
  EXPECT_FALSE(c.timestamps || c.sack || c.slow_start_after_idle);
  EXPECT_TRUE(c.window_scaling);
  EXPECT_EQ(c.syn_retries, 3);
  EXPECT_EQ(c.synack_retries, 2);
  EXPECT_EQ(c.retries2, 7);
  EXPECT_EQ(c.orphan_retries, 4);
  EXPECT_EQ(c.keepalive_probes, 5);
  EXPECT_EQ(c.keepalive_idle, seconds(600));
  EXPECT_EQ(c.keepalive_interval, seconds(11));
  EXPECT_EQ(c.fin_timeout, seconds(30));
  EXPECT_EQ(c.min_rto, milliseconds(50));
  EXPECT_EQ(c.congestion, tcp::ConnectionConfig::Congestion::kReno);
}

TEST(ConnectionDefaults, apply_sysctls__ecn_is_asked_for_and_accepted_as_the_kernel_does) {
  for (const auto& [value, asks, accepts] : {std::tuple{0, false, false},
                                             {1, true, true},
                                             {2, false, true},
                                             {3, true, true},
                                             {4, true, true},
                                             {5, false, true}}) {
    TcpSysctls s;
    s.ecn = static_cast<uint8_t>(value);
    tcp::ConnectionConfig active, passive;
    apply_sysctls(s, Opening::kActive, active);
    apply_sysctls(s, Opening::kPassive, passive);
    EXPECT_EQ(active.ecn, asks) << value;
    EXPECT_EQ(passive.ecn, accepts) << value;
  }
}

TEST(ConnectionDefaults, apply_sysctls__no_orphan_retries_means_eight_and_bbr_becomes_cubic) {
  TcpSysctls s;
  std::snprintf(s.congestion_control, sizeof(s.congestion_control), "bbr");
  tcp::ConnectionConfig c;
  apply_sysctls(s, Opening::kActive, c);
  EXPECT_EQ(c.orphan_retries, 8);
  EXPECT_EQ(c.congestion, tcp::ConnectionConfig::Congestion::kCubic);
}

}  // namespace
}  // namespace tto::stack
