#include "libtto/control/sysctls.hh"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "tests/unit/control/fresh_namespace.hh"

namespace tto::control {
namespace {

void set(const std::string& name, const std::string& value) {
  std::ofstream file("/proc/sys/net/ipv4/tcp_" + name);
  file << value << std::flush;
  ASSERT_TRUE(file.good()) << name << " = " << value;
}

TEST(Sysctls, read__everything_that_was_set_in_this_namespace) {
  TTO_IN_FRESH_NAMESPACE([] {
    set("rmem", "5000 140000 9000000");
    set("wmem", "6000 20000 5000000");
    set("timestamps", "0");
    set("sack", "0");
    set("window_scaling", "0");
    set("slow_start_after_idle", "0");
    set("moderate_rcvbuf", "0");
    set("ecn", "1");
    set("syn_retries", "3");
    set("synack_retries", "2");
    set("retries2", "7");
    set("orphan_retries", "4");
    set("keepalive_probes", "5");
    set("keepalive_time", "600");
    set("keepalive_intvl", "11");
    set("fin_timeout", "30");
    set("notsent_lowat", "16384");
    set("congestion_control", "reno");
    TcpSysctls s;
    ASSERT_TRUE(read_tcp_sysctls(s));
    EXPECT_EQ(s.rmem.least, 5000u);
    EXPECT_EQ(s.rmem.initial, 140000u);
    EXPECT_EQ(s.rmem.most, 9000000u);
    EXPECT_EQ(s.wmem.initial, 20000u);
    EXPECT_FALSE(s.timestamps || s.sack || s.window_scaling || s.slow_start_after_idle || s.moderate_rcvbuf);
    EXPECT_EQ(s.notsent_lowat_bytes, 16384u);
    EXPECT_STREQ(s.congestion_control, "reno");
    EXPECT_TRUE(s.asks_for_ecn());
    EXPECT_EQ(s.syn_retries, 3);
    EXPECT_EQ(s.synack_retries, 2);
    EXPECT_EQ(s.retries2, 7);
    EXPECT_EQ(s.orphan_retries, 4);
    EXPECT_EQ(s.keepalive_probes, 5);
    EXPECT_EQ(s.keepalive_time_s, 600u);
    EXPECT_EQ(s.keepalive_interval_s, 11u);
    EXPECT_EQ(s.fin_timeout_s, 30u);
  });
}

TEST(Sysctls, get__follows_a_change_within_a_second_and_not_before) {
  TTO_IN_FRESH_NAMESPACE([] {
    SysctlCache cache;
    const Instant start{5'000'000'000};
    set("syn_retries", "3");
    EXPECT_EQ(cache.get(start).syn_retries, 3);
    set("syn_retries", "4");
    EXPECT_EQ(cache.get(start + milliseconds(999)).syn_retries, 3);
    EXPECT_EQ(cache.get(start + seconds(1)).syn_retries, 4);
  });
}

TEST(Sysctls, read__another_namespace_has_its_own) {
  TTO_IN_FRESH_NAMESPACE([] {
    set("syn_retries", "11");
    TcpSysctls s;
    ASSERT_TRUE(read_tcp_sysctls(s));
    EXPECT_EQ(s.syn_retries, 11);
  });
  TcpSysctls s;
  ASSERT_TRUE(read_tcp_sysctls(s));
  EXPECT_NE(s.syn_retries, 11);
}

TEST(Sysctls, receive_window_scale__covers_the_largest_buffer) {
  TcpSysctls s;
  s.core_rmem_max = 0;
  EXPECT_EQ(s.receive_window_scale(65535), 0);
  EXPECT_EQ(s.receive_window_scale(65536), 1);
  EXPECT_EQ(s.receive_window_scale(1), 0);
  s.rmem.most = 6291456;  // what Linux installs with: it announces 7
  EXPECT_EQ(s.receive_window_scale(), 7);
  s.rmem.most = 33554432;
  EXPECT_EQ(s.receive_window_scale(), 10);
  s.rmem.most = INT32_MAX;
  EXPECT_EQ(s.receive_window_scale(), 14);
  s.window_scaling = false;
  EXPECT_EQ(s.receive_window_scale(), 0);
}

}  // namespace
}  // namespace tto::control
