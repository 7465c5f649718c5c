// Explicit congestion notification (RFC 3168 §6.1): what was agreed, what the peer must be told, and whether the window
// has been reduced for this round trip already.
#pragma once

#include <cstdint>

#include "libtto/base/byte_range.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::tcp {

class Ecn {
 public:
  /// ECE and CWR in a SYN ask, ECE alone in a SYN-ACK agrees; both there are a mirror of what we sent.
  static bool asks(uint8_t syn_flags) { return (syn_flags & kBoth) == kBoth; }
  static bool agrees(uint8_t syn_ack_flags) { return (syn_ack_flags & kBoth) == wire::kEce; }

  void agree() { is_agreed_ = true; }
  bool is_agreed() const { return is_agreed_; }

  // --- receiving ---
  /// Data inside the window arrived with these bits. True: the sender waits for an answer at once.
  bool on_data(uint8_t ip_tos, uint8_t flags) {
    if (!is_agreed_) return false;
    const bool was_told = (flags & wire::kCwr) != 0, is_marked = (ip_tos & wire::kEcnMask) == wire::kCe;
    if (was_told) echo_due_ = false;
    if (is_marked) echo_due_ = true;
    return was_told || is_marked;
  }
  /// Congestion was experienced, and the peer has not said yet that it knows.
  bool is_echo_due() const { return echo_due_; }

  // --- sending ---
  /// An acknowledgement with ECE. True: reduce, once for what is in flight now.
  bool on_echo(StreamOffset una, StreamOffset nxt) {
    if (!is_agreed_ || una <= reduced_until_) return false;
    on_reduced(nxt);
    return true;
  }
  /// The window was reduced, for whatever reason: the peer is told, and marks of this flight change nothing more.
  void on_reduced(StreamOffset nxt) {
    reduced_until_ = nxt;
    reduced_due_ = is_agreed_;
  }
  bool is_reduced_due() const { return reduced_due_; }
  void on_reduced_sent() { reduced_due_ = false; }
  StreamOffset reduced_until() const { return reduced_until_; }

 private:
  static constexpr uint8_t kBoth = wire::kEce | wire::kCwr;
  StreamOffset reduced_until_ = 0;
  bool is_agreed_ = false;
  bool echo_due_ = false;     // ECE in every acknowledgement
  bool reduced_due_ = false;  // CWR with the next new data
};

}  // namespace tto::tcp
