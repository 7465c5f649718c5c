// Capture on demand, from the word in the stats page to the merged file; and what hostile streams come to.
#include <cstring>
#include <random>

#include <gtest/gtest.h>
#include <unistd.h>

#include "libtto/port/live_capture.hh"
#include "libtto/port/memory_port.hh"
#include "tests/support/port_frames.hh"
#include "tests/support/test_region.hh"
#include "tools/tto/pcapng_merge.hh"

namespace tto::tools {
namespace {

struct Bench {
  Bench() : a_pool(64), b_pool(64), link({}, *a_pool, *b_pool), pcap(link.end(0), *a_pool), a(pcap, *a_pool),
            b(link.end(1), *b_pool), page(1) {
    a.post(16), b.post(16);
  }
  void exchange(int number, Instant now) {
    a.send(testing::pattern(100, uint64_t(number)), now);
    b.receive(now);
  }
  Buffer ring() {
    Buffer all(port::kCaptureRingBytes);
    EXPECT_EQ(pread(page[0].capture_fd, all.data(), all.size(), 0), ssize_t(all.size()));
    Buffer stream(1 << 20);
    stream.resize(port::PcapRingSink::read(all, stream));
    return stream;
  }
  testing::TestPool a_pool, b_pool;
  port::MemoryLink link;
  port::PcapPort pcap;
  testing::PortUser a, b;
  std::vector<tto_stats_page> page;
};

TEST(LiveCapture, poll__records_only_while_asked) {
  Bench bench;
  port::LiveCapture capture(bench.pcap);
  capture.poll(nullptr, Instant{1000});
  capture.poll(&bench.page[0], Instant{1000});
  bench.exchange(1, Instant{1000});
  EXPECT_FALSE(capture.is_recording());
  bench.page[0].capture_until_ns = 5000;
  capture.poll(&bench.page[0], Instant{2000});
  ASSERT_TRUE(capture.is_recording());
  ASSERT_GT(bench.page[0].capture_fd, 0);
  bench.exchange(2, Instant{2000});
  bench.exchange(3, Instant{2001});
  Buffer stream = bench.ring(), out;
  uint32_t interfaces = 0;
  StreamReader reader(&interfaces);
  ASSERT_TRUE(reader.feed(stream.data(), stream.size(), &out));
  EXPECT_EQ(reader.packet_count(), 2u);
  capture.poll(&bench.page[0], Instant{6000});
  EXPECT_FALSE(capture.is_recording());
  EXPECT_EQ(bench.page[0].capture_fd, -1);
  bench.exchange(4, Instant{6000});
}

TEST(LiveCapture, poll__does_not_obey_a_far_future) {
  Bench bench;
  port::LiveCapture capture(bench.pcap);
  bench.page[0].capture_until_ns = ~0ull;
  capture.poll(&bench.page[0], Instant{1000});
  EXPECT_FALSE(capture.is_recording());
}

Buffer one_stream() {
  Bench bench;
  port::LiveCapture capture(bench.pcap);
  bench.page[0].capture_until_ns = 5000;
  capture.poll(&bench.page[0], Instant{2000});
  for (int i = 0; i < 5; ++i) bench.exchange(i, Instant{2000 + i});
  return bench.ring();
}

TEST(StreamReader, feed__any_split_and_its_own_interface) {
  const Buffer stream = one_stream();
  uint32_t interfaces = 3;
  for (size_t step : {size_t{1}, size_t{7}, size_t{100}, stream.size()}) {
    Buffer out;
    uint32_t expected = interfaces;
    StreamReader reader(&interfaces);
    for (size_t at = 0; at < stream.size(); at += step)
      ASSERT_TRUE(reader.feed(stream.data() + at, std::min(step, stream.size() - at), &out));
    EXPECT_EQ(reader.packet_count(), 5u);
    EXPECT_EQ(interfaces, expected + 1);
    uint32_t type, length, interface;  // the interface block, then packets that name it
    std::memcpy(&type, out.data(), 4);
    std::memcpy(&length, out.data() + 4, 4);
    std::memcpy(&interface, out.data() + length + 8, 4);
    EXPECT_EQ(type, 1u);
    EXPECT_EQ(interface, expected);
  }
}

TEST(StreamReader, feed__any_bytes) {
  const Buffer stream = one_stream();
  const unsigned seed = 77;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 2000; ++round) {
    Buffer bad = stream, out;
    for (int i = 0; i < 4; ++i) bad[random() % bad.size()] = std::byte(random());
    uint32_t interfaces = 0;
    StreamReader reader(&interfaces);
    (void)reader.feed(bad.data(), bad.size(), &out);
    EXPECT_LE(out.size(), bad.size());
    EXPECT_LE(interfaces, 1u);
  }
}

}  // namespace
}  // namespace tto::tools
