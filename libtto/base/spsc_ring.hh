// A ring between exactly one producer and one consumer thread. Each side keeps a copy of the other's index and looks at
// the real one only when the copy says full or empty, so in steady state neither touches the other's cache line.
//
//   producer: push(batch), or stage() several and publish() once      consumer: pop(batch), or front() and drop_front()
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace tto {

template <typename T, size_t Capacity>
class SpscRing {
  static_assert(Capacity >= 2 && (Capacity & (Capacity - 1)) == 0, "a power of two");
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  // --- producer ----------------------------------------------------------------------------------------------------
  /// Writes an entry that the consumer does not see before publish(). False: full.
  bool stage(const T& entry) {
    if (staged_ - head_seen_ == Capacity) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (staged_ - head_seen_ == Capacity) return false;
    }
    entries_[staged_ & kMask] = entry;
    ++staged_;
    return true;
  }
  void publish() { tail_.store(staged_, std::memory_order_release); }
  /// Adds as many as fit, visible at once; returns how many.
  size_t push(std::span<const T> batch) {
    size_t done = 0;
    while (done < batch.size() && stage(batch[done])) ++done;
    publish();
    return done;
  }
  bool push(const T& entry) {
    if (!stage(entry)) return false;
    publish();
    return true;
  }
  /// Entries that stage() will surely take.
  size_t space() {
    head_seen_ = head_.load(std::memory_order_acquire);
    return Capacity - static_cast<size_t>(staged_ - head_seen_);
  }

  // --- consumer ----------------------------------------------------------------------------------------------------
  /// The oldest entry, or null. Valid until drop_front().
  const T* front() {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return nullptr;
    }
    return &entries_[head & kMask];
  }
  /// Gives the place of front() back to the producer; only after front() returned an entry.
  void drop_front() { head_.store(head_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }
  bool pop(T& out) {
    const T* entry = front();
    if (entry == nullptr) return false;
    out = *entry;
    drop_front();
    return true;
  }
  size_t pop(std::span<T> out) {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    if (tail_seen_ - head < out.size()) tail_seen_ = tail_.load(std::memory_order_acquire);
    const uint64_t ready = tail_seen_ - head;
    const size_t count = ready < out.size() ? static_cast<size_t>(ready) : out.size();
    for (size_t i = 0; i < count; ++i) out[i] = entries_[(head + i) & kMask];
    head_.store(head + count, std::memory_order_release);
    return count;
  }

  // --- anyone ------------------------------------------------------------------------------------------------------
  bool empty() const { return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire); }
  static constexpr size_t capacity() { return Capacity; }

 private:
  static constexpr uint64_t kMask = Capacity - 1;

  alignas(64) std::atomic<uint64_t> tail_{0};
  uint64_t staged_ = 0;     // producer's
  uint64_t head_seen_ = 0;  // producer's copy of head_
  alignas(64) std::atomic<uint64_t> head_{0};
  uint64_t tail_seen_ = 0;  // consumer's copy of tail_
  alignas(64) std::array<T, Capacity> entries_{};
};

}  // namespace tto
