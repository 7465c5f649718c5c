#include "libtto/control/net_view.hh"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>

#include "libtto/control/rtnetlink.hh"
#include "tests/unit/control/fresh_namespace.hh"

namespace tto::control {
namespace {

wire::IpAddress ip(const char* text) {
  uint8_t raw[16];
  if (inet_pton(AF_INET, text, raw) == 1) {
    uint32_t v4;
    std::memcpy(&v4, raw, 4);
    return wire::IpAddress::from_v4(v4);
  }
  EXPECT_EQ(inet_pton(AF_INET6, text, raw), 1) << text;
  return wire::IpAddress::from_v6(raw);
}

int index_of(const char* name) { return static_cast<int>(if_nametoindex(name)); }

/// Until the kernel has no news left to tell: it reports a carrier and an IPv6 address some time after `ip` has ended.
void settle() {
  run("for i in $(seq 2000); do"
      " [ -z \"$(ip -6 addr show tentative)\" ] && [ $(ip -o link | grep -c \"state UP\") = 2 ] && exit 0; sleep 0.005;"
      " done; exit 1");
}

/// wire-a with 10.77.0.1/24 and fd77::1/64, its peer wire-b in the same namespace, both up.
void make_link() {
  run("ip link set lo up");
  run("ip link add wire-a address 02:00:00:00:77:01 type veth peer name wire-b address 02:00:00:00:77:02");
  // No link-local addresses: they become usable seconds later, which is news again.
  run("ip link set wire-a addrgenmode none && ip link set wire-b addrgenmode none");
  run("ip link set wire-b up && ip link set wire-a up");
  run("ip addr add 10.77.0.1/24 brd + dev wire-a && ip addr add fd77::1/64 dev wire-a nodad");
  settle();
}

bool is_readable(int fd) {
  pollfd p{fd, POLLIN, 0};
  return poll(&p, 1, 0) == 1;
}

/// Waits for the news that makes `condition` true.
template <typename F>
bool becomes(NetView& view, F&& condition) {
  pollfd p{view.notification_fd(), POLLIN, 0};
  while (!condition()) {
    if (poll(&p, 1, 10'000) != 1) return false;
    (void)view.refresh();
  }
  return true;
}

RouteRefusal refusal(NetView& view, const char* destination) {
  const auto answer = view.route(ip(destination), nullptr, 0, 0, 0);
  return answer ? RouteRefusal::kNone : answer.error();
}

TEST(NetView, link__appears_changes_and_disappears_live) {
  TTO_IN_FRESH_NAMESPACE([] {
    NetView view;
    ASSERT_TRUE(view.open());
    const Link* lo = view.link(index_of("lo"));
    ASSERT_NE(lo, nullptr);
    EXPECT_TRUE(lo->is_loopback);
    EXPECT_FALSE(lo->is_up);
    (void)view.refresh();
    EXPECT_FALSE(view.refresh());
    const uint64_t before = view.generation();
    make_link();
    EXPECT_TRUE(is_readable(view.notification_fd()));
    EXPECT_TRUE(view.refresh());
    EXPECT_NE(view.generation(), before);
    const int index = index_of("wire-a");
    ASSERT_NE(view.link(index), nullptr);
    EXPECT_STREQ(view.link(index)->name, "wire-a");
    EXPECT_EQ(view.link(index)->mtu_bytes, 1500u);
    EXPECT_EQ(view.link(index)->mac, (wire::MacAddress{{0x02, 0, 0, 0, 0x77, 1}}));
    EXPECT_FALSE(view.link(index)->is_loopback);
    run("ip link set wire-a mtu 9000");
    EXPECT_TRUE(view.refresh());
    EXPECT_EQ(view.link(index)->mtu_bytes, 9000u);
    run("ip link set wire-a down");
    EXPECT_TRUE(view.refresh());
    EXPECT_FALSE(view.link(index)->is_up);
    run("ip link del wire-a");
    EXPECT_TRUE(view.refresh());
    EXPECT_EQ(view.link(index), nullptr);
    EXPECT_FALSE(view.is_local_address(ip("10.77.0.1")));
  });
}

TEST(NetView, link__a_vlan_interface_says_its_tag_and_carrier) {
  TTO_IN_FRESH_NAMESPACE([] {
    make_link();
    NetView view;
    ASSERT_TRUE(view.open());
    if (std::system("ip link add link wire-a name wire-v type vlan id 77 2>/dev/null") != 0) {
      GTEST_SKIP() << "NOT TESTED: this kernel has no 802.1Q";
    }
    EXPECT_TRUE(view.refresh());
    const Link* vlan = view.link(index_of("wire-v"));
    ASSERT_NE(vlan, nullptr);
    EXPECT_EQ(vlan->vlan, 77);
    EXPECT_EQ(vlan->lower_ifindex, index_of("wire-a"));
    EXPECT_EQ(view.link(index_of("wire-a"))->vlan, 0);
    EXPECT_EQ(view.link(index_of("wire-a"))->lower_ifindex, 0);
  });
}

TEST(NetView, is_local_address__follows_additions_and_removals) {
  TTO_IN_FRESH_NAMESPACE([] {
    make_link();
    NetView view;
    ASSERT_TRUE(view.open());
    EXPECT_TRUE(view.is_local_address(ip("10.77.0.1")));
    EXPECT_TRUE(view.is_local_address(ip("fd77::1")));
    EXPECT_TRUE(view.is_local_address(ip("127.0.0.1")));
    EXPECT_TRUE(view.is_local_address(ip("::1")));
    EXPECT_FALSE(view.is_local_address(ip("10.77.0.2")));
    run("ip addr add 10.77.0.2/32 dev wire-b && ip addr add fd77::2/64 dev wire-a nodad");
    EXPECT_TRUE(view.refresh());
    EXPECT_TRUE(view.is_local_address(ip("10.77.0.2")));
    EXPECT_TRUE(becomes(view, [&] { return view.is_local_address(ip("fd77::2")); }));
    run("ip addr del 10.77.0.2/32 dev wire-b && ip addr del fd77::2/64 dev wire-a");
    EXPECT_TRUE(view.refresh());
    EXPECT_FALSE(view.is_local_address(ip("10.77.0.2")));
    EXPECT_FALSE(view.is_local_address(ip("fd77::2")));
  });
}

TEST(NetView, route__on_link_by_gateway_and_with_a_metric) {
  TTO_IN_FRESH_NAMESPACE([] {
    make_link();
    NetView view;
    ASSERT_TRUE(view.open());
    const int index = index_of("wire-a");
    auto answer = view.route(ip("10.77.0.9"), nullptr, 0, 0, 0);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->ifindex, index);
    EXPECT_EQ(answer->source, ip("10.77.0.1"));
    EXPECT_EQ(answer->next_hop, ip("10.77.0.9"));
    EXPECT_EQ(answer->mtu_bytes, 1500u);
    EXPECT_FALSE(answer->is_local || answer->is_broadcast_or_multicast);
    EXPECT_EQ(refusal(view, "192.0.2.1"), RouteRefusal::kUnreachable);
    EXPECT_EQ(refusal(view, "2001:db8::1"), RouteRefusal::kUnreachable);

    run("ip route add default via 10.77.0.254 mtu 1300 && ip -6 route add default via fd77::fe mtu 1310");
    EXPECT_TRUE(view.refresh());
    answer = view.route(ip("192.0.2.1"), nullptr, 0, 0, 0);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->next_hop, ip("10.77.0.254"));
    EXPECT_EQ(answer->mtu_bytes, 1300u);
    answer = view.route(ip("2001:db8::1"), nullptr, 0, 0, 0);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->ifindex, index);
    EXPECT_EQ(answer->next_hop, ip("fd77::fe"));
    EXPECT_EQ(answer->source, ip("fd77::1"));
    EXPECT_EQ(answer->mtu_bytes, 1310u);

    run("ip route replace default via 10.77.0.253");
    EXPECT_TRUE(view.refresh());
    EXPECT_EQ(view.route(ip("192.0.2.1"), nullptr, 0, 0, 0)->next_hop, ip("10.77.0.253"));
    run("ip link set wire-a mtu 1280");
    EXPECT_TRUE(view.refresh());
    EXPECT_EQ(view.route(ip("192.0.2.1"), nullptr, 0, 0, 0)->mtu_bytes, 1280u);
  });
}

TEST(NetView, route__the_kinds_that_are_not_unicast) {
  TTO_IN_FRESH_NAMESPACE([] {
    make_link();
    run("ip route add unreachable 198.51.100.1 && ip route add prohibit 198.51.100.2 && "
        "ip route add blackhole 198.51.100.3");
    run("ip -6 route add unreachable 2001:db8::1 && ip -6 route add prohibit 2001:db8::2 && "
        "ip -6 route add blackhole 2001:db8::3");
    run("ip route add multicast 224.0.0.0/4 dev wire-a 2>/dev/null || ip route add 224.0.0.0/4 dev wire-a");
    NetView view;
    ASSERT_TRUE(view.open());
    EXPECT_EQ(refusal(view, "198.51.100.1"), RouteRefusal::kUnreachable);
    EXPECT_EQ(refusal(view, "198.51.100.2"), RouteRefusal::kProhibited);
    EXPECT_EQ(refusal(view, "198.51.100.3"), RouteRefusal::kUnsupported);
    EXPECT_EQ(refusal(view, "2001:db8::1"), RouteRefusal::kUnreachable);
    EXPECT_EQ(refusal(view, "2001:db8::2"), RouteRefusal::kProhibited);
    EXPECT_EQ(refusal(view, "2001:db8::3"), RouteRefusal::kUnsupported);
    for (const char* local : {"10.77.0.1", "127.0.0.1", "fd77::1", "::1"}) {
      const auto answer = view.route(ip(local), nullptr, 0, 0, 0);
      ASSERT_TRUE(answer) << local;
      EXPECT_TRUE(answer->is_local) << local;
    }
    for (const char* many : {"10.77.0.255", "224.0.0.251", "ff02::fb"}) {
      const auto answer = view.route(ip(many), nullptr, many[0] == 'f' ? index_of("wire-a") : 0, 0, 0);
      ASSERT_TRUE(answer) << many;
      EXPECT_TRUE(answer->is_broadcast_or_multicast) << many;
    }
  });
}

TEST(NetView, route__obeys_policy_source_and_interface) {
  TTO_IN_FRESH_NAMESPACE([] {
    make_link();
    run("ip addr add 10.78.0.1/24 dev wire-b && ip addr add 10.77.0.3/24 dev wire-a");
    run("ip route add default via 10.77.0.254");
    NetView view;
    ASSERT_TRUE(view.open());
    const auto to = ip("192.0.2.1");
    EXPECT_EQ(view.route(to, nullptr, 0, 0, 5)->next_hop, ip("10.77.0.254"));
    const auto second = ip("10.77.0.3");
    EXPECT_EQ(view.route(to, &second, 0, 0, 0)->source, second);

    run("ip route add default via 10.78.0.254 table 100 && ip rule add fwmark 5 table 100");
    EXPECT_TRUE(view.refresh());
    const auto marked = view.route(to, nullptr, 0, 0, 5);
    ASSERT_TRUE(marked);
    EXPECT_EQ(marked->next_hop, ip("10.78.0.254"));
    EXPECT_EQ(marked->ifindex, index_of("wire-b"));
    EXPECT_EQ(view.route(to, nullptr, 0, 0, 0)->next_hop, ip("10.77.0.254"));

    run("ip rule add tos 0x10 table 100");
    EXPECT_TRUE(view.refresh());
    EXPECT_EQ(view.route(to, nullptr, 0, 0x10, 0)->next_hop, ip("10.78.0.254"));
    EXPECT_EQ(view.route(to, nullptr, 0, 0x12, 0)->next_hop, ip("10.78.0.254")) << "ECN bits do not matter";
    EXPECT_EQ(view.route(to, nullptr, index_of("wire-b"), 0, 0)->ifindex, index_of("wire-b"));
    const auto foreign = ip("203.0.113.9");
    EXPECT_FALSE(view.route(to, &foreign, 0, 0, 0)) << "not an address of ours";
  });
}

TEST(NetView, route__a_next_hop_of_the_other_family) {
  TTO_IN_FRESH_NAMESPACE([] {
    make_link();
    run("ip route add 192.0.2.0/24 via inet6 fd77::fe dev wire-a");
    NetView view;
    ASSERT_TRUE(view.open());
    const auto answer = view.route(ip("192.0.2.1"), nullptr, 0, 0, 0);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->next_hop, ip("fd77::fe"));
  });
}

TEST(NetView, neighbor__appears_changes_and_disappears_live) {
  TTO_IN_FRESH_NAMESPACE([] {
    make_link();
    NetView view;
    ASSERT_TRUE(view.open());
    const int index = index_of("wire-a");
    wire::MacAddress mac;
    for (const char* address : {"10.77.0.9", "fd77::9"}) {
      const std::string at = std::string(address) + " dev wire-a";
      EXPECT_FALSE(view.neighbor(index, ip(address), mac));
      run("ip neigh add " + at + " lladdr 02:00:00:00:00:09 nud reachable");
      EXPECT_TRUE(view.refresh());
      ASSERT_TRUE(view.neighbor(index, ip(address), mac));
      EXPECT_EQ(mac.bytes[5], 9);
      EXPECT_FALSE(view.neighbor(index_of("wire-b"), ip(address), mac));
      const uint64_t before = view.generation();
      run("ip neigh change " + at + " lladdr 02:00:00:00:00:09 nud stale");
      EXPECT_FALSE(view.refresh()) << "the same answer is no news";
      EXPECT_EQ(view.generation(), before);
      run("ip neigh change " + at + " lladdr 02:00:00:00:00:0a nud permanent");
      EXPECT_TRUE(view.refresh());
      ASSERT_TRUE(view.neighbor(index, ip(address), mac));
      EXPECT_EQ(mac.bytes[5], 10);
      run("ip neigh del " + at);
      EXPECT_TRUE(view.refresh());
      EXPECT_FALSE(view.neighbor(index, ip(address), mac));
    }
  });
}

TEST(NetView, has_link_local__only_one_that_may_be_used_counts) {
  TTO_IN_FRESH_NAMESPACE([] {
    run("ip link add wire-a type veth peer name wire-b");
    run("ip link set wire-a addrgenmode none && ip link set wire-b addrgenmode none");
    run("ip link set wire-b up && ip link set wire-a up && ip addr add fd77::1/64 dev wire-a nodad");
    NetView view;
    ASSERT_TRUE(view.open());
    const int index = index_of("wire-a");
    EXPECT_FALSE(view.has_link_local(index)) << "fd77::1 is none";
    run("sysctl -qw net.ipv6.conf.wire-a.dad_transmits=1000");
    run("ip addr add fe80::77:1/64 dev wire-a");  // for a long time others may object
    (void)view.refresh();
    EXPECT_FALSE(view.has_link_local(index)) << "tentative";
    run("ip addr add fe80::77:2/64 dev wire-a nodad");
    EXPECT_TRUE(becomes(view, [&] { return view.has_link_local(index); }));
    EXPECT_FALSE(view.has_link_local(index_of("wire-b")));
    run("ip addr flush dev wire-a scope link");
    EXPECT_TRUE(becomes(view, [&] { return !view.has_link_local(index); }));
  });
}

TEST(NetView, refresh__recovers_from_lost_notifications) {
  TTO_IN_FRESH_NAMESPACE([] {
    make_link();
    NetView view;
    ASSERT_TRUE(view.open());
    NetlinkSocket witness;
    const int groups[] = {RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE};
    ASSERT_EQ(witness.open(groups), 0);
    run("for i in $(seq 0 1999); do echo addr add 10.80.$((i / 200)).$((i % 200 + 1))/32 dev wire-a; done |"
        " ip -batch -");
    run("ip addr del 10.77.0.1/24 dev wire-a");
    long result;
    while ((result = witness.receive([](const NetlinkMessage&) {})) > 0) {
    }
    ASSERT_EQ(result, -ENOBUFS) << "the test no longer overflows the queue";
    // Each turn is bounded; until the queue is empty there is always something to read.
    while (is_readable(view.notification_fd())) view.refresh();
    EXPECT_TRUE(view.is_local_address(ip("10.80.9.200")));
    EXPECT_FALSE(view.is_local_address(ip("10.77.0.1")));
    run("ip addr del 10.80.9.200/32 dev wire-a");
    EXPECT_TRUE(view.refresh());
    EXPECT_FALSE(view.is_local_address(ip("10.80.9.200")));
  });
}

TEST(Netlink, attributes__damaged_lengths_end_the_list) {
  alignas(4) uint8_t bytes[24] = {};
  const rtattr good{8, 3}, too_long{200, 4};
  std::memcpy(bytes, &good, 4);
  bytes[4] = 42;
  std::memcpy(bytes + 8, &too_long, 4);
  const Attributes attributes(bytes);
  EXPECT_EQ(attributes.u32(3), 42u);
  EXPECT_FALSE(attributes.has(4));
  EXPECT_EQ(Attributes({bytes + 12, 12}).has(0), false) << "a length of 0 never loops";
  EXPECT_EQ(attributes.u32(99, 7), 7u);
}

}  // namespace
}  // namespace tto::control
