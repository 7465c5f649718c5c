#include "libtto/stack/fd_mirror.hh"

#include "libtto/base/sys.hh"
#include "libtto/include/tto/tto.h"
#include "libtto/socket/stream_socket.hh"
#include "libtto/stack/runtime.hh"

namespace tto::stack {

namespace {

tto_stats_page* g_page = nullptr;

uint64_t realtime_ns() {
  timespec t{};
  sys::clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

uint8_t shown_path(Path path) {
  switch (path) {
    case Path::kKernel: return TTO_PATH_KERNEL;
    case Path::kTcp: return TTO_PATH_AF_XDP;
    case Path::kPair: return TTO_PATH_PAIR;
    default: return TTO_PATH_NONE;
  }
}

}  // namespace

void mirror_fd(int fd, Path path, stats::Counter reason, const SocketEntry* entry) {
  if (g_page == nullptr || fd < 0 || static_cast<uint32_t>(fd) >= TTO_STATS_FDS) return;
  tto_stats_fd& shown = g_page->fds[fd];
  shown.path = TTO_PATH_NONE;  // never a mixture of two lives
  if (shown_path(path) == TTO_PATH_NONE) return;
  shown.reason = path == Path::kKernel ? static_cast<uint16_t>(reason) : uint16_t{0xffff};
  shown.tcp_state = static_cast<uint8_t>(entry != nullptr && entry->listener != nullptr ? tcp::State::kListen
                                                                                        : tcp::State::kClosed);
  shown.slot = entry != nullptr && entry->stream != nullptr ? entry->stream->slot() : ~0u;
  shown.since_ns = realtime_ns();
  shown.path = shown_path(path);
}

void show_fds_in(tto_stats_page* page) {
  g_page = page;
  if (page == nullptr) return;
  for_each_known(0, TTO_STATS_FDS - 1, [](int fd, uint64_t word) {
    const FdWordParts parts = FdWordParts::of(word);
    mirror_fd(fd, parts.path, parts.reason, nullptr);
  });
}

void show_descriptors() {
  tto_stats_page* page = Runtime::instance().stats_page();
  StackLockGuard guard(api_lock());
  if (g_page != page) show_fds_in(page);
}

}  // namespace tto::stack
