// Ethernet frames to values and back. A received frame is parsed once, here, into a FrameView that can only be legal;
// past this point nobody tests a length again. What is not legal is a DropReason.
//
//   rx  parse_frame(first piece) -> FrameView{kTcp}  -> verify_tcp_checksum(payload sum)
//                                   FrameView{kIcmpError}: about a segment we sent
//   tx  emit_headers(): Ethernet [VLAN] IPv4|IPv6 TCP, written backwards in front of payload that never moves
//
// One 802.1Q tag at most; IPv4 options are skipped; fragments and IPv6 extension headers are dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "libtto/base/result.hh"
#include "libtto/stats/counters.hh"
#include "libtto/wire/address.hh"
#include "libtto/wire/seq32.hh"
#include "libtto/wire/tcp_options.hh"

namespace tto::wire {

inline constexpr uint8_t kProtocolTcp = 6, kProtocolIcmp = 1, kProtocolIcmpV6 = 58;
inline constexpr uint16_t kEtherIpv4 = 0x0800, kEtherIpv6 = 0x86dd, kEtherArp = 0x0806, kEtherVlan = 0x8100;
inline constexpr size_t kEthernetBytes = 14, kVlanBytes = 4, kIpv4Bytes = 20, kIpv6Bytes = 40, kTcpBytes = 20;
/// The room emit_headers() may need in front of the payload.
inline constexpr size_t kMaxHeaderBytes = kEthernetBytes + kVlanBytes + kIpv6Bytes + kTcpBytes + kMaxTcpOptionsBytes;

struct TcpHeader {
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  Seq32 seq;
  Seq32 ack;  // meaningful if flags has ACK
  uint8_t flags = 0;
  uint16_t window = 0;
  uint16_t checksum = 0;  // as it lies in memory
  uint16_t urgent_pointer = 0;
  TcpOptions options;
};

/// ICMP destination unreachable, source quench, time exceeded and parameter problem; the four ICMPv6 errors.
struct IcmpError {
  uint8_t type = 0;
  uint8_t code = 0;
  uint16_t mtu_bytes = 0;  // fragmentation needed and packet too big, else 0
  FourTuple tuple;         // of the quoted segment: local is its source, that is us
  Seq32 quoted_seq;
};

struct FrameView {
  enum class Kind : uint8_t { kTcp, kIcmpError } kind = Kind::kTcp;
  IpVersion ip_version = IpVersion::kV4;
  uint16_t vlan = 0;  // 0: untagged or only priority-tagged
  MacAddress source_mac, destination_mac;
  IpAddress source, destination;
  uint8_t tos = 0;
  uint8_t ttl = 0;
  uint16_t ip_id = 0;           // IPv4
  uint16_t ip_offset = 0;       // from the frame's first byte
  uint16_t tcp_offset = 0;      // of the TCP (or ICMP) header
  uint16_t payload_offset = 0;  // of the TCP payload: all headers lie before it
  uint32_t payload_bytes = 0;   // by the IP header: Ethernet padding is not in it
  TcpHeader tcp;                // kTcp
  IcmpError icmp;               // kIcmpError

  /// Seen from the receiver, which is us.
  FourTuple tuple() const { return {destination, source, tcp.destination_port, tcp.source_port}; }
};

/// `first_piece`: the frame, or the first piece of a chain, which must hold all headers (of an ICMP error: all of it).
/// `total_bytes`: of the whole frame. Checks everything but the TCP checksum; kNone means `out` is complete.
stats::DropReason parse_frame_into(std::span<const uint8_t> first_piece, uint32_t total_bytes, FrameView& out);

inline Expected<FrameView, stats::DropReason> parse_frame(std::span<const uint8_t> first_piece, uint32_t total_bytes) {
  FrameView view;
  const stats::DropReason reason = parse_frame_into(first_piece, total_bytes, view);
  if (reason != stats::DropReason::kNone) return Unexpected{reason};
  return view;
}

/// True if the checksum field holds only the pseudo-header's sum: the peer left the rest to a NIC that is not there
/// (DESIGN 2.13). Then the payload need not be summed where the port accepts such frames.
bool has_partial_checksum(const FrameView& view);

/// `payload_sum`: of exactly payload_bytes bytes (wire/checksum.hh), gathered over all pieces.
bool verify_tcp_checksum(const FrameView& view, std::span<const uint8_t> first_piece, uint16_t payload_sum,
                         bool accept_partial);

/// Everything in front of the payload of one frame to send.
struct FrameHeaders {
  MacAddress source_mac, destination_mac;
  uint16_t vlan = 0;
  IpAddress source, destination;  // of the same family
  uint8_t tos = 0;                // DSCP and ECN
  uint8_t ttl = 64;
  uint16_t ip_id = 0;       // IPv4; DF is always set
  uint32_t flow_label = 0;  // IPv6, 20 bits
  uint16_t source_port = 0;
  uint16_t destination_port = 0;
  Seq32 seq;
  Seq32 ack;
  uint8_t flags = 0;
  uint16_t window = 0;
  uint16_t urgent_pointer = 0;
  TcpOptions options;
};

/// What emit_headers() will write.
size_t headers_bytes(const FrameHeaders& headers);

/// Writes the headers so that they end at `payload`, with full checksums, and returns their length; the frame starts
/// that much earlier. Needs up to kMaxHeaderBytes in front of `payload`; reads no payload: `payload_sum` is its sum.
size_t emit_headers(const FrameHeaders& headers, uint8_t* payload, uint32_t payload_bytes, uint16_t payload_sum);

}  // namespace tto::wire
