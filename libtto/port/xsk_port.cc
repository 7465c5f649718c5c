#include "libtto/port/xsk_port.hh"

#include <bit>
#include <cerrno>

#include "libtto/base/sys.hh"

#ifndef SOL_XDP
#define SOL_XDP 283
#endif

namespace tto::port {

using memory::FrameHandle;
using memory::kFrameBytes;

namespace {

constexpr uint32_t kMaxRingEntries = 1u << 20;
constexpr uint64_t kMaxRingHeaderBytes = 4096;
constexpr uint32_t kLinkHeaderBytes = 18;  // Ethernet and one VLAN tag
constexpr uint32_t kMinFrameBytes = 14;
// Ethernet, VLAN, IPv6 and a TCP header with all its options: what a first slice must hold if the frame goes on.
constexpr uint32_t kMaxHeaderBytes = 14 + 4 + 40 + 60;

}  // namespace

XskPort::~XskPort() { close(); }

template <typename T>
int XskPort::map_ring(Mapping* mapping, int fd, const tto_helper_ring& ring, uint32_t entries, uint64_t page_offset,
                      RingPlace<T>* place) {
  const bool sound = std::has_single_bit(entries) && entries <= kMaxRingEntries && ring.desc <= kMaxRingHeaderBytes &&
                     ring.desc % alignof(T) == 0 && ring.producer < ring.desc && ring.consumer < ring.desc &&
                     ring.flags < ring.desc && (ring.producer | ring.consumer | ring.flags) % sizeof(uint32_t) == 0;
  if (!sound) return EPROTO;
  // Exactly the ring's size: the kernel refuses to map more than it has.
  const size_t bytes = ring.desc + size_t{entries} * sizeof(T);
  void* base =
      sys::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, static_cast<off_t>(page_offset));
  if (sys::is_error(base)) return sys::error_of(base);
  *mapping = {base, bytes};
  auto* start = static_cast<std::byte*>(base);
  place->producer = reinterpret_cast<uint32_t*>(start + ring.producer);
  place->consumer = reinterpret_cast<uint32_t*>(start + ring.consumer);
  place->flags = reinterpret_cast<uint32_t*>(start + ring.flags);
  place->entries = reinterpret_cast<T*>(start + ring.desc);
  place->count = entries;
  return 0;
}

int XskPort::open(int xsk_fd, const tto_helper_port& port, const memory::Region& region, uint32_t region_number) {
  close();
  RingPlace<uint64_t> fill, completion;
  RingPlace<xdp_desc> rx, tx;
  int error = map_ring(&mappings_[0], xsk_fd, port.fill, port.fill_entries, XDP_UMEM_PGOFF_FILL_RING, &fill);
  if (error == 0) {
    error = map_ring(&mappings_[1], xsk_fd, port.completion, port.completion_entries, XDP_UMEM_PGOFF_COMPLETION_RING,
                     &completion);
  }
  if (error == 0) error = map_ring(&mappings_[2], xsk_fd, port.rx, port.rx_entries, XDP_PGOFF_RX_RING, &rx);
  if (error == 0) error = map_ring(&mappings_[3], xsk_fd, port.tx, port.tx_entries, XDP_PGOFF_TX_RING, &tx);
  if (error != 0) {
    close();
    return error;
  }
  fill_.attach(fill);
  completion_.attach(completion);
  rx_.attach(rx);
  tx_.attach(tx);
  region_ = region;
  region_number_ = region_number;
  frame_count_ = region.header->frame_count;
  recycled_ = {std::make_unique<uint32_t[]>(frame_count_), 0};
  refused_ = {std::make_unique<uint32_t[]>(frame_count_), 0};
  own_ = PortFigures{};
  caps_ = PortCaps{};
  caps_.mtu_bytes = port.mtu_bytes;
  caps_.max_slices = port.multi_buffer != 0 && port.max_slices > 1 ? port.max_slices : 1;
  caps_.needs_wakeup = port.needs_wakeup != 0;
  caps_.zero_copy = port.zero_copy != 0;
  for (uint32_t i = 0; i < port.nic_count && i < TTO_HELPER_MAX_NICS; ++i) {
    caps_.accepts_partial_checksum |= port.nics[i].partial_checksums != 0;
  }
  busy_polls_ = port.busy_poll != 0;
  fd_ = xsk_fd;
  return 0;
}

void XskPort::close() {
  for (Mapping& m : mappings_) {
    if (m.base != nullptr) sys::munmap(m.base, m.bytes);
    m = Mapping{};
  }
  if (fd_ >= 0) sys::close(fd_);
  fd_ = -1;
}

// --- receive -------------------------------------------------------------------------------------------------------

void XskPort::flush_recycled() {
  uint32_t n = 0;
  const uint32_t space = fill_.space(recycled_.count);
  while (recycled_.count > 0 && n < space) {
    fill_.entry(n++) = uint64_t{recycled_.frame[--recycled_.count]} * kFrameBytes;
  }
  if (n > 0) fill_.publish(n);
}

size_t XskPort::fill_space() const {
  const uint32_t used = fill_.pending() + recycled_.count;
  return used < fill_.count() ? fill_.count() - used : 0;
}

size_t XskPort::post_fill(std::span<const FrameHandle> frames) {
  if (recycled_.count > 0) flush_recycled();
  const auto wanted = static_cast<uint32_t>(std::min<size_t>(frames.size(), fill_.count()));
  const uint32_t n = std::min(wanted, fill_.space(wanted));
  for (uint32_t i = 0; i < n; ++i) fill_.entry(i) = uint64_t{frames[i].index()} * kFrameBytes;
  if (n > 0) fill_.publish(n);
  return n;
}

/// Descriptors of the chain that starts `from` places ahead; 0: its end is not there yet.
uint32_t XskPort::rx_chain_length(uint32_t from, uint32_t available) const {
  for (uint32_t i = from; i < available; ++i) {
    if ((rx_.entry(i).options & kXdpPacketContinues) == 0) return i - from + 1;
  }
  return available == rx_.count() && from == 0 ? available : 0;
}

/// The kernel writes only frames that we posted; a descriptor that says otherwise is refused, not followed.
bool XskPort::take_chain(uint32_t from, uint32_t length, FrameSlice* out) const {
  for (uint32_t i = 0; i < length; ++i) {
    const xdp_desc d = rx_.entry(from + i);
    const uint64_t index = d.addr / kFrameBytes;
    const auto offset = static_cast<uint32_t>(d.addr % kFrameBytes);
    if (index >= frame_count_ || d.len == 0 || d.len > kFrameBytes - offset) return false;
    if ((region_.descs[index].state & TTO_FRAME_POSTED) == 0) return false;
    const bool more = i + 1 < length;
    if (i == 0 && d.len < (more ? kMaxHeaderBytes : kMinFrameBytes)) return false;
    out[i] = {FrameHandle::make(region_number_, static_cast<uint32_t>(index)), static_cast<uint16_t>(offset),
              static_cast<uint16_t>(d.len), more};
  }
  return true;
}

void XskPort::recycle_chain(uint32_t from, uint32_t length) {
  for (uint32_t i = from; i < from + length; ++i) {
    const uint64_t index = rx_.entry(i).addr / kFrameBytes;
    const bool ours = index < frame_count_ && (region_.descs[index].state & TTO_FRAME_POSTED) != 0;
    if (ours && recycled_.count < frame_count_) recycled_.push(static_cast<uint32_t>(index));
  }
}

size_t XskPort::rx_burst(std::span<FrameSlice> out, Instant) {
  const uint32_t available = rx_.available(static_cast<uint32_t>(std::min<size_t>(out.size(), rx_.count())));
  uint32_t taken = 0;
  size_t n = 0;
  while (taken < available) {
    const uint32_t length = rx_chain_length(taken, available);
    if (length == 0) break;
    const bool fits_port = length <= caps_.max_slices;
    if (fits_port && n + length > out.size()) break;
    if (fits_port && take_chain(taken, length, out.data() + n)) {
      n += length;
    } else {
      ++own_.rx_bad_chain;
      recycle_chain(taken, length);
    }
    taken += length;
  }
  if (taken > 0) rx_.release(taken);
  if (recycled_.count > 0) flush_recycled();
  return n;
}

// --- transmit ------------------------------------------------------------------------------------------------------

/// What the kernel would refuse it would also never complete: such a chain must not reach the ring.
bool XskPort::is_sendable(std::span<const FrameSlice> chain) const {
  if (chain.size() > caps_.max_slices) return false;
  uint32_t bytes = 0;
  for (const FrameSlice& s : chain) {
    const bool in_frame = s.length > 0 && uint32_t{s.offset} + s.length <= kFrameBytes;
    if (!in_frame || s.frame.region() != region_number_ || s.frame.index() >= frame_count_) return false;
    bytes += s.length;
  }
  return bytes >= kMinFrameBytes && bytes <= caps_.mtu_bytes + kLinkHeaderBytes;
}

size_t XskPort::tx_space() const { return tx_.count() - tx_.pending(); }

size_t XskPort::tx_burst(std::span<const FrameSlice> slices, Instant) {
  uint32_t space = tx_.space(static_cast<uint32_t>(std::min<size_t>(slices.size(), tx_.count())));
  uint32_t queued = 0;
  size_t taken = 0;
  while (taken < slices.size()) {
    size_t length = 1;
    while (taken + length <= slices.size() && slices[taken + length - 1].more) ++length;
    if (taken + length > slices.size()) break;
    const auto chain = slices.subspan(taken, length);
    if (!is_sendable(chain)) {
      if (length > frame_count_ - refused_.count) break;
      ++own_.tx_invalid;
      for (const FrameSlice& s : chain) refused_.push(s.frame.raw);
    } else if (length > space) {
      break;
    } else {
      for (const FrameSlice& s : chain) {
        tx_.entry(queued++) = {uint64_t{s.frame.index()} * kFrameBytes + s.offset, s.length,
                               s.more ? kXdpPacketContinues : 0};
      }
      space -= static_cast<uint32_t>(length);
    }
    taken += length;
  }
  if (queued > 0) tx_.publish(queued);
  return taken;
}

size_t XskPort::reclaim(std::span<FrameHandle> out) {
  size_t n = 0;
  while (n < out.size() && refused_.count > 0) {
    out[n++] = FrameHandle{refused_.frame[--refused_.count]};
  }
  const auto wanted = static_cast<uint32_t>(std::min<size_t>(out.size() - n, completion_.count()));
  const uint32_t ready = std::min(wanted, completion_.available(wanted));
  for (uint32_t i = 0; i < ready; ++i) {
    const uint64_t index = completion_.entry(i) / kFrameBytes;
    if (index < frame_count_) {
      out[n++] = FrameHandle::make(region_number_, static_cast<uint32_t>(index));
    } else {
      ++own_.tx_invalid;
    }
  }
  if (ready > 0) completion_.release(ready);
  return n;
}

void XskPort::kick(bool receive) {
  // Sending also polls the socket's NAPI context when busy polling is on: one call serves both ways.
  if (tx_.pending() > 0 && (!caps_.needs_wakeup || tx_.wants_wakeup())) {
    // A full device or completion ring (EAGAIN, EBUSY, ENOBUFS) leaves descriptors pending for the next kick.
    sys::sendto(fd_, nullptr, 0, MSG_DONTWAIT, nullptr, 0);
  } else if (receive && (busy_polls_ || (caps_.needs_wakeup && fill_.wants_wakeup()))) {
    sys::recvfrom(fd_, nullptr, 0, MSG_DONTWAIT, nullptr, nullptr);
  }
}

PortFigures XskPort::figures() const {
  PortFigures f = own_;
  xdp_statistics kernel{};
  socklen_t bytes = sizeof kernel;
  if (fd_ >= 0 && sys::getsockopt(fd_, SOL_XDP, XDP_STATISTICS, &kernel, &bytes) == 0) {
    f.rx_dropped += kernel.rx_dropped + kernel.rx_invalid_descs;
    f.rx_ring_full += kernel.rx_ring_full;
    f.fill_ring_empty += kernel.rx_fill_ring_empty_descs;
    f.tx_invalid += kernel.tx_invalid_descs;
  }
  return f;
}

}  // namespace tto::port
