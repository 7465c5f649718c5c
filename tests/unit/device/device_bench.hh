// A device on one end of an in-memory link, and a hand-driven peer on the other that speaks in segments.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "libtto/device/device.hh"
#include "libtto/port/memory_port.hh"
#include "libtto/wire/checksum.hh"
#include "libtto/wire/frame.hh"
#include "libtto/wire/tcp_flags.hh"
#include "tests/support/port_frames.hh"
#include "tests/support/test_region.hh"

namespace tto::device {

using stats::Counter;
using testing::Bytes;
using testing::pattern;
using testing::PortUser;
using testing::TestPool;
using wire::kAck;
using wire::kCwr;
using wire::kEce;
using wire::kFin;
using wire::kPsh;
using wire::kRst;
using wire::kSyn;
using wire::kUrg;

inline constexpr uint32_t kSlot = 3;

/// What the peer sends. Defaults: an ACK of the default flow.
struct PeerSegment {
  uint32_t seq = 1000;
  Bytes payload{};
  uint8_t flags = wire::kAck;
  uint32_t ack = 5000;
  uint16_t window = 500;
  uint8_t tos = 0;
  uint8_t ttl = 64;
  uint16_t remote_port = 40000;
  uint16_t local_port = 80;
  bool v6 = false;
  uint16_t vlan = 0;
  wire::TcpOptions options{};
  uint16_t urgent_pointer = 0;
  bool bad_checksum = false;
  bool partial_checksum = false;
  size_t padding = 0;
};

inline wire::IpAddress address(bool v6, uint8_t host) {
  if (!v6) {
    const std::array<uint8_t, 4> b{10, 0, 0, host};
    uint32_t word;
    std::memcpy(&word, b.data(), 4);
    return wire::IpAddress::from_v4(word);
  }
  const std::array<uint8_t, 16> b{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host};
  return wire::IpAddress::from_v6(b.data());
}

inline FlowKey key_of(uint16_t remote_port = 40000, bool v6 = false, uint16_t local_port = 80, uint16_t vlan = 0) {
  return {{address(v6, 1), address(v6, 2), local_port, remote_port}, vlan};
}

inline Bytes frame_of(const PeerSegment& s) {
  wire::FrameHeaders h;
  h.source_mac.bytes = {2, 0, 0, 0, 0, 2};
  h.destination_mac.bytes = {2, 0, 0, 0, 0, 1};
  h.vlan = s.vlan;
  h.source = address(s.v6, 2);
  h.destination = address(s.v6, 1);
  h.tos = s.tos;
  h.ttl = s.ttl;
  h.source_port = s.remote_port;
  h.destination_port = s.local_port;
  h.seq = {s.seq};
  h.ack = {s.ack};
  h.flags = s.flags;
  h.window = s.window;
  h.urgent_pointer = s.urgent_pointer;
  h.options = s.options;
  const size_t header_bytes = wire::headers_bytes(h);
  Bytes frame(header_bytes + s.payload.size());
  auto* payload = reinterpret_cast<uint8_t*>(frame.data()) + header_bytes;
  if (!s.payload.empty()) std::memcpy(payload, s.payload.data(), s.payload.size());
  wire::emit_headers(h, payload, static_cast<uint32_t>(s.payload.size()), wire::sum_bytes(payload, s.payload.size()));
  const size_t tcp_bytes = wire::kTcpBytes + wire::tcp_options_bytes(s.options);
  std::byte* checksum = frame.data() + header_bytes - tcp_bytes + 16;
  if (s.bad_checksum) checksum[0] ^= std::byte{0x41};
  if (s.partial_checksum) {
    const uint16_t pseudo = wire::pseudo_header_sum(h.source, h.destination, wire::kProtocolTcp,
                                                    static_cast<uint32_t>(tcp_bytes + s.payload.size()));
    std::memcpy(checksum, &pseudo, 2);
  }
  frame.resize(frame.size() + s.padding);
  return frame;
}

/// A frame the device sent, taken apart.
struct SentFrame {
  wire::FrameView view;
  Bytes payload;
  bool checksum_ok = false;
};

class Bench {
 public:
  explicit Bench(const DeviceConfig& config = {}, const port::LinkConfig& link_config = {}, uint32_t frames = 1024)
      : total_(frames),
        pool_(frames),
        peer_pool_(frames),
        link_(std::make_unique<port::MemoryLink>(link_config, *pool_, *peer_pool_)),
        peer_(link_->end(1), *peer_pool_),
        counters_(words_.data()),
        device_(std::make_unique<Device>(config, *pool_, counters_)) {
    peer_.post(frames / 2);
    device().pull_frames(port(), now, 64);  // stocks the fill ring
  }
  ~Bench() { expect_conserved(); }

  Device& device() { return *device_; }
  port::FramePort& port() { return link_->end(0); }
  memory::FramePool& pool() { return *pool_; }
  uint64_t count(Counter c) const { return counters_.get(c); }

  FlowId bind(uint16_t remote_port = 40000, uint64_t cookie = 7, bool v6 = false) {
    const FlowId id = device().bind_flow(key_of(remote_port, v6), cookie, kSlot);
    PathHeaders path;
    path.source_mac.bytes = {2, 0, 0, 0, 0, 1};
    path.destination_mac.bytes = {2, 0, 0, 0, 0, 2};
    device().set_path(id, path);
    return id;
  }

  void send_raw(const Bytes& frame) {
    ASSERT_TRUE(peer_.send(frame, now));
    peer_.reclaim();
  }
  void send(const PeerSegment& s) { send_raw(frame_of(s)); }
  size_t pull(size_t burst = 64) { return device().pull_frames(port(), now, burst); }

  struct Received {
    ReceiveCompletion completion;
    Bytes payload;
  };
  /// Completions so far, with their payload; their frames are free again.
  std::vector<Received> poll() {
    std::vector<Received> all;
    std::array<ReceiveCompletion, 4> batch;
    while (const size_t n = device().poll(batch)) {
      for (size_t i = 0; i < n; ++i) all.push_back({batch[i], take_payload(batch[i])});
    }
    return all;
  }
  /// Sends the segments as one burst and returns what comes up.
  std::vector<Received> receive(const std::vector<PeerSegment>& segments) {
    for (const PeerSegment& s : segments) send(s);
    pull();
    return poll();
  }

  /// A send-queue chain of `sizes`, starting at `begin`; filled by position in the stream.
  memory::FrameHandle queue_payload(StreamOffset begin, const std::vector<uint16_t>& sizes, uint32_t owner = kSlot,
                                    bool with_sum = true) {
    memory::FrameHandle head, tail;
    for (const uint16_t size : sizes) {
      const memory::FrameHandle f = pool_->take(TTO_FRAME_TX_QUEUED);
      tto_frame_desc& d = pool_->desc(f);
      d.data_offset = memory::kTxDataOffset;
      d.data_bytes = size;
      d.stream_offset = begin;
      d.owner = owner;
      for (uint16_t i = 0; i < size; ++i) {
        pool_->data(f)[d.data_offset + i] = static_cast<std::byte>(((begin + i) * 31) >> 3);
      }
      if (with_sum) {
        d.payload_sum = wire::sum_bytes(pool_->data(f) + d.data_offset, size);
        d.has_sum = 1;
      }
      begin += size;
      if (tail) pool_->desc(tail).next = f.raw;
      if (!head) head = f;
      tail = f;
    }
    return head;
  }
  static Bytes stream(StreamOffset begin, StreamOffset end) {
    Bytes bytes;
    for (StreamOffset i = begin; i < end; ++i) bytes.push_back(static_cast<std::byte>((i * 31) >> 3));
    return bytes;
  }
  static SendRequest request(FlowId flow, StreamOffset begin, StreamOffset end, memory::FrameHandle head,
                             uint32_t mss = 1448, uint8_t flags = kAck) {
    SendRequest r;
    r.flow = flow;
    r.segment.seq = begin;
    r.segment.ack = (uint64_t{1} << 32) | 1000;
    r.segment.payload = {begin, end};
    r.segment.mss_bytes = mss;
    r.segment.window = 321;
    r.segment.flags = flags;
    r.head = head;
    return r;
  }
  size_t push() {
    const size_t sent = device().push_frames(port(), now);
    port().kick(false);
    return sent;
  }
  /// What arrived at the peer.
  std::vector<SentFrame> sent() {
    std::vector<SentFrame> all;
    for (const Bytes& frame : peer_.receive(now)) {
      SentFrame s;
      const std::span<const uint8_t> bytes{reinterpret_cast<const uint8_t*>(frame.data()), frame.size()};
      const auto reason = wire::parse_frame_into(bytes, static_cast<uint32_t>(frame.size()), s.view);
      EXPECT_EQ(reason, stats::DropReason::kNone);
      s.payload.assign(frame.begin() + s.view.payload_offset,
                       frame.begin() + s.view.payload_offset + s.view.payload_bytes);
      s.checksum_ok =
          wire::verify_tcp_checksum(s.view, bytes, wire::sum_bytes(s.payload.data(), s.payload.size()), false);
      all.push_back(std::move(s));
    }
    peer_.top_up(total_ / 2);
    return all;
  }

  /// One fate for every frame, and every frame back in the pool.
  void expect_conserved() {
    if (!device_) return;
    pull(0);
    device().expire(Instant{INT64_MAX / 2});
    poll();
    uint64_t fates = count(Counter::rx_frame_delivered) + count(Counter::rx_frame_passed);
    for (auto r = 1u; r < static_cast<unsigned>(stats::DropReason::kCount); ++r) {
      fates += count(stats::counter_of(static_cast<stats::DropReason>(r)));
    }
    EXPECT_EQ(count(Counter::rx_frame), fates);
    link_.reset();
    device_.reset();
    EXPECT_TRUE(pool_->check_consistency());
    EXPECT_EQ(pool_->free_count(), total_);
  }
  Instant now{1'000'000'000};

 private:
  Bytes take_payload(const ReceiveCompletion& c) {
    Bytes payload;
    uint32_t frames = 0;
    for (memory::FrameHandle f = c.head; f; f = memory::FrameHandle{pool_->desc(f).next}, ++frames) {
      const tto_frame_desc& d = pool_->desc(f);
      EXPECT_EQ(d.state, TTO_FRAME_RECEIVED);
      payload.insert(payload.end(), pool_->data(f) + d.data_offset, pool_->data(f) + d.data_offset + d.data_bytes);
    }
    EXPECT_EQ(frames, c.frame_count);
    EXPECT_EQ(payload.size(), c.in_rq_buffer ? 0 : c.segment.payload_bytes);
    pool_->drop_chain(c.head, TTO_FRAME_RECEIVED);
    return payload;
  }

  size_t total_;
  TestPool pool_, peer_pool_;
  std::unique_ptr<port::MemoryLink> link_;
  PortUser peer_;
  std::array<std::atomic<uint64_t>, stats::kCounterCount> words_{};
  stats::Counters counters_;
  std::unique_ptr<Device> device_;
};

}  // namespace tto::device
