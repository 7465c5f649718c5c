// Process-wide counters: one enum, one array, plain relaxed adds. A counter that is not in counters.def cannot be
// bumped.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tto::stats {

enum class DropReason : uint8_t {
  kNone,
#define TTO_DROP(name, text) k_##name,
#include "libtto/stats/drop_reason.def"
#undef TTO_DROP
  kCount,
};

enum class Counter : uint16_t {
#define TTO_COUNTER(name, text) name,
#include "libtto/stats/counters.def"
#undef TTO_COUNTER
#define TTO_DROP(name, text) drop_##name,
#include "libtto/stats/drop_reason.def"
#undef TTO_DROP
#define TTO_FALLBACK(name, text) kernel_##name,
#include "libtto/stats/fallback_reason.def"
#undef TTO_FALLBACK
  kCount,
};

inline constexpr size_t kCounterCount = static_cast<size_t>(Counter::kCount);

/// "rx_frame"; and what it counts.
const char* name(Counter counter);
const char* text(Counter counter);
Counter counter_of(DropReason reason);

/// A view of kCounterCount words, usually in the stats page. Written by threads that hold the stack's lock or by atomic
/// add; readers (tools) load relaxed.
class Counters {
 public:
  explicit Counters(std::atomic<uint64_t>* words) : words_(words) {}
  void add(Counter counter, uint64_t n = 1) {
    words_[static_cast<size_t>(counter)].fetch_add(n, std::memory_order_relaxed);
  }
  /// For the single writer that holds the stack's lock: no locked instruction.
  void add_owned(Counter counter, uint64_t n = 1) {
    auto& w = words_[static_cast<size_t>(counter)];
    w.store(w.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  /// kNone counts nothing.
  void drop(DropReason reason, uint64_t n = 1) {
    if (reason != DropReason::kNone) add_owned(counter_of(reason), n);
  }
  uint64_t get(Counter counter) const { return words_[static_cast<size_t>(counter)].load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t>* words_;
};

}  // namespace tto::stats
