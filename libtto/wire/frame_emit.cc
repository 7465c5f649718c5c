#include "libtto/wire/bytes.hh"
#include "libtto/wire/checksum.hh"
#include "libtto/wire/frame.hh"

namespace tto::wire {
namespace {

constexpr uint16_t kDontFragment = 0x4000;

size_t emit_tcp(const FrameHeaders& h, uint8_t* payload, uint32_t payload_bytes, uint16_t payload_sum) {
  const size_t bytes = kTcpBytes + tcp_options_bytes(h.options);
  uint8_t* tcp = payload - bytes;
  store16(tcp, h.source_port);
  store16(tcp + 2, h.destination_port);
  store32(tcp + 4, h.seq.raw);
  store32(tcp + 8, h.ack.raw);
  tcp[12] = static_cast<uint8_t>(bytes << 2);  // data offset in words, in the high four bits
  tcp[13] = h.flags;
  store16(tcp + 14, h.window);
  store16(tcp + 16, 0);
  store16(tcp + 18, h.urgent_pointer);
  emit_tcp_options(h.options, tcp + kTcpBytes);
  const uint16_t pseudo =
      pseudo_header_sum(h.source, h.destination, kProtocolTcp, static_cast<uint32_t>(bytes) + payload_bytes);
  const uint16_t sum = add_sums(add_sums(pseudo, sum_bytes(tcp, bytes)), payload_sum);
  store_raw16(tcp + 16, checksum_of(sum));
  return bytes;
}

void emit_ipv4(const FrameHeaders& h, uint8_t* ip, size_t packet_bytes) {
  const uint32_t source = h.source.v4(), destination = h.destination.v4();
  ip[0] = 0x45;
  ip[1] = h.tos;
  store16(ip + 2, static_cast<uint16_t>(packet_bytes));
  store16(ip + 4, h.ip_id);
  store16(ip + 6, kDontFragment);
  ip[8] = h.ttl;
  ip[9] = kProtocolTcp;
  store16(ip + 10, 0);
  std::memcpy(ip + 12, &source, 4);
  std::memcpy(ip + 16, &destination, 4);
  store_raw16(ip + 10, checksum_of(sum_bytes(ip, kIpv4Bytes)));
}

void emit_ipv6(const FrameHeaders& h, uint8_t* ip, size_t packet_bytes) {
  store32(ip, 0x60000000 | static_cast<uint32_t>(h.tos) << 20 | (h.flow_label & 0xfffff));
  store16(ip + 4, static_cast<uint16_t>(packet_bytes - kIpv6Bytes));
  ip[6] = kProtocolTcp;
  ip[7] = h.ttl;
  std::memcpy(ip + 8, h.source.bytes.data(), 16);
  std::memcpy(ip + 24, h.destination.bytes.data(), 16);
}

void emit_ethernet(const FrameHeaders& h, uint8_t* frame, bool is_v4) {
  std::memcpy(frame, h.destination_mac.bytes.data(), 6);
  std::memcpy(frame + 6, h.source_mac.bytes.data(), 6);
  uint8_t* type = frame + 12;
  if (h.vlan != 0) {
    store16(type, kEtherVlan);
    store16(type + 2, h.vlan);
    type += kVlanBytes;
  }
  store16(type, is_v4 ? kEtherIpv4 : kEtherIpv6);
}

size_t ethernet_bytes(const FrameHeaders& h) { return kEthernetBytes + (h.vlan != 0 ? kVlanBytes : 0); }

}  // namespace

size_t headers_bytes(const FrameHeaders& h) {
  return ethernet_bytes(h) + (h.destination.is_v4() ? kIpv4Bytes : kIpv6Bytes) + kTcpBytes +
         tcp_options_bytes(h.options);
}

size_t emit_headers(const FrameHeaders& h, uint8_t* payload, uint32_t payload_bytes, uint16_t payload_sum) {
  const bool is_v4 = h.destination.is_v4();
  const size_t ip_bytes = is_v4 ? kIpv4Bytes : kIpv6Bytes;
  const size_t tcp_bytes = emit_tcp(h, payload, payload_bytes, payload_sum);
  uint8_t* ip = payload - tcp_bytes - ip_bytes;
  const size_t packet_bytes = ip_bytes + tcp_bytes + payload_bytes;
  if (is_v4)
    emit_ipv4(h, ip, packet_bytes);
  else
    emit_ipv6(h, ip, packet_bytes);
  const size_t l2_bytes = ethernet_bytes(h);
  emit_ethernet(h, ip - l2_bytes, is_v4);
  return l2_bytes + ip_bytes + tcp_bytes;
}

}  // namespace tto::wire
