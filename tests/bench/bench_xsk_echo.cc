// The floor of a round trip: frames of the size of a 64-byte TCP segment, echoed between two AF_XDP sockets in two
// namespaces, both ends spinning, no TCP, no checksum. Prints one JSON object.
//
//   usage: bench_xsk_echo SECONDS BUSY_POLL_US END_A END_B
//   END:   NETNS:NIC                      the socket sits on the NIC itself
//          NETNS:NIC:NETNS2:HOST:CLIENT   on CLIENT, whose veth peer HOST trades frames with the NIC: a virtual port
//
// Everything attached goes with the process (BPF links), however it ends.
#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>

#include "libtto/memory/region_mapping.hh"
#include "libtto/port/xsk_port.hh"
#include "libtto/port/xsk_setup.hh"
#include "tests/bench/bench_net.hh"

namespace {

using namespace tto;

constexpr uint32_t kFrames = 1024, kPosted = 256, kFrameBytes = 14 + 20 + 32 + 64;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "bench_xsk_echo: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts{""};
  for (char c : text) {
    if (c == ':') parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

uint32_t enter(const std::string& netns, const std::string& device) {
  int fd = open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) fail("namespace " + netns);
  close(fd);
  uint32_t ifindex = if_nametoindex(device.c_str());
  if (ifindex == 0) fail("device " + device);
  return ifindex;
}

bpf_object* load() {
  bpf_object* object = bpf_object__open_file(FLOOR_OBJECT, nullptr);
  if (object == nullptr || bpf_object__load(object) != 0) fail("BPF object");
  return object;
}

/// Attached in the calling thread's namespace.
void attach(bpf_object* object, const char* program, uint32_t ifindex, uint32_t mode) {
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = mode);
  int fd = bpf_program__fd(bpf_object__find_program_by_name(object, program));
  if (bpf_link_create(fd, int(ifindex), BPF_XDP, &options) < 0) fail(std::string("attach ") + program);
}

void set_map(bpf_object* object, const char* map, uint32_t value) {
  uint32_t zero = 0;
  if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, map), &zero, &value, BPF_ANY) != 0) fail(map);
}

class End {
 public:
  End(const std::string& text, uint32_t busy_poll_us, uint32_t region_id) {
    auto part = split(text);
    bpf_object* steer = load();
    uint32_t ifindex = enter(part[0], part[1]);
    if (part.size() == 2) {
      attach(steer, "to_xsk", ifindex, XDP_FLAGS_DRV_MODE);
      open_port(steer, ifindex, busy_poll_us, region_id);
      return;
    }
    if (part.size() != 5) fail("END");
    bpf_object *back = load(), *deliver = load();
    set_map(back, "out", ifindex);  // device numbers are looked up in this namespace
    uint32_t host = enter(part[2], part[3]), client = enter(part[2], part[4]);
    set_map(steer, "out", host);
    attach(back, "to_device", host, XDP_FLAGS_SKB_MODE);  // as ttod does on veth: its redirect needs nothing of the far end
    attach(deliver, "to_xsk", client, XDP_FLAGS_DRV_MODE);
    open_port(deliver, client, busy_poll_us, region_id);
    enter(part[0], part[1]);
    attach(steer, "to_device", ifindex, XDP_FLAGS_DRV_MODE);
  }

  /// Takes at most one frame; false if none is there.
  bool receive(port::FrameSlice* out) {
    std::array<memory::FrameHandle, 64> done;
    size_t n = port_.reclaim(done);
    if (n > 0) port_.post_fill({done.data(), n});
    if (port_.rx_burst({out, 1}, {}) == 1) return true;
    port_.kick(true);
    return false;
  }
  void send(const port::FrameSlice& slice) {
    port_.tx_burst({&slice, 1}, {});
    port_.kick(true);
  }
  void give_back(const port::FrameSlice& slice) { port_.post_fill({&slice.frame, 1}); }
  std::byte* data(const port::FrameSlice& s) {
    return mapping_.region().frames + size_t{s.frame.index()} * memory::kFrameBytes + s.offset;
  }
  port::FrameSlice spare() { return {memory::FrameHandle::make(0, next_spare_), 256, kFrameBytes, false}; }
  void use_spare() { next_spare_ = next_spare_ + 1 < kFrames ? next_spare_ + 1 : kPosted; }

 private:
  void open_port(bpf_object* object, uint32_t ifindex, uint32_t busy_poll_us, uint32_t region_id) {
    auto memory_fd = memory::make_region_fd(region_id, kFrames, 1);
    if (!memory_fd || mapping_.map(*memory_fd) != 0) fail("region");
    for (uint32_t i = 0; i < kFrames; ++i) mapping_.region().descs[i].state = TTO_FRAME_POSTED;  // the port checks it
    port::XskConfig config;
    config.ifindex = ifindex;
    config.busy_poll_us = busy_poll_us;
    config.fill_entries = config.completion_entries = config.rx_entries = config.tx_entries = 512;
    tto_helper_port description{};
    auto fd = port::xsk_open(mapping_.region(), config, &description);
    if (!fd) fail("AF_XDP socket: errno " + std::to_string(fd.error()));
    if (port_.open(*fd, description, mapping_.region(), 0) != 0) fail("rings");
    set_map(object, "xsks", uint32_t(*fd));
    std::array<memory::FrameHandle, kPosted> frames;
    for (uint32_t i = 0; i < kPosted; ++i) frames[i] = memory::FrameHandle::make(0, i);
    if (port_.post_fill(frames) != kPosted) fail("fill ring");
  }

  memory::RegionMapping mapping_;
  port::XskPort port_;
  uint32_t next_spare_ = kPosted;
};

void pin_to(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu % std::max(1u, std::thread::hardware_concurrency()), &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

struct Probe {
  uint64_t magic, number;
};
constexpr uint64_t kMagic = 0x6f6863652d6f7474;

Probe* probe(std::byte* frame) { return reinterpret_cast<Probe*>(frame + 66); }

void echo(End& end, std::atomic<bool>& stop) {
  pin_to(0);
  port::FrameSlice s;
  while (!stop.load(std::memory_order_relaxed))
    if (end.receive(&s)) {
      Probe p;
      std::memcpy(&p, probe(end.data(s)), sizeof p);
      if (s.length == kFrameBytes && p.magic == kMagic) end.send(s);  // the frame itself goes back
      else end.give_back(s);
    }
}

/// Waits for the answer to `number`; false after 100 ms.
bool answered(End& end, uint64_t number) {
  uint64_t deadline = bench::now_ns() + 100'000'000;
  port::FrameSlice s;
  while (bench::now_ns() < deadline) {
    if (!end.receive(&s)) continue;
    Probe p;
    std::memcpy(&p, probe(end.data(s)), sizeof p);
    bool ours = s.length == kFrameBytes && p.magic == kMagic && p.number == number;
    end.give_back(s);
    if (ours) return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: bench_xsk_echo SECONDS BUSY_POLL_US END_A END_B\n");
    return 2;
  }
  double seconds = std::atof(argv[1]);
  auto busy_poll_us = uint32_t(std::atoi(argv[2]));
  auto a = std::make_unique<End>(argv[3], busy_poll_us, 1u), b = std::make_unique<End>(argv[4], busy_poll_us, 2u);
  std::atomic<bool> stop{false};
  std::thread server(echo, std::ref(*a), std::ref(stop));
  pin_to(1);
  std::vector<uint32_t> rtt_ns;
  rtt_ns.reserve(8u << 20);
  uint64_t lost = 0, start = bench::now_ns(), warm = start + uint64_t(seconds * 0.1e9), end = warm + uint64_t(seconds * 1e9);
  for (uint64_t number = 1, t = start; t < end; ++number) {
    port::FrameSlice s = b->spare();
    std::memset(b->data(s), 0xff, 12);  // broadcast: no filter of the way minds
    b->data(s)[12] = std::byte{0x88}, b->data(s)[13] = std::byte{0xb5};
    Probe p{kMagic, number};
    std::memcpy(probe(b->data(s)), &p, sizeof p);
    uint64_t sent = bench::now_ns();
    b->send(s);
    bool good = answered(*b, number);
    t = bench::now_ns();
    b->use_spare();
    if (!good && ++lost > 20) {
      std::fprintf(stderr, "bench_xsk_echo: no answer\n");
      stop = true;
      server.join();
      return 1;
    }
    if (good && t >= warm && rtt_ns.size() < rtt_ns.capacity()) rtt_ns.push_back(uint32_t(t - sent));
  }
  stop = true;
  server.join();
  size_t ops = rtt_ns.size();
  auto q = bench::quantiles(rtt_ns);
  std::printf("{\"ops\": %zu, \"lost\": %llu, \"p50_us\": %.3f, \"p99_us\": %.3f}\n", ops,
              static_cast<unsigned long long>(lost), q.p50_us, q.p99_us);
}
