// What an ICMP or ICMPv6 error means to a connection: the errno Linux reports, and whether it is a hard one (which ends
// an attempt to connect; an established connection it never ends: R78).
#pragma once

#include <cerrno>
#include <cstdint>

namespace tto::stack {

struct IcmpMeaning {
  int error = 0;  // 0: ignored
  bool is_hard = false;
  bool is_path_mtu = false;
};

constexpr IcmpMeaning meaning_of_icmp_v4(uint8_t type, uint8_t code) {
  constexpr uint8_t kUnreachable = 3, kTimeExceeded = 11, kParameterProblem = 12;
  if (type == kTimeExceeded) return {EHOSTUNREACH, false, false};
  if (type == kParameterProblem) return {EPROTO, true, false};
  if (type != kUnreachable) return {};
  switch (code) {
    case 0: return {ENETUNREACH, false, false};
    case 1: return {EHOSTUNREACH, false, false};
    case 2: return {ENOPROTOOPT, true, false};
    case 3: return {ECONNREFUSED, true, false};
    case 4: return {EMSGSIZE, false, true};
    case 5: return {EOPNOTSUPP, false, false};
    case 6: return {ENETUNREACH, true, false};
    case 7: return {EHOSTDOWN, true, false};
    case 8: return {ENONET, true, false};
    case 9: return {ENETUNREACH, true, false};
    case 10: return {EHOSTUNREACH, true, false};
    case 11: return {ENETUNREACH, false, false};
    case 12: return {EHOSTUNREACH, false, false};
    case 13: case 14: case 15: return {EHOSTUNREACH, true, false};
    default: return {};
  }
}

constexpr IcmpMeaning meaning_of_icmp_v6(uint8_t type, uint8_t code) {
  constexpr uint8_t kUnreachable = 1, kTooBig = 2, kTimeExceeded = 3, kParameterProblem = 4;
  if (type == kTooBig) return {EMSGSIZE, false, true};
  if (type == kTimeExceeded) return {EHOSTUNREACH, false, false};
  if (type == kParameterProblem) return {EPROTO, code == 1, false};
  if (type != kUnreachable) return {};
  switch (code) {
    case 0: return {ENETUNREACH, false, false};
    case 1: return {EACCES, true, false};
    case 2: case 3: return {EHOSTUNREACH, false, false};
    case 4: return {ECONNREFUSED, true, false};
    case 5: case 6: return {EACCES, true, false};
    default: return {};
  }
}

constexpr IcmpMeaning meaning_of_icmp(bool is_v6, uint8_t type, uint8_t code) {
  return is_v6 ? meaning_of_icmp_v6(type, code) : meaning_of_icmp_v4(type, code);
}

}  // namespace tto::stack
