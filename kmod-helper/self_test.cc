#include "kmod-helper/self_test.hh"

#include <linux/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "kmod-helper/fd.hh"
#include "kmod-helper/inject.hh"
#include "kmod-helper/log.hh"
#include "kmod-helper/netlink.hh"
#include "kmod-helper/netns.hh"
#include "kmod-helper/repair.hh"

namespace ttod {
namespace {

using tto::wire::FourTuple;
using tto::wire::IpAddress;

constexpr uint32_t kLoopbackIfindex = 1;
constexpr uint32_t kTheirs = 1000, kOurs = 2000;  // sequence numbers

/// One byte from the tuple's remote side.
std::vector<uint8_t> packet_for(const FourTuple& tuple) {
  constexpr size_t kTcpBytes = sizeof(tcphdr) + 1;
  tcphdr tcp{};
  tcp.source = htons(tuple.remote_port);
  tcp.dest = htons(tuple.local_port);
  tcp.seq = htonl(kTheirs);
  tcp.ack_seq = htonl(kOurs);
  tcp.doff = sizeof tcp / 4;
  tcp.ack = tcp.psh = 1;
  tcp.window = htons(1000);
  std::vector<uint8_t> packet;
  const auto put = [&packet](const auto& header) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&header);
    packet.insert(packet.end(), bytes, bytes + sizeof header);
  };
  if (tuple.local.is_v4()) {
    iphdr ip{};
    ip.version = 4;
    ip.ihl = sizeof ip / 4;
    ip.tot_len = htons(sizeof ip + kTcpBytes);
    ip.ttl = 64;
    ip.protocol = IPPROTO_TCP;
    ip.saddr = tuple.remote.v4();
    ip.daddr = tuple.local.v4();
    put(ip);
  } else {
    ip6_hdr ip{};
    ip.ip6_vfc = 6 << 4;
    ip.ip6_plen = htons(kTcpBytes);
    ip.ip6_nxt = IPPROTO_TCP;
    ip.ip6_hlim = 64;
    std::memcpy(&ip.ip6_src, tuple.remote.bytes.data(), 16);
    std::memcpy(&ip.ip6_dst, tuple.local.bytes.data(), 16);
    put(ip);
  }
  put(tcp);
  packet.push_back('x');
  return packet;
}

bool is_injection_received(const Injector& injector, int family) {
  Fd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  RepairTarget target;
  target.ifindex = kLoopbackIfindex;
  target.tuple.local =
      family == AF_INET ? IpAddress::from_v4(htonl(INADDR_LOOPBACK)) : IpAddress::from_v6(&in6addr_loopback);
  target.tuple.remote = target.tuple.local;
  target.tuple.local_port = 20001;
  target.tuple.remote_port = 20002;
  tto_helper_restore restore{};
  restore.snd_una = kOurs;
  restore.rcv_unread = kTheirs;
  restore.peer_mss = 1460;
  SocketMemory memory;
  if (restore_socket(socket.get(), target, restore, memory) != TTO_REFUSED_NONE ||
      finish_socket(socket.get(), target, TTO_HANDOVER_NO_PROBE, memory) != TTO_REFUSED_NONE)
    return false;
  std::vector<uint8_t> packet = packet_for(target.tuple);
  if (!make_injectable(packet, target.tuple) || injector.send(packet, target.tuple, kLoopbackIfindex) != 0)
    return false;
  char byte = 0;  // the loopback device delivers within the send
  const bool is_received = ::recv(socket.get(), &byte, 1, MSG_DONTWAIT) == 1 && byte == 'x';
  abandon_socket(socket.get(), target, memory);
  return is_received;
}

int bring_up_loopback() {
  NetlinkSocket netlink;
  const int error = netlink.open(NETLINK_ROUTE);
  if (error != 0) return error;
  ifinfomsg loopback{};
  loopback.ifi_index = kLoopbackIfindex;
  loopback.ifi_flags = loopback.ifi_change = IFF_UP;
  NetlinkRequest up(RTM_NEWLINK, NLM_F_ACK);
  up.body(loopback);
  return netlink.request(up);
}

}  // namespace

void self_test_handover() {
  const Fd netns = netns_make_hidden();
  NetnsScope inside(netns.get());
  Injector injector;
  int error = bring_up_loopback();
  if (error == 0) error = injector.open();
  if (error != 0) throw std::runtime_error("self-test: loopback device or raw sockets: errno " + std::to_string(error));
  if (!is_injection_received(injector, AF_INET))
    throw std::runtime_error("self-test: cannot restore a socket and inject into it");
  const Fd v6(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (v6 && !is_injection_received(injector, AF_INET6))
    LOG_WARNING("self-test: no injection over IPv6: connections handed over lose the frames that are on their way");
}

}  // namespace ttod
