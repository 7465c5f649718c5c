#include "libtto/wire/checksum.hh"

#include <cpuid.h>
#include <immintrin.h>

#include <atomic>
#include <cstring>

namespace tto::wire {
namespace {

// Below this the call through a pointer and the vector set-up cost more than they save.
constexpr size_t kVectorBytes = 96;

inline uint64_t load64(const uint8_t* at) {
  uint64_t v;
  std::memcpy(&v, at, 8);
  return v;
}
inline uint64_t halves(uint64_t word) { return (word & 0xffffffff) + (word >> 32); }

/// At most 31 bytes: the end of every run. `to` is null when only the sum is wanted.
template <bool kCopy>
inline uint64_t sum_tail(uint8_t* to, const uint8_t* from, size_t bytes) {
  uint64_t sum = 0;
  while (bytes >= 8) {
    const uint64_t word = load64(from);
    if constexpr (kCopy) std::memcpy(to, &word, 8), to += 8;
    sum += halves(word);
    from += 8;
    bytes -= 8;
  }
  if (bytes > 0) {
    uint64_t word = 0;
    std::memcpy(&word, from, bytes);
    if constexpr (kCopy) std::memcpy(to, &word, bytes);
    sum += halves(word);
  }
  return sum;
}

template <bool kCopy>
inline uint16_t sum_words(uint8_t* to, const uint8_t* from, size_t bytes) {
  uint64_t a = 0, b = 0, c = 0, d = 0;
  while (bytes >= 32) {
    const uint64_t w0 = load64(from), w1 = load64(from + 8), w2 = load64(from + 16), w3 = load64(from + 24);
    if constexpr (kCopy) {
      std::memcpy(to, &w0, 8);
      std::memcpy(to + 8, &w1, 8);
      std::memcpy(to + 16, &w2, 8);
      std::memcpy(to + 24, &w3, 8);
      to += 32;
    }
    a += halves(w0);
    b += halves(w1);
    c += halves(w2);
    d += halves(w3);
    from += 32;
    bytes -= 32;
  }
  return fold(a + b + c + d + sum_tail<kCopy>(to, from, bytes));
}

// 32-bit words are added in 64-bit lanes: they cannot overflow below 2^33 words, so there is no block to close.
template <bool kCopy>
__attribute__((target("avx2"))) inline uint16_t sum_vectors(uint8_t* to, const uint8_t* from, size_t bytes) {
  const __m256i low = _mm256_set1_epi64x(0xffffffff);
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  while (bytes >= 64) {
    const __m256i v0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i v1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32));
    if constexpr (kCopy) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v0);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32), v1);
      to += 64;
    }
    a = _mm256_add_epi64(a, _mm256_and_si256(v0, low));
    b = _mm256_add_epi64(b, _mm256_srli_epi64(v0, 32));
    c = _mm256_add_epi64(c, _mm256_and_si256(v1, low));
    d = _mm256_add_epi64(d, _mm256_srli_epi64(v1, 32));
    from += 64;
    bytes -= 64;
  }
  if (bytes >= 32) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    if constexpr (kCopy) _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), v), to += 32;
    a = _mm256_add_epi64(a, _mm256_and_si256(v, low));
    b = _mm256_add_epi64(b, _mm256_srli_epi64(v, 32));
    from += 32;
    bytes -= 32;
  }
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes),
                     _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d)));
  _mm256_zeroupper();
  uint64_t sum = sum_tail<kCopy>(to, from, bytes);
  for (const uint64_t lane : lanes) sum += halves(lane);
  return fold(sum);
}

using SumFunction = uint16_t (*)(const void*, size_t);
using CopyFunction = uint16_t (*)(void*, const void*, size_t);

uint16_t choose_sum(const void* data, size_t bytes);
uint16_t choose_copy(void* to, const void* from, size_t bytes);

constinit std::atomic<SumFunction> g_sum{&choose_sum};
constinit std::atomic<CopyFunction> g_copy{&choose_copy};

uint16_t choose_sum(const void* data, size_t bytes) {
  const SumFunction f = has_avx2() ? &avx2::sum_bytes : &portable::sum_bytes;
  g_sum.store(f, std::memory_order_relaxed);
  return f(data, bytes);
}
uint16_t choose_copy(void* to, const void* from, size_t bytes) {
  const CopyFunction f = has_avx2() ? &avx2::copy_and_sum : &portable::copy_and_sum;
  g_copy.store(f, std::memory_order_relaxed);
  return f(to, from, bytes);
}

}  // namespace

// __builtin_cpu_supports needs a constructor to have run, and the preloaded library works before constructors do.
bool has_avx2() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & bit_OSXSAVE) == 0) return false;
  uint32_t state_low = 0, state_high = 0;
  asm volatile("xgetbv" : "=a"(state_low), "=d"(state_high) : "c"(0));
  if ((state_low & 6) != 6) return false;  // XMM and YMM
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_AVX2) != 0;
}

uint16_t sum_bytes(const void* data, size_t bytes) {
  if (bytes < kVectorBytes) return portable::sum_bytes(data, bytes);
  return g_sum.load(std::memory_order_relaxed)(data, bytes);
}

uint16_t copy_and_sum(void* to, const void* from, size_t bytes) {
  if (bytes < kVectorBytes) return portable::copy_and_sum(to, from, bytes);
  return g_copy.load(std::memory_order_relaxed)(to, from, bytes);
}

uint16_t pseudo_header_sum(const IpAddress& source, const IpAddress& destination, uint8_t protocol, uint32_t bytes) {
  uint64_t sum = __builtin_bswap32(bytes) + (static_cast<uint64_t>(protocol) << 8);
  if (destination.is_v4()) {
    sum += source.v4();
    sum += destination.v4();
  } else {
    sum += halves(load64(source.bytes.data())) + halves(load64(source.bytes.data() + 8));
    sum += halves(load64(destination.bytes.data())) + halves(load64(destination.bytes.data() + 8));
  }
  return fold(sum);
}

namespace portable {

uint16_t sum_bytes(const void* data, size_t bytes) {
  return sum_words<false>(nullptr, static_cast<const uint8_t*>(data), bytes);
}
uint16_t copy_and_sum(void* to, const void* from, size_t bytes) {
  return sum_words<true>(static_cast<uint8_t*>(to), static_cast<const uint8_t*>(from), bytes);
}

}  // namespace portable

namespace avx2 {

__attribute__((target("avx2"))) uint16_t sum_bytes(const void* data, size_t bytes) {
  return sum_vectors<false>(nullptr, static_cast<const uint8_t*>(data), bytes);
}
__attribute__((target("avx2"))) uint16_t copy_and_sum(void* to, const void* from, size_t bytes) {
  return sum_vectors<true>(static_cast<uint8_t*>(to), static_cast<const uint8_t*>(from), bytes);
}

}  // namespace avx2

}  // namespace tto::wire
