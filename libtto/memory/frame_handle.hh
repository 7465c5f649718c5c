// A frame's name: (region, index) in one word, everywhere (growth adds regions, never moves frames).
#pragma once

#include <cstdint>

#include "libtto/memory/region_layout.h"

namespace tto::memory {

struct FrameHandle {
  uint32_t raw = TTO_FRAME_NULL;

  constexpr bool operator==(const FrameHandle&) const = default;
  constexpr explicit operator bool() const { return raw != TTO_FRAME_NULL; }
  constexpr uint32_t region() const { return raw >> 24; }
  constexpr uint32_t index() const { return raw & 0xffffff; }
  static constexpr FrameHandle make(uint32_t region, uint32_t index) { return {region << 24 | index}; }
};

}  // namespace tto::memory
