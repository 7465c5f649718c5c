// One end of a raw AF_XDP path for the floors: a socket on a NIC itself or behind a virtual port, as ttod makes them.
//
//   END:   NETNS:NIC                      the socket sits on the NIC itself
//          NETNS:NIC:NETNS2:HOST:CLIENT   on CLIENT, whose veth peer HOST trades frames with the NIC: a virtual port
//
// Everything attached goes with the process (BPF links), however it ends.
#pragma once

#include <array>
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

namespace bench {

using namespace tto;

[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what.c_str(), std::strerror(errno));
  std::exit(1);
}

inline std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts{""};
  for (char c : text) {
    if (c == ':') parts.emplace_back();
    else parts.back() += c;
  }
  return parts;
}

inline uint32_t enter(const std::string& netns, const std::string& device) {
  int fd = open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) fail("namespace " + netns);
  close(fd);
  uint32_t ifindex = if_nametoindex(device.c_str());
  if (ifindex == 0) fail("device " + device);
  return ifindex;
}

inline bpf_object* load(const char* path) {
  bpf_object* object = bpf_object__open_file(path, nullptr);
  if (object == nullptr || bpf_object__load(object) != 0) fail("BPF object");
  return object;
}

/// Attached in the calling thread's namespace.
inline void attach(bpf_object* object, const char* program, uint32_t ifindex, uint32_t mode) {
  LIBBPF_OPTS(bpf_link_create_opts, options, .flags = mode);
  int fd = bpf_program__fd(bpf_object__find_program_by_name(object, program));
  if (bpf_link_create(fd, int(ifindex), BPF_XDP, &options) < 0) fail(std::string("attach ") + program);
}

inline void set_map(bpf_object* object, const char* map, uint32_t value) {
  uint32_t zero = 0;
  if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, map), &zero, &value, BPF_ANY) != 0) fail(map);
}

struct EndConfig {
  const char* object = "";  // floor.bpf.o
  uint32_t busy_poll_us = 0;
  uint32_t frames = 1024, posted = 256, ring_entries = 512;
};

class End {
 public:
  End(const std::string& text, uint32_t region_id, const EndConfig& config) : config_(config), next_spare_(config.posted) {
    auto part = split(text);
    bpf_object* steer = load(config.object);
    uint32_t ifindex = enter(part[0], part[1]);
    if (part.size() == 2) {
      attach(steer, "to_xsk", ifindex, XDP_FLAGS_DRV_MODE);
      open_port(steer, ifindex, region_id);
      return;
    }
    if (part.size() != 5) fail("END");
    bpf_object *back = load(config.object), *deliver = load(config.object);
    set_map(back, "out", ifindex);  // device numbers are looked up in this namespace
    uint32_t host = enter(part[2], part[3]), client = enter(part[2], part[4]);
    set_map(steer, "out", host);
    attach(back, "to_device", host, XDP_FLAGS_SKB_MODE);  // all generic, as ttod does on veth
    attach(deliver, "to_xsk", client, XDP_FLAGS_SKB_MODE);
    open_port(deliver, client, region_id);
    enter(part[0], part[1]);
    attach(steer, "to_device", ifindex, XDP_FLAGS_SKB_MODE);
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
  port::XskPort& port() { return port_; }
  uint32_t ring_entries() const { return config_.ring_entries; }
  std::byte* data(const port::FrameSlice& s) {
    return mapping_.region().frames + size_t{s.frame.index()} * memory::kFrameBytes + s.offset;
  }
  port::FrameSlice spare(size_t bytes) { return {memory::FrameHandle::make(0, next_spare_), 256, uint16_t(bytes), false}; }
  void use_spare() { next_spare_ = next_spare_ + 1 < config_.frames ? next_spare_ + 1 : config_.posted; }

 private:
  void open_port(bpf_object* object, uint32_t ifindex, uint32_t region_id) {
    auto memory_fd = memory::make_region_fd(region_id, config_.frames, 1);
    if (!memory_fd || mapping_.map(*memory_fd) != 0) fail("region");
    for (uint32_t i = 0; i < config_.frames; ++i) mapping_.region().descs[i].state = TTO_FRAME_POSTED;  // the port checks it
    port::XskConfig config;
    config.ifindex = ifindex;
    config.mtu_bytes = 9216;
    config.busy_poll_us = config_.busy_poll_us;
    config.fill_entries = config.completion_entries = config.rx_entries = config.tx_entries = config_.ring_entries;
    tto_helper_port description{};
    auto fd = port::xsk_open(mapping_.region(), config, &description);
    if (!fd) fail("AF_XDP socket: errno " + std::to_string(fd.error()));
    if (port_.open(*fd, description, mapping_.region(), 0) != 0) fail("rings");
    set_map(object, "xsks", uint32_t(*fd));
    std::vector<memory::FrameHandle> frames;
    for (uint32_t i = 0; i < config_.posted; ++i) frames.push_back(memory::FrameHandle::make(0, i));
    if (port_.post_fill(frames) != frames.size()) fail("fill ring");
  }

  memory::RegionMapping mapping_;
  port::XskPort port_;
  EndConfig config_;
  uint32_t next_spare_;
};

inline void pin_to(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu % std::max(1u, std::thread::hardware_concurrency()), &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

}  // namespace bench
