// A value or the reason why there is none. libtto throws no exceptions: it lives in other people's processes.
#pragma once

#include <type_traits>
#include <utility>

namespace tto {

template <typename E>
struct Unexpected {
  E error;
};
template <typename E>
Unexpected(E) -> Unexpected<E>;

/// Holds a T or an E. Both must be default-constructible, cheap to move; reading the side that is not held is a bug.
template <typename T, typename E>
class [[nodiscard]] Expected {
 public:
  constexpr Expected(T value) : value_(std::move(value)), has_value_(true) {}  // NOLINT: implicit on purpose
  constexpr Expected(Unexpected<E> e) : error_(std::move(e.error)) {}          // NOLINT: implicit on purpose

  constexpr explicit operator bool() const { return has_value_; }
  constexpr bool has_value() const { return has_value_; }
  constexpr T& operator*() { return value_; }
  constexpr const T& operator*() const { return value_; }
  constexpr T* operator->() { return &value_; }
  constexpr const T* operator->() const { return &value_; }
  constexpr const E& error() const { return error_; }

 private:
  T value_{};
  E error_{};
  bool has_value_ = false;
};

}  // namespace tto
