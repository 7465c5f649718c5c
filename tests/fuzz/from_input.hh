// A fuzzer's input as a source of choices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace tto::fuzz {

struct FromInput {
  const uint8_t* data;
  size_t left;
  uint32_t next() {
    uint32_t v = 0;
    const size_t n = left < sizeof v ? left : sizeof v;
    if (n != 0) std::memcpy(&v, data, n);
    data += n;
    left -= n;
    return v;
  }
  bool empty() const { return left == 0; }
};

}  // namespace tto::fuzz
