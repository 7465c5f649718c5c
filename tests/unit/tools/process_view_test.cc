// What the tools make of stats pages and regions, sound ones and hostile ones.
#include "tools/tto/process_view.hh"

#include <cstring>
#include <random>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace tto::tools {
namespace {

std::vector<unsigned char> sound_page(void (*change)(tto_stats_page&) = nullptr) {
  std::vector<tto_stats_page> page(1);
  tto_stats_page& p = page[0];
  p.magic = TTO_STATS_MAGIC;
  p.version = TTO_STATS_VERSION;
  p.pid = 42;
  p.counter_count = 2;
  std::strcpy(p.names[0], "rx_frame");
  std::strcpy(p.names[1], "kernel_no_route");
  p.counters[0] = 7;
  p.counters[1] = 1;
  p.nic_count = 1;
  p.nics[0].ifindex = 3;
  p.nics[0].xdp_mode = 2;
  std::strcpy(p.nics[0].name, "eth0");
  p.fds[5] = {.path = 1, .tcp_state = 0, .reason = 1, .slot = ~0u, .since_ns = 9};
  p.fds[6] = {.path = 2, .tcp_state = 4, .reason = 0xffff, .slot = 0, .since_ns = 10};
  if (change != nullptr) change(p);
  std::vector<unsigned char> raw(sizeof p);
  std::memcpy(raw.data(), &p, sizeof p);
  return raw;
}

TEST(StatsPage, interpret__sound) {
  std::string why;
  auto view = interpret_page(sound_page(), &why);
  ASSERT_TRUE(view) << why;
  EXPECT_EQ(view->counter("rx_frame"), 7u);
  EXPECT_EQ(view->counter("absent"), 0u);
  ASSERT_EQ(view->nics.size(), 1u);
  EXPECT_EQ(view->nics[0].mode, "native");
  ASSERT_EQ(view->fds.size(), 2u);
  EXPECT_EQ(view->fds[0].path, "kernel");
  EXPECT_EQ(view->fds[0].reason, "no_route");
  EXPECT_EQ(view->fds[1].path, "af_xdp");
  EXPECT_EQ(view->fds[1].state, "ESTABLISHED");
}

TEST(StatsPage, interpret__refuses_what_it_cannot_read) {
  std::string why;
  auto raw = sound_page();
  raw.resize(raw.size() - 1);
  EXPECT_FALSE(interpret_page(raw, &why));
  EXPECT_FALSE(interpret_page({}, &why));
  EXPECT_FALSE(interpret_page(sound_page([](tto_stats_page& p) { p.magic = 0; }), &why));
  EXPECT_FALSE(interpret_page(sound_page([](tto_stats_page& p) { ++p.version; }), &why));
}

TEST(StatsPage, interpret__counts_beyond_the_page_are_cut) {
  std::string why;
  auto view = interpret_page(sound_page([](tto_stats_page& p) {
    p.counter_count = 0xffffffff;
    p.nic_count = 0xffffffff;
    std::memset(p.names, 'x', sizeof p.names);     // no name ends
    std::memset(p.nics[0].name, '\x1b', 16);       // terminal escapes
    p.fds[7] = {.path = 250, .tcp_state = 250, .reason = 0xfffe, .slot = 1, .since_ns = ~0ull};
  }), &why);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->counters.size(), TTO_STATS_MAX_COUNTERS);
  EXPECT_EQ(view->counters[0].name.size(), sizeof(tto_stats_page{}.names[0]));
  EXPECT_EQ(view->nics.size(), 32u);
  EXPECT_EQ(view->nics[0].name, std::string(16, '?'));
  EXPECT_EQ(view->fds.back().path, "?");
}

class RegionFile {
 public:
  explicit RegionFile(const tto_region_header& header, uint64_t bytes, const tto_connection_slot* slot = nullptr)
      : fd_(memfd_create("tto-region", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(fd_, off_t(bytes)), 0);
    EXPECT_EQ(pwrite(fd_, &header, sizeof header, 0), ssize_t(sizeof header));
    if (slot == nullptr) return;
    EXPECT_EQ(pwrite(fd_, slot, sizeof *slot, off_t(header.connections_offset)), ssize_t(sizeof *slot));
  }
  ~RegionFile() { close(fd_); }
  int fd() const { return fd_; }

 private:
  int fd_;
};

tto_region_header sound_header() {
  tto_region_header h{};
  h.magic = TTO_REGION_MAGIC;
  h.version = TTO_REGION_VERSION;
  h.connection_count = 2;
  h.connections_offset = 4096;
  return h;
}

tto_connection_slot live_slot() {
  tto_connection_slot s{};
  s.state = TTO_SLOT_LIVE;
  s.generation = 3;  // record[1]
  tto_connection_record& r = s.record[1];
  r.family = 4;
  r.tcp_state = 4;
  r.local[10] = r.local[11] = r.remote[10] = r.remote[11] = 0xff;
  r.local[12] = 10, r.local[15] = 1;
  r.remote[12] = 10, r.remote[15] = 2;
  r.local_port = 80, r.remote_port = 4000;
  r.snd_una = 100, r.snd_nxt = 150, r.snd_end = 400;
  r.rcv_read = 10, r.rcv_nxt = 30;
  s.figures.fd = 6;
  s.figures.srtt_us = 55;
  return s;
}

TEST(Region, read_flows__takes_the_published_record) {
  auto slot = live_slot();
  RegionFile file(sound_header(), 4096 + 2 * sizeof(tto_connection_slot), &slot);
  auto flows = read_flows(file.fd());
  ASSERT_EQ(flows.size(), 1u);
  EXPECT_EQ(flows[0].local, "10.0.0.1:80");
  EXPECT_EQ(flows[0].remote, "10.0.0.2:4000");
  EXPECT_EQ(flows[0].state, "ESTABLISHED");
  EXPECT_EQ(flows[0].unacked_byte, 50u);
  EXPECT_EQ(flows[0].unsent_byte, 250u);
  EXPECT_EQ(flows[0].unread_byte, 20u);
  EXPECT_EQ(flows[0].figures.srtt_us, 55u);
}

TEST(Region, read_flows__nonsense_is_nothing) {
  auto slot = live_slot();
  uint64_t bytes = 4096 + 2 * sizeof(tto_connection_slot);
  for (auto change : {+[](tto_region_header& h) { h.magic ^= 1; }, +[](tto_region_header& h) { ++h.version; },
                      +[](tto_region_header& h) { h.connection_count = 3; },
                      +[](tto_region_header& h) { h.connection_count = 0xffffffff; },
                      +[](tto_region_header& h) { h.connections_offset = ~0ull; },
                      +[](tto_region_header& h) { h.connections_offset = ~0ull - sizeof(tto_connection_slot) + 1; }}) {
    tto_region_header h = sound_header();
    RegionFile file(h, bytes, &slot);
    change(h);
    ASSERT_EQ(pwrite(file.fd(), &h, sizeof h, 0), ssize_t(sizeof h));
    EXPECT_TRUE(read_flows(file.fd()).empty());
  }
}

TEST(Region, read_flows__any_bytes) {
  const unsigned seed = 20240607;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    tto_connection_slot slot;
    auto* bytes = reinterpret_cast<unsigned char*>(&slot);
    for (size_t i = 0; i < sizeof slot; ++i) bytes[i] = static_cast<unsigned char>(random());
    slot.state = TTO_SLOT_LIVE;
    RegionFile file(sound_header(), 4096 + 2 * sizeof slot, &slot);
    EXPECT_EQ(read_flows(file.fd()).size(), 1u);
  }
}

TEST(Process, view__of_this_process) {
  std::string why;
  EXPECT_FALSE(view_process(getpid(), &why));
  EXPECT_NE(why.find("not under libtto"), std::string::npos);
  int fd = memfd_create(TTO_STATS_NAME, MFD_CLOEXEC);
  auto raw = sound_page();
  ASSERT_EQ(write(fd, raw.data(), raw.size()), ssize_t(raw.size()));
  auto view = view_process(getpid(), &why);
  ASSERT_TRUE(view) << why;
  EXPECT_EQ(view->pid, getpid());
  EXPECT_EQ(view->counter("rx_frame"), 7u);
  close(fd);
}

}  // namespace
}  // namespace tto::tools
