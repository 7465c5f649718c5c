// From a descriptor number to one atomic word; zero means "nothing is known of it". Two levels that grow with use, since
// RLIMIT_NOFILE may be 2^30 (M6). What a word says is stack/fd_table.hh's business; here only "one of libtto's own" is known.
//
// Threads: any, also signal handlers. The first chunk is static, so programs with few descriptors cause no mapping.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tto {

inline constexpr uint32_t kFdChunkBits = 14;
inline constexpr uint32_t kFdChunkEntries = 1u << kFdChunkBits;
inline constexpr uint32_t kFdMapLimit = 1u << 30;

using FdWord = std::atomic<uint64_t>;
extern FdWord g_first_fd_chunk[kFdChunkEntries];
extern std::atomic<FdWord*> g_fd_chunks[kFdMapLimit >> kFdChunkBits];

/// What is known of `fd`: 0 for nothing, also for numbers that no descriptor can have.
inline uint64_t fd_word(int fd) {
  const auto number = static_cast<uint32_t>(fd);
  if (__builtin_expect(number < kFdChunkEntries, 1)) return g_first_fd_chunk[number].load(std::memory_order_acquire);
  if (number >= kFdMapLimit) return 0;
  const FdWord* chunk = g_fd_chunks[number >> kFdChunkBits].load(std::memory_order_acquire);
  return chunk == nullptr ? 0 : chunk[number & (kFdChunkEntries - 1)].load(std::memory_order_acquire);
}

/// The word itself, its chunk made if need be; null if there is no memory or no such number.
FdWord* fd_word_for_writing(int fd);

/// The word of a descriptor that belongs to libtto: the application cannot close or replace it.
inline constexpr uint64_t kInternalFdWord = 0xf;

/// Makes `fd` one of libtto's own: moves it out of the way of the numbers an application uses (high, close-on-exec) and
/// marks it. Returns the number it has now; -errno if `fd` is one.
int make_internal_fd(int fd);
/// Unmarks and closes.
void close_internal_fd(int fd);
inline bool is_internal_fd(int fd) { return fd_word(fd) == kInternalFdWord; }

}  // namespace tto
