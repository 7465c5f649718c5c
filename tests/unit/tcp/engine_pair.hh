// Two engines joined by a link on a virtual clock. The link cuts pseudo frames into segments as the device does, loses,
// reorders, duplicates, delays and merges them by a seeded plan, and carries payload as positions in a counter pattern,
// so that every byte read can be checked.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <vector>

#include "libtto/tcp/connection.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::tcp {

struct LinkPlan {
  double loss = 0, duplicate = 0, reorder = 0, coalesce = 0, cut = 0;
  Duration delay = milliseconds(5);
  Duration jitter{};
  Duration reorder_delay = milliseconds(3);
};

/// One end: an engine, the shim that stands for its queues, and a program that writes and reads.
struct End {
  Connection c;
  uint64_t to_write = 0;  // bytes the program still wants to write
  uint64_t send_buffer = 256 * 1024;
  uint64_t read_at_once = ~0ull;
  Duration read_pause{};  // between reads
  Instant read_again{};
  bool close_when_done = true;
  bool shut = false, closed = false;
  bool close_after_eof = true;
  std::vector<uint8_t> have;  // 1: this byte has arrived
  uint64_t consumed = 0;
  StreamOffset max_edge = 0;  // right edge announced so far
  uint64_t pure_acks = 0;

  static uint8_t pattern(uint64_t k) { return static_cast<uint8_t>(k % 251 + 1); }
};

class Pair {
 public:
  explicit Pair(uint64_t seed) : rng(seed), seed_(seed) {}

  End a, b;
  Instant now{1'000'000'000'000};
  LinkPlan plan;
  std::mt19937_64 rng;
  uint64_t events = 0;
  bool strict_edges = true;

  void open(const ConnectionConfig& ca, const ConnectionConfig& cb) {
    config_b_ = cb;
    a.c.open_active(ca, now);
  }
  void open_both(const ConnectionConfig& ca, const ConnectionConfig& cb) {
    a.c.open_active(ca, now);
    b.c.open_active(cb, now);
    b_open_ = true;
  }

  /// Until nothing can happen any more, or `limit` passes.
  void run(Duration limit) {
    const Instant end = now + limit;
    while (now <= end) {
      step_app(a);
      step_app(b);
      pump(a, b);
      if (b_open_) pump(b, a);
      Instant next = kNever;
      if (!in_flight_.empty()) next = in_flight_.begin()->first;
      for (End* e : {&a, &b}) {
        if (e == &b && !b_open_) continue;
        const Output o = e->c.next_output(now);
        if (o.kind == Output::Kind::kEmit) next = now;
        if (o.kind == Output::Kind::kWaitUntil) next = std::min(next, o.at);
        if (e->read_again > now && readable(*e) > 0) next = std::min(next, e->read_again);
      }
      if (next == kNever || ::testing::Test::HasFailure()) break;
      now = std::max(now, next);
      deliver();
      for (End* e : {&a, &b}) {
        if (e == &b && !b_open_) continue;
        e->c.on_deadline(now);
        check(*e);
      }
      ASSERT_LT(++events, 30'000'000u) << "livelock, seed " << seed_;
    }
  }
  static uint64_t readable(const End& e) {
    return e.c.events().established ? e.c.receive_end() - e.c.first_receive_byte() - e.consumed : 0;
  }

 private:
  struct Carried {
    SegmentIn segment;
    uint64_t first_byte = 0;  // position of the payload in the sender's stream
    bool to_b = false;
  };
  bool chance(double p) { return p > 0 && std::uniform_real_distribution<>(0, 1)(rng) < p; }

  void step_app(End& e) {
    if (&e == &b && !b_open_) return;
    const Events ev = e.c.events();
    if (!ev.established) return;
    if (e.to_write > 0 && !e.shut && e.c.state() != State::kClosed) {
      const uint64_t queued = e.c.snd_end() - e.c.snd_una();
      const uint64_t room = e.send_buffer > queued ? e.send_buffer - queued : 0;
      const uint64_t n = std::min({room, e.to_write, 1 + rng() % 100000});
      if (n > 0 && (room >= 4096 || n == e.to_write)) {
        e.c.app_write(n, chance(0.1), now);
        e.to_write -= n;
      }
    }
    if (e.to_write == 0 && e.close_when_done && !e.shut) {
      e.c.app_shutdown_write(now);
      e.shut = true;
    }
    if (now >= e.read_again) {
      const uint64_t n = std::min(readable(e), e.read_at_once);
      if (n > 0) {
        for (uint64_t k = 0; k < n; ++k) {
          ASSERT_TRUE(e.consumed + k < e.have.size() && e.have[e.consumed + k])
              << "readable, never kept; seed " << seed_;
        }
        e.consumed += n;
        e.c.app_consumed(n, now);
        e.read_again = now + e.read_pause;
      }
    }
    if (ev.peer_closed && readable(e) == 0 && e.shut && e.close_after_eof && !e.closed) {
      e.c.app_close(false, now);
      e.closed = true;
    }
    check(e);
  }

  void pump(End& from, End& to) {
    for (int i = 0; i < 100000; ++i) {
      const Output o = from.c.next_output(now);
      if (o.kind != Output::Kind::kEmit) return;
      StreamOffset sent_to = o.segment.payload.end;
      if (o.segment.payload.size() > 1 && !o.segment.payload.empty() && chance(plan.cut)) {
        sent_to = o.segment.payload.begin + 1 + rng() % o.segment.payload.size();
      }
      carry(from, to, o.segment, sent_to);
      from.c.on_emitted(o, sent_to, now);
      check(from);
    }
    FAIL() << "the engine never falls silent; seed " << seed_;
  }

  void carry(End& from, End& to, const SegmentOut& out, StreamOffset sent_to) {
    check_edge(from, out);
    const bool is_cut = sent_to < out.payload.end;
    StreamOffset at = out.payload.begin;
    if (out.payload.empty()) {
      Carried s = header(out, to);
      if (out.flags == wire::kAck) ++from.pure_acks;
      launch(s);
      return;
    }
    while (at < sent_to) {
      const uint64_t n = std::min<uint64_t>(out.mss_bytes, sent_to - at);
      Carried s = header(out, to);
      s.segment.seq = wire::narrow(at);
      s.segment.payload_bytes = s.segment.largest_segment_bytes = static_cast<uint32_t>(n);
      s.first_byte = at - from.c.first_send_byte();
      if (at + n < sent_to || is_cut) s.segment.flags &= static_cast<uint8_t>(~(wire::kFin | wire::kPsh));
      launch(s);
      at += n;
    }
  }
  Carried header(const SegmentOut& out, const End& to) {
    Carried s;
    s.segment.seq = wire::narrow(out.seq);
    s.segment.ack = wire::narrow(out.ack);
    s.segment.flags = out.flags;
    s.segment.window = out.window;
    s.segment.options = out.options;
    s.to_b = &to == &b;
    return s;
  }
  void launch(const Carried& s) {
    if (chance(plan.loss)) return;
    Duration d = plan.delay;
    if (plan.jitter.ns > 0) d = d + nanoseconds(static_cast<int64_t>(rng() % static_cast<uint64_t>(plan.jitter.ns)));
    if (chance(plan.reorder)) d = d + plan.reorder_delay;
    in_flight_.emplace(now + d, s);
    if (chance(plan.duplicate)) in_flight_.emplace(now + d + microseconds(700), s);
  }

  void deliver() {
    while (!in_flight_.empty() && in_flight_.begin()->first <= now) {
      Carried s = in_flight_.begin()->second;
      in_flight_.erase(in_flight_.begin());
      while (!in_flight_.empty() && in_flight_.begin()->first <= now && can_merge(s, in_flight_.begin()->second) &&
             chance(plan.coalesce)) {
        merge(s.segment, in_flight_.begin()->second.segment);
        in_flight_.erase(in_flight_.begin());
      }
      arrive(s);
    }
  }
  static bool can_merge(const Carried& x, const Carried& y) {
    const SegmentIn &p = x.segment, &q = y.segment;
    return x.to_b == y.to_b && p.flags == wire::kAck && (q.flags & ~wire::kPsh) == wire::kAck && p.payload_bytes > 0 &&
           q.payload_bytes > 0 && q.seq.raw == p.seq.raw + p.payload_bytes && p.options.sack_count == 0 &&
           q.options.sack_count == 0 && p.payload_bytes + q.payload_bytes <= 65536;
  }
  static void merge(SegmentIn& p, const SegmentIn& q) {
    p.ack = q.ack;
    p.window = q.window;
    p.flags |= q.flags;
    p.payload_bytes += q.payload_bytes;
    p.segments_merged = static_cast<uint16_t>(p.segments_merged + q.segments_merged);
    p.largest_segment_bytes = std::max(p.largest_segment_bytes, q.largest_segment_bytes);
  }

  void arrive(const Carried& s) {
    End& e = s.to_b ? b : a;
    if (s.to_b && !b_open_) {
      if (s.segment.flags != wire::kSyn) return;
      b.c.open_passive(config_b_, s.segment, now);
      b_open_ = true;
      return;
    }
    const Verdict v = e.c.on_segment(s.segment, now);
    check(e);
    if (v.keep.empty()) return;
    const StreamOffset first = s.segment.seq.widen_near(e.c.rcv_nxt()) + ((s.segment.flags & wire::kSyn) ? 1 : 0);
    ASSERT_GE(v.keep.begin, first);
    ASSERT_LE(v.keep.end, first + s.segment.payload_bytes);
    for (StreamOffset o = v.keep.begin; o < v.keep.end; ++o) {
      const uint64_t k = o - e.c.first_receive_byte();
      if (k >= e.have.size()) e.have.resize(k + 1, 0);
      ASSERT_EQ(End::pattern(s.first_byte + (o - first)), End::pattern(k)) << "seed " << seed_;
      e.have[k] = 1;
    }
  }

  void check(End& e) {
    ASSERT_LE(e.c.snd_una(), e.c.snd_nxt()) << "seed " << seed_;
    ASSERT_LE(e.c.snd_nxt(), e.c.snd_end() + 1) << "seed " << seed_;
    ASSERT_GE(e.c.rcv_nxt(), e.c.receive_end()) << "seed " << seed_;
  }
  void check_edge(End& e, const SegmentOut& out) {
    if (!(out.flags & wire::kAck) || (out.flags & (wire::kSyn | wire::kRst))) return;
    tto_connection_record r{};
    e.c.fill_record(r);
    const StreamOffset edge = out.ack + (StreamOffset{out.window} << r.rcv_wscale);
    if (strict_edges) {
      ASSERT_GE(edge, e.max_edge) << "right edge moved left; seed " << seed_;
    }
    e.max_edge = std::max(e.max_edge, edge);
  }

  ConnectionConfig config_b_;
  bool b_open_ = false;
  uint64_t seed_;
  std::multimap<Instant, Carried> in_flight_;
};

}  // namespace tto::tcp
