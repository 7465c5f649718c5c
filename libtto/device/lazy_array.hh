// A fixed array whose pages cost nothing until they are used: tables are sized for the worst case, and a process with
// one connection must not pay for sixteen thousand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <type_traits>

namespace tto::device {

/// `count` elements of all-zero bytes; size() is 0 if there was no memory. An element whose zero bytes are not a valid
/// T is made with std::construct_at before its first use. Destructors do not run.
template <typename T>
class LazyArray {
  static_assert(std::is_trivially_destructible_v<T>);

 public:
  explicit LazyArray(size_t count)
      : items_(static_cast<T*>(std::calloc(count, sizeof(T)))), size_(items_ != nullptr ? count : 0) {}

  T& operator[](size_t i) { return items_.get()[i]; }
  const T& operator[](size_t i) const { return items_.get()[i]; }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T[], Free> items_;
  size_t size_;
};

}  // namespace tto::device
