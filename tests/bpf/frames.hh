// Frames by hand, and a program run on them: what BPF_PROG_TEST_RUN needs.
#pragma once

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace ttod::testing {

using Frame = std::vector<uint8_t>;
using Address = std::array<uint8_t, 16>;

inline constexpr std::array<uint8_t, 6> kNicMac = {2, 0, 0, 0, 0, 1}, kPeerMac = {2, 0, 0, 0, 0, 2};
inline constexpr uint8_t kFin = 1, kSyn = 2, kRst = 4, kAck = 16;

inline Address address(const char* text) {
  Address a{};
  in_addr v4{};
  if (inet_pton(AF_INET, text, &v4) == 1) {
    a[10] = a[11] = 0xff;
    std::memcpy(&a[12], &v4, 4);
  } else {
    inet_pton(AF_INET6, text, a.data());
  }
  return a;
}

/// All that a test may want to set wrong.
struct Spec {
  std::array<uint8_t, 6> to = kNicMac, from = kPeerMac;
  int vlan = -1;
  const char* source = "10.0.0.2";
  const char* destination = "10.0.0.1";
  uint16_t source_port = 999, destination_port = 80;
  uint8_t flags = kAck;
  uint8_t protocol = 6;
  uint8_t ihl = 5, version = 0, doff = 5;  // version 0: the right one
  uint16_t fragment = 0;
  int ether_type = -1;
  int length_error = 0;
  size_t payload = 0, padding = 0;
};

inline void put16(Frame& f, uint16_t v) {
  f.push_back(static_cast<uint8_t>(v >> 8));
  f.push_back(static_cast<uint8_t>(v));
}

inline void put_ip(Frame& f, const Spec& s, size_t l4_bytes) {
  const Address source = address(s.source), destination = address(s.destination);
  if (std::strchr(s.source, ':') == nullptr) {
    const size_t options = s.ihl > 5 ? (s.ihl - 5) * 4u : 0;
    const size_t start = f.size();
    f.push_back(static_cast<uint8_t>((s.version != 0 ? s.version : 4) << 4 | s.ihl));
    f.push_back(0);
    put16(f, static_cast<uint16_t>(20 + options + l4_bytes + static_cast<size_t>(s.length_error)));
    put16(f, 0);
    put16(f, s.fragment);
    f.push_back(64);
    f.push_back(s.protocol);
    put16(f, 0);
    f.insert(f.end(), source.begin() + 12, source.end());
    f.insert(f.end(), destination.begin() + 12, destination.end());
    f.resize(start + 20 + options);
  } else {
    f.push_back(static_cast<uint8_t>((s.version != 0 ? s.version : 6) << 4));
    f.resize(f.size() + 3);
    put16(f, static_cast<uint16_t>(l4_bytes + static_cast<size_t>(s.length_error)));
    f.push_back(s.protocol);
    f.push_back(64);
    f.insert(f.end(), source.begin(), source.end());
    f.insert(f.end(), destination.begin(), destination.end());
  }
}

inline void put_ethernet(Frame& f, const Spec& s) {
  f.insert(f.end(), s.to.begin(), s.to.end());
  f.insert(f.end(), s.from.begin(), s.from.end());
  if (s.vlan >= 0) {
    put16(f, 0x8100);
    put16(f, static_cast<uint16_t>(s.vlan));
  }
  const uint16_t type = std::strchr(s.source, ':') == nullptr ? 0x0800 : 0x86dd;
  put16(f, s.ether_type >= 0 ? static_cast<uint16_t>(s.ether_type) : type);
}

inline Frame tcp(const Spec& s) {
  Frame f;
  put_ethernet(f, s);
  put_ip(f, s, 20 + s.payload);
  put16(f, s.source_port);
  put16(f, s.destination_port);
  f.resize(f.size() + 8);
  f.push_back(static_cast<uint8_t>(s.doff << 4));
  f.push_back(s.flags);
  f.resize(f.size() + 6 + s.payload + s.padding);
  return f;
}

/// An ICMP error of `type` to `outer.destination` about a segment that `quoted` describes.
inline Frame icmp_error(Spec outer, uint8_t type, const Spec& quoted) {
  Frame inner;
  put_ip(inner, quoted, 20);
  put16(inner, quoted.source_port);
  put16(inner, quoted.destination_port);
  inner.resize(inner.size() + 4);
  outer.protocol = std::strchr(outer.source, ':') == nullptr ? 1 : 58;
  Frame f;
  put_ethernet(f, outer);
  put_ip(f, outer, 8 + inner.size());
  f.push_back(type);
  f.resize(f.size() + 7);
  f.insert(f.end(), inner.begin(), inner.end());
  return f;
}

/// What the program says of the frame: an XDP action, or -errno.
inline int run(int program, const Frame& frame) {
  std::vector<uint8_t> out(frame.size() + 256);
  LIBBPF_OPTS(bpf_test_run_opts, options);
  options.data_in = frame.data();
  options.data_size_in = static_cast<uint32_t>(frame.size());
  options.data_out = out.data();
  options.data_size_out = static_cast<uint32_t>(out.size());
  options.repeat = 1;
  const int status = bpf_prog_test_run_opts(program, &options);
  return status != 0 ? status : static_cast<int>(options.retval);
}

}  // namespace ttod::testing
