#include "libtto/wire/bytes.hh"
#include "libtto/wire/checksum.hh"
#include "libtto/wire/frame.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::wire {
namespace {

using stats::DropReason;

/// What parsing has reached: the bytes at hand, and where the IP packet ends by its own word.
struct Cursor {
  std::span<const uint8_t> piece;
  uint32_t total_bytes = 0;
  uint32_t packet_end = 0;  // from the frame's first byte; at most total_bytes
  uint8_t protocol = 0;

  const uint8_t* at(size_t offset) const { return piece.data() + offset; }
  bool has(size_t offset, size_t bytes) const { return offset + bytes <= piece.size(); }
};

/// Unicast as the source or destination of a segment on the wire can be: not this-host, loopback, multicast, reserved.
bool is_unicast_v4(const uint8_t* a) { return a[0] != 0 && a[0] != 127 && a[0] < 224; }

bool is_unicast_v6(const uint8_t* a) {
  if (a[0] == 0xff) return false;  // multicast
  uint64_t high, low;
  std::memcpy(&high, a, 8);
  std::memcpy(&low, a + 8, 8);
  if (high != 0) return true;
  if (load32(a + 8) == 0 && load32(a + 12) <= 1) return false;  // unspecified, loopback
  return load32(a + 8) != 0xffff;                               // v4-mapped: would pass for an IPv4 flow inside
}

DropReason parse_ethernet(const Cursor& c, FrameView& out, uint16_t& ethertype) {
  if (!c.has(0, kEthernetBytes)) return DropReason::k_truncated;
  std::memcpy(out.destination_mac.bytes.data(), c.at(0), 6);
  std::memcpy(out.source_mac.bytes.data(), c.at(6), 6);
  ethertype = load16(c.at(12));
  size_t offset = kEthernetBytes;
  if (ethertype == kEtherVlan) {
    if (!c.has(offset, kVlanBytes)) return DropReason::k_truncated;
    out.vlan = load16(c.at(14)) & 0xfff;
    ethertype = load16(c.at(16));
    offset += kVlanBytes;
  }
  out.ip_offset = static_cast<uint16_t>(offset);
  return DropReason::kNone;
}

DropReason parse_ipv4(Cursor& c, FrameView& out) {
  if (!c.has(out.ip_offset, kIpv4Bytes)) return DropReason::k_truncated;
  const uint8_t* ip = c.at(out.ip_offset);
  const size_t header_bytes = (ip[0] & 0xf) * size_t{4};
  const uint32_t packet_bytes = load16(ip + 2);
  if (ip[0] >> 4 != 4 || header_bytes < kIpv4Bytes || packet_bytes < header_bytes) return DropReason::k_ip_header;
  if (!c.has(out.ip_offset, header_bytes) || packet_bytes > c.total_bytes - out.ip_offset) {
    return DropReason::k_truncated;
  }
  if (!is_valid_sum(sum_bytes(ip, header_bytes))) return DropReason::k_ip_checksum;
  if ((load16(ip + 6) & 0x3fff) != 0) return DropReason::k_ip_fragment;  // MF or an offset
  if (!is_unicast_v4(ip + 12) || !is_unicast_v4(ip + 16)) return DropReason::k_ip_address;
  uint32_t address;
  std::memcpy(&address, ip + 12, 4);
  out.source = IpAddress::from_v4(address);
  std::memcpy(&address, ip + 16, 4);
  out.destination = IpAddress::from_v4(address);
  out.ip_version = IpVersion::kV4;
  out.tos = ip[1];
  out.ip_id = load16(ip + 4);
  out.ttl = ip[8];
  c.protocol = ip[9];
  out.tcp_offset = static_cast<uint16_t>(out.ip_offset + header_bytes);
  c.packet_end = out.ip_offset + packet_bytes;
  return DropReason::kNone;
}

bool is_extension_header(uint8_t next) {
  // Hop-by-hop, routing, fragment, ESP, AH, destination options, mobility, HIP, Shim6.
  return next == 0 || next == 43 || next == 44 || next == 50 || next == 51 || next == 60 || next == 135 ||
         next == 139 || next == 140;
}

DropReason parse_ipv6(Cursor& c, FrameView& out) {
  if (!c.has(out.ip_offset, kIpv6Bytes)) return DropReason::k_truncated;
  const uint8_t* ip = c.at(out.ip_offset);
  if (ip[0] >> 4 != 6) return DropReason::k_ip_header;
  const uint32_t packet_bytes = static_cast<uint32_t>(kIpv6Bytes) + load16(ip + 4);
  if (packet_bytes > c.total_bytes - out.ip_offset) return DropReason::k_truncated;
  c.protocol = ip[6];
  if (is_extension_header(c.protocol)) return DropReason::k_ipv6_extension;
  if (!is_unicast_v6(ip + 8) || !is_unicast_v6(ip + 24)) return DropReason::k_ip_address;
  out.source = IpAddress::from_v6(ip + 8);
  out.destination = IpAddress::from_v6(ip + 24);
  out.ip_version = IpVersion::kV6;
  out.tos = static_cast<uint8_t>(load16(ip) >> 4);
  out.ttl = ip[7];
  out.tcp_offset = static_cast<uint16_t>(out.ip_offset + kIpv6Bytes);
  c.packet_end = out.ip_offset + packet_bytes;
  return DropReason::kNone;
}

DropReason parse_tcp(const Cursor& c, FrameView& out) {
  const uint32_t segment_bytes = c.packet_end - out.tcp_offset;
  if (segment_bytes < kTcpBytes) return DropReason::k_tcp_header;
  if (!c.has(out.tcp_offset, kTcpBytes)) return DropReason::k_truncated;
  const uint8_t* h = c.at(out.tcp_offset);
  const size_t header_bytes = (h[12] >> 4) * size_t{4};
  if (header_bytes < kTcpBytes || header_bytes > segment_bytes) return DropReason::k_tcp_header;
  if (!c.has(out.tcp_offset, header_bytes)) return DropReason::k_truncated;
  out.kind = FrameView::Kind::kTcp;
  TcpHeader& tcp = out.tcp;
  tcp.source_port = load16(h);
  tcp.destination_port = load16(h + 2);
  tcp.seq = {load32(h + 4)};
  tcp.ack = {load32(h + 8)};
  tcp.flags = h[13];
  tcp.window = load16(h + 14);
  tcp.checksum = load_raw16(h + 16);
  tcp.urgent_pointer = load16(h + 18);
  if (header_bytes > kTcpBytes) {
    tcp.options = parse_tcp_options({h + kTcpBytes, header_bytes - kTcpBytes}, (tcp.flags & kSyn) != 0);
  }
  out.payload_offset = static_cast<uint16_t>(out.tcp_offset + header_bytes);
  out.payload_bytes = segment_bytes - static_cast<uint32_t>(header_bytes);
  return DropReason::kNone;
}

/// The quoted packet is one we sent: no options, no extension headers, and at least 8 bytes of TCP (RFC 792, 4443).
DropReason parse_quoted(std::span<const uint8_t> quoted, IpVersion version, IcmpError& out) {
  const bool is_v4 = version == IpVersion::kV4;
  size_t header_bytes = kIpv6Bytes;
  if (quoted.empty() || quoted[0] >> 4 != static_cast<uint8_t>(version)) return DropReason::k_icmp;
  if (is_v4) header_bytes = (quoted[0] & 0xf) * size_t{4};
  if (header_bytes < (is_v4 ? kIpv4Bytes : kIpv6Bytes) || quoted.size() < header_bytes + 8) return DropReason::k_icmp;
  if (quoted[is_v4 ? 9 : 6] != kProtocolTcp) return DropReason::k_ip_protocol;
  if (is_v4) {
    if ((load16(&quoted[6]) & 0x1fff) != 0) return DropReason::k_icmp;
    if (!is_unicast_v4(&quoted[12]) || !is_unicast_v4(&quoted[16])) return DropReason::k_icmp;
    uint32_t address;
    std::memcpy(&address, &quoted[12], 4);
    out.tuple.local = IpAddress::from_v4(address);
    std::memcpy(&address, &quoted[16], 4);
    out.tuple.remote = IpAddress::from_v4(address);
  } else {
    if (!is_unicast_v6(&quoted[8]) || !is_unicast_v6(&quoted[24])) return DropReason::k_icmp;
    out.tuple.local = IpAddress::from_v6(&quoted[8]);
    out.tuple.remote = IpAddress::from_v6(&quoted[24]);
  }
  const uint8_t* tcp = &quoted[header_bytes];
  out.tuple.local_port = load16(tcp);
  out.tuple.remote_port = load16(tcp + 2);
  out.quoted_seq = {load32(tcp + 4)};
  return DropReason::kNone;
}

bool is_error_type(uint8_t type, IpVersion version) {
  if (version == IpVersion::kV6) return type >= 1 && type <= 4;
  return type == 3 || type == 4 || type == 11 || type == 12;
}

uint16_t announced_mtu(const uint8_t* icmp, IpVersion version) {
  if (version == IpVersion::kV4) return icmp[0] == 3 && icmp[1] == 4 ? load16(icmp + 6) : 0;
  if (icmp[0] != 2) return 0;
  const uint32_t mtu = load32(icmp + 4);
  return mtu < 0xffff ? static_cast<uint16_t>(mtu) : 0xffff;
}

DropReason parse_icmp(const Cursor& c, FrameView& out) {
  const uint32_t bytes = c.packet_end - out.tcp_offset;
  if (bytes < 8 || !c.has(out.tcp_offset, bytes)) return DropReason::k_icmp;
  const uint8_t* icmp = c.at(out.tcp_offset);
  if (!is_error_type(icmp[0], out.ip_version)) return DropReason::k_ip_protocol;
  uint16_t sum = sum_bytes(icmp, bytes);
  if (out.ip_version == IpVersion::kV6) {
    sum = add_sums(sum, pseudo_header_sum(out.source, out.destination, kProtocolIcmpV6, bytes));
  }
  if (!is_valid_sum(sum)) return DropReason::k_icmp;
  out.kind = FrameView::Kind::kIcmpError;
  out.icmp.type = icmp[0];
  out.icmp.code = icmp[1];
  out.icmp.mtu_bytes = announced_mtu(icmp, out.ip_version);
  out.payload_offset = static_cast<uint16_t>(out.tcp_offset + 8);
  out.payload_bytes = bytes - 8;
  return parse_quoted({icmp + 8, bytes - 8}, out.ip_version, out.icmp);
}

}  // namespace

DropReason parse_frame_into(std::span<const uint8_t> first_piece, uint32_t total_bytes, FrameView& out) {
  Cursor c{first_piece, total_bytes};
  if (total_bytes < first_piece.size()) c.piece = first_piece.first(total_bytes);
  out = FrameView{};
  uint16_t ethertype = 0;
  DropReason reason = parse_ethernet(c, out, ethertype);
  if (reason != DropReason::kNone) return reason;
  if (ethertype == kEtherIpv4)
    reason = parse_ipv4(c, out);
  else if (ethertype == kEtherIpv6)
    reason = parse_ipv6(c, out);
  else
    return DropReason::k_ethertype;
  if (reason != DropReason::kNone) return reason;
  // R18: a segment that was sent to many is nobody's, whatever its IP destination says; nor can many have sent one.
  if (((out.destination_mac.bytes[0] | out.source_mac.bytes[0]) & 1) != 0) return DropReason::k_ip_address;
  if (c.protocol == kProtocolTcp) return parse_tcp(c, out);
  const uint8_t icmp = out.ip_version == IpVersion::kV4 ? kProtocolIcmp : kProtocolIcmpV6;
  return c.protocol == icmp ? parse_icmp(c, out) : DropReason::k_ip_protocol;
}

bool has_partial_checksum(const FrameView& view) {
  const uint32_t bytes = static_cast<uint32_t>(view.payload_offset - view.tcp_offset) + view.payload_bytes;
  return view.tcp.checksum == pseudo_header_sum(view.source, view.destination, kProtocolTcp, bytes);
}

bool verify_tcp_checksum(const FrameView& view, std::span<const uint8_t> first_piece, uint16_t payload_sum,
                         bool accept_partial) {
  const size_t header_bytes = static_cast<size_t>(view.payload_offset - view.tcp_offset);
  const uint16_t pseudo = pseudo_header_sum(view.source, view.destination, kProtocolTcp,
                                            static_cast<uint32_t>(header_bytes) + view.payload_bytes);
  const uint16_t header = sum_bytes(first_piece.data() + view.tcp_offset, header_bytes);
  if (is_valid_sum(add_sums(add_sums(pseudo, header), payload_sum))) return true;
  return accept_partial && view.tcp.checksum == pseudo;
}

}  // namespace tto::wire
