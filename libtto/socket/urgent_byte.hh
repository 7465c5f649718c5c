// One byte of urgent data, as Linux has it (RFC 9293 §3.8.5, RFC 6093): the last that the peer marked. It stays in the
// receive queue; this says where it is, and whether it may still be taken out of band.
#pragma once

#include <cstdint>

#include "libtto/base/byte_range.hh"

namespace tto::socket {

class UrgentByte {
 public:
  enum class State : uint8_t { kNone, kAnnounced, kHere, kTaken };

  /// The peer's mark: the offset of the byte. True: it is a new one.
  bool announce(StreamOffset at) {
    if (at == 0 || at == announced_) return false;
    announced_ = at_ = at;
    state_ = State::kAnnounced;
    return true;
  }
  /// Everything below `end` is there. True: the byte has just arrived.
  bool on_arrived(StreamOffset end) {
    if (state_ != State::kAnnounced || end <= at_) return false;
    state_ = State::kHere;
    return true;
  }
  void on_taken() { state_ = State::kTaken; }
  /// The application has read below `position`.
  void on_read(StreamOffset position) {
    if (position > at_) state_ = State::kNone;
  }

  State state() const { return state_; }
  StreamOffset at() const { return at_; }
  /// Reading has come to it (SIOCATMARK).
  bool is_at(StreamOffset position) const { return state_ != State::kNone && position == at_; }
  /// It lies behind what can be read at `position` in one go.
  bool is_after(StreamOffset position) const { return state_ != State::kNone && position < at_; }

 private:
  StreamOffset announced_ = 0, at_ = 0;
  State state_ = State::kNone;
};

}  // namespace tto::socket
