// XskPort and its rings against a kernel made of a sparse memfd: the same mappings at the same offsets, with a test in
// the kernel's place, which can also write what a kernel never would.
#include "libtto/port/xsk_port.hh"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "tests/support/port_frames.hh"
#include "tests/support/test_region.hh"

namespace tto::port {
namespace {

using memory::FrameHandle;
using testing::TestPool;

constexpr uint32_t kEntries = 8;
constexpr uint32_t kFrames = 32;
constexpr tto_helper_ring kRing{.producer = 0, .consumer = 64, .desc = 256, .flags = 128};

struct FakeKernel {
  FakeKernel() : fd(memfd_create("xsk", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(fd, static_cast<off_t>(XDP_UMEM_PGOFF_COMPLETION_RING) + 65536), 0);
    fill = map(XDP_UMEM_PGOFF_FILL_RING);
    completion = map(XDP_UMEM_PGOFF_COMPLETION_RING);
    rx = map(XDP_PGOFF_RX_RING);
    tx = map(XDP_PGOFF_TX_RING);
    port.fill_entries = port.completion_entries = port.rx_entries = port.tx_entries = kEntries;
    port.fill = port.completion = port.rx = port.tx = kRing;
    port.mtu_bytes = 9000;
    port.max_slices = 4;
    port.multi_buffer = port.needs_wakeup = 1;
  }
  ~FakeKernel() {
    for (std::byte* ring : {fill, completion, rx, tx}) munmap(ring, 65536);
  }
  std::byte* map(uint64_t offset) {
    void* p = mmap(nullptr, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset));
    EXPECT_NE(p, MAP_FAILED);
    return static_cast<std::byte*>(p);
  }
  static uint32_t& producer(std::byte* ring) { return *reinterpret_cast<uint32_t*>(ring); }
  static uint32_t& consumer(std::byte* ring) { return *reinterpret_cast<uint32_t*>(ring + 64); }
  static uint64_t& address(std::byte* ring, uint32_t at) {
    return reinterpret_cast<uint64_t*>(ring + 256)[at % kEntries];
  }
  static xdp_desc& desc(std::byte* ring, uint32_t at) { return reinterpret_cast<xdp_desc*>(ring + 256)[at % kEntries]; }

  uint64_t take_fill() {
    EXPECT_NE(producer(fill), consumer(fill));
    return address(fill, consumer(fill)++);
  }
  void give_rx(uint64_t addr, uint32_t len, bool more = false) {
    desc(rx, producer(rx)) = {addr, len, more ? kXdpPacketContinues : 0};
    ++producer(rx);
  }
  void complete(uint64_t addr) {
    address(completion, producer(completion)) = addr;
    ++producer(completion);
  }

  int fd;  // becomes the port's
  std::byte *fill, *completion, *rx, *tx;
  tto_helper_port port{};
};

struct Bench {
  Bench() : pool(kFrames) { EXPECT_EQ(port.open(kernel.fd, kernel.port, pool.region(), 0), 0); }
  size_t post(size_t count) {
    std::vector<FrameHandle> frames(count);
    EXPECT_EQ(pool->take_for_fill(0, frames.data(), count), count);
    const size_t taken = port.post_fill(frames);
    for (size_t i = taken; i < count; ++i) pool->drop(frames[i], TTO_FRAME_POSTED);
    return taken;
  }
  std::vector<FrameSlice> receive(size_t room = 16) {
    std::vector<FrameSlice> out(room);
    out.resize(port.rx_burst(out, {}));
    for (const FrameSlice& s : out) pool->drop(s.frame, TTO_FRAME_POSTED);
    return out;
  }
  FakeKernel kernel;
  TestPool pool;
  XskPort port;
};

TEST(XskPort, open__refuses_offsets_and_sizes_that_cannot_be) {
  FakeKernel kernel;
  TestPool pool(kFrames);
  XskPort port;
  const auto refused = [&](auto change) {
    tto_helper_port bad = kernel.port;
    change(bad);
    return port.open(kernel.fd, bad, pool.region(), 0) == EPROTO && port.wait_fd() == -1;
  };
  EXPECT_TRUE(refused([](auto& p) { p.rx_entries = 0; }));
  EXPECT_TRUE(refused([](auto& p) { p.rx_entries = 7; }));
  EXPECT_TRUE(refused([](auto& p) { p.tx_entries = 1u << 31; }));
  EXPECT_TRUE(refused([](auto& p) { p.fill.desc = ~0ull; }));
  EXPECT_TRUE(refused([](auto& p) { p.fill.producer = 1ull << 40; }));
  EXPECT_TRUE(refused([](auto& p) { p.completion.consumer = 3; }));
  EXPECT_TRUE(refused([](auto& p) { p.tx.desc = 4; }));
  EXPECT_EQ(port.open(kernel.fd, kernel.port, pool.region(), 0), 0);
}

TEST(XskPort, post_fill__gives_chunk_addresses_until_the_ring_is_full) {
  Bench bench;
  EXPECT_EQ(bench.port.fill_space(), kEntries);
  EXPECT_EQ(bench.post(10), kEntries);
  EXPECT_EQ(bench.port.fill_space(), 0u);
  for (uint64_t i = 0; i < kEntries; ++i) EXPECT_EQ(bench.kernel.take_fill(), i * 4096);
  EXPECT_EQ(bench.port.fill_space(), kEntries);
  EXPECT_TRUE(bench.pool->check_consistency());
}

TEST(XskPort, rx_burst__keeps_the_offset_behind_the_headroom) {
  Bench bench;
  bench.post(4);
  const uint64_t frame = bench.kernel.take_fill();
  bench.kernel.give_rx(frame + 256, 60);
  const auto got = bench.receive();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].frame, FrameHandle::make(0, static_cast<uint32_t>(frame / 4096)));
  EXPECT_EQ(got[0].offset, 256);
  EXPECT_EQ(got[0].length, 60);
  EXPECT_EQ(FakeKernel::consumer(bench.kernel.rx), 1u);
}

TEST(XskPort, rx_burst__whole_chains_only) {
  Bench bench;
  bench.post(6);
  for (const bool more : {true, true, false}) bench.kernel.give_rx(bench.kernel.take_fill() + 256, 3840, more);
  EXPECT_TRUE(bench.receive(2).empty());
  EXPECT_EQ(FakeKernel::consumer(bench.kernel.rx), 0u);
  EXPECT_EQ(bench.receive(3).size(), 3u);
  bench.kernel.give_rx(bench.kernel.take_fill() + 256, 3840, true);  // its end is still to come
  EXPECT_TRUE(bench.receive().empty());
  bench.kernel.give_rx(bench.kernel.take_fill() + 256, 100, false);
  EXPECT_EQ(bench.receive().size(), 2u);
  EXPECT_EQ(bench.port.figures().rx_bad_chain, 0u);
}

TEST(XskPort, rx_burst__bad_descriptors_are_counted_and_good_frames_posted_again) {
  Bench bench;
  bench.post(8);
  const uint64_t a = bench.kernel.take_fill(), b = bench.kernel.take_fill();
  bench.kernel.give_rx(uint64_t{kFrames} * 4096, 60);  // behind the UMEM
  bench.kernel.give_rx(~0ull, 60);
  bench.kernel.give_rx(uint64_t{kFrames - 1} * 4096, 60);  // never posted
  bench.kernel.give_rx(a + 256, 3841);                     // over the end of its frame
  bench.kernel.give_rx(b + 256, 0);
  EXPECT_TRUE(bench.receive().empty());
  EXPECT_EQ(bench.port.figures().rx_bad_chain, 5u);
  EXPECT_EQ(FakeKernel::consumer(bench.kernel.rx), 5u);
  EXPECT_EQ(FakeKernel::producer(bench.kernel.fill), 10u);  // a and b are back, the others are not ours to post
  EXPECT_TRUE(bench.pool->check_consistency());
}

TEST(XskPort, rx_burst__refuses_a_chain_too_long_or_with_split_headers) {
  Bench bench;
  bench.post(8);
  for (int i = 0; i < 5; ++i) bench.kernel.give_rx(bench.kernel.take_fill() + 256, 3840, i < 4);
  EXPECT_TRUE(bench.receive().empty());
  EXPECT_EQ(bench.port.figures().rx_bad_chain, 1u);
  bench.kernel.give_rx(bench.kernel.take_fill() + 256, 60, true);
  bench.kernel.give_rx(bench.kernel.take_fill() + 256, 1000, false);
  EXPECT_TRUE(bench.receive().empty());
  EXPECT_EQ(bench.port.figures().rx_bad_chain, 2u);
  EXPECT_EQ(FakeKernel::producer(bench.kernel.fill) - FakeKernel::consumer(bench.kernel.fill), 8u);
}

TEST(XskPort, rx_burst__an_endless_chain_does_not_block_the_ring) {
  Bench bench;
  bench.post(8);
  for (uint32_t i = 0; i < kEntries; ++i) bench.kernel.give_rx(bench.kernel.take_fill() + 256, 3840, true);
  EXPECT_TRUE(bench.receive().empty());
  EXPECT_EQ(FakeKernel::consumer(bench.kernel.rx), kEntries);
}

TEST(XskPort, rx_burst__an_impossible_index_yields_nothing) {
  Bench bench;
  bench.post(8);
  FakeKernel::producer(bench.kernel.rx) = 1000;
  EXPECT_TRUE(bench.receive().empty());
  FakeKernel::consumer(bench.kernel.tx) = 5;
  EXPECT_LE(bench.port.tx_space(), kEntries);
  FakeKernel::producer(bench.kernel.completion) = ~0u;
  FrameHandle none[4];
  EXPECT_EQ(bench.port.reclaim(none), 0u);
}

TEST(XskPort, tx_burst__writes_whole_chains_and_reclaim_gives_them_back) {
  Bench bench;
  testing::PortUser user(bench.port, *bench.pool);
  ASSERT_TRUE(user.queue(testing::pattern(9000, 1)));
  EXPECT_EQ(FakeKernel::producer(bench.kernel.tx), 3u);
  uint32_t bytes = 0;
  for (uint32_t i = 0; i < 3; ++i) {
    const xdp_desc& d = FakeKernel::desc(bench.kernel.tx, i);
    EXPECT_EQ(d.addr % 4096, 128u);
    EXPECT_EQ(d.options, i < 2 ? kXdpPacketContinues : 0u);
    bytes += d.len;
  }
  EXPECT_EQ(bytes, 9000u);
  ASSERT_TRUE(user.queue(testing::pattern(9000, 2)));
  EXPECT_FALSE(user.queue(testing::pattern(9000, 3)));  // two places left
  EXPECT_EQ(bench.port.tx_space(), 2u);
  for (uint32_t i = 0; i < 6; ++i) bench.kernel.complete(FakeKernel::desc(bench.kernel.tx, i).addr);
  FakeKernel::consumer(bench.kernel.tx) = 6;
  EXPECT_EQ(user.reclaim(), 6u);
  EXPECT_EQ(bench.pool->free_count(), size_t{kFrames});
  EXPECT_EQ(bench.port.tx_space(), kEntries);
}

TEST(XskPort, tx_burst__what_the_kernel_would_refuse_never_reaches_it) {
  Bench bench;
  const auto refused = [&](uint16_t offset, uint16_t length) {
    const FrameSlice s{bench.pool->take(TTO_FRAME_IN_FLIGHT), offset, length, false};
    EXPECT_EQ(bench.port.tx_burst({&s, 1}, {}), 1u);
    FrameHandle back[2];
    const size_t n = bench.port.reclaim(back);
    if (n == 1) bench.pool->drop(back[0], TTO_FRAME_IN_FLIGHT);
    return n == 1 && back[0] == s.frame;
  };
  EXPECT_TRUE(refused(128, 0));
  EXPECT_TRUE(refused(128, 13));
  EXPECT_TRUE(refused(4000, 97));
  testing::PortUser user(bench.port, *bench.pool);
  EXPECT_TRUE(user.queue(testing::pattern(9019, 1)));
  EXPECT_TRUE(user.queue(testing::pattern(17000, 1)));
  EXPECT_EQ(user.reclaim(), 8u);
  EXPECT_EQ(bench.port.figures().tx_invalid, 5u);
  EXPECT_EQ(FakeKernel::producer(bench.kernel.tx), 0u);
  EXPECT_EQ(bench.pool->free_count(), size_t{kFrames});
}

TEST(XskPort, reclaim__a_bad_address_is_counted) {
  Bench bench;
  bench.kernel.complete(uint64_t{kFrames} * 4096);
  FrameHandle out[4];
  EXPECT_EQ(bench.port.reclaim(out), 0u);
  EXPECT_EQ(bench.port.figures().tx_invalid, 1u);
}

TEST(XskPort, indices__wrap_at_2_to_the_32) {
  FakeKernel kernel;
  for (std::byte* ring : {kernel.fill, kernel.completion, kernel.rx, kernel.tx}) {
    FakeKernel::producer(ring) = FakeKernel::consumer(ring) = ~0u - 3;
  }
  TestPool pool(kFrames);
  XskPort port;
  ASSERT_EQ(port.open(kernel.fd, kernel.port, pool.region(), 0), 0);
  testing::PortUser user(port, *pool);
  user.post(8);
  for (uint64_t i = 0; i < 100; ++i) {
    ASSERT_TRUE(user.queue(testing::pattern(200, i)));
    const uint64_t sent = FakeKernel::desc(kernel.tx, FakeKernel::consumer(kernel.tx)++).addr;
    const uint64_t into = kernel.take_fill();
    std::memcpy(pool.region().frames + into + 256, pool.region().frames + sent, 200);
    kernel.give_rx(into + 256, 200);
    kernel.complete(sent);
    ASSERT_EQ(user.receive(), std::vector<testing::Bytes>{testing::pattern(200, i)});
    ASSERT_EQ(user.reclaim(), 1u);
    user.top_up(8);
  }
  EXPECT_EQ(pool->free_count(), size_t{kFrames} - 8);
  EXPECT_TRUE(pool->check_consistency());
}

}  // namespace
}  // namespace tto::port
