#include "libtto/port/live_capture.hh"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include "libtto/base/fd_map.hh"
#include "libtto/base/sys.hh"

namespace tto::port {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

void tell(tto_stats_page* page, int fd) { __atomic_store_n(&page->capture_fd, fd, __ATOMIC_RELEASE); }

}  // namespace

bool LiveCapture::is_wanted(const tto_stats_page* page, Instant now) {
  const uint64_t until = __atomic_load_n(&page->capture_until_ns, __ATOMIC_RELAXED);
  const auto now_ns = static_cast<uint64_t>(now.ns);
  // Whoever wrote the word may have written nonsense; a far future is not obeyed, so a dead tool is forgotten.
  return until > now_ns && until - now_ns <= TTO_CAPTURE_MAX_NS;
}

void LiveCapture::poll(tto_stats_page* page, Instant now) {
  if (page == nullptr) return;
  const bool wanted = is_wanted(page, now);
  if (wanted && !sink_) begin(page);
  if (!wanted && sink_) end(page);
}

void LiveCapture::begin(tto_stats_page* page) {
  const int fd = make_internal_fd(sys::memfd_create("tto-capture", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (fd < 0) return;
  void* ring = nullptr;
  const bool sized = sys::ftruncate(fd, static_cast<off_t>(kCaptureRingBytes)) == 0 &&
                     sys::fcntl(fd, F_ADD_SEALS, kSeals) == 0;
  if (sized) ring = sys::mmap(nullptr, kCaptureRingBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (!sized || sys::is_error(ring)) {
    close_internal_fd(fd);
    return;
  }
  fd_ = fd;
  ring_ = ring;
  sink_.emplace(std::span{static_cast<std::byte*>(ring), kCaptureRingBytes});
  port_.set_sink(&*sink_);
  tell(page, fd);
}

void LiveCapture::end(tto_stats_page* page) {
  if (!sink_) return;
  if (page != nullptr) tell(page, -1);
  port_.set_sink(nullptr);
  sink_.reset();
  sys::munmap(ring_, kCaptureRingBytes);
  close_internal_fd(fd_);
  ring_ = nullptr;
  fd_ = -1;
}

}  // namespace tto::port
