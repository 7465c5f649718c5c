// The floor of a transfer: frames of one size, one way, between two AF_XDP sockets in two namespaces, both ends spinning,
// no TCP, no checksum, no copy by the programs. Prints one JSON object; its bits are those of whole frames received.
//
//   usage: bench_xsk_blast SECONDS FRAME_BYTES BATCH END_A END_B     (ends: xsk_end.hh; B sends, A counts)
//
// What the receiver has no frame for is lost and not counted, so the sender need not be told how fast it may go.
#include <atomic>
#include <cmath>

#include "tests/bench/xsk_end.hh"

namespace {

using namespace tto;
using bench::End;

constexpr uint32_t kSliceBytes = 3840;  // of one 4 KiB frame behind the kernel's headroom
constexpr size_t kMaxBatch = 256;

std::atomic<bool> g_stop{false};
std::atomic<uint64_t> g_bytes{0}, g_frames{0};

void sink(End& end) {
  bench::pin_to(0);
  std::array<port::FrameSlice, kMaxBatch> got;
  std::array<memory::FrameHandle, kMaxBatch> back;
  while (!g_stop.load(std::memory_order_relaxed)) {
    const size_t n = end.port().rx_burst(got, {});
    uint64_t bytes = 0, frames = 0;
    for (size_t i = 0; i < n; ++i) {
      bytes += got[i].length;
      frames += got[i].more ? 0 : 1;
      back[i] = got[i].frame;
    }
    if (n > 0) end.port().post_fill({back.data(), n});
    else end.port().kick(true);
    g_bytes.store(g_bytes.load(std::memory_order_relaxed) + bytes, std::memory_order_relaxed);
    g_frames.store(g_frames.load(std::memory_order_relaxed) + frames, std::memory_order_relaxed);
  }
}

/// All frames that are there for sending look alike; each is one chain of slices.
void blast(End& end, uint32_t frame_bytes, size_t batch) {
  const size_t slices = (frame_bytes + kSliceBytes - 1) / kSliceBytes;
  std::array<port::FrameSlice, kMaxBatch> chain;
  std::array<memory::FrameHandle, kMaxBatch> done;
  for (size_t busy = 0; !g_stop.load(std::memory_order_relaxed);) {
    for (size_t n = done.size(); n == done.size();) busy -= n = end.port().reclaim(done);
    for (size_t n = 0; n < batch && busy + slices <= end.ring_entries(); ++n) {
      for (size_t i = 0, left = frame_bytes; i < slices; ++i) {
        chain[i] = end.spare(std::min<size_t>(left, kSliceBytes));
        chain[i].more = i + 1 < slices;
        left -= chain[i].length;
        end.use_spare();
      }
      std::memset(end.data(chain[0]), 0xff, 12);  // broadcast: no filter of the way minds
      end.data(chain[0])[12] = std::byte{0x88}, end.data(chain[0])[13] = std::byte{0xb5};
      if (end.port().tx_burst({chain.data(), slices}, {}) != slices) break;
      busy += slices;
    }
    end.port().kick(true);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: bench_xsk_blast SECONDS FRAME_BYTES BATCH END_A END_B\n");
    return 2;
  }
  const double seconds = std::atof(argv[1]);
  const auto frame_bytes = uint32_t(std::atoi(argv[2]));
  const auto batch = std::min(size_t(std::atoi(argv[3])), kMaxBatch);
  bench::EndConfig config;
  config.object = FLOOR_OBJECT;
  config.frames = 8192;
  config.posted = config.ring_entries = 2048;
  auto a = std::make_unique<End>(argv[4], 1u, config), b = std::make_unique<End>(argv[5], 2u, config);
  std::thread receiver(sink, std::ref(*a));
  std::thread sender([&] {
    bench::pin_to(1);
    blast(*b, frame_bytes, batch);
  });
  auto sleep_for = [](double s) { std::this_thread::sleep_for(std::chrono::nanoseconds(int64_t(s * 1e9))); };
  sleep_for(seconds * 0.1);
  const uint64_t start = bench::now_ns(), bytes = g_bytes, frames = g_frames;
  sleep_for(seconds);
  const double took = double(bench::now_ns() - start);
  const uint64_t got_bytes = g_bytes - bytes, got_frames = g_frames - frames;
  g_stop = true;
  receiver.join();
  sender.join();
  // The two counts are read one after the other.
  if (got_frames == 0 || std::abs(double(got_bytes) / double(got_frames) - frame_bytes) > frame_bytes * 0.01) {
    std::fprintf(stderr, "bench_xsk_blast: %llu frames, %llu bytes\n", static_cast<unsigned long long>(got_frames),
                 static_cast<unsigned long long>(got_bytes));
    return 1;
  }
  std::printf("{\"frames\": %llu, \"bits_per_second\": %.0f, \"frames_per_second\": %.0f}\n",
              static_cast<unsigned long long>(got_frames), double(got_bytes) * 8e9 / took, double(got_frames) * 1e9 / took);
}
