#include "libtto/port/pcap_port.hh"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "libtto/port/memory_port.hh"
#include "libtto/port/pcapng.hh"
#include "tests/support/port_frames.hh"
#include "tests/support/test_region.hh"

namespace tto::port {
namespace {

using testing::Bytes;
using testing::pattern;
using testing::PortUser;
using testing::TestPool;

/// A pcapng reader of its own, from the format's description: what the writer wrote is not asked.
struct Captured {
  uint64_t time_ns;
  uint32_t direction, original_bytes;
  Bytes bytes;
};
uint32_t word(const Bytes& file, size_t at) {
  uint32_t w;
  EXPECT_LE(at + 4, file.size());
  std::memcpy(&w, file.data() + at, 4);
  return w;
}
std::vector<Captured> parse(const Bytes& file) {
  std::vector<Captured> packets;
  for (size_t at = 0, block = 0; at < file.size(); ++block) {
    const uint32_t type = word(file, at), length = word(file, at + 4);
    EXPECT_EQ(length % 4, 0u);
    if (length < 12 || at + length > file.size()) {
      ADD_FAILURE() << "block " << block << " leaves the file";
      return packets;
    }
    EXPECT_EQ(word(file, at + length - 4), length);
    EXPECT_EQ(type == 0x0a0d0d0au, block == 0);
    EXPECT_EQ(type == 1, block == 1);
    if (type == 6) {
      Captured c;
      c.time_ns = uint64_t{word(file, at + 12)} << 32 | word(file, at + 16);
      const uint32_t captured = word(file, at + 20);
      c.original_bytes = word(file, at + 24);
      c.bytes.assign(file.begin() + static_cast<ptrdiff_t>(at + 28),
                     file.begin() + static_cast<ptrdiff_t>(at + 28 + captured));
      const size_t options = at + 28 + (captured + 3) / 4 * 4;
      EXPECT_EQ(word(file, options), 2u | 4u << 16);  // epb_flags, 4 bytes
      c.direction = word(file, options + 4);
      packets.push_back(c);
    }
    at += length;
  }
  return packets;
}

class VectorSink final : public PcapSink {
 public:
  bool write(std::span<const std::byte> block) override {
    if (refuse) return false;
    file.insert(file.end(), block.begin(), block.end());
    return true;
  }
  Bytes file;
  bool refuse = false;
};

struct Bench {
  Bench()
      : a_pool(64),
        b_pool(64),
        link({.mtu_bytes = 9000, .max_slices = 3}, *a_pool, *b_pool),
        pcap(link.end(0), *a_pool, 1'000'000'000'000),
        a(pcap, *a_pool),
        b(link.end(1), *b_pool) {
    a.post(16), b.post(16);
  }
  TestPool a_pool, b_pool;
  MemoryLink link;
  PcapPort pcap;
  PortUser a, b;
};

TEST(PcapPort, record__both_directions_with_time_and_every_byte) {
  Bench bench;
  VectorSink sink;
  bench.pcap.set_sink(&sink, "p0");
  bench.a.send(pattern(61, 1), Instant{5});
  EXPECT_EQ(bench.b.receive(Instant{5}).size(), 1u);
  bench.b.send(pattern(9000, 2), Instant{6});
  EXPECT_EQ(bench.a.receive(Instant{7}), std::vector<Bytes>{pattern(9000, 2)});
  const auto packets = parse(sink.file);
  ASSERT_EQ(packets.size(), 2u);
  EXPECT_EQ(packets[0].bytes, pattern(61, 1));
  EXPECT_EQ(packets[0].direction, 2u);
  EXPECT_EQ(packets[0].time_ns, 1'000'000'000'005u);
  EXPECT_EQ(packets[1].bytes, pattern(9000, 2));
  EXPECT_EQ(packets[1].direction, 1u);
  EXPECT_EQ(packets[1].time_ns, 1'000'000'000'007u);
}

TEST(PcapPort, record__snaps_but_tells_the_true_length) {
  Bench bench;
  VectorSink sink;
  bench.pcap.set_sink(&sink, "p0", 100);
  bench.a.send(pattern(9000, 1));
  const auto packets = parse(sink.file);
  ASSERT_EQ(packets.size(), 1u);
  EXPECT_EQ(packets[0].original_bytes, 9000u);
  const Bytes whole = pattern(9000, 1);
  EXPECT_EQ(packets[0].bytes, Bytes(whole.begin(), whole.begin() + 100));
}

TEST(PcapPort, set_sink__off_and_on) {
  Bench bench;
  VectorSink first, second;
  bench.a.send(pattern(100, 1));
  bench.pcap.set_sink(&first);
  bench.a.send(pattern(100, 2));
  bench.pcap.set_sink(nullptr);
  bench.a.send(pattern(100, 3));
  bench.pcap.set_sink(&second);
  bench.a.send(pattern(100, 4));
  ASSERT_EQ(parse(first.file).size(), 1u);
  EXPECT_EQ(parse(first.file)[0].bytes, pattern(100, 2));
  ASSERT_EQ(parse(second.file).size(), 1u);
  EXPECT_EQ(parse(second.file)[0].bytes, pattern(100, 4));
}

TEST(PcapPort, record__a_sink_that_refuses_loses_the_record_only) {
  Bench bench;
  VectorSink sink;
  bench.pcap.set_sink(&sink);
  sink.refuse = true;
  bench.a.send(pattern(100, 1));
  EXPECT_EQ(bench.b.receive().size(), 1u);
  EXPECT_EQ(bench.pcap.lost_count(), 1u);
}

TEST(PcapRingSink, write__wraps_and_never_overtakes_the_reader) {
  alignas(8) std::byte memory[sizeof(PcapRing) + 256];
  PcapRingSink sink(memory);
  Bytes in, out;
  for (uint64_t i = 0; i < 200; ++i) {
    const Bytes block = pattern(4 + i % 90, i);
    if (sink.write(block)) in.insert(in.end(), block.begin(), block.end());
    std::byte got[70];
    const size_t n = PcapRingSink::read(memory, got);
    out.insert(out.end(), got, got + n);
  }
  std::byte rest[256];
  const size_t n = PcapRingSink::read(memory, rest);
  out.insert(out.end(), rest, rest + n);
  EXPECT_EQ(in, out);
  EXPECT_FALSE(sink.write(pattern(257, 1)));
  EXPECT_GT(reinterpret_cast<PcapRing*>(memory)->lost, 0u);
}

TEST(PcapRingSink, write__survives_a_reader_that_lies) {
  alignas(8) std::byte memory[sizeof(PcapRing) + 256];
  PcapRingSink sink(memory);
  reinterpret_cast<PcapRing*>(memory)->consumed = 1ull << 60;
  reinterpret_cast<PcapRing*>(memory)->capacity = 1ull << 40;
  EXPECT_FALSE(sink.write(pattern(100, 1)));
}

TEST(PcapFdSink, write__file_holds_what_was_written_and_a_partial_write_ends_it) {
  Bench bench;
  const int fd = memfd_create("pcap", 0);
  PcapFdSink sink(fd);
  bench.pcap.set_sink(&sink);
  bench.a.send(pattern(100, 1));
  Bytes file(static_cast<size_t>(lseek(fd, 0, SEEK_END)));
  ASSERT_EQ(pread(fd, file.data(), file.size(), 0), static_cast<ssize_t>(file.size()));
  EXPECT_EQ(parse(file).size(), 1u);
  close(fd);
  EXPECT_FALSE(sink.write(pattern(100, 1)));
  EXPECT_TRUE(sink.is_broken());
}

TEST(Pcapng, encode__returns_0_when_the_buffer_is_too_small) {
  std::byte buffer[256];
  const Bytes data = pattern(33, 1);
  const std::span<const std::byte> pieces[] = {{data.data(), 10}, {data.data() + 10, 23}};
  pcapng::Packet packet;
  packet.pieces = pieces;
  const size_t exact = pcapng::encode_packet(buffer, packet);
  EXPECT_EQ(exact, pcapng::packet_block_bytes(33));
  for (size_t n = 0; n < exact; ++n) EXPECT_EQ(pcapng::encode_packet({buffer, n}, packet), 0u);
  EXPECT_EQ(pcapng::encode_packet({buffer, exact}, packet), exact);
  EXPECT_EQ(pcapng::encode_section({buffer, 20}, "libtto"), 0u);
  EXPECT_EQ(pcapng::encode_interface({buffer, 20}, 1, 100, "name"), 0u);
}

}  // namespace
}  // namespace tto::port
