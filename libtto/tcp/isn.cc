#include "libtto/tcp/isn.hh"

#include <cstring>

namespace tto::tcp {
namespace {

constexpr uint64_t rotate(uint64_t x, int by) { return (x << by) | (x >> (64 - by)); }

struct SipState {
  uint64_t v0, v1, v2, v3;
  void round() {
    v0 += v1, v1 = rotate(v1, 13) ^ v0, v0 = rotate(v0, 32);
    v2 += v3, v3 = rotate(v3, 16) ^ v2;
    v0 += v3, v3 = rotate(v3, 21) ^ v0;
    v2 += v1, v1 = rotate(v1, 17) ^ v2, v2 = rotate(v2, 32);
  }
  void absorb(uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
};

// SipHash-2-4 of the tuple; `purpose` separates the uses of one secret.
uint64_t hash(const wire::FourTuple& tuple, const IsnSecret& secret, uint8_t purpose) {
  uint64_t key[2];
  std::memcpy(key, secret, sizeof key);
  SipState s{key[0] ^ 0x736f6d6570736575ull, key[1] ^ 0x646f72616e646f6dull, key[0] ^ 0x6c7967656e657261ull,
             key[1] ^ 0x7465646279746573ull};
  uint64_t words[4];
  std::memcpy(words, tuple.local.bytes.data(), 16);
  std::memcpy(words + 2, tuple.remote.bytes.data(), 16);
  for (uint64_t w : words) s.absorb(w);
  constexpr uint64_t kLengthBytes = 37;
  s.absorb(kLengthBytes << 56 | uint64_t{purpose} << 32 | uint64_t{tuple.local_port} << 16 | tuple.remote_port);
  s.v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) s.round();
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

}  // namespace

uint32_t initial_sequence_number(const wire::FourTuple& tuple, const IsnSecret& secret, Instant now) {
  return static_cast<uint32_t>(hash(tuple, secret, 0)) + static_cast<uint32_t>(now.ns / 4000);
}

uint32_t timestamp_offset(const wire::FourTuple& tuple, const IsnSecret& secret) {
  return static_cast<uint32_t>(hash(tuple, secret, 1));
}

}  // namespace tto::tcp
