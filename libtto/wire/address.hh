// Addresses and tuples. One 16-byte form serves both families (IPv4 is kept v4-mapped, ::ffff:a.b.c.d), so flow keys
// have one layout; ports are in host byte order everywhere but on the wire and in BPF maps.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

namespace tto::wire {

struct MacAddress {
  std::array<uint8_t, 6> bytes{};
  constexpr bool operator==(const MacAddress&) const = default;
};

enum class IpVersion : uint8_t { kV4 = 4, kV6 = 6 };

struct IpAddress {
  std::array<uint8_t, 16> bytes{};

  constexpr bool operator==(const IpAddress&) const = default;

  /// `v4` in network byte order, as in struct in_addr.
  static IpAddress from_v4(uint32_t v4) {
    IpAddress a;
    a.bytes[10] = a.bytes[11] = 0xff;
    std::memcpy(&a.bytes[12], &v4, 4);
    return a;
  }
  static IpAddress from_v6(const void* v6) {
    IpAddress a;
    std::memcpy(a.bytes.data(), v6, 16);
    return a;
  }
  constexpr bool is_v4() const {
    for (int i = 0; i < 10; ++i)
      if (bytes[static_cast<size_t>(i)] != 0) return false;
    return bytes[10] == 0xff && bytes[11] == 0xff;
  }
  uint32_t v4() const {  // network byte order
    uint32_t v;
    std::memcpy(&v, &bytes[12], 4);
    return v;
  }
  constexpr IpVersion version() const { return is_v4() ? IpVersion::kV4 : IpVersion::kV6; }
};

/// Seen from this host: `local` is ours whatever the direction of the frame.
struct FourTuple {
  IpAddress local;
  IpAddress remote;
  uint16_t local_port = 0;
  uint16_t remote_port = 0;

  constexpr bool operator==(const FourTuple&) const = default;
};

}  // namespace tto::wire
