#include "libtto/base/fd_map.hh"

#include <sys/resource.h>

#include "libtto/base/sys.hh"

namespace tto {

FdWord g_first_fd_chunk[kFdChunkEntries];
std::atomic<FdWord*> g_fd_chunks[kFdMapLimit >> kFdChunkBits];

FdWord* fd_word_for_writing(int fd) {
  const auto number = static_cast<uint32_t>(fd);
  if (number < kFdChunkEntries) return &g_first_fd_chunk[number];
  if (number >= kFdMapLimit) return nullptr;
  std::atomic<FdWord*>& slot = g_fd_chunks[number >> kFdChunkBits];
  FdWord* chunk = slot.load(std::memory_order_acquire);
  if (chunk == nullptr) {
    constexpr size_t kBytes = sizeof(FdWord) * kFdChunkEntries;
    void* pages = sys::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys::is_error(pages)) return nullptr;
    auto* fresh = static_cast<FdWord*>(pages);
    if (slot.compare_exchange_strong(chunk, fresh, std::memory_order_acq_rel)) {
      chunk = fresh;
    } else {
      sys::munmap(fresh, kBytes);
    }
  }
  return &chunk[number & (kFdChunkEntries - 1)];
}

namespace {

/// Above what select() can name if the limit allows it, else near the limit.
int lowest_internal_number() {
  rlimit limit{};
  if (sys::call(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &limit) < 0) return 3;
  if (limit.rlim_cur > 2048) return 1024;
  return limit.rlim_cur > 192 ? static_cast<int>(limit.rlim_cur) - 128 : 3;
}

}  // namespace

int make_internal_fd(int fd) {
  if (fd < 0) return fd;
  const int lowest = lowest_internal_number();
  int number = fd;
  if (fd < lowest) {
    const int moved = sys::fcntl(fd, F_DUPFD_CLOEXEC, lowest);
    if (moved >= 0) {
      sys::close(fd);
      number = moved;
    }
  }
  if (FdWord* word = fd_word_for_writing(number)) word->store(kInternalFdWord, std::memory_order_release);
  return number;
}

void close_internal_fd(int fd) {
  if (fd < 0) return;
  if (FdWord* word = fd_word_for_writing(fd)) word->store(0, std::memory_order_release);
  sys::close(fd);
}

}  // namespace tto
