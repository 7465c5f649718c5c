// Records what passes a port, both ways, as pcapng. Where it goes is the sink's affair: a descriptor, or a ring in
// shared memory that a tool empties. A sink that cannot keep up loses packets of the record, never of the connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "libtto/memory/frame_pool.hh"
#include "libtto/port/frame_port.hh"

namespace tto::port {

class PcapSink {
 public:
  virtual ~PcapSink() = default;
  /// Takes the whole block or nothing.
  virtual bool write(std::span<const std::byte> block) = 0;
};

/// Writes to a descriptor, which stays the caller's. A non-blocking one that is full loses the block; one that took a
/// part of a block, or failed, is not written any more: the file would not be readable behind that point.
class PcapFdSink final : public PcapSink {
 public:
  explicit PcapFdSink(int fd) : fd_(fd) {}
  bool write(std::span<const std::byte> block) override;
  bool is_broken() const { return broken_; }

 private:
  int fd_;
  bool broken_ = false;
};

/// The head of a ring in memory supplied from outside, usually shared with a tool. The data follow it.
struct PcapRing {
  uint64_t capacity;  // bytes of data; a power of two
  uint64_t produced;  // bytes ever written; atomic
  uint64_t consumed;  // bytes ever read; atomic, the reader's
  uint64_t lost;      // blocks that did not fit
};
class PcapRingSink final : public PcapSink {
 public:
  /// `memory` must hold more than the header, be 8-aligned and outlive the sink. Initialises it.
  explicit PcapRingSink(std::span<std::byte> memory);
  bool write(std::span<const std::byte> block) override;
  /// The reader's side: copies out what there is, at most out.size() bytes.
  static size_t read(std::span<std::byte> memory, std::span<std::byte> out);

 private:
  PcapRing* ring_;
  std::byte* data_;
  uint64_t capacity_;  // ours: the shared copy is for the reader only
};

class PcapPort final : public FramePort {
 public:
  /// None of them is owned. `epoch_ns` is added to each Instant to give nanoseconds since 1970.
  PcapPort(FramePort& inner, memory::FramePool& pool, int64_t epoch_ns = 0);
  ~PcapPort() override;

  /// Starts a record (section and interface block first), or with null ends it.
  void set_sink(PcapSink* sink, const char* interface_name = "tto", uint32_t snap_bytes = 65535 + 18);
  uint64_t lost_count() const { return lost_; }

  const PortCaps& caps() const override { return inner_.caps(); }
  uint32_t region() const override { return inner_.region(); }
  size_t post_fill(std::span<const memory::FrameHandle> frames) override { return inner_.post_fill(frames); }
  size_t fill_space() const override { return inner_.fill_space(); }
  size_t rx_burst(std::span<FrameSlice> out, Instant now) override;
  size_t tx_burst(std::span<const FrameSlice> slices, Instant now) override;
  size_t tx_space() const override { return inner_.tx_space(); }
  size_t reclaim(std::span<memory::FrameHandle> out) override { return inner_.reclaim(out); }
  void kick(bool receive) override { inner_.kick(receive); }
  int wait_fd() const override { return inner_.wait_fd(); }
  Instant next_event() const override { return inner_.next_event(); }
  PortFigures figures() const override { return inner_.figures(); }

 private:
  void record(std::span<const FrameSlice> slices, bool outgoing, Instant now);

  FramePort& inner_;
  memory::FramePool& pool_;
  const int64_t epoch_ns_;
  PcapSink* sink_ = nullptr;
  uint32_t snap_bytes_ = 0;
  uint64_t lost_ = 0;
  std::unique_ptr<std::byte[]> block_;
};

}  // namespace tto::port
