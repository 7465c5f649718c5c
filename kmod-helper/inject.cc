#include "kmod-helper/inject.hh"

#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "libtto/wire/checksum.hh"

namespace ttod {
namespace {

using tto::wire::FourTuple;
using tto::wire::IpAddress;

constexpr size_t kV4Bytes = sizeof(iphdr), kV6Bytes = sizeof(ip6_hdr), kTcpBytes = sizeof(tcphdr);
constexpr uint16_t kDontFragment = 0x4000;

bool is_segment_of(std::span<const uint8_t> segment, const FourTuple& tuple) {
  tcphdr tcp;
  std::memcpy(&tcp, segment.data(), sizeof tcp);
  const size_t header_bytes = tcp.doff * size_t{4};
  return header_bytes >= kTcpBytes && header_bytes <= segment.size() && ntohs(tcp.source) == tuple.remote_port &&
         ntohs(tcp.dest) == tuple.local_port;
}

void fill_tcp_checksum(std::span<uint8_t> segment, const IpAddress& source, const IpAddress& destination) {
  tcphdr tcp;
  std::memcpy(&tcp, segment.data(), sizeof tcp);
  tcp.check = 0;
  std::memcpy(segment.data(), &tcp, sizeof tcp);
  const uint16_t sum = tto::wire::sum_bytes(segment.data(), segment.size());
  tcp.check = tto::wire::checksum_of(tto::wire::add_sums(
      sum, tto::wire::pseudo_header_sum(source, destination, IPPROTO_TCP, static_cast<uint32_t>(segment.size()))));
  std::memcpy(segment.data(), &tcp, sizeof tcp);
}

}  // namespace

bool make_injectable(std::span<uint8_t> packet, const FourTuple& tuple) {
  const bool is_v4 = tuple.local.is_v4();
  const size_t ip_bytes = is_v4 ? kV4Bytes : kV6Bytes;
  if (packet.size() < ip_bytes + kTcpBytes || packet.size() > UINT16_MAX) return false;
  IpAddress source, destination;
  if (is_v4) {
    iphdr ip;
    std::memcpy(&ip, packet.data(), sizeof ip);
    if (ip.version != 4 || ip.ihl * size_t{4} != kV4Bytes || ntohs(ip.tot_len) != packet.size() ||
        (ntohs(ip.frag_off) & ~kDontFragment) != 0 || ip.protocol != IPPROTO_TCP)
      return false;
    source = IpAddress::from_v4(ip.saddr);
    destination = IpAddress::from_v4(ip.daddr);
  } else {
    ip6_hdr ip;
    std::memcpy(&ip, packet.data(), sizeof ip);
    if (ip.ip6_vfc >> 4 != 6 || ntohs(ip.ip6_plen) != packet.size() - kV6Bytes || ip.ip6_nxt != IPPROTO_TCP)
      return false;
    source = IpAddress::from_v6(&ip.ip6_src);
    destination = IpAddress::from_v6(&ip.ip6_dst);
  }
  if (source != tuple.remote || destination != tuple.local) return false;
  const std::span<uint8_t> segment = packet.subspan(ip_bytes);
  if (!is_segment_of(segment, tuple)) return false;
  fill_tcp_checksum(segment, source, destination);  // the kernel makes that of the IPv4 header
  return true;
}

int Injector::open() {
  Fd v4(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW));
  if (!v4) return errno;
  v4_ = std::move(v4);
  v6_.reset(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW));
  return v6_ || errno == EAFNOSUPPORT ? 0 : errno;
}

int Injector::send(std::span<const uint8_t> packet, const FourTuple& tuple, uint32_t ifindex) const {
  ssize_t sent = -1;
  if (tuple.local.is_v4()) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    std::memcpy(&to.sin_addr, &tuple.local.bytes[12], 4);
    sent = ::sendto(v4_.get(), packet.data(), packet.size(), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&to), sizeof to);
  } else {
    sockaddr_in6 to{};
    to.sin6_family = AF_INET6;
    std::memcpy(&to.sin6_addr, tuple.local.bytes.data(), 16);
    if (IN6_IS_ADDR_LINKLOCAL(&to.sin6_addr)) to.sin6_scope_id = ifindex;
    sent = ::sendto(v6_.get(), packet.data(), packet.size(), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&to), sizeof to);
  }
  return sent == static_cast<ssize_t>(packet.size()) ? 0 : errno;
}

}  // namespace ttod
