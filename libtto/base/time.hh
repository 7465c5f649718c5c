// Time as plain integers. Nothing here reads a clock: the only reader is stack/clock.hh, so everything
// below it runs on a virtual clock in tests.
#pragma once

#include <compare>
#include <cstdint>

namespace tto {

/// A span of time in integer nanoseconds.
struct Duration {
  int64_t ns = 0;

  constexpr auto operator<=>(const Duration&) const = default;
  constexpr Duration operator+(Duration o) const { return {ns + o.ns}; }
  constexpr Duration operator-(Duration o) const { return {ns - o.ns}; }
  constexpr Duration operator*(int64_t k) const { return {ns * k}; }
  constexpr Duration operator/(int64_t k) const { return {ns / k}; }
  constexpr int64_t micros() const { return ns / 1'000; }
  constexpr int64_t millis() const { return ns / 1'000'000; }
};

constexpr Duration nanoseconds(int64_t n) { return {n}; }
constexpr Duration microseconds(int64_t n) { return {n * 1'000}; }
constexpr Duration milliseconds(int64_t n) { return {n * 1'000'000}; }
constexpr Duration seconds(int64_t n) { return {n * 1'000'000'000}; }

/// A point on the monotonic clock, in nanoseconds since an arbitrary origin that is never reached again.
struct Instant {
  int64_t ns = 0;

  constexpr auto operator<=>(const Instant&) const = default;
  constexpr Instant operator+(Duration d) const { return {ns + d.ns}; }
  constexpr Instant operator-(Duration d) const { return {ns - d.ns}; }
  constexpr Duration operator-(Instant o) const { return {ns - o.ns}; }
};

/// Later than every deadline: "no timer is set".
inline constexpr Instant kNever{INT64_MAX};

}  // namespace tto
