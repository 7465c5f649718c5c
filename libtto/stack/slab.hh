// Objects of one kind at addresses that never change, in chunks mapped when first needed and never given back. Made with
// mmap, not malloc: a turn may run inside a signal handler that interrupted malloc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "libtto/base/sys.hh"

namespace tto::stack {

template <typename T, uint32_t kPerChunk>
class Slab {
 public:
  /// At most `capacity` objects.
  explicit Slab(uint32_t capacity) : capacity_(capacity) {
    directory_bytes_ = (size_t{capacity} / kPerChunk + 1) * sizeof(T*);
    void* p = map(directory_bytes_);
    chunks_ = sys::is_error(p) ? nullptr : static_cast<T**>(p);
  }
  ~Slab() {
    if (chunks_ == nullptr) return;
    for (uint32_t i = 0; i < capacity_; i += kPerChunk) {
      if (T* chunk = chunks_[i / kPerChunk]; chunk != nullptr) sys::munmap(chunk, kPerChunk * sizeof(T));
    }
    sys::munmap(chunks_, directory_bytes_);
  }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  /// The object numbered `index`, its chunk made if need be; null if there is no memory.
  T* make(uint32_t index) {
    if (chunks_ == nullptr || index >= capacity_) return nullptr;
    T*& chunk = chunks_[index / kPerChunk];
    if (chunk == nullptr) {
      void* p = map(kPerChunk * sizeof(T));
      if (sys::is_error(p)) return nullptr;
      chunk = static_cast<T*>(p);
      for (uint32_t i = 0; i < kPerChunk; ++i) new (&chunk[i]) T();
    }
    return &chunk[index % kPerChunk];
  }
  /// Null if it was never made.
  T* find(uint32_t index) const {
    if (chunks_ == nullptr || index >= capacity_) return nullptr;
    T* chunk = chunks_[index / kPerChunk];
    return chunk == nullptr ? nullptr : &chunk[index % kPerChunk];
  }
  uint32_t capacity() const { return capacity_; }

 private:
  static void* map(size_t bytes) {
    return sys::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  }
  uint32_t capacity_;
  size_t directory_bytes_ = 0;
  T** chunks_ = nullptr;
};

}  // namespace tto::stack
