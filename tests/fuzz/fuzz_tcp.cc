// The input chooses segments, application calls and times; the engine must keep its invariants.
#include <cstddef>
#include <cstdlib>

#include "tests/fuzz/from_input.hh"
#include "tests/unit/tcp/storm.hh"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  tto::fuzz::FromInput input{data, size};
  tto::tcp::Storm<tto::fuzz::FromInput> storm(input);
  if (storm.run(100'000) != nullptr) std::abort();
  return 0;
}
