// Frames by seeds: frame_storm_test [--seeds N] [--seed FIRST]. At least nine of ten get past the IP header.
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "libtto/base/rng.hh"
#include "tests/fuzz/frame_storm.hh"

namespace {

struct Seeded {
  tto::Rng rng;
  uint32_t next() { return rng.next32(); }
  bool empty() const { return false; }
};

constexpr uint64_t kStepsPerSeed = 2000;

}  // namespace

int main(int argc, char** argv) {
  uint64_t first = 1, seeds = 50, frames = 0, stopped = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string what = argv[i];
    (what == "--seed" ? first : seeds) = std::strtoull(argv[i + 1], nullptr, 0);
  }
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    Seeded choices{tto::Rng(seed)};
    tto::fuzz::FrameStorm<Seeded> storm(choices);
    if (const char* broken = storm.run(kStepsPerSeed)) {
      std::fprintf(stderr, "frame_storm_test --seeds 1 --seed %" PRIu64 ": %s\n", seed, broken);
      return 1;
    }
    frames += storm.rx_frames();
    stopped += storm.stopped_at_first_header();
  }
  std::printf("%" PRIu64 " seeds from %" PRIu64 ", %" PRIu64 " frames, %" PRIu64 " stopped at the first header\n", seeds,
              first, frames, stopped);
  return stopped * 10 <= frames ? 0 : 1;
}
