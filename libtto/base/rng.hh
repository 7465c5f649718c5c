// A seeded generator of random numbers (xoshiro256**, seeded by splitmix64), handed in from outside so that a test
// repeats with its printed seed. Not for secrets.
#pragma once

#include <bit>
#include <cstdint>

namespace tto {

class Rng {
 public:
  explicit constexpr Rng(uint64_t seed) {
    for (uint64_t& word : state_) {
      seed += 0x9e3779b97f4a7c15u;
      uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      word = z ^ (z >> 31);
    }
  }

  constexpr uint64_t next() {
    const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }
  constexpr uint32_t next32() { return static_cast<uint32_t>(next() >> 32); }

  /// Below `bound`, which must not be 0. The bias is under bound / 2^64.
  constexpr uint64_t below(uint64_t bound) { return static_cast<uint64_t>((static_cast<Wide>(next()) * bound) >> 64); }
  /// In [low, high], both included.
  constexpr uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
  /// True in `parts` of a million cases.
  constexpr bool chance_ppm(uint32_t parts) { return below(1'000'000) < parts; }

 private:
  __extension__ using Wide = unsigned __int128;
  uint64_t state_[4] = {};
};

}  // namespace tto
