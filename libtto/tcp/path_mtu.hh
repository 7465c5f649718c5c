// Finding the path's MTU without ICMP (RFC 4821; net.ipv4.tcp_mtu_probing): when nothing gets through any more the
// segments become smaller, and single larger ones find out how much the path takes. All sizes are IP packets.
#pragma once

#include <algorithm>
#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/base/time.hh"

namespace tto::tcp {

class PathMtu {
 public:
  enum class Mode : uint8_t { kOff, kOnBlackHole, kAlways };
  static constexpr uint32_t kTimeoutsOfBlackHole = 3;  // in a row (tcp_retries1)

  void init(Mode mode, uint16_t path_mtu_bytes) {
    *this = PathMtu{};
    mode_ = mode;
    ceiling_ = high_ = low_ = path_mtu_bytes;
  }
  /// `mtu_bytes` surely passes: the search goes on from there.
  void begin_search(uint16_t mtu_bytes) {
    is_searching_ = true;
    low_ = std::min(mtu_bytes, high_);
    probe_ = {};
  }
  /// What to fall back to after kTimeoutsOfBlackHole timeouts at `mtu_bytes`; the same: nothing smaller is sensible.
  uint16_t smaller(uint16_t mtu_bytes, uint16_t base_bytes, uint16_t floor_bytes) const {
    if (mode_ == Mode::kOff) return mtu_bytes;
    const uint16_t next = is_searching_ ? static_cast<uint16_t>(mtu_bytes / 2) : base_bytes;
    return std::min(mtu_bytes, std::max(next, floor_bytes));
  }
  /// The network said so (ICMP), or the route.
  void limit(uint16_t mtu_bytes) {
    ceiling_ = high_ = std::min(high_, mtu_bytes);
    low_ = std::min(low_, high_);
    probe_ = {};
  }

  Mode mode() const { return mode_; }
  /// The size to try next, 0: none now.
  uint16_t next_probe() const {
    if (!is_searching_ || !probe_.empty() || high_ - low_ <= kCloseEnough) return 0;
    return static_cast<uint16_t>((uint32_t{low_} + high_ + 1) / 2);
  }
  void on_probe_sent(ByteRange range) {
    probing_ = next_probe();
    probe_ = range;
  }
  bool is_probing() const { return !probe_.empty(); }
  ByteRange probe() const { return probe_; }
  /// The probe was acknowledged. The MTU from now on.
  uint16_t on_probe_passed(Instant now) {
    low_ = std::max(low_, probing_);
    probe_ = {};
    ended_at_ = now;
    return low_;
  }
  void on_probe_lost(Instant now) {
    high_ = std::max<uint16_t>(low_, static_cast<uint16_t>(probing_ - 1));
    probe_ = {};
    ended_at_ = now;
  }
  /// Paths change: after a while what was too large is tried again.
  void on_time(Instant now) {
    if (is_searching_ && next_probe() == 0 && probe_.empty() && now - ended_at_ >= kSearchAgain) high_ = ceiling_;
  }

 private:
  static constexpr uint16_t kCloseEnough = 8;
  static constexpr Duration kSearchAgain = seconds(600);

  ByteRange probe_;  // the segment that tries, while it is out
  Instant ended_at_{};
  uint16_t low_ = 0, high_ = 0;  // passes; may pass
  uint16_t ceiling_ = 0;
  uint16_t probing_ = 0;
  Mode mode_ = Mode::kOff;
  bool is_searching_ = false;
};

}  // namespace tto::tcp
