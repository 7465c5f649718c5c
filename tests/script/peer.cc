#include "tests/script/peer.hh"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "libtto/wire/bytes.hh"
#include "libtto/wire/checksum.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::script {
namespace {

using wire::kAck, wire::kFin, wire::kRst, wire::kSyn;

wire::IpAddress address_from(const std::string& text) {
  uint8_t raw[16];
  if (inet_pton(AF_INET, text.c_str(), raw) == 1) {
    uint32_t v4;
    std::memcpy(&v4, raw, 4);
    return wire::IpAddress::from_v4(v4);
  }
  if (inet_pton(AF_INET6, text.c_str(), raw) == 1) return wire::IpAddress::from_v6(raw);
  throw Failure("not an address: '" + text + "'");
}

void sum_again(std::vector<uint8_t>& f, size_t at, size_t bytes, size_t field) {
  wire::store16(&f[at + field], 0);
  wire::store_raw16(&f[at + field], wire::checksum_of(wire::sum_bytes(&f[at], bytes)));
}

/// Computes the TCP (or ICMPv6) checksum of a frame whose bytes were changed.
void sum_transport(std::vector<uint8_t>& f, bool is_v4, size_t ip_header_bytes, uint8_t protocol, size_t field) {
  const size_t ip = wire::kEthernetBytes, at = ip + ip_header_bytes, bytes = f.size() - at;
  std::vector<uint8_t> pseudo;
  const size_t addresses = is_v4 ? ip + 12 : ip + 8;
  pseudo.insert(pseudo.end(), f.begin() + static_cast<ptrdiff_t>(addresses),
                f.begin() + static_cast<ptrdiff_t>(addresses + (is_v4 ? 8 : 32)));
  pseudo.insert(pseudo.end(), {0, protocol, static_cast<uint8_t>(bytes >> 8), static_cast<uint8_t>(bytes)});
  wire::store16(&f[at + field], 0);
  pseudo.insert(pseudo.end(), f.begin() + static_cast<ptrdiff_t>(at), f.end());
  wire::store_raw16(&f[at + field], wire::checksum_of(wire::sum_bytes(pseudo.data(), pseudo.size())));
}

/// Kinds of the options of a TCP header, as they lie there.
std::vector<uint8_t> option_kinds(const uint8_t* tcp) {
  std::vector<uint8_t> kinds;
  const size_t end = (tcp[12] >> 4) * size_t{4};
  for (size_t i = wire::kTcpBytes; i < end;) {
    const uint8_t kind = tcp[i];
    if (kind == 0) break;
    if (kind != 1) kinds.push_back(kind);
    i += kind == 1 ? 1 : std::max<size_t>(tcp[i + 1], 2);
  }
  return kinds;
}

}  // namespace

uint8_t byte_at(int64_t seq, bool from_stack) {
  const uint64_t x = (static_cast<uint64_t>(seq) + (from_stack ? 0 : 1u << 20)) * 0x9e3779b97f4a7c15u;
  return static_cast<uint8_t>(x >> 56);
}

// --- frames to the stack ---------------------------------------------------------------------------------------------

wire::TcpOptions Peer::options_for(const SegmentText& s, Instant now) const {
  wire::TcpOptions o;
  if (!s.options) {
    if (uses_ts_ && (s.flags & kRst) == 0) {
      o.has_timestamps = true;
      o.ts_val = ours_.ts_val + static_cast<uint32_t>((now - ours_.at).millis());
      o.ts_ecr = last_ts_val_;
    }
    return o;
  }
  const OptionText& t = *s.options;
  o.mss = static_cast<uint16_t>(t.mss.value_or(0));
  o.has_window_scale = t.window_scale.has_value();
  o.window_scale = static_cast<uint8_t>(t.window_scale.value_or(0));
  o.sack_permitted = t.sack_permitted;
  o.has_timestamps = t.has_timestamps || (t.others_allowed && uses_ts_);
  o.ts_val = t.ts_val.value_or(ours_.ts_val + static_cast<uint32_t>((now - ours_.at).millis()));
  o.ts_ecr = t.echoes_last || (t.others_allowed && !t.ts_ecr) ? last_ts_val_ : t.ts_ecr.value_or(0);
  for (const auto& [left, right] : t.sack) {
    if (o.sack_count == o.sack.size()) throw Failure("more SACK blocks than a header holds");
    o.sack[o.sack_count++] = {{iss_ + static_cast<uint32_t>(left)}, {iss_ + static_cast<uint32_t>(right)}};
  }
  return o;
}

// Both SYNs are known.
void Peer::agree() {
  is_agreed_ = true;
  ours_ = our_offer_;
  uses_ts_ = ours_.timestamps && stack_offer_.timestamps;
  const bool scales = ours_.window_scaling && stack_offer_.window_scaling;
  stack_scale_ = scales ? stack_offer_.scale : 0;
  our_scale_ = scales ? ours_.scale : 0;
}

// What the stack may do from now on because of this segment.
void Peer::note_sent(const SegmentText& s, const wire::TcpOptions& options, uint32_t window, Instant now) {
  if ((s.flags & kSyn) != 0) {
    our_offer_.timestamps = options.has_timestamps;
    our_offer_.window_scaling = options.has_window_scale;
    our_offer_.scale = std::min<int>(options.window_scale, 14);
    our_offer_.mss = options.mss != 0 ? options.mss : (at_.stack.is_v4() ? 536 : 1220);
    our_offer_.ts_val = options.ts_val;
    our_offer_.at = now;
    if (knows_iss_ && !is_agreed_ && (s.flags & kAck) != 0 && s.ack.value_or(next_ack_) == 1) agree();
  }
  if ((s.flags & kAck) != 0) {
    const int scale = (s.flags & kSyn) != 0 ? 0 : our_scale_;
    allowed_ = std::max(allowed_, s.ack.value_or(next_ack_) + (int64_t{window} << scale));
  } else if ((s.flags & kSyn) != 0) {
    allowed_ = std::max<int64_t>(allowed_, 1 + int64_t{window});
  }
}

std::vector<std::byte> Peer::frame(const SegmentText& s, Instant now) {
  const int64_t seq = s.seq.value_or(next_seq_);
  wire::FrameHeaders h;
  h.source_mac = at_.peer_mac;
  h.destination_mac = at_.stack_mac;
  h.source = s.source.empty() ? at_.peer : address_from(s.source);
  h.destination = s.destination.empty() ? at_.stack : address_from(s.destination);
  h.source_port = s.source_port.value_or(at_.peer_port);
  h.destination_port = s.destination_port.value_or(at_.stack_port);
  h.seq.raw = irs_ + static_cast<uint32_t>(seq);
  if ((s.flags & kAck) != 0 || s.ack) h.ack.raw = iss_ + static_cast<uint32_t>(s.ack.value_or(next_ack_));
  h.flags = s.flags;
  h.window = static_cast<uint16_t>(s.window.value_or(last_window_));
  h.urgent_pointer = static_cast<uint16_t>(s.urgent.value_or(0));
  h.tos = static_cast<uint8_t>(s.tos.value_or(0));
  h.ttl = static_cast<uint8_t>(s.ttl.value_or(64));
  h.options = options_for(s, now);
  last_window_ = h.window;
  note_sent(s, h.options, h.window, now);
  const int64_t first = seq + ((s.flags & kSyn) != 0 ? 1 : 0);
  next_seq_ = std::max(next_seq_, first + s.payload_bytes + ((s.flags & kFin) != 0 ? 1 : 0));

  std::vector<uint8_t> room(wire::kMaxHeaderBytes + s.payload_bytes);
  uint8_t* payload = room.data() + wire::kMaxHeaderBytes;
  for (uint32_t i = 0; i < s.payload_bytes; ++i) payload[i] = byte_at(first + i, false);
  const size_t header = wire::emit_headers(h, payload, s.payload_bytes, wire::sum_bytes(payload, s.payload_bytes));
  std::vector<uint8_t> f(payload - header, payload + s.payload_bytes);

  const bool is_v4 = h.source.is_v4();
  const size_t ip = wire::kEthernetBytes;
  size_t ip_bytes = is_v4 ? wire::kIpv4Bytes : wire::kIpv6Bytes;
  if (s.options && !s.options->raw.empty()) {
    std::vector<uint8_t> raw = s.options->raw;
    while (raw.size() % 4 != 0) raw.push_back(0);
    f.insert(f.begin() + static_cast<ptrdiff_t>(ip + ip_bytes + wire::kTcpBytes), raw.begin(), raw.end());
    f[ip + ip_bytes + 12] = static_cast<uint8_t>(f[ip + ip_bytes + 12] + (raw.size() / 4 << 4));
  }
  if (is_v4 && s.has_ip_options) {
    f.insert(f.begin() + static_cast<ptrdiff_t>(ip + ip_bytes), 4, 1);
    ip_bytes += 4;
    f[ip] = static_cast<uint8_t>(f[ip] + 1);
  }
  if (is_v4 && s.is_fragment) f[ip + 6] = 0x20;
  if (s.data_offset) f[ip + ip_bytes + 12] = static_cast<uint8_t>(*s.data_offset << 4);
  f[ip + ip_bytes + 12] = static_cast<uint8_t>(f[ip + ip_bytes + 12] | s.reserved);
  if (is_v4) {
    wire::store16(&f[ip + 2], static_cast<uint16_t>(f.size() - ip));
    sum_again(f, ip, ip_bytes, 10);
  } else {
    wire::store16(&f[ip + 4], static_cast<uint16_t>(f.size() - ip - ip_bytes));
  }
  sum_transport(f, is_v4, ip_bytes, wire::kProtocolTcp, 16);
  if (s.has_bad_checksum) f[ip + ip_bytes + 16] ^= 0x40;
  std::vector<std::byte> bytes(f.size());
  std::memcpy(bytes.data(), f.data(), f.size());
  return bytes;
}

std::vector<std::byte> Peer::icmp(uint8_t type, uint8_t code, int64_t quoted, uint16_t mtu_bytes) {
  const bool is_v4 = at_.stack.is_v4();
  // The quoted segment, ours as the peer got it: its IP header and eight bytes of TCP.
  wire::FrameHeaders h;
  h.source_mac = at_.peer_mac;
  h.destination_mac = at_.stack_mac;
  h.source = at_.stack;
  h.destination = at_.peer;
  h.source_port = at_.stack_port;
  h.destination_port = at_.peer_port;
  h.seq.raw = iss_ + static_cast<uint32_t>(quoted);
  h.flags = kAck;
  std::vector<uint8_t> room(wire::kMaxHeaderBytes);
  const auto built = [&] {
    const size_t bytes = wire::emit_headers(h, room.data() + room.size(), 0, 0);
    return std::vector<uint8_t>(room.end() - static_cast<ptrdiff_t>(bytes), room.end());
  };
  const std::vector<uint8_t> segment = built();
  std::swap(h.source, h.destination);
  std::vector<uint8_t> f = built();
  const size_t ip = wire::kEthernetBytes, ip_bytes = is_v4 ? wire::kIpv4Bytes : wire::kIpv6Bytes;
  f.resize(ip + ip_bytes);
  f.insert(f.end(), {type, code, 0, 0, 0, 0, static_cast<uint8_t>(mtu_bytes >> 8), static_cast<uint8_t>(mtu_bytes)});
  f.insert(f.end(), segment.begin() + static_cast<ptrdiff_t>(ip),
           segment.begin() + static_cast<ptrdiff_t>(ip + ip_bytes + 8));
  if (is_v4) {
    f[ip + 9] = wire::kProtocolIcmp;
    wire::store16(&f[ip + 2], static_cast<uint16_t>(f.size() - ip));
    sum_again(f, ip, ip_bytes, 10);
    sum_again(f, ip + ip_bytes, f.size() - ip - ip_bytes, 2);
  } else {
    f[ip + 6] = wire::kProtocolIcmpV6;
    wire::store16(&f[ip + 4], static_cast<uint16_t>(f.size() - ip - ip_bytes));
    sum_transport(f, false, ip_bytes, wire::kProtocolIcmpV6, 2);
  }
  std::vector<std::byte> bytes(f.size());
  std::memcpy(bytes.data(), f.data(), f.size());
  return bytes;
}

// --- frames from the stack -------------------------------------------------------------------------------------------

void Peer::note_syn(const Seen& s, uint32_t raw_seq) {
  if (!knows_iss_ || raw_seq != iss_) {  // a new connection
    iss_ = raw_seq;
    knows_iss_ = true;
    is_agreed_ = uses_ts_ = false;
    stack_scale_ = our_scale_ = 0;
    next_ack_ = edge_ = 0;
  }
  stack_offer_.timestamps = s.options.has_timestamps;
  stack_offer_.window_scaling = s.options.has_window_scale;
  stack_offer_.scale = s.options.window_scale;
  if ((s.flags & kAck) != 0 && !is_agreed_) agree();
}

Seen Peer::look(const std::vector<std::byte>& frame) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(frame.data());
  const std::span<const uint8_t> piece(bytes, frame.size());
  const auto view = wire::parse_frame(piece, static_cast<uint32_t>(frame.size()));
  if (!view) throw Failure("the stack sent a frame that does not parse");
  const uint16_t sum = wire::sum_bytes(bytes + view->payload_offset, view->payload_bytes);
  if (!wire::verify_tcp_checksum(*view, piece, sum, false)) throw Failure("the stack sent a bad TCP checksum");
  const wire::TcpHeader& t = view->tcp;
  Seen s;
  s.flags = t.flags;
  s.payload_bytes = view->payload_bytes;
  s.window = t.window;
  s.urgent = t.urgent_pointer;
  s.tos = view->tos;
  s.ttl = view->ttl;
  s.options = t.options;
  if ((t.flags & kSyn) != 0) note_syn(s, t.seq.raw);
  s.seq = static_cast<int32_t>(t.seq.raw - iss_);
  if ((t.flags & kAck) != 0) s.ack = static_cast<int32_t>(t.ack.raw - irs_);
  for (uint32_t i = 0; i < t.options.sack_count; ++i) {
    s.sack.emplace_back(static_cast<int32_t>(t.options.sack[i].left.raw - irs_),
                        static_cast<int32_t>(t.options.sack[i].right.raw - irs_));
  }
  if (s.options.has_timestamps) last_ts_val_ = s.options.ts_val;
  check(s, *view, bytes);
  return s;
}

void Peer::check(const Seen& s, const wire::FrameView& view, const uint8_t* bytes) {
  const auto broken = [&](const std::string& what) { throw Failure(what + ": " + text_of(s)); };
  if (view.ip_version == wire::IpVersion::kV4 && (bytes[view.ip_offset + 6] & 0x40) == 0) broken("DF is not set (R80)");
  const bool is_syn = (s.flags & kSyn) != 0, is_rst = (s.flags & kRst) != 0;
  for (const uint8_t kind : option_kinds(bytes + view.tcp_offset)) {
    constexpr uint8_t kMss = 2, kSackPermitted = 4, kSack = 5;  // window scale is between
    if (!is_syn && kind >= kMss && kind <= kSackPermitted) broken("an option of SYNs (R5)");
    if (is_syn && kind == kSack) broken("SACK blocks in a SYN");
  }
  if (is_rst) return;
  if (is_agreed_ && uses_ts_ != s.options.has_timestamps) broken("timestamps in some segments only (R7)");
  if ((s.flags & kAck) != 0) {
    const int scale = is_syn ? 0 : stack_scale_;
    const int64_t edge = s.ack + (int64_t{s.window} << scale);
    if (edge + (int64_t{1} << scale) <= edge_) broken("the right edge moved left from " + std::to_string(edge_) + " (R46)");
    edge_ = std::max(edge_, edge);
  }
  const int64_t first = s.seq + (is_syn ? 1 : 0), end = first + s.payload_bytes;
  for (uint32_t i = 0; i < s.payload_bytes; ++i) {
    if (bytes[view.payload_offset + i] != byte_at(first + i, true)) broken("a byte that was not written there");
  }
  if (s.payload_bytes != 0 && end > allowed_) broken("data beyond the window " + std::to_string(allowed_));
  if (s.payload_bytes != 0 && s.payload_bytes > ours_.mss) broken("more than the peer's MSS (R3)");
  next_ack_ = std::max(next_ack_, end + ((s.flags & kFin) != 0 ? 1 : 0));
}

}  // namespace tto::script
