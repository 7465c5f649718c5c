// Frames for the tests of wire/: some built byte by byte, independent of emit_headers(), some by it.
#pragma once

#include <arpa/inet.h>

#include <string>
#include <vector>

#include "libtto/wire/bytes.hh"
#include "libtto/wire/checksum.hh"
#include "libtto/wire/frame.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::wire::fixtures {

using Bytes = std::vector<uint8_t>;

inline IpAddress ip(const char* text) {
  uint8_t raw[16];
  if (inet_pton(AF_INET, text, raw) == 1) {
    uint32_t v4;
    std::memcpy(&v4, raw, 4);
    return IpAddress::from_v4(v4);
  }
  inet_pton(AF_INET6, text, raw);
  return IpAddress::from_v6(raw);
}

/// Written out by hand: 10.9.0.1:45678 > 10.9.0.2:80, a SYN with all its options, in the order in which Linux sends
/// them.
inline Bytes handmade_syn() {
  return {0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00,                                 // Ethernet
          0x45, 0x00, 0x00, 0x3c, 0x1c, 0x46, 0x40, 0x00, 0x40, 0x06, 0x0a, 0x62, 10, 9, 0, 1,  // IPv4,
                                                                                                // checksum 0a62
          10, 9, 0, 2,                                                                          //
          0xb2, 0x6e, 0x00, 0x50, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 0xa0, 0x02, 0xfa, 0xf0,   // TCP
          0x00, 0x00, 0x00, 0x00,                                                               //
          0x02, 0x04, 0x05, 0xb4, 0x04, 0x02, 0x08, 0x0a, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0, 0x01, 0x03, 0x03, 0x07};
}

inline FrameHeaders headers(const char* source, const char* destination) {
  FrameHeaders h;
  h.source_mac = {{0x02, 0, 0, 0, 0, 1}};
  h.destination_mac = {{0x02, 0, 0, 0, 0, 2}};
  h.source = ip(source);
  h.destination = ip(destination);
  h.source_port = 45678;
  h.destination_port = 80;
  h.seq = {1000};
  h.ack = {2000};
  h.flags = kAck | kPsh;
  h.window = 512;
  h.ip_id = 0x1234;
  return h;
}

inline Bytes frame(const FrameHeaders& h, const std::string& payload) {
  Bytes room(kMaxHeaderBytes + payload.size());
  std::copy(payload.begin(), payload.end(), room.begin() + kMaxHeaderBytes);
  const size_t bytes = emit_headers(h, room.data() + kMaxHeaderBytes, static_cast<uint32_t>(payload.size()),
                                    sum_bytes(payload.data(), payload.size()));
  return {room.begin() + static_cast<long>(kMaxHeaderBytes - bytes), room.end()};
}

inline Expected<FrameView, stats::DropReason> parse(const Bytes& f) {
  return parse_frame(f, static_cast<uint32_t>(f.size()));
}

/// After an IPv4 header without options, at offset 14, was changed.
inline void fix_ip_checksum(Bytes& f) {
  store16(&f[24], 0);
  store_raw16(&f[24], checksum_of(sum_bytes(&f[14], (f[14] & 0xf) * size_t{4})));
}

/// An ICMP or ICMPv6 error from a router about `quoted` (an IP packet).
inline Bytes icmp_error(const char* source, const char* destination, uint8_t type, uint8_t code, uint32_t word,
                        const Bytes& quoted) {
  FrameHeaders h = headers(source, destination);
  Bytes f = frame(h, "");
  const bool is_v4 = h.source.is_v4();
  f.resize(is_v4 ? 34 : 54);
  const size_t at = f.size();
  f.resize(at + 8);
  f[at] = type;
  f[at + 1] = code;
  store32(&f[at + 4], word);
  f.insert(f.end(), quoted.begin(), quoted.end());
  const size_t bytes = f.size() - at;
  uint16_t sum = sum_bytes(&f[at], bytes);
  if (is_v4) {
    store16(&f[16], static_cast<uint16_t>(f.size() - 14));
    f[23] = kProtocolIcmp;
    fix_ip_checksum(f);
  } else {
    store16(&f[18], static_cast<uint16_t>(bytes));
    f[20] = kProtocolIcmpV6;
    sum = add_sums(sum, pseudo_header_sum(h.source, h.destination, kProtocolIcmpV6, static_cast<uint32_t>(bytes)));
  }
  store_raw16(&f[at + 2], checksum_of(sum));
  return f;
}

}  // namespace tto::wire::fixtures
