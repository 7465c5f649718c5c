// Frames, application calls and times against one whole stack: ports, device, engine, sockets. `Choices` is anything with
// next() -> uint32_t and empty(): a seed's generator, or a fuzzer's input. Frames are made by structure: sound headers
// and sums around numbers near those that matter, so that nearly all of them are looked at to the end; a few are damaged.
#pragma once

#include <atomic>
#include <cstring>
#include <memory>
#include <vector>

#include "libtto/port/memory_port.hh"
#include "libtto/stack/stack.hh"
#include "libtto/wire/bytes.hh"
#include "libtto/wire/checksum.hh"
#include "libtto/wire/frame.hh"
#include "libtto/wire/tcp_flags.hh"
#include "tests/support/fake_environment.hh"
#include "tests/support/port_frames.hh"
#include "tests/support/test_region.hh"

namespace tto::fuzz {

template <typename Choices>
class FrameStorm {
 public:
  explicit FrameStorm(Choices& choices)
      : choose_(choices), pool_(kFrames, kConnections), peer_pool_(kFrames), words_(stats::kCounterCount) {
    is_v6_ = pick(4) == 0;
    environment_ = std::make_unique<stack::FakeEnvironment>(1, 1500);
    link_ = std::make_unique<port::MemoryLink>(port::LinkConfig{}, pool_.pool(), peer_pool_.pool());
    wire_ = std::make_unique<testing::PortUser>(link_->end(1), peer_pool_.pool());
    wire_->top_up(kFrames / 2);
    stack::StackConfig config;
    config.device.flow_capacity = 64;
    stack::PortBinding binding;
    binding.port = &link_->end(0);
    binding.region = pool_.region();
    binding.pool = &pool_.pool();
    stack_ = std::make_unique<stack::Stack>(config, binding, *environment_, words_.data());
    stack::Stack::ListenRequest request;
    request.address = stack::address_of(1, is_v6_);
    request.is_v6 = is_v6_;
    request.port = kListenPort;
    request.backlog = 4;
    request.config.receive_buffer_bytes = 1u << (9 + pick(10));
    request.config.receive_window_scale = static_cast<uint8_t>(pick(10));
    request.config.ecn = pick(2);
    stats::Counter reason = stats::Counter::kCount;
    listener_ = stack_->listen(request, &reason);
    for (uint16_t i = 0; i < kFlows; ++i) flows_[i].remote_port = static_cast<uint16_t>(4000 + i);
    turn();
  }
  ~FrameStorm() {
    stack_.reset();
    wire_.reset();
  }

  /// Null, or what was violated.
  const char* run(uint64_t steps) {
    for (uint64_t i = 0; i < steps && !choose_.empty() && broken_ == nullptr; ++i) step();
    for (auto* s : sockets_) s->abort(now_);
    sockets_.clear();
    turn();
    if (!stack_->check_consistency()) broken_ = "frames, slots and queues do not agree";
    if (rx_frames() != fates()) broken_ = "a frame had no fate, or two";
    return broken_;
  }
  uint64_t rx_frames() const { return count(stats::Counter::rx_frame); }
  /// Those of which not even the IP header was sound.
  uint64_t stopped_at_first_header() const {
    using stats::DropReason;
    uint64_t n = 0;
    for (const auto r : {DropReason::k_truncated, DropReason::k_ethertype, DropReason::k_ip_header, DropReason::k_ip_checksum})
      n += count(stats::counter_of(r));
    return n;
  }

 private:
  static constexpr uint32_t kFrames = 256, kConnections = 16;
  static constexpr uint16_t kFlows = 6, kListenPort = 80, kActivePort = 50000;
  struct Flow {
    uint16_t remote_port = 0, local_port = kListenPort;
    uint32_t next_seq = 0;  // the stack's, after what it sent
    uint32_t next_ack = 0;  // what it expects
    uint32_t ts = 1;
  };

  uint32_t pick(uint32_t n) { return choose_.next() % n; }
  uint64_t count(stats::Counter c) const { return words_[static_cast<size_t>(c)].load(); }
  uint64_t fates() const {
    uint64_t n = count(stats::Counter::rx_frame_delivered) + count(stats::Counter::rx_frame_passed);
    for (uint8_t r = 1; r < static_cast<uint8_t>(stats::DropReason::kCount); ++r)
      n += count(stats::counter_of(static_cast<stats::DropReason>(r)));
    return n;
  }

  uint32_t near(uint32_t base) {
    switch (pick(8)) {
      case 0: return base + pick(3) - 1;
      case 1: return base + pick(3000);
      case 2: return base - pick(3000);
      case 3: return pick(8) == 0 ? choose_.next() : base + pick(1 << 16);
      default: return base;
    }
  }

  void turn() {
    for (int i = 0; i < 100; ++i) {
      const size_t work = stack_->run_once(now_);
      wire_->reclaim();
      const auto frames = wire_->receive(now_);
      wire_->top_up(kFrames / 2);
      for (const auto& f : frames) learn(f);
      if (work == 0 && frames.empty()) return;
    }
    broken_ = "never falls silent";
  }

  /// What the stack sends parses, has good sums, and tells where it stands.
  void learn(const testing::Bytes& frame) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(frame.data());
    const std::span<const uint8_t> piece(bytes, frame.size());
    const auto view = wire::parse_frame(piece, static_cast<uint32_t>(frame.size()));
    if (!view) return void(broken_ = "the stack sent a frame that does not parse");
    const uint16_t sum = wire::sum_bytes(bytes + view->payload_offset, view->payload_bytes);
    if (!wire::verify_tcp_checksum(*view, piece, sum, false)) return void(broken_ = "the stack sent a bad checksum");
    if ((view->tcp.flags & wire::kRst) != 0) return;
    for (Flow& f : flows_) {
      if (f.remote_port != view->tcp.destination_port || f.local_port != view->tcp.source_port) continue;
      const uint8_t flags = view->tcp.flags;
      f.next_seq = view->tcp.seq.raw + view->payload_bytes + ((flags & (wire::kSyn | wire::kFin)) != 0 ? 1 : 0);
      if ((flags & wire::kAck) != 0) f.next_ack = view->tcp.ack.raw;
    }
  }

  void step() {
    switch (pick(20)) {
      case 0: now_ = now_ + nanoseconds(choose_.next()); break;
      case 1: {
        const Instant next = stack_->next_deadline();
        if (next != kNever && next > now_) now_ = next;
        break;
      }
      case 2:
      case 3: call(); break;
      case 4: {
        const Flow& f = flows_[pick(kFlows)];
        send(icmp(f));
        break;
      }
      default: send(segment(flows_[pick(kFlows)])); break;
    }
    if (pick(4) != 0) turn();  // else several in one turn
  }

  void call() {
    while (socket::StreamSocket* s = listener_->accept()) sockets_.push_back(s);
    if (pick(12) == 0) return connect();
    if (sockets_.empty()) return;
    const size_t which = pick(static_cast<uint32_t>(sockets_.size()));
    socket::StreamSocket& s = *sockets_[which];
    const iovec iov{buffer_, pick(sizeof buffer_)};
    switch (pick(8)) {
      case 0:
      case 1: (void)s.send(&iov, 1, 0, now_); break;
      case 2:
      case 3:
      case 4: (void)s.receive(&iov, 1, 0, now_); break;
      case 5: (void)s.shutdown(static_cast<int>(pick(3)), now_); break;
      case 6: s.set_receive_buffer(1u << (8 + pick(12))); break;
      default:
        if (pick(4) != 0) return;
        pick(2) != 0 ? s.close(now_) : s.abort(now_);
        sockets_.erase(sockets_.begin() + static_cast<ptrdiff_t>(which));
    }
  }

  void connect() {
    Flow& f = flows_[pick(kFlows)];
    stack::Stack::ConnectRequest r;
    f.local_port = static_cast<uint16_t>(kActivePort + pick(100));
    r.tuple = {stack::address_of(1, is_v6_), stack::address_of(2, is_v6_), f.local_port, f.remote_port};
    r.next_hop = *environment_->next_hop(r.tuple.remote, &r.tuple.local, 0);
    r.config.timestamps = pick(2);
    r.config.sack = pick(2);
    stats::Counter reason = stats::Counter::kCount;
    if (socket::StreamSocket* s = stack_->connect(r, now_, &reason)) sockets_.push_back(s);
    stack_->push(now_);
  }

  void send(std::vector<uint8_t> f) {
    damage(f);
    testing::Bytes bytes(f.size());
    std::memcpy(bytes.data(), f.data(), f.size());
    if (!bytes.empty()) (void)wire_->send(bytes, now_);
    wire_->reclaim();
  }

  void damage(std::vector<uint8_t>& f) {
    switch (pick(64)) {
      case 0: f[pick(static_cast<uint32_t>(f.size()))] ^= static_cast<uint8_t>(1 + pick(255)); break;
      case 1: f.resize(14 + pick(static_cast<uint32_t>(f.size() - 13))); break;
      case 2: f.resize(f.size() + pick(40)); break;  // Ethernet padding
      default: break;
    }
  }

  wire::FrameHeaders headers(const Flow& f) {
    wire::FrameHeaders h;
    h.source_mac = stack::mac_of(2);
    h.destination_mac = stack::mac_of(1);
    h.source = stack::address_of(2, is_v6_);
    h.destination = stack::address_of(1, is_v6_);
    h.source_port = f.remote_port;
    h.destination_port = f.local_port;
    return h;
  }

  std::vector<uint8_t> segment(Flow& f) {
    wire::FrameHeaders h = headers(f);
    static constexpr uint8_t kUsual[] = {wire::kAck, wire::kAck, wire::kAck | wire::kPsh, wire::kSyn,
                                         wire::kAck | wire::kFin, wire::kSyn | wire::kAck, wire::kAck | wire::kUrg, wire::kRst};
    h.flags = pick(16) == 0 ? static_cast<uint8_t>(pick(256)) : kUsual[pick(sizeof kUsual)];
    h.seq.raw = (h.flags & wire::kSyn) != 0 && pick(2) ? choose_.next() : near(f.next_ack);
    h.ack.raw = near(f.next_seq);
    h.window = static_cast<uint16_t>(pick(4) ? 60000 : pick(3));
    h.tos = static_cast<uint8_t>(pick(8) ? 0 : pick(256));
    h.urgent_pointer = static_cast<uint16_t>((h.flags & wire::kUrg) != 0 ? pick(2000) : 0);
    wire::TcpOptions& o = h.options;
    if ((h.flags & wire::kSyn) != 0) {
      o.mss = static_cast<uint16_t>(pick(4) ? 1000 : pick(65536));
      o.has_window_scale = pick(2);
      o.window_scale = static_cast<uint8_t>(pick(8) ? pick(15) : pick(256));
      o.sack_permitted = pick(2);
    }
    o.has_timestamps = pick(2);
    o.ts_val = f.ts += pick(8) ? pick(5) : choose_.next();
    o.ts_ecr = pick(4) ? 0 : choose_.next();
    if ((h.flags & wire::kSyn) == 0 && pick(4) == 0) {
      o.sack_count = static_cast<uint8_t>(pick(5));
      for (auto& b : o.sack) b.left.raw = near(f.next_seq), b.right.raw = b.left.raw + pick(4000);
    }
    const uint32_t payload = pick(2) ? 0 : (pick(4) ? pick(1380) : pick(4));
    std::vector<uint8_t> room(wire::kMaxHeaderBytes + payload, 0x5a);
    uint8_t* at = room.data() + wire::kMaxHeaderBytes;
    const size_t bytes = wire::emit_headers(h, at, payload, wire::sum_bytes(at, payload));
    std::vector<uint8_t> out(at - bytes, at + payload);
    if (pick(8) == 0) scramble_options(out);
    return out;
  }

  /// Any bytes as options, the sum being right again.
  void scramble_options(std::vector<uint8_t>& f) {
    const size_t tcp = wire::kEthernetBytes + (is_v6_ ? wire::kIpv6Bytes : wire::kIpv4Bytes);
    const size_t end = tcp + (f[tcp + 12] >> 4) * size_t{4};
    for (size_t i = tcp + wire::kTcpBytes; i < end; ++i) {
      const auto fresh = static_cast<uint8_t>(pick(2) ? pick(10) : pick(256));
      const uint16_t old_word = load_word(f, i);
      f[i] = fresh;
      const uint16_t sum = load_word(f, tcp + 16);
      wire::store_raw16(&f[tcp + 16], wire::update_checksum(sum, old_word, load_word(f, i)));
    }
  }
  static uint16_t load_word(const std::vector<uint8_t>& f, size_t i) {
    uint16_t word;
    std::memcpy(&word, &f[i & ~size_t{1}], 2);
    return word;
  }

  std::vector<uint8_t> icmp(const Flow& f) {
    wire::FrameHeaders h = headers(f);
    std::swap(h.source, h.destination);
    std::swap(h.source_port, h.destination_port);
    h.seq.raw = near(f.next_seq);
    uint8_t room[wire::kMaxHeaderBytes];
    size_t bytes = wire::emit_headers(h, room + sizeof room, 0, 0);
    const size_t ip = wire::kEthernetBytes, ip_bytes = is_v6_ ? wire::kIpv6Bytes : wire::kIpv4Bytes;
    std::vector<uint8_t> quoted(room + sizeof room - bytes + ip, room + sizeof room - bytes + ip + ip_bytes + 8);
    h = headers(f);
    bytes = wire::emit_headers(h, room + sizeof room, 0, 0);
    std::vector<uint8_t> out(room + sizeof room - bytes, room + sizeof room - bytes + ip + ip_bytes);
    const auto type = static_cast<uint8_t>(pick(8) ? (is_v6_ ? 1 + pick(4) : 3) : pick(256));
    out.insert(out.end(), {type, static_cast<uint8_t>(pick(16)), 0, 0, 0, 0, static_cast<uint8_t>(pick(8)),
                           static_cast<uint8_t>(pick(256))});
    out.insert(out.end(), quoted.begin(), quoted.end());
    const auto length = static_cast<uint16_t>(out.size() - ip - (is_v6_ ? ip_bytes : 0));
    wire::store16(&out[ip + (is_v6_ ? 4 : 2)], length);
    out[ip + (is_v6_ ? 6 : 9)] = is_v6_ ? wire::kProtocolIcmpV6 : wire::kProtocolIcmp;
    const size_t at = ip + ip_bytes;
    uint16_t pseudo = 0;
    if (is_v6_) {
      const uint8_t tail[4] = {0, wire::kProtocolIcmpV6, static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)};
      pseudo = wire::add_sums(wire::sum_bytes(&out[ip + 8], 32), wire::sum_bytes(tail, sizeof tail));
    } else {
      wire::store16(&out[ip + 10], 0);
      wire::store_raw16(&out[ip + 10], wire::checksum_of(wire::sum_bytes(&out[ip], ip_bytes)));
    }
    const uint16_t sum = wire::add_sums(pseudo, wire::sum_bytes(&out[at], out.size() - at));
    wire::store_raw16(&out[at + 2], wire::checksum_of(sum));
    return out;
  }

  Choices& choose_;
  bool is_v6_ = false;
  testing::TestPool pool_, peer_pool_;
  std::vector<std::atomic<uint64_t>> words_;
  std::unique_ptr<stack::FakeEnvironment> environment_;
  std::unique_ptr<port::MemoryLink> link_;
  std::unique_ptr<testing::PortUser> wire_;
  std::unique_ptr<stack::Stack> stack_;
  socket::ListenSocket* listener_ = nullptr;
  std::vector<socket::StreamSocket*> sockets_;
  Flow flows_[kFlows];
  Instant now_{1'000'000'000'000};
  uint8_t buffer_[20000] = {};
  const char* broken_ = nullptr;
};

}  // namespace tto::fuzz
