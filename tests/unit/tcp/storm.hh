// Random segments, calls and times against one engine, with the invariants checked after each step. The storm test
// draws its choices from a seed, the fuzzer from its input: `Choices` is anything with next() -> uint32_t and empty().
#pragma once

#include <cstdint>

#include "libtto/tcp/connection.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::tcp {

template <typename Choices>
class Storm {
 public:
  explicit Storm(Choices& choices) : choose_(choices) {}

  /// Null, or what was violated.
  const char* run(uint64_t steps) {
    open();
    for (uint64_t i = 0; i < steps && !choose_.empty(); ++i) {
      step();
      if (const char* broken = check()) return broken;
      if (c_.state() == State::kClosed && choose_.next() % 4 == 0) open();
    }
    return nullptr;
  }

 private:
  uint32_t pick(uint32_t n) { return choose_.next() % n; }

  void open() {
    ConnectionConfig f;
    f.iss = choose_.next();
    f.receive_buffer_bytes = 1u << (1 + pick(24));
    f.receive_window_scale = static_cast<uint8_t>(pick(16));
    f.timestamps = pick(2);
    f.sack = pick(3) != 0;
    f.window_scaling = pick(2);
    f.is_v6 = pick(2);
    f.nodelay = pick(2);
    f.cork = pick(8) == 0;
    f.ecn = pick(2);
    f.mtu_probing = static_cast<uint8_t>(pick(3));
    f.keepalive = pick(2);
    f.congestion = pick(2) ? ConnectionConfig::Congestion::kCubic : ConnectionConfig::Congestion::kReno;
    f.mtu_bytes = static_cast<uint16_t>(pick(65536));
    f.path_mtu_bytes = static_cast<uint16_t>(pick(65536));
    if (pick(2)) {
      c_.open_active(f, now_);
      irs_ = choose_.next();
    } else {
      SegmentIn syn = segment();
      syn.flags = static_cast<uint8_t>(wire::kSyn | (pick(2) ? wire::kEce | wire::kCwr : 0));
      c_.open_passive(f, syn, now_);
      irs_ = syn.seq.raw;
    }
    edge_ = kept_ = 0;
  }

  // Numbers near those that matter, so that segments are often acceptable.
  uint32_t near(StreamOffset offset) {
    const uint32_t base = static_cast<uint32_t>(offset);
    switch (pick(6)) {
      case 0:
        return base;
      case 1:
        return base + pick(3) - 1;
      case 2:
        return base + pick(3000);
      case 3:
        return base - pick(3000);
      case 4:
        return base + pick(1 << 20);
      default:
        return choose_.next();
    }
  }
  SegmentIn segment() {
    SegmentIn s;
    const bool is_opening = c_.state() == State::kSynSent;
    s.seq.raw = is_opening ? irs_ : near(pick(2) ? c_.rcv_nxt() : edge_);
    s.ack.raw = near(pick(2) ? c_.snd_nxt() : c_.snd_una());
    s.flags = wire::kAck;
    if (is_opening && pick(4))
      s.flags = static_cast<uint8_t>(wire::kSyn | wire::kAck | (pick(2) ? wire::kEce : 0)),
      s.ack.raw = static_cast<uint32_t>(c_.snd_nxt());
    if (pick(16) == 0) s.flags = static_cast<uint8_t>(pick(256));
    if (pick(64) == 0) s.flags |= wire::kFin;
    if (pick(32) == 0) s.flags |= wire::kUrg;
    s.urgent_pointer = static_cast<uint16_t>(pick(4) ? pick(2000) : pick(65536));
    s.ip_tos = static_cast<uint8_t>(pick(4));
    if (pick(16) == 0) s.flags |= pick(2) ? wire::kEce : wire::kCwr;
    s.window = static_cast<uint16_t>(pick(4) ? pick(65536) : pick(3));
    if (pick(2)) s.payload_bytes = pick(4) ? pick(1500) : pick(65536);
    s.largest_segment_bytes = s.payload_bytes;
    s.segments_merged = static_cast<uint16_t>(1 + pick(40));
    wire::TcpOptions& o = s.options;
    if (s.flags & wire::kSyn) {
      o.mss = static_cast<uint16_t>(choose_.next() >> pick(16));
      o.has_window_scale = pick(2);
      o.window_scale = static_cast<uint8_t>(pick(256));
      o.sack_permitted = pick(2);
    }
    o.has_timestamps = pick(2);
    o.ts_val = pick(4) ? ts_ += pick(4) : choose_.next();
    o.ts_ecr = choose_.next();
    if (pick(4) == 0) {
      o.sack_count = static_cast<uint8_t>(pick(5));
      for (auto& b : o.sack) b.left.raw = near(c_.snd_una()), b.right.raw = b.left.raw + pick(5000);
    }
    return s;
  }

  void step() {
    switch (pick(12)) {
      case 0:
        c_.app_write(pick(100000), pick(8) == 0, now_);
        if (pick(8) == 0) c_.app_mark_urgent(now_);
        break;
      case 1:
        c_.app_consumed(pick(70000), now_);
        break;
      case 2:
        switch (pick(24)) {
          case 0:
            c_.app_shutdown_write(now_);
            break;
          case 1:
            c_.app_close(pick(2), now_);
            break;
          case 2:
            c_.app_abort(now_);
            break;
          case 3:
            c_.on_path_mtu(static_cast<uint16_t>(pick(65536)), {near(c_.snd_una())}, now_);
            break;
          case 4:
            c_.on_icmp_error(113, pick(2), {near(c_.snd_una())}, now_);
            break;
          case 5:
            c_.set_receive_buffer(pick(1 << 20));
            break;
          case 6:
            c_.set_receive_overhead(pick(1 << 20));
            break;
          case 7:
            c_.set_cork(pick(2));
            break;
          case 8:
            c_.set_nodelay(pick(2));
            break;
          case 9:
            c_.set_keepalive(pick(2), seconds(pick(100)), seconds(1 + pick(9)), 3, now_);
            break;
          default:
            c_.set_user_timeout(milliseconds(pick(100000)));
            break;
        }
        break;
      case 3:
        now_ = now_ + nanoseconds(choose_.next());
        break;
      case 4: {
        const Output o = c_.next_output(now_);
        if (o.kind == Output::Kind::kWaitUntil && o.at > now_) now_ = o.at;
        c_.on_deadline(now_);
        break;
      }
      case 5:
      case 6:
        drain();
        break;
      default: {
        const SegmentIn s = segment();
        const Verdict v = c_.on_segment(s, now_);
        if (!v.keep.empty() && v.keep.size() > s.payload_bytes) broken_ = "kept more than came";
        if (!v.keep.empty() && v.keep.end > kept_) kept_ = v.keep.end;
        break;
      }
    }
  }

  void drain() {
    const uint32_t most = pick(2) ? 10000 : pick(4);
    for (uint32_t i = 0; i <= most; ++i) {
      const Output o = c_.next_output(now_);
      if (o.kind != Output::Kind::kEmit) return;
      const SegmentOut& s = o.segment;
      if (!s.payload.empty()) {
        if (s.payload.begin != s.seq) broken_ = "SEQ is not that of the payload";
        if (s.payload.begin < c_.first_send_byte() || s.payload.end > c_.snd_end()) broken_ = "payload never written";
        if (s.payload.begin < c_.snd_una()) broken_ = "payload already acknowledged";
        if (s.mss_bytes == 0) broken_ = "segments of nothing";
        if (s.ecn != 0 && s.is_retransmission) broken_ = "resent data is not ECN-capable";
        if (s.payload.size() > 65536) broken_ = "pseudo frame too long";
      }
      uint32_t option_bytes = s.options.has_timestamps ? 12 : 0;
      if (s.options.sack_count) option_bytes += 4 + 8u * s.options.sack_count;
      if (option_bytes > 40) broken_ = "too many options";
      StreamOffset to = s.payload.end;
      if (!s.payload.empty() && pick(8) == 0) to = s.payload.begin + pick(static_cast<uint32_t>(s.payload.size()) + 1);
      c_.on_emitted(o, to, now_);
      if (const char* broken = check()) return void(broken_ = broken);
      if (!s.payload.empty() && to == s.payload.begin) return;  // the ring is full: later
    }
    if (most == 10000) broken_ = "never falls silent";
  }

  const char* check() {
    if (broken_) return broken_;
    if (c_.snd_una() > c_.snd_nxt()) return "snd.una > snd.nxt";
    if (c_.snd_nxt() > c_.snd_end() + 1) return "snd.nxt > snd.end + 1";
    if (c_.receive_end() > c_.rcv_nxt()) return "receive_end > rcv.nxt";
    tto_connection_record r{};
    c_.fill_record(r);
    if (c_.events().established) {
      if (r.rcv_wnd_edge < edge_) return "right edge moved left";
      edge_ = r.rcv_wnd_edge;
      if (kept_ > edge_) return "kept beyond the right edge";
      if (r.rcv_read > c_.receive_end()) return "read beyond what came";
      const Figures f = c_.figures();
      if (f.cwnd_bytes == 0 || f.mss_bytes == 0) return "no window or no segment size";
      if (f.rto < milliseconds(200) || f.rto > seconds(120)) return "RTO out of bounds";
    }
    return nullptr;
  }

  Choices& choose_;
  Connection c_;
  Instant now_{1'000'000'000'000};
  uint32_t irs_ = 0, ts_ = 0;
  StreamOffset edge_ = 0, kept_ = 0;
  const char* broken_ = nullptr;
};

}  // namespace tto::tcp
