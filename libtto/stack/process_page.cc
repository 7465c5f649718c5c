#include "libtto/stack/process_page.hh"

#include <cstring>

#include "libtto/base/fd_map.hh"
#include "libtto/base/sys.hh"
#include "libtto/stats/counters.hh"

namespace tto::stack {
namespace {

constexpr unsigned kSealingMemfd = 0x0003;  // MFD_CLOEXEC | MFD_ALLOW_SEALING
constexpr int kAddSeals = 1033;             // F_ADD_SEALS
constexpr int kSeals = 0x0001 | 0x0002 | 0x0004;  // no more seals, no shrinking, no growing

static_assert(stats::kCounterCount <= TTO_STATS_MAX_COUNTERS, "the page has a place for every counter");

}  // namespace

StatsPageMapping make_stats_page() {
  const int made = sys::memfd_create(TTO_STATS_NAME, kSealingMemfd);
  if (made < 0) return {};
  const int fd = make_internal_fd(made);
  void* memory = nullptr;
  if (sys::ftruncate(fd, sizeof(tto_stats_page)) == 0 && sys::fcntl(fd, kAddSeals, kSeals) == 0) {
    memory = sys::mmap(nullptr, sizeof(tto_stats_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (memory == nullptr || sys::is_error(memory)) {
    close_internal_fd(fd);
    return {};
  }
  auto* page = static_cast<tto_stats_page*>(memory);
  timespec t;
  sys::clock_gettime(CLOCK_REALTIME, &t);
  page->version = TTO_STATS_VERSION;
  page->pid = static_cast<uint32_t>(sys::getpid());
  page->start_ns = static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
  page->counter_count = stats::kCounterCount;
  page->region_fd = -1;
  for (size_t i = 0; i < stats::kCounterCount; ++i) {
    std::strncpy(page->names[i], stats::name(static_cast<stats::Counter>(i)), sizeof page->names[i] - 1);
  }
  page->magic = TTO_STATS_MAGIC;  // last: a reader that finds it finds the rest
  return {page, fd};
}

}  // namespace tto::stack
