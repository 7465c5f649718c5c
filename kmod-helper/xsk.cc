#include "kmod-helper/xsk.hh"

#include <linux/if_xdp.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "libtto/memory/region_mapping.hh"

#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#endif

namespace ttod {
namespace {

constexpr uint32_t kMaxRingEntries = 2048;
constexpr uint32_t kMaxSlices = 17;  // the kernel's limit of buffers in one frame (MAX_SKB_FRAGS)

int set_ring(int fd, int option, uint32_t entries) {
  return ::setsockopt(fd, SOL_XDP, option, &entries, sizeof entries) == 0 ? 0 : errno;
}

tto_helper_ring ring_of(const xdp_ring_offset& o) {
  return {.producer = o.producer, .consumer = o.consumer, .desc = o.desc, .flags = o.flags};
}

}  // namespace

int make_xsk(int region_fd, uint32_t ifindex, Fd& xsk, tto_helper_port& out) {
  tto::memory::RegionMapping region;
  int status = region.map(region_fd);
  if (status != 0) return status;
  Fd fd(::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!fd) return errno;

  xdp_umem_reg umem{};
  umem.addr = reinterpret_cast<uint64_t>(region.region().frames);
  umem.len = uint64_t{region.header().frame_count} * region.header().frame_bytes;
  umem.chunk_size = region.header().frame_bytes;
  if (::setsockopt(fd.get(), SOL_XDP, XDP_UMEM_REG, &umem, sizeof umem) != 0) return errno;

  // Rings smaller than the pool, so that frames are left for the queues of connections while all rings are full.
  const uint32_t entries = std::min(kMaxRingEntries, std::bit_floor(std::max(region.header().frame_count / 4, 64u)));
  out.fill_entries = out.completion_entries = out.rx_entries = out.tx_entries = entries;
  for (const int option : {XDP_UMEM_FILL_RING, XDP_UMEM_COMPLETION_RING, XDP_RX_RING, XDP_TX_RING}) {
    status = set_ring(fd.get(), option, entries);
    if (status != 0) return status;
  }
  xdp_mmap_offsets offsets{};
  socklen_t bytes = sizeof offsets;
  if (::getsockopt(fd.get(), SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &bytes) != 0) return errno;
  out.fill = ring_of(offsets.fr);
  out.completion = ring_of(offsets.cr);
  out.rx = ring_of(offsets.rx);
  out.tx = ring_of(offsets.tx);

  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_ifindex = ifindex;
  address.sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP | XDP_USE_SG;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return errno;
  out.max_slices = kMaxSlices;
  out.zero_copy = 0;
  out.needs_wakeup = 1;
  out.multi_buffer = 1;
  xsk = std::move(fd);
  return 0;
}

void set_busy_poll(int xsk, uint32_t busy_poll_us) {
  if (busy_poll_us == 0) return;
  const int on = 1, microseconds = static_cast<int>(std::min(busy_poll_us, 1'000'000u)), budget = 64;
  ::setsockopt(xsk, SOL_SOCKET, SO_PREFER_BUSY_POLL, &on, sizeof on);
  ::setsockopt(xsk, SOL_SOCKET, SO_BUSY_POLL, &microseconds, sizeof microseconds);
  ::setsockopt(xsk, SOL_SOCKET, SO_BUSY_POLL_BUDGET, &budget, sizeof budget);
}

}  // namespace ttod
