#include "libtto/port/pcap_port.hh"

#include <algorithm>
#include <bit>
#include <cstring>

#include "libtto/base/sys.hh"
#include "libtto/port/pcapng.hh"

namespace tto::port {
namespace {

constexpr uint32_t kMaxSnapBytes = 128 * 1024;
constexpr size_t kMaxPieces = 64;

}  // namespace

bool PcapFdSink::write(std::span<const std::byte> block) {
  if (broken_) return false;
  ssize_t n;
  do {
    n = sys::write(fd_, block.data(), block.size());
  } while (n == -EINTR);
  if (n == static_cast<ssize_t>(block.size())) return true;
  if (n != -EAGAIN) broken_ = true;
  return false;
}

PcapRingSink::PcapRingSink(std::span<std::byte> memory)
    : ring_(reinterpret_cast<PcapRing*>(memory.data())),
      data_(memory.data() + sizeof(PcapRing)),
      capacity_(std::bit_floor(memory.size() - sizeof(PcapRing))) {
  *ring_ = PcapRing{capacity_, 0, 0, 0};
}

bool PcapRingSink::write(std::span<const std::byte> block) {
  const uint64_t produced = __atomic_load_n(&ring_->produced, __ATOMIC_RELAXED);
  const uint64_t used = produced - __atomic_load_n(&ring_->consumed, __ATOMIC_ACQUIRE);
  // A reader that lies about `consumed` loses its own record: `used` is bounded, the index is masked.
  if (used > capacity_ || block.size() > capacity_ - used) {
    __atomic_store_n(&ring_->lost, ring_->lost + 1, __ATOMIC_RELAXED);
    return false;
  }
  const size_t at = produced & (capacity_ - 1);
  const size_t first = std::min<size_t>(block.size(), capacity_ - at);
  std::memcpy(data_ + at, block.data(), first);
  std::memcpy(data_, block.data() + first, block.size() - first);
  __atomic_store_n(&ring_->produced, produced + block.size(), __ATOMIC_RELEASE);
  return true;
}

size_t PcapRingSink::read(std::span<std::byte> memory, std::span<std::byte> out) {
  auto* ring = reinterpret_cast<PcapRing*>(memory.data());
  const uint64_t capacity = std::bit_floor(memory.size() - sizeof(PcapRing));
  const uint64_t consumed = __atomic_load_n(&ring->consumed, __ATOMIC_RELAXED);
  const uint64_t ready = __atomic_load_n(&ring->produced, __ATOMIC_ACQUIRE) - consumed;
  if (ready > capacity) return 0;
  const size_t n = std::min<size_t>(ready, out.size());
  const size_t at = consumed & (capacity - 1);
  const size_t first = std::min<size_t>(n, capacity - at);
  const std::byte* data = memory.data() + sizeof(PcapRing);
  if (first > 0) std::memcpy(out.data(), data + at, first);
  if (n > first) std::memcpy(out.data() + first, data, n - first);
  __atomic_store_n(&ring->consumed, consumed + n, __ATOMIC_RELEASE);
  return n;
}

PcapPort::PcapPort(FramePort& inner, memory::FramePool& pool, int64_t epoch_ns)
    : inner_(inner), pool_(pool), epoch_ns_(epoch_ns) {}
PcapPort::~PcapPort() = default;

void PcapPort::set_sink(PcapSink* sink, const char* interface_name, uint32_t snap_bytes) {
  sink_ = sink;
  lost_ = 0;
  if (sink == nullptr) return;
  snap_bytes_ = std::min(snap_bytes, kMaxSnapBytes);
  if (block_ == nullptr) block_.reset(new std::byte[pcapng::packet_block_bytes(kMaxSnapBytes)]);
  const std::span<std::byte> block{block_.get(), pcapng::packet_block_bytes(kMaxSnapBytes)};
  size_t n = pcapng::encode_section(block, "libtto");
  n += pcapng::encode_interface(block.subspan(n), pcapng::kLinkEthernet, snap_bytes_, interface_name);
  if (!sink_->write(block.first(n))) {
    sink_ = nullptr;
    ++lost_;
  }
}

size_t PcapPort::rx_burst(std::span<FrameSlice> out, Instant now) {
  const size_t n = inner_.rx_burst(out, now);
  if (sink_ != nullptr) record(out.first(n), false, now);
  return n;
}

size_t PcapPort::tx_burst(std::span<const FrameSlice> slices, Instant now) {
  const size_t n = inner_.tx_burst(slices, now);
  // Taken frames stay as they are until they are reclaimed, so they can still be read here.
  if (sink_ != nullptr) record(slices.first(n), true, now);
  return n;
}

void PcapPort::record(std::span<const FrameSlice> slices, bool outgoing, Instant now) {
  std::span<const std::byte> pieces[kMaxPieces];
  size_t count = 0;
  uint32_t bytes = 0, captured = 0;
  for (const FrameSlice& s : slices) {
    const uint32_t in_frame = memory::kFrameBytes - std::min<uint32_t>(s.offset, memory::kFrameBytes);
    const uint32_t take = std::min({uint32_t{s.length}, in_frame, snap_bytes_ - captured});
    if (count < kMaxPieces && take > 0) {
      pieces[count++] = {pool_.data(s.frame) + s.offset, take};
      captured += take;
    }
    bytes += s.length;
    if (s.more) continue;
    pcapng::Packet packet;
    packet.time_ns = static_cast<uint64_t>(now.ns + epoch_ns_);
    packet.direction = outgoing ? pcapng::Direction::kOut : pcapng::Direction::kIn;
    packet.original_bytes = bytes;
    packet.pieces = {pieces, count};
    const size_t n = pcapng::encode_packet({block_.get(), pcapng::packet_block_bytes(kMaxSnapBytes)}, packet);
    if (n == 0 || !sink_->write({block_.get(), n})) ++lost_;
    count = 0;
    bytes = captured = 0;
  }
}

}  // namespace tto::port
