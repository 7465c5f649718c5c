// A stack's environment that needs no kernel: two hosts, 1 and 2, on one link of one MTU.
#pragma once

#include <cstdint>
#include <vector>

#include "libtto/stack/stack.hh"
#include "libtto/wire/address.hh"

namespace tto::stack {

inline wire::IpAddress address_of(int host, bool is_v6) {
  if (!is_v6) return wire::IpAddress::from_v4(__builtin_bswap32(0x0a010100u + static_cast<uint32_t>(host)));
  uint8_t bytes[16] = {0xfd, 1};
  bytes[15] = static_cast<uint8_t>(host);
  return wire::IpAddress::from_v6(bytes);
}

inline wire::MacAddress mac_of(int host) { return {{2, 0, 0, 0, 0, static_cast<uint8_t>(host)}}; }

/// Everything is on one link of one MTU.
class FakeEnvironment final : public Environment {
 public:
  FakeEnvironment(int host, uint32_t mtu) : host_(host), mtu_(mtu) {}
  Expected<NextHop, stats::Counter> next_hop(const wire::IpAddress&, const wire::IpAddress* source, int) override {
    ++asked;
    if (is_unreachable) return Unexpected{stats::Counter::kernel_no_route};
    NextHop hop;
    hop.ifindex = 7;
    hop.mtu_bytes = path_mtu != 0 ? path_mtu : mtu_;
    hop.link_mtu_bytes = mtu_;
    hop.headers.source_mac = mac_of(host_);
    hop.headers.destination_mac = mac_of(3 - host_);
    if (source != nullptr) hop.source = *source;
    return hop;
  }
  uint64_t generation() override { return generation_; }
  void release_flow(const device::FlowKey&, int, uint64_t, uint32_t) override { ++released; }
  bool keep_flow(uint64_t grant_id, uint32_t next_seq) override {
    if (keeps_flows) kept.push_back({grant_id, next_seq});
    return keeps_flows;
  }
  void release_listener(uint64_t grant_id) override { released_listeners.push_back(grant_id); }
  void inject(uint64_t id, std::span<const uint8_t> packet) override {
    injected_into = id;
    injected.emplace_back(packet.begin(), packet.end());
  }
  void refresh(Instant) override {}

  uint64_t generation_ = 1;
  uint32_t path_mtu = 0;
  bool is_unreachable = false;
  int released = 0, asked = 0;
  struct Kept {
    uint64_t grant_id;
    uint32_t next_seq;
  };
  bool keeps_flows = false;
  std::vector<Kept> kept;
  std::vector<uint64_t> released_listeners;
  uint64_t injected_into = 0;
  std::vector<std::vector<uint8_t>> injected;  // IP packets

 private:
  int host_;
  uint32_t mtu_;
};

}  // namespace tto::stack
