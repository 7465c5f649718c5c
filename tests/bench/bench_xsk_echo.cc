// The floor of a round trip: frames of the size of a 64-byte TCP segment, echoed between two AF_XDP sockets in two
// namespaces, both ends spinning, no TCP, no checksum. Prints one JSON object.
//
//   usage: bench_xsk_echo SECONDS BUSY_POLL_US END_A END_B     (ends: xsk_end.hh)
#include <atomic>

#include "tests/bench/xsk_end.hh"

namespace {

using namespace tto;
using bench::End;

constexpr uint32_t kFrameBytes = 14 + 20 + 32 + 64;

struct Probe {
  uint64_t magic, number;
};
constexpr uint64_t kMagic = 0x6f6863652d6f7474;

Probe* probe(std::byte* frame) { return reinterpret_cast<Probe*>(frame + 66); }

void echo(End& end, std::atomic<bool>& stop) {
  bench::pin_to(0);
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
  bench::EndConfig config;
  config.object = FLOOR_OBJECT;
  config.busy_poll_us = uint32_t(std::atoi(argv[2]));
  auto a = std::make_unique<End>(argv[3], 1u, config), b = std::make_unique<End>(argv[4], 2u, config);
  std::atomic<bool> stop{false};
  std::thread server(echo, std::ref(*a), std::ref(stop));
  bench::pin_to(1);
  std::vector<uint32_t> rtt_ns;
  rtt_ns.reserve(8u << 20);
  uint64_t lost = 0, start = bench::now_ns(), warm = start + uint64_t(seconds * 0.1e9), end = warm + uint64_t(seconds * 1e9);
  for (uint64_t number = 1, t = start; t < end; ++number) {
    port::FrameSlice s = b->spare(kFrameBytes);
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
