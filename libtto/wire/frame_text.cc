#include "libtto/wire/frame_text.hh"

#include "libtto/wire/arp.hh"
#include "libtto/wire/bytes.hh"
#include "libtto/wire/tcp_flags.hh"

namespace tto::wire {
namespace {

class Text {
 public:
  explicit Text(std::span<char> out) : out_(out) {}

  Text& operator<<(std::string_view text) {
    for (const char c : text) *this << c;
    return *this;
  }
  Text& operator<<(char c) {
    if (length_ < out_.size()) out_[length_++] = c;
    return *this;
  }
  Text& operator<<(uint32_t number) { return number_in(number, 10, 1); }
  Text& hex(uint32_t number, size_t least_digits = 1) { return number_in(number, 16, least_digits); }
  Text& operator<<(const IpAddress& a) { return a.is_v4() ? v4(a) : v6(a); }
  Text& operator<<(const MacAddress& mac) {
    for (size_t i = 0; i < 6; ++i) {
      if (i > 0) *this << ':';
      hex(mac.bytes[i], 2);
    }
    return *this;
  }
  Text& endpoint(const IpAddress& a, uint16_t port) {
    if (a.is_v4()) return *this << a << ':' << uint32_t{port};
    return *this << '[' << a << "]:" << uint32_t{port};
  }
  std::string_view view() const { return {out_.data(), length_}; }

 private:
  Text& number_in(uint32_t number, uint32_t base, size_t least_digits) {
    char digits[12];
    size_t at = sizeof(digits);
    do {
      digits[--at] = "0123456789abcdef"[number % base];
      number /= base;
    } while (number != 0 || sizeof(digits) - at < least_digits);
    return *this << std::string_view(&digits[at], sizeof(digits) - at);
  }
  Text& v4(const IpAddress& a) {
    for (size_t i = 12; i < 16; ++i) {
      if (i > 12) *this << '.';
      *this << uint32_t{a.bytes[i]};
    }
    return *this;
  }
  // RFC 5952: the longest run of at least two zero groups, the first of equals, becomes "::".
  Text& v6(const IpAddress& a) {
    size_t best = 8, best_count = 1;
    for (size_t i = 0; i < 8; ++i) {
      size_t count = 0;
      while (i + count < 8 && load16(&a.bytes[2 * (i + count)]) == 0) ++count;
      if (count > best_count) best = i, best_count = count;
    }
    for (size_t i = 0; i < 8; ++i) {
      if (i == best) {
        *this << "::";
        i += best_count - 1;
        continue;
      }
      if (i > 0 && i != best + best_count) *this << ':';
      hex(load16(&a.bytes[2 * i]));
    }
    return *this;
  }

  std::span<char> out_;
  size_t length_ = 0;
};

void add_flags(Text& text, uint8_t flags) {
  constexpr struct {
    uint8_t bit;
    char letter;
  } kLetters[] = {{kFin, 'F'}, {kSyn, 'S'}, {kRst, 'R'}, {kPsh, 'P'},
                  {kAck, '.'}, {kUrg, 'U'}, {kEce, 'E'}, {kCwr, 'W'}};
  text << " [";
  for (const auto& l : kLetters) {
    if ((flags & l.bit) != 0) text << l.letter;
  }
  text << ']';
}

void add_options(Text& text, const TcpOptions& o) {
  if (o == TcpOptions{}) return;
  text << " <";
  const char* gap = "";
  if (o.mss != 0) text << "mss " << uint32_t{o.mss}, gap = " ";
  if (o.sack_permitted) text << gap << "sackOK", gap = " ";
  if (o.has_timestamps) text << gap << "ts " << o.ts_val << ' ' << o.ts_ecr, gap = " ";
  if (o.has_window_scale) text << gap << "ws " << uint32_t{o.window_scale}, gap = " ";
  for (size_t i = 0; i < o.sack_count; ++i) {
    text << gap << (i == 0 ? "sack " : "") << o.sack[i].left.raw << '-' << o.sack[i].right.raw;
    gap = " ";
  }
  text << '>';
}

void add_tcp(Text& text, const FrameView& f) {
  text.endpoint(f.source, f.tcp.source_port) << " > ";
  text.endpoint(f.destination, f.tcp.destination_port);
  add_flags(text, f.tcp.flags);
  text << " seq " << f.tcp.seq.raw;
  if ((f.tcp.flags & kAck) != 0) text << " ack " << f.tcp.ack.raw;
  text << " win " << uint32_t{f.tcp.window};
  if ((f.tcp.flags & kUrg) != 0) text << " urg " << uint32_t{f.tcp.urgent_pointer};
  text << " len " << f.payload_bytes;
  if ((f.tos & kEcnMask) != 0) text << (f.tos % 4 == kCe ? " CE" : f.tos % 4 == kEct0 ? " ECT0" : " ECT1");
  add_options(text, f.tcp.options);
}

void add_icmp(Text& text, const FrameView& f) {
  text << f.source << " > " << f.destination << (f.ip_version == IpVersion::kV4 ? " icmp " : " icmp6 ")
       << uint32_t{f.icmp.type} << '/' << uint32_t{f.icmp.code};
  if (f.icmp.mtu_bytes != 0) text << " mtu " << uint32_t{f.icmp.mtu_bytes};
  text << " about ";
  text.endpoint(f.icmp.tuple.local, f.icmp.tuple.local_port) << " > ";
  text.endpoint(f.icmp.tuple.remote, f.icmp.tuple.remote_port) << " seq " << f.icmp.quoted_seq.raw;
}

void add_arp(Text& text, const ArpPacket& arp) {
  if (arp.operation == ArpPacket::Operation::kRequest) {
    text << "arp who-has " << arp.target << " tell " << arp.sender;
  } else {
    text << "arp " << arp.sender << " is-at " << arp.sender_mac;
  }
}

}  // namespace

std::string_view frame_text(std::span<const uint8_t> first_piece, uint32_t total_bytes, std::span<char> out) {
  Text text(out);
  const auto frame = parse_frame(first_piece, total_bytes);
  if (frame) {
    if (frame->vlan != 0) text << "vlan " << uint32_t{frame->vlan} << ' ';
    if (frame->kind == FrameView::Kind::kTcp)
      add_tcp(text, *frame);
    else
      add_icmp(text, *frame);
  } else if (const auto arp = parse_arp(first_piece)) {
    add_arp(text, *arp);
  } else {
    text << "frame of " << total_bytes << " bytes: " << stats::name(stats::counter_of(frame.error()));
  }
  return text.view();
}

std::string_view address_text(const IpAddress& address, std::span<char> out) {
  Text text(out);
  text << address;
  return text.view();
}

}  // namespace tto::wire
