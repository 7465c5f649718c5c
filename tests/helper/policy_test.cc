// The policy file and its decisions: pure functions, no daemon.
#include "kmod-helper/policy.hh"

#include <arpa/inet.h>
#include <gtest/gtest.h>

namespace ttod {
namespace {

tto::wire::IpAddress ip(const char* text) {
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, text, &v4) == 1) return tto::wire::IpAddress::from_v4(v4.s_addr);
  inet_pton(AF_INET6, text, &v6);
  return tto::wire::IpAddress::from_v6(&v6);
}

Policy parse(const std::string& text) { return parse_policy(text, "t.toml"); }

std::string error_of(const std::string& text) {
  try {
    parse(text);
  } catch (const ConfigError& e) {
    return e.what();
  }
  return "accepted";
}

PolicyRequest connect_to(const char* remote, uint16_t port, uint32_t uid = 1000) {
  PolicyRequest q;
  q.uid = uid;
  q.gid = 1000;
  q.interface = "eth0";
  q.local = ip("10.0.0.1");
  q.local_port = 40000;
  q.remote = ip(remote);
  q.remote_port = port;
  return q;
}

PolicyRequest listen_on(uint16_t port, uint32_t uid = 1000) {
  PolicyRequest q;
  q.uid = uid;
  q.gid = 1000;
  q.is_listen = true;
  q.interface = "eth0";
  q.local = ip("10.0.0.1");
  q.local_port = port;
  return q;
}

TEST(Policy, defaults__everyone_on_every_interface) {
  const Policy p = parse("");
  EXPECT_TRUE(is_allowed(p, connect_to("192.0.2.1", 80)));
  EXPECT_TRUE(is_allowed(p, listen_on(80)));
  EXPECT_EQ(p.port.frames, 8192u);
  EXPECT_FALSE(p.allow_filtered);
}

TEST(Policy, interfaces__globs_and_nothing_else) {
  const Policy p = parse("interfaces = [\"eth*\", \"wan0\"]");
  EXPECT_TRUE(is_interface_allowed(p, "eth0"));
  EXPECT_TRUE(is_interface_allowed(p, "wan0"));
  EXPECT_FALSE(is_interface_allowed(p, "wan01"));
  EXPECT_FALSE(is_interface_allowed(p, "veth0"));
  EXPECT_FALSE(is_interface_allowed(parse("interfaces = []"), "eth0"));
}

TEST(Policy, P1_first_matching_rule_decides) {
  const Policy p = parse(
      "[[rule]]\naction = \"refuse\"\nfor = \"listen\"\nlocal_ports = [\"1-1023\"]\nuid = [1000]\n"
      "[[rule]]\naction = \"allow\"\nuid = [0, 1000]\n"
      "[[rule]]\naction = \"refuse\"\n");
  EXPECT_FALSE(is_allowed(p, listen_on(80, 1000)));
  EXPECT_TRUE(is_allowed(p, listen_on(80, 0)));
  EXPECT_TRUE(is_allowed(p, listen_on(1024, 1000)));
  EXPECT_TRUE(is_allowed(p, connect_to("192.0.2.1", 80, 1000)));
  EXPECT_FALSE(is_allowed(p, connect_to("192.0.2.1", 80, 1001)));
}

TEST(Policy, P1_addresses_and_ports_of_both_sides) {
  const Policy p = parse(
      "[[rule]]\naction = \"allow\"\nremote = [\"192.0.2.0/25\", \"2001:db8::/33\"]\nremote_ports = [443, "
      "\"8000-8003\"]\nlocal = [\"10.0.0.0/8\"]\ninterfaces = [\"eth?\"]\ngid = [1000]\n[[rule]]\naction = "
      "\"refuse\"\nfor = \"connect\"\n");
  EXPECT_TRUE(is_allowed(p, connect_to("192.0.2.127", 443)));
  EXPECT_FALSE(is_allowed(p, connect_to("192.0.2.128", 443)));
  EXPECT_TRUE(is_allowed(p, connect_to("2001:db8:7fff::1", 8003)));
  EXPECT_FALSE(is_allowed(p, connect_to("2001:db8:8000::1", 8003)));
  EXPECT_FALSE(is_allowed(p, connect_to("192.0.2.1", 8004)));
  PolicyRequest other = connect_to("192.0.2.1", 443);
  other.local = ip("11.0.0.1");
  EXPECT_FALSE(is_allowed(p, other));
  other = connect_to("192.0.2.1", 443);
  other.gid = 1;
  EXPECT_FALSE(is_allowed(p, other));
  EXPECT_TRUE(is_allowed(p, listen_on(80)));  // nothing was said about listening
}

TEST(Policy, P1_a_v4_prefix_says_nothing_about_v6) {
  const Policy p = parse("[[rule]]\naction = \"refuse\"\nremote = [\"0.0.0.0/0\"]\n");
  EXPECT_FALSE(is_allowed(p, connect_to("8.8.8.8", 80)));
  EXPECT_TRUE(is_allowed(p, connect_to("2001:db8::1", 80)));
}

TEST(Policy, bad_files__name_the_line) {
  EXPECT_EQ(error_of("interfaces = [\"a\"]\nsocket_mod = \"0600\"\n"),
            "t.toml:2: unknown key \"socket_mod\" in the file");
  EXPECT_NE(error_of("\n\n[port]\nframes = 12\n").find("t.toml:4: must be a whole number from 256"), std::string::npos);
  EXPECT_NE(error_of("[port]\nframes = \"many\"\n").find("t.toml:2:"), std::string::npos);
  EXPECT_NE(error_of("interfaces = \"eth0\"").find("t.toml:1: must be a list"), std::string::npos);
  EXPECT_NE(error_of("interfaces = [1]").find("t.toml:1: must be a text"), std::string::npos);
  EXPECT_NE(error_of("[xdp]\nmode = \"fast\"").find("t.toml:2: mode must be"), std::string::npos);
  EXPECT_NE(error_of("socket_mode = \"0999\"").find("octal"), std::string::npos);
  EXPECT_NE(error_of("[[rule]]\nuid = [1]").find("needs an action"), std::string::npos);
  EXPECT_NE(error_of("[[rule]]\naction = \"allow\"\nuid = [-1]").find("t.toml:3:"), std::string::npos);
  EXPECT_NE(error_of("[[rule]]\naction = \"allow\"\nremote = [\"10.0.0.0/33\"]").find("0 to 32"), std::string::npos);
  EXPECT_NE(error_of("[[rule]]\naction = \"allow\"\nremote = [\"ten\"]").find("is no address"), std::string::npos);
  EXPECT_NE(error_of("[[rule]]\naction = \"allow\"\nlocal_ports = [\"9-3\"]").find("is no port range"),
            std::string::npos);
  EXPECT_NE(error_of("[[rule]]\naction = \"allow\"\nlocal_ports = [65536]").find("t.toml:3:"), std::string::npos);
  EXPECT_NE(error_of("port = 3").find("must be a table"), std::string::npos);
  EXPECT_NE(error_of("a = = 3").find("t.toml:1:"), std::string::npos);
  EXPECT_NE(error_of("allow_filtered = 1").find("true or false"), std::string::npos);
  EXPECT_NE(error_of("[port]\nframes = 100000\n").find("frames_per_port"), std::string::npos);
}

TEST(Policy, print__is_read_back_the_same) {
  const Policy p = parse("interfaces = [\"x*\"]\nallow_filtered = true\n[xdp]\nmode = \"generic\"\n[port]\npool = 7\n");
  const Policy again = parse(print_policy(p));
  EXPECT_EQ(print_policy(again), print_policy(p));
  EXPECT_EQ(again.port.pool, 7u);
  EXPECT_EQ(again.xdp_mode, XdpChoice::kGeneric);
  EXPECT_EQ(again.socket_mode, 0666u);
}

}  // namespace
}  // namespace ttod
