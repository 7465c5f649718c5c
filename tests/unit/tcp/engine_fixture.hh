// One engine against a hand-written peer: the test says which segments arrive and looks at what comes out. Numbers are
// relative: `seq` counts from the peer's SYN, `ack` and what goes out from ours (SYN is 0, the first byte 1).
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <initializer_list>
#include <vector>

#include "libtto/tcp/connection.hh"
#include "libtto/tcp/listen.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::tcp {

using wire::kAck;
using wire::kFin;
using wire::kPsh;
using wire::kRst;
using wire::kSyn;

/// What went out, relative.
struct Sent {
  uint8_t flags = 0;
  int64_t seq = 0;
  int64_t ack = 0;
  uint64_t bytes = 0;
  uint16_t window = 0;
  bool is_retransmission = false;
  wire::TcpOptions options;
  uint32_t mss_bytes = 0;
  uint8_t ecn = 0;
  uint16_t urgent_pointer = 0;
  bool has(uint8_t f) const { return (flags & f) == f; }
};

class EngineTest : public ::testing::Test {
 protected:
  static constexpr uint32_t kIss = 0xfffff000;  // wraps soon, on purpose
  static constexpr uint32_t kIrs = 0x7ffffe00;

  EngineTest() {
    config.iss = kIss;
    config.receive_buffer_bytes = 131072;
    config.ts_offset = 1000;
  }

  // --- what arrives ---
  SegmentIn make(uint8_t flags, int64_t seq, int64_t ack, uint32_t bytes = 0) const {
    SegmentIn s;
    s.flags = flags;
    s.seq.raw = kIrs + static_cast<uint32_t>(seq);
    s.ack.raw = (flags & kAck) ? kIss + static_cast<uint32_t>(ack) : 0;
    s.window = peer_window;
    s.payload_bytes = bytes;
    s.largest_segment_bytes = bytes;
    if (peer_timestamps) {
      s.options.has_timestamps = true;
      s.options.ts_val = peer_ts;
      s.options.ts_ecr = last_ts_val;
    }
    return s;
  }
  SegmentIn make_syn(uint8_t flags, int64_t ack = 1) const {
    SegmentIn s = make(flags, 0, ack);
    s.options = syn_options_of_peer;
    if (peer_timestamps) {
      s.options.has_timestamps = true;
      s.options.ts_val = peer_ts;
      s.options.ts_ecr = (flags & kAck) ? last_ts_val : 0;
    }
    return s;
  }
  Verdict in(uint8_t flags, int64_t seq, int64_t ack, uint32_t bytes = 0) { return in(make(flags, seq, ack, bytes)); }
  Verdict in(const SegmentIn& s) { return c.on_segment(s, now); }
  Verdict sacks(int64_t ack, std::initializer_list<std::pair<int64_t, int64_t>> blocks, int64_t seq = 1) {
    SegmentIn s = make(kAck, seq, ack);
    for (auto [l, r] : blocks)
      s.options.sack[s.options.sack_count++] = {{kIss + static_cast<uint32_t>(l)}, {kIss + static_cast<uint32_t>(r)}};
    return in(s);
  }

  // --- what leaves ---
  std::vector<Sent> out() {
    std::vector<Sent> all;
    for (int i = 0; i < 1000; ++i) {
      const Output o = c.next_output(now);
      if (o.kind != Output::Kind::kEmit) return all;
      c.on_emitted(o, o.segment.payload.end, now);
      all.push_back(relative(o.segment));
    }
    ADD_FAILURE() << "the engine never falls silent";
    return all;
  }
  /// Exactly one segment is expected.
  Sent one() {
    const std::vector<Sent> all = out();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? Sent{} : all[0];
  }
  void silence() { EXPECT_EQ(out().size(), 0u); }
  Sent relative(const SegmentOut& s) {
    Sent r;
    r.flags = s.flags;
    r.seq = static_cast<int32_t>(static_cast<uint32_t>(s.seq) - kIss);
    r.ack = (s.flags & kAck) ? static_cast<int32_t>(static_cast<uint32_t>(s.ack) - kIrs) : 0;
    r.bytes = s.payload.empty() ? 0 : s.payload.size();
    r.window = s.window;
    r.is_retransmission = s.is_retransmission;
    r.options = s.options;
    r.mss_bytes = s.mss_bytes;
    r.ecn = s.ecn;
    r.urgent_pointer = s.urgent_pointer;
    if (s.options.has_timestamps) last_ts_val = s.options.ts_val;
    return r;
  }

  // --- time ---
  void pass(Duration d) { now = now + d; }
  /// Goes on to the earliest deadline and lets it run out; false if there is none.
  bool to_deadline() {
    const Output o = c.next_output(now);
    EXPECT_NE(o.kind, Output::Kind::kEmit);
    if (o.kind != Output::Kind::kWaitUntil) return false;
    EXPECT_GE(o.at, now);
    now = o.at;
    c.on_deadline(now);
    return true;
  }

  // --- openings ---
  void connect() {
    c.open_active(config, now);
    EXPECT_TRUE(one().has(kSyn));
    pass(rtt);
    in(make_syn(kSyn | kAck));
    EXPECT_EQ(c.state(), State::kEstablished);
    EXPECT_EQ(one().flags, kAck);
  }
  void accept() {
    c.open_passive(config, make_syn(kSyn), now);
    EXPECT_TRUE(one().has(kSyn | kAck));
    pass(rtt);
    in(kAck, 1, 1);
    EXPECT_EQ(c.state(), State::kEstablished);
    silence();
  }
  void write(uint64_t bytes, bool more = false) { c.app_write(bytes, more, now); }
  /// No options: plain RFC 793 with an MSS of 1000 and windows in bytes.
  void plain() {
    config.timestamps = config.sack = config.window_scaling = false;
    peer_timestamps = false;
    syn_options_of_peer = {};
    syn_options_of_peer.mss = 1000;
  }
  void with_sack() {
    plain();
    config.sack = true;
    syn_options_of_peer.sack_permitted = true;
  }

  static wire::TcpOptions default_options() {
    wire::TcpOptions o;
    o.mss = 1460;
    o.has_window_scale = true;
    o.window_scale = 7;
    o.sack_permitted = true;
    return o;
  }

  Connection c;
  ConnectionConfig config;
  Instant now{1'000'000'000'000};
  Duration rtt = milliseconds(20);
  uint16_t peer_window = 60000;
  bool peer_timestamps = true;
  uint32_t peer_ts = 500;
  uint32_t last_ts_val = 0;
  wire::TcpOptions syn_options_of_peer = default_options();
};

}  // namespace tto::tcp
