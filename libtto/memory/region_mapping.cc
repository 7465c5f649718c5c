#include "libtto/memory/region_mapping.hh"

#include <cerrno>

#include "libtto/base/sys.hh"

namespace tto::memory {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

}  // namespace

Expected<int, int> make_region_fd(uint32_t region_id, uint32_t frame_count, uint32_t connection_count) {
  const RegionLayout layout = region_layout_compute(frame_count, connection_count);
  if (layout.total_bytes == 0) return Unexpected{EINVAL};
  const int fd = sys::memfd_create("tto-region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return Unexpected{-fd};
  tto_region_header header{};
  region_init_header(&header, region_id, frame_count, connection_count);
  int status = sys::ftruncate(fd, static_cast<off_t>(layout.total_bytes));
  if (status == 0 && sys::pwrite(fd, &header, sizeof header, 0) != sizeof header) status = -EIO;
  if (status == 0) status = sys::fcntl(fd, F_ADD_SEALS, kSeals);
  if (status == 0) return fd;
  sys::close(fd);
  return Unexpected{-status};
}

RegionMapping::~RegionMapping() { unmap(); }

int RegionMapping::map(int fd) {
  unmap();
  // Without the seal a truncation would turn each access into SIGBUS.
  const int seals = sys::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) return EPROTO;
  struct stat st;
  if (const int status = sys::fstat(fd, &st); status < 0) return -status;
  tto_region_header header{};
  if (sys::pread(fd, &header, sizeof header, 0) != sizeof header) return EPROTO;
  if (st.st_size < 0 || !region_header_is_sound(header, static_cast<uint64_t>(st.st_size))) return EPROTO;
  void* base = sys::mmap(nullptr, header.total_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (sys::is_error(base)) return sys::error_of(base);
  header_ = header;
  region_ = region_view(static_cast<std::byte*>(base), header_);
  return 0;
}

void RegionMapping::unmap() {
  if (region_.base == nullptr) return;
  sys::munmap(region_.base, header_.total_bytes);
  region_ = Region{};
  header_ = tto_region_header{};
}

}  // namespace tto::memory
