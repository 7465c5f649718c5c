// Runs seeds: sim_test [--seeds N] [--seed FIRST]; TTO_SIM_SEEDS does the same as --seeds. A failing seed is printed.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include "tests/sim/simulation.hh"

namespace {

uint64_t first_seed = 1;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
uint64_t seed_count = 60;
#else
uint64_t seed_count = 300;
#endif

TEST(Simulation, every_seed_keeps_every_invariant) {
  uint64_t bytes = 0;
  int failed = 0;
  for (uint64_t seed = first_seed; seed < first_seed + seed_count && failed < 3; ++seed) {
    tto::sim::Simulation simulation(seed);
    const std::string broken = simulation.run();
    bytes += simulation.bytes_moved();
    if (broken.empty() && ::testing::Test::HasFailure() == (failed != 0)) continue;
    ++failed;
    ADD_FAILURE() << "sim_test --seeds 1 --seed " << seed << "\n" << broken;
  }
  std::cout << seed_count << " seeds from " << first_seed << ", " << bytes << " bytes\n";
}

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (const char* n = std::getenv("TTO_SIM_SEEDS")) seed_count = std::strtoull(n, nullptr, 0);
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string what = argv[i];
    (what == "--seed" ? first_seed : seed_count) = std::strtoull(argv[i + 1], nullptr, 0);
  }
  return RUN_ALL_TESTS();
}
