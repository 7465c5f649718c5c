// The input chooses segments, application calls and times; the engine must keep its invariants.
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "tests/unit/tcp/storm.hh"

namespace {

struct FromInput {
  const uint8_t* data;
  size_t left;
  uint32_t next() {
    uint32_t v = 0;
    const size_t n = left < sizeof v ? left : sizeof v;
    std::memcpy(&v, data, n);
    data += n;
    left -= n;
    return v;
  }
  bool empty() const { return left == 0; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FromInput input{data, size};
  tto::tcp::Storm<FromInput> storm(input);
  if (storm.run(100'000) != nullptr) std::abort();
  return 0;
}
