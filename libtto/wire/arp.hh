// ARP for IPv4 over Ethernet (RFC 826) as a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "libtto/base/result.hh"
#include "libtto/stats/counters.hh"
#include "libtto/wire/address.hh"

namespace tto::wire {

inline constexpr size_t kMaxArpFrameBytes = 46;

struct ArpPacket {
  enum class Operation : uint8_t { kRequest = 1, kReply = 2 } operation = Operation::kRequest;
  uint16_t vlan = 0;
  MacAddress sender_mac, target_mac;  // a request's target MAC means nothing
  IpAddress sender, target;

  constexpr bool operator==(const ArpPacket&) const = default;
};

/// k_ethertype: not ARP for IPv4 over Ethernet, or another operation; k_truncated: too short for one.
Expected<ArpPacket, stats::DropReason> parse_arp(std::span<const uint8_t> frame);

/// Writes a frame: a request to everyone, a reply to its target. `at` has room for kMaxArpFrameBytes. Returns the
/// length.
size_t emit_arp(const ArpPacket& packet, uint8_t* at);

}  // namespace tto::wire
