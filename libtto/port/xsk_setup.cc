#include "libtto/port/xsk_setup.hh"

#include <linux/if_xdp.h>

#include <cerrno>

#include "libtto/base/sys.hh"
#include "libtto/port/xsk_rings.hh"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef SO_PREFER_BUSY_POLL
#define SO_PREFER_BUSY_POLL 69
#define SO_BUSY_POLL_BUDGET 70
#endif

namespace tto::port {
namespace {

template <typename T>
int set_option(int fd, int level, int name, const T& value) {
  return -sys::setsockopt(fd, level, name, &value, sizeof value);
}

int register_umem(int fd, const memory::Region& region) {
  xdp_umem_reg umem{};
  umem.addr = reinterpret_cast<uintptr_t>(region.frames);
  umem.len = uint64_t{region.header->frame_count} * memory::kFrameBytes;
  umem.chunk_size = memory::kFrameBytes;
  return set_option(fd, SOL_XDP, XDP_UMEM_REG, umem);
}

int size_rings(int fd, const XskConfig& config) {
  int error = set_option(fd, SOL_XDP, XDP_UMEM_FILL_RING, config.fill_entries);
  if (error == 0) error = set_option(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, config.completion_entries);
  if (error == 0) error = set_option(fd, SOL_XDP, XDP_RX_RING, config.rx_entries);
  if (error == 0) error = set_option(fd, SOL_XDP, XDP_TX_RING, config.tx_entries);
  if (error != 0) return error;
  // One kick shall send all that is queued, not the kernel's default of 32 frames. Kernels before 6.17 lack this.
  set_option(fd, SOL_XDP, kXdpMaxTxBudgetOption, config.tx_entries);
  return 0;
}

int set_busy_poll(int fd, const XskConfig& config) {
  if (config.busy_poll_us == 0) return 0;
  int error = set_option(fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, 1);
  if (error == 0) error = set_option(fd, SOL_SOCKET, SO_BUSY_POLL, static_cast<int>(config.busy_poll_us));
  if (error == 0) error = set_option(fd, SOL_SOCKET, SO_BUSY_POLL_BUDGET, static_cast<int>(config.busy_poll_budget));
  return error;
}

int bind_queue(int fd, const XskConfig& config) {
  sockaddr_xdp address{};
  address.sxdp_family = AF_XDP;
  address.sxdp_ifindex = config.ifindex;
  address.sxdp_queue_id = config.queue;
  address.sxdp_flags = config.zero_copy ? XDP_ZEROCOPY : XDP_COPY;
  if (config.need_wakeup) address.sxdp_flags |= XDP_USE_NEED_WAKEUP;
  if (config.multi_buffer) address.sxdp_flags |= kXdpUseMultiBuffer;
  return -sys::bind(fd, &address, sizeof address);
}

tto_helper_ring ring_of(const xdp_ring_offset& offset) {
  return {offset.producer, offset.consumer, offset.desc, offset.flags};
}

int describe(int fd, const XskConfig& config, tto_helper_port* out) {
  xdp_mmap_offsets offsets{};
  socklen_t bytes = sizeof offsets;
  if (const int status = sys::getsockopt(fd, SOL_XDP, XDP_MMAP_OFFSETS, &offsets, &bytes); status < 0) return -status;
  if (bytes != sizeof offsets) return EPROTO;  // a kernel before 5.4, without wakeup flags
  out->fill_entries = config.fill_entries;
  out->completion_entries = config.completion_entries;
  out->rx_entries = config.rx_entries;
  out->tx_entries = config.tx_entries;
  out->fill = ring_of(offsets.fr);
  out->completion = ring_of(offsets.cr);
  out->rx = ring_of(offsets.rx);
  out->tx = ring_of(offsets.tx);
  out->mtu_bytes = config.mtu_bytes;
  out->max_slices = config.multi_buffer ? kXskMaxSlices : 1;
  out->zero_copy = config.zero_copy;
  out->needs_wakeup = config.need_wakeup;
  out->multi_buffer = config.multi_buffer;
  out->busy_poll = config.busy_poll_us != 0;
  return 0;
}

}  // namespace

Expected<int, int> xsk_open(const memory::Region& region, const XskConfig& config, tto_helper_port* out) {
  const int fd = sys::socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);
  if (fd < 0) return Unexpected{-fd};
  int error = register_umem(fd, region);
  if (error == 0) error = size_rings(fd, config);
  if (error == 0) error = set_busy_poll(fd, config);
  if (error == 0) error = bind_queue(fd, config);
  if (error == 0) error = describe(fd, config, out);
  if (error == 0) return fd;
  sys::close(fd);
  return Unexpected{error};
}

}  // namespace tto::port
