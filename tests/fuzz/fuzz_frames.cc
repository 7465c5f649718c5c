// The input chooses frames, application calls and times; the whole stack must keep its sums, and send nothing unsound.
#include <cstddef>
#include <cstdlib>

#include "tests/fuzz/frame_storm.hh"
#include "tests/fuzz/from_input.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tto::fuzz::FromInput input{data, size};
  tto::fuzz::FrameStorm<tto::fuzz::FromInput> storm(input);
  if (storm.run(10'000) != nullptr) std::abort();
  return 0;
}
