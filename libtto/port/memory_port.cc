#include "libtto/port/memory_port.hh"

#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

namespace tto::port {

using memory::FrameHandle;
using memory::kFrameBytes;

namespace {

constexpr uint32_t kLinkHeaderBytes = 18;  // Ethernet and one VLAN tag

struct Transit {
  Instant arrival;
  std::vector<std::byte> bytes;
};

}  // namespace

class MemoryLink::End final : public FramePort {
 public:
  End(const LinkConfig& config, memory::FramePool& pool) : config_(config), pool_(pool) {
    caps_.mtu_bytes = config.mtu_bytes;
    caps_.max_slices = config.max_slices;
    caps_.accepts_partial_checksum = config.accepts_partial_checksum;
  }
  ~End() override {
    for (const FrameHandle f : fill_) pool_.drop(f, TTO_FRAME_POSTED);
    for (const FrameSlice& s : rx_) pool_.drop(s.frame, TTO_FRAME_POSTED);
    for (const Queued& q : tx_) pool_.drop(q.slice.frame, TTO_FRAME_IN_FLIGHT | TTO_FRAME_HEADER);
    for (const FrameHandle f : completion_) pool_.drop(f, TTO_FRAME_IN_FLIGHT | TTO_FRAME_HEADER);
  }

  void set_peer(End* peer) { peer_ = peer; }
  uint64_t queue_drops() const { return queue_drops_; }
  size_t in_transit() const { return incoming_.size(); }

  const PortCaps& caps() const override { return caps_; }

  size_t post_fill(std::span<const FrameHandle> frames) override {
    const size_t n = std::min(frames.size(), fill_space());
    fill_.insert(fill_.end(), frames.begin(), frames.begin() + static_cast<ptrdiff_t>(n));
    return n;
  }
  size_t fill_space() const override { return config_.ring_entries - fill_.size(); }

  size_t rx_burst(std::span<FrameSlice> out, Instant now) override {
    while (!incoming_.empty() && incoming_.front().arrival <= now) {
      receive(incoming_.front().bytes);
      last_arrival_ = incoming_.front().arrival;
      incoming_.pop_front();
    }
    size_t n = 0;
    while (!rx_.empty()) {
      const size_t chain = first_chain_length(rx_);
      if (n + chain > out.size()) break;
      for (size_t i = 0; i < chain; ++i, rx_.pop_front()) out[n++] = rx_.front();
    }
    return n;
  }

  size_t tx_burst(std::span<const FrameSlice> slices, Instant now) override {
    size_t taken = 0;
    while (taken < slices.size()) {
      size_t chain = 1;
      while (taken + chain <= slices.size() && slices[taken + chain - 1].more) ++chain;
      if (taken + chain > slices.size() || chain > tx_space()) break;
      for (size_t i = 0; i < chain; ++i) tx_.push_back({slices[taken++], now});
    }
    return taken;
  }
  size_t tx_space() const override { return config_.ring_entries - tx_.size(); }

  size_t reclaim(std::span<FrameHandle> out) override {
    const size_t n = std::min(out.size(), completion_.size());
    std::copy_n(completion_.begin(), n, out.begin());
    completion_.erase(completion_.begin(), completion_.begin() + static_cast<ptrdiff_t>(n));
    return n;
  }

  void kick(bool) override {
    while (!tx_.empty()) {
      std::vector<std::byte> bytes;
      const Instant sent = tx_.front().at;
      const size_t chain = gather(&bytes);
      if (completion_.size() + chain > config_.ring_entries) return;  // until reclaimed, like the kernel
      const bool valid = !bytes.empty() && chain <= config_.max_slices && bytes.size() >= 14 &&
                         bytes.size() <= config_.mtu_bytes + kLinkHeaderBytes;
      if (valid) {
        transmit(std::move(bytes), sent);
      } else {
        ++figures_.tx_invalid;
      }
      for (size_t i = 0; i < chain; ++i, tx_.pop_front()) completion_.push_back(tx_.front().slice.frame);
    }
  }

  int wait_fd() const override { return -1; }
  Instant next_event() const override {
    if (!rx_.empty()) return last_arrival_;
    return incoming_.empty() ? kNever : incoming_.front().arrival;
  }
  PortFigures figures() const override { return figures_; }

 private:
  struct Queued {
    FrameSlice slice;
    Instant at;
  };

  static size_t first_chain_length(const std::deque<FrameSlice>& ring) {
    size_t n = 1;
    while (ring[n - 1].more) ++n;
    return n;
  }

  /// The bytes of the first queued chain, nothing if one of its slices leaves its frame. Returns its length.
  size_t gather(std::vector<std::byte>* bytes) const {
    size_t n = 0;
    bool sound = true;
    bool more = true;
    for (; more; ++n) {
      const FrameSlice& s = tx_[n].slice;
      more = s.more;
      sound = sound && uint32_t{s.offset} + s.length <= kFrameBytes && s.length > 0;
      if (!sound) continue;
      const std::byte* data = pool_.data(s.frame) + s.offset;
      bytes->insert(bytes->end(), data, data + s.length);
    }
    if (!sound) bytes->clear();
    return n;
  }

  void transmit(std::vector<std::byte> bytes, Instant sent) {
    Instant departure = std::max(sent, busy_until_);
    if (config_.bytes_per_second > 0) {
      const auto rate = static_cast<double>(config_.bytes_per_second);
      const double waiting_bytes = static_cast<double>((departure - sent).ns) * rate / 1e9;
      if (waiting_bytes + static_cast<double>(bytes.size()) > static_cast<double>(config_.queue_bytes)) {
        ++queue_drops_;
        return;
      }
      departure = departure + nanoseconds(static_cast<int64_t>(static_cast<double>(bytes.size()) * 1e9 / rate));
      busy_until_ = departure;
    }
    peer_->incoming_.push_back({departure + config_.delay, std::move(bytes)});
  }

  void receive(const std::vector<std::byte>& bytes) {
    const size_t chunk = kFrameBytes - config_.headroom_bytes;
    const size_t chain = (bytes.size() + chunk - 1) / chunk;
    if (chain > config_.max_slices) {
      ++figures_.rx_dropped;
    } else if (fill_.size() < chain) {
      ++figures_.fill_ring_empty;
    } else if (rx_.size() + chain > config_.ring_entries) {
      ++figures_.rx_ring_full;
    } else {
      for (size_t done = 0; done < bytes.size();) {
        const size_t n = std::min(chunk, bytes.size() - done);
        const FrameHandle f = fill_.front();
        fill_.pop_front();
        std::memcpy(pool_.data(f) + config_.headroom_bytes, bytes.data() + done, n);
        done += n;
        rx_.push_back(
            {f, static_cast<uint16_t>(config_.headroom_bytes), static_cast<uint16_t>(n), done < bytes.size()});
      }
    }
  }

  const LinkConfig config_;
  memory::FramePool& pool_;
  End* peer_ = nullptr;
  PortCaps caps_;
  PortFigures figures_;
  std::deque<FrameHandle> fill_;
  std::deque<FrameSlice> rx_;
  std::deque<Queued> tx_;
  std::deque<FrameHandle> completion_;
  std::deque<Transit> incoming_;
  Instant busy_until_{INT64_MIN};
  Instant last_arrival_{};
  uint64_t queue_drops_ = 0;
};

MemoryLink::MemoryLink(const LinkConfig& config, memory::FramePool& pool0, memory::FramePool& pool1)
    : ends_{std::make_unique<End>(config, pool0), std::make_unique<End>(config, pool1)} {
  ends_[0]->set_peer(ends_[1].get());
  ends_[1]->set_peer(ends_[0].get());
}

MemoryLink::~MemoryLink() = default;

FramePort& MemoryLink::end(int which) { return *ends_[which]; }
uint64_t MemoryLink::queue_drops(int which) const { return ends_[which]->queue_drops(); }
size_t MemoryLink::in_transit(int which) const { return ends_[which]->in_transit(); }

}  // namespace tto::port
