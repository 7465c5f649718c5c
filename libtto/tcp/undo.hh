// Was the last loss event one? Three witnesses that what was resent had not been lost: the echo of a timestamp older
// than the first retransmission (Eifel, RFC 3522), D-SACKs for all that was resent (RFC 3708), and, where timestamps
// are not in use, an acknowledgement of data that was not resent (F-RTO, RFC 5682). Then the window goes back to what
// it was (RFC 4015).
#pragma once

#include <algorithm>
#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/tcp/congestion.hh"

namespace tto::tcp {

class Undo {
 public:
  /// A loss event begins. `may_test`: F-RTO applies (a timeout, no timestamps, nothing SACKed).
  void begin(const Congestion& before, ByteRange flight, bool may_test) {
    *this = Undo{};
    before_ = before;
    flight_ = flight;
    is_armed_ = is_undecided_ = true;
    test_ = may_test ? Test::kFirstAck : Test::kOff;
  }
  void end() { is_armed_ = is_undecided_ = false, test_ = Test::kOff; }

  void on_resent(ByteRange range, uint32_t ts_now) {
    if (!is_armed_) return;
    if (!has_resent_) first_resent_ts_ = ts_now;
    has_resent_ = true;
    unrefuted_bytes_ += range.size();
  }

  /// snd.una moved to `una`. `echo`: the segment's TSecr, null if there is none. True: nothing had been lost.
  bool on_advance(StreamOffset una, const uint32_t* echo) {
    if (test_ == Test::kSecondAck) {
      test_ = Test::kOff;
      return true;  // only the first segment had been resent
    }
    if (test_ == Test::kFirstAck) test_ = una < flight_.end ? Test::kSecondAck : Test::kOff;
    if (!is_undecided_) return false;
    is_undecided_ = false;
    if (!has_resent_) return una > flight_.begin;
    return echo != nullptr && static_cast<int32_t>(*echo - first_resent_ts_) < 0;
  }
  /// A duplicate acknowledgement, or there is no new data to test with: the loss was real.
  void stop_test() { test_ = Test::kOff; }
  /// F-RTO step 2b: new data goes out, nothing is resent.
  bool holds_retransmissions() const { return test_ == Test::kSecondAck; }

  /// `duplicate` arrived twice. True: so did everything that was resent.
  bool on_duplicate(ByteRange duplicate) {
    if (!is_armed_ || unrefuted_bytes_ == 0) return false;
    const ByteRange part{std::max(duplicate.begin, flight_.begin), std::min(duplicate.end, flight_.end)};
    if (part.empty()) return false;
    unrefuted_bytes_ -= std::min(unrefuted_bytes_, part.size());
    return unrefuted_bytes_ == 0;
  }

  const Congestion& before() const { return before_; }

 private:
  enum class Test : uint8_t { kOff, kFirstAck, kSecondAck };

  Congestion before_;
  ByteRange flight_;              // [snd.una, snd.nxt) when the event began
  uint64_t unrefuted_bytes_ = 0;  // resent, and no D-SACK says that it was needless
  uint32_t first_resent_ts_ = 0;
  Test test_ = Test::kOff;
  bool is_armed_ = false;
  bool is_undecided_ = false;  // no acknowledgement has advanced since
  bool has_resent_ = false;
};

}  // namespace tto::tcp
