// The other end of a script's connection: makes the frames that the script says, and looks at those that the stack
// sends. What holds for every segment of every script is checked here, whatever the script expects:
//
//   frames parse, checksums are right, DF is set · options of SYNs only in SYNs (R5) · timestamps in all or none (R7) ·
//   the announced right edge never moves left (R46) · no byte beyond the peer's window, no segment above its MSS (R3) ·
//   every payload byte is the one written at that place
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "libtto/base/time.hh"
#include "tests/script/segment_text.hh"

namespace tto::script {

/// The byte at sequence number `seq` (1: the first) of either stream.
uint8_t byte_at(int64_t seq, bool from_stack);

class Peer {
 public:
  struct Addresses {
    wire::IpAddress stack, peer;
    wire::MacAddress stack_mac, peer_mac;
    uint16_t stack_port = 80, peer_port = 4000;
  };
  Peer(const Addresses& addresses, uint32_t initial_sequence_number) : at_(addresses), irs_(initial_sequence_number) {}

  std::vector<std::byte> frame(const SegmentText& segment, Instant now);
  /// An ICMP (or ICMPv6) error about the stack's segment at `quoted`.
  std::vector<std::byte> icmp(uint8_t type, uint8_t code, int64_t quoted, uint16_t mtu_bytes);
  /// Throws a Failure if the frame breaks one of the rules above; the text of the frame is in it.
  Seen look(const std::vector<std::byte>& frame);

  void set_stack_port(uint16_t port) { at_.stack_port = port; }
  const Addresses& addresses() const { return at_; }

 private:
  void check(const Seen& s, const wire::FrameView& view, const uint8_t* bytes);
  /// What a SYN offers.
  struct Offer {
    bool timestamps = false, window_scaling = false;
    int scale = 0;
    uint32_t mss = 0;     // the most the sender of the SYN takes
    uint32_t ts_val = 0;  // at `at`
    Instant at{};
  };
  void agree();
  void note_syn(const Seen& s, uint32_t raw_seq);
  wire::TcpOptions options_for(const SegmentText& segment, Instant now) const;
  void note_sent(const SegmentText& s, const wire::TcpOptions& options, uint32_t window, Instant now);

  Addresses at_;
  uint32_t irs_;
  uint32_t iss_ = 0;
  bool knows_iss_ = false;
  int64_t next_seq_ = 0;   // after the last we sent
  int64_t next_ack_ = 0;   // after the last we saw
  int64_t edge_ = 0;       // the right edge that the stack announced
  int64_t allowed_ = 0;    // the right edge that we announced
  uint32_t last_window_ = 60000;
  Offer our_offer_, stack_offer_;
  Offer ours_;             // as agreed on; later SYNs of ours may be only tries
  bool is_agreed_ = false, uses_ts_ = false;
  int stack_scale_ = 0, our_scale_ = 0;
  uint32_t last_ts_val_ = 0;  // the stack's
};

}  // namespace tto::script
