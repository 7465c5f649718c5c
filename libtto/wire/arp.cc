#include "libtto/wire/arp.hh"

#include "libtto/wire/bytes.hh"
#include "libtto/wire/frame.hh"

namespace tto::wire {
namespace {

constexpr size_t kArpBytes = 28;
constexpr uint64_t kEthernetIpv4 = 0x0001080006040000;  // hardware, protocol, their address lengths; then the operation

IpAddress load_v4(const uint8_t* at) {
  uint32_t v4;
  std::memcpy(&v4, at, 4);
  return IpAddress::from_v4(v4);
}
void store_v4(uint8_t* at, const IpAddress& address) {
  const uint32_t v4 = address.v4();
  std::memcpy(at, &v4, 4);
}

}  // namespace

Expected<ArpPacket, stats::DropReason> parse_arp(std::span<const uint8_t> frame) {
  if (frame.size() < kEthernetBytes) return Unexpected{stats::DropReason::k_truncated};
  ArpPacket out;
  size_t at = kEthernetBytes;
  uint16_t ethertype = load16(&frame[12]);
  if (ethertype == kEtherVlan) {
    if (frame.size() < kEthernetBytes + kVlanBytes) return Unexpected{stats::DropReason::k_truncated};
    out.vlan = load16(&frame[14]) & 0xfff;
    ethertype = load16(&frame[16]);
    at += kVlanBytes;
  }
  if (ethertype != kEtherArp) return Unexpected{stats::DropReason::k_ethertype};
  if (frame.size() < at + kArpBytes) return Unexpected{stats::DropReason::k_truncated};
  const uint8_t* arp = &frame[at];
  const uint16_t operation = load16(arp + 6);
  const uint64_t kind = static_cast<uint64_t>(load32(arp)) << 32 | static_cast<uint64_t>(load16(arp + 4)) << 16;
  if (kind != kEthernetIpv4 || (operation != 1 && operation != 2)) return Unexpected{stats::DropReason::k_ethertype};
  out.operation = static_cast<ArpPacket::Operation>(operation);
  std::memcpy(out.sender_mac.bytes.data(), arp + 8, 6);
  out.sender = load_v4(arp + 14);
  std::memcpy(out.target_mac.bytes.data(), arp + 18, 6);
  out.target = load_v4(arp + 24);
  return out;
}

size_t emit_arp(const ArpPacket& packet, uint8_t* at) {
  uint8_t* const start = at;
  if (packet.operation == ArpPacket::Operation::kRequest)
    std::memset(at, 0xff, 6);
  else
    std::memcpy(at, packet.target_mac.bytes.data(), 6);
  std::memcpy(at + 6, packet.sender_mac.bytes.data(), 6);
  at += 12;
  if (packet.vlan != 0) {
    store16(at, kEtherVlan);
    store16(at + 2, packet.vlan);
    at += kVlanBytes;
  }
  store16(at, kEtherArp);
  at += 2;
  store32(at, static_cast<uint32_t>(kEthernetIpv4 >> 32));
  store16(at + 4, static_cast<uint16_t>(kEthernetIpv4 >> 16));
  store16(at + 6, static_cast<uint16_t>(packet.operation));
  std::memcpy(at + 8, packet.sender_mac.bytes.data(), 6);
  store_v4(at + 14, packet.sender);
  std::memcpy(at + 18, packet.target_mac.bytes.data(), 6);
  store_v4(at + 24, packet.target);
  return static_cast<size_t>(at - start) + kArpBytes;
}

}  // namespace tto::wire
