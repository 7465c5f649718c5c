#include "tests/script/segment_text.hh"

#include <sstream>

#include "libtto/wire/tcp_flags.hh"

namespace tto::script {
namespace {

constexpr struct {
  char letter;
  uint8_t bit;
} kFlagLetters[] = {{'S', wire::kSyn}, {'F', wire::kFin}, {'R', wire::kRst}, {'P', wire::kPsh},
                    {'A', wire::kAck}, {'U', wire::kUrg}, {'E', wire::kEce}, {'C', wire::kCwr}};

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  std::istringstream in(text);
  while (in >> word) words.push_back(word);
  return words;
}

std::optional<uint32_t> number_or_any(const std::string& text) {
  if (text == "*") return std::nullopt;
  return static_cast<uint32_t>(number_of(text));
}

std::vector<uint8_t> bytes_of(const std::string& hex) {
  std::vector<uint8_t> bytes;
  if (hex.size() % 2 != 0) throw Failure("hex: an odd number of digits");
  for (size_t i = 0; i < hex.size(); i += 2) {
    size_t used = 0;
    const std::string digits = hex.substr(i, 2);
    bytes.push_back(static_cast<uint8_t>(std::stoul(digits, &used, 16)));
    if (used != 2) throw Failure("hex: not a digit in '" + digits + "'");
  }
  return bytes;
}

}  // namespace

int64_t number_of(const std::string& text) {
  try {
    size_t used = 0;
    const int64_t n = std::stoll(text, &used, 0);
    if (used == text.size()) return n;
  } catch (const std::logic_error&) {
  }
  throw Failure("not a number: '" + text + "'");
}

uint8_t flags_of(const std::string& text) {
  uint8_t flags = 0;
  if (text == "-") return 0;
  for (const char c : text) {
    uint8_t bit = 0;
    for (const auto& f : kFlagLetters)
      if (f.letter == c) bit = f.bit;
    if (bit == 0 || (flags & bit) != 0) throw Failure("not TCP flags: '" + text + "'");
    flags |= bit;
  }
  return flags;
}

std::string flags_text(uint8_t flags) {
  std::string text;
  for (const auto& f : kFlagLetters)
    if ((flags & f.bit) != 0) text += f.letter;
  return text.empty() ? "-" : text;
}

OptionText parse_options(const std::string& inside) {
  OptionText o;
  std::istringstream parts(inside);
  std::string part;
  while (std::getline(parts, part, ',')) {
    const std::vector<std::string> words = split(part);
    if (words.empty()) continue;
    const auto needs = [&](size_t n) {
      if (words.size() != n + 1) throw Failure("option '" + part + "': " + std::to_string(n) + " values wanted");
    };
    if (words[0] == "*") {
      o.others_allowed = true;
    } else if (words[0] == "mss") {
      needs(1);
      o.mss = static_cast<uint32_t>(number_of(words[1]));
    } else if (words[0] == "ws") {
      needs(1);
      o.window_scale = static_cast<uint32_t>(number_of(words[1]));
    } else if (words[0] == "sackOK") {
      needs(0);
      o.sack_permitted = true;
    } else if (words[0] == "ts") {
      needs(2);
      o.has_timestamps = true;
      o.ts_val = number_or_any(words[1]);
      o.echoes_last = words[2] == "last";
      if (!o.echoes_last) o.ts_ecr = number_or_any(words[2]);
    } else if (words[0] == "sack") {
      for (size_t i = 1; i < words.size(); ++i) {
        const size_t colon = words[i].find(':');
        if (colon == std::string::npos) throw Failure("not a SACK block: '" + words[i] + "'");
        o.sack.emplace_back(number_of(words[i].substr(0, colon)), number_of(words[i].substr(colon + 1)));
      }
    } else if (words[0] == "hex") {
      needs(1);
      o.raw = bytes_of(words[1]);
    } else {
      throw Failure("unknown option '" + part + "'");
    }
  }
  return o;
}

SegmentText parse_segment(const std::vector<std::string>& words, size_t from) {
  SegmentText s;
  if (from >= words.size()) throw Failure("flags are missing");
  s.flags = flags_of(words[from++]);
  if (from < words.size() && (words[from][0] == '-' || isdigit(static_cast<unsigned char>(words[from][0])) != 0)) {
    const std::string& w = words[from++];
    const size_t plus = w.find('+');
    s.seq = number_of(w.substr(0, plus));
    if (plus != std::string::npos) s.payload_bytes = static_cast<uint32_t>(number_of(w.substr(plus + 1)));
  }
  while (from < words.size()) {
    const std::string& key = words[from++];
    if (key[0] == '<') {
      if (s.options) throw Failure("options twice");
      s.options = parse_options(key.substr(1, key.size() - 2));
      continue;
    }
    if (key == "bad-checksum") {
      s.has_bad_checksum = true;
    } else if (key == "fragment") {
      s.is_fragment = true;
    } else if (key == "ip-options") {
      s.has_ip_options = true;
    } else {
      if (from >= words.size()) throw Failure("'" + key + "' wants a value, or is unknown");
      const std::string& value = words[from++];
      const auto n = [&] { return static_cast<uint32_t>(number_of(value)); };
      if (key == "ack") s.ack = number_of(value);
      else if (key == "win") s.window = n();
      else if (key == "urg") s.urgent = n();
      else if (key == "tos") s.tos = n();
      else if (key == "ttl") s.ttl = n();
      else if (key == "offset") s.data_offset = n();
      else if (key == "reserved") s.reserved = static_cast<uint8_t>(n());
      else if (key == "from") s.source = value;
      else if (key == "to") s.destination = value;
      else if (key == "sport") s.source_port = static_cast<uint16_t>(n());
      else if (key == "dport") s.destination_port = static_cast<uint16_t>(n());
      else throw Failure("unknown word '" + key + "'");
    }
  }
  return s;
}

std::string text_of(const Seen& seen) {
  std::ostringstream out;
  out << flags_text(seen.flags) << ' ' << seen.seq << '+' << seen.payload_bytes;
  if ((seen.flags & wire::kAck) != 0) out << " ack " << seen.ack;
  out << " win " << seen.window;
  if (seen.urgent != 0) out << " urg " << seen.urgent;
  if (seen.tos != 0) out << " tos " << +seen.tos;
  out << " <";
  const char* separator = "";
  const auto part = [&]() -> std::ostringstream& {
    out << separator;
    separator = ", ";
    return out;
  };
  if (seen.options.mss != 0) part() << "mss " << seen.options.mss;
  if (seen.options.sack_permitted) part() << "sackOK";
  if (seen.options.has_timestamps) part() << "ts " << seen.options.ts_val << ' ' << seen.options.ts_ecr;
  if (seen.options.has_window_scale) part() << "ws " << +seen.options.window_scale;
  if (!seen.sack.empty()) {
    part() << "sack";
    for (const auto& [left, right] : seen.sack) out << ' ' << left << ':' << right;
  }
  out << '>';
  return out.str();
}

namespace {

std::string options_difference(const OptionText& o, const Seen& seen) {
  const wire::TcpOptions& got = seen.options;
  const bool strict = !o.others_allowed;
  if (o.mss ? got.mss != *o.mss : strict && got.mss != 0) return "MSS option";
  if (o.window_scale ? !got.has_window_scale || got.window_scale != *o.window_scale : strict && got.has_window_scale)
    return "window scale option";
  if (o.sack_permitted ? !got.sack_permitted : strict && got.sack_permitted) return "SACK-permitted option";
  if (o.has_timestamps ? !got.has_timestamps : strict && got.has_timestamps) return "timestamps option";
  if (o.ts_val && *o.ts_val != got.ts_val) return "TSval";
  if (o.ts_ecr && *o.ts_ecr != got.ts_ecr) return "TSecr";
  if (!o.sack.empty() ? o.sack != seen.sack : strict && !seen.sack.empty()) return "SACK blocks";
  return "";
}

}  // namespace

std::string difference(const SegmentText& expected, const Seen& seen) {
  if (expected.flags != seen.flags) return "flags";
  if (expected.seq && *expected.seq != seen.seq) return "sequence number";
  if (expected.payload_bytes != seen.payload_bytes) return "length";
  if (expected.ack && *expected.ack != seen.ack) return "acknowledgement number";
  if (expected.window && *expected.window != seen.window) return "window";
  if (expected.urgent && *expected.urgent != seen.urgent) return "urgent pointer";
  if (expected.tos && *expected.tos != seen.tos) return "TOS";
  if (expected.ttl && *expected.ttl != seen.ttl) return "TTL";
  return expected.options ? options_difference(*expected.options, seen) : "";
}

}  // namespace tto::script
