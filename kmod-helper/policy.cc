#include "kmod-helper/policy.hh"

#include <arpa/inet.h>
#include <fnmatch.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <functional>
#include <iomanip>
#include <map>
#include <sstream>

#define TOML_HEADER_ONLY 1
#define TOML_ENABLE_FORMATTERS 0
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#include <toml++/toml.h>
#pragma GCC diagnostic pop

namespace ttod {
namespace {

using tto::wire::IpAddress;

/// Reads tables of known keys; whatever is unknown or of another type is an error at its line.
class Reader {
 public:
  using Handler = std::function<void(const toml::node&)>;
  explicit Reader(std::string file) : file_(std::move(file)) {}

  [[noreturn]] void fail(const toml::node& at, const std::string& what) const {
    std::ostringstream text;
    text << file_ << ":" << at.source().begin.line << ": " << what;
    throw ConfigError(text.str());
  }

  void table(const toml::node& node, const std::string& name, const std::map<std::string, Handler>& keys) const {
    const toml::table* t = node.as_table();
    if (t == nullptr) fail(node, name + " must be a table");
    for (const auto& [key, value] : *t) {
      const auto known = keys.find(std::string(key.str()));
      if (known == keys.end()) fail(value, "unknown key \"" + std::string(key.str()) + "\" in " + name);
      known->second(value);
    }
  }

  template <typename T>
  Handler number(T& out, uint64_t low, uint64_t high) const {
    return [this, &out, low, high](const toml::node& node) {
      const auto value = node.value_exact<int64_t>();
      if (!value || *value < 0 || static_cast<uint64_t>(*value) < low || static_cast<uint64_t>(*value) > high)
        fail(node, "must be a whole number from " + std::to_string(low) + " to " + std::to_string(high));
      out = static_cast<T>(*value);
    };
  }
  Handler text(std::string& out) const {
    return [this, &out](const toml::node& node) { out = text_of(node); };
  }
  Handler flag(bool& out) const {
    return [this, &out](const toml::node& node) {
      const auto value = node.value_exact<bool>();
      if (!value) fail(node, "must be true or false");
      out = *value;
    };
  }
  template <typename T>
  Handler list(std::vector<T>& out, std::function<T(const toml::node&)> read) const {
    return [this, &out, read](const toml::node& node) {
      const toml::array* items = node.as_array();
      if (items == nullptr) fail(node, "must be a list");
      out.clear();
      for (const toml::node& item : *items) out.push_back(read(item));
    };
  }

  std::string text_of(const toml::node& node) const {
    const auto value = node.value_exact<std::string>();
    if (!value || value->empty()) fail(node, "must be a text");
    return *value;
  }
  uint32_t id_of(const toml::node& node) const {
    uint32_t id = 0;
    number(id, 0, UINT32_MAX)(node);
    return id;
  }
  AddressPrefix prefix_of(const toml::node& node) const;
  PortRange ports_of(const toml::node& node) const;

 private:
  std::string file_;
};

AddressPrefix Reader::prefix_of(const toml::node& node) const {
  const std::string text = text_of(node);
  const size_t slash = text.find('/');
  const std::string host = text.substr(0, slash);
  AddressPrefix prefix;
  in_addr v4{};
  in6_addr v6{};
  int most = 0, base = 0;
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    prefix.address = IpAddress::from_v4(v4.s_addr);
    most = 32;
    base = 96;
  } else if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    prefix.address = IpAddress::from_v6(&v6);
    most = 128;
  } else {
    fail(node, "\"" + text + "\" is no address");
  }
  int bits = most;
  if (slash != std::string::npos) {
    const char* first = text.data() + slash + 1;
    const char* last = text.data() + text.size();
    const auto [end, error] = std::from_chars(first, last, bits);
    if (error != std::errc() || end != last || first == last || bits < 0 || bits > most)
      fail(node, "\"" + text + "\": the prefix length must be 0 to " + std::to_string(most));
  }
  prefix.bits = base + bits;
  return prefix;
}

PortRange Reader::ports_of(const toml::node& node) const {
  PortRange range;
  if (const auto one = node.value_exact<int64_t>()) {
    number(range.first, 0, 65535)(node);
    range.last = range.first;
    return range;
  }
  const std::string text = text_of(node);
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, range.first);
  if (first.ec == std::errc() && first.ptr != end && *first.ptr == '-') {
    const auto last = std::from_chars(first.ptr + 1, end, range.last);
    if (last.ec == std::errc() && last.ptr == end && range.first <= range.last) return range;
  }
  fail(node, "\"" + text + "\" is no port range (\"8000-8999\") or number");
}

Rule read_rule(const Reader& r, const toml::node& node) {
  Rule rule;
  std::string action, operation;
  bool has_action = false;
  const std::function<std::string(const toml::node&)> text = [&](const toml::node& n) { return r.text_of(n); };
  const std::function<uint32_t(const toml::node&)> id = [&](const toml::node& n) { return r.id_of(n); };
  const std::function<AddressPrefix(const toml::node&)> prefix = [&](const toml::node& n) { return r.prefix_of(n); };
  const std::function<PortRange(const toml::node&)> ports = [&](const toml::node& n) { return r.ports_of(n); };
  r.table(node, "[[rule]]",
          {{"action",
            [&](const toml::node& n) {
              action = r.text_of(n);
              if (action != "allow" && action != "refuse") r.fail(n, "action must be \"allow\" or \"refuse\"");
              rule.allow = action == "allow";
              has_action = true;
            }},
           {"for",
            [&](const toml::node& n) {
              operation = r.text_of(n);
              if (operation != "listen" && operation != "connect") r.fail(n, "for must be \"listen\" or \"connect\"");
              rule.is_for_listen = operation == "listen";
              rule.is_for_connect = operation == "connect";
            }},
           {"uid", r.list(rule.uids, id)},
           {"gid", r.list(rule.gids, id)},
           {"interfaces", r.list(rule.interfaces, text)},
           {"local", r.list(rule.local, prefix)},
           {"remote", r.list(rule.remote, prefix)},
           {"local_ports", r.list(rule.local_ports, ports)},
           {"remote_ports", r.list(rule.remote_ports, ports)}});
  if (!has_action) r.fail(node, "a [[rule]] needs an action");
  return rule;
}

template <typename T, typename Match>
bool matches(const std::vector<T>& list, Match match) {
  return list.empty() || std::any_of(list.begin(), list.end(), match);
}

bool glob(const std::string& pattern, std::string_view name) {
  return fnmatch(pattern.c_str(), std::string(name).c_str(), 0) == 0;
}

}  // namespace

bool AddressPrefix::contains(const IpAddress& other) const {
  for (int bit = 0; bit < bits; bit += 8) {
    const auto i = static_cast<size_t>(bit / 8);
    const int here = std::min(8, bits - bit);
    const auto mask = static_cast<uint8_t>(0xff << (8 - here));
    if (((address.bytes[i] ^ other.bytes[i]) & mask) != 0) return false;
  }
  return true;
}

Policy parse_policy(std::string_view text, const std::string& file_name) {
  Policy p;
  toml::table root;
  try {
    root = toml::parse(text, file_name);
  } catch (const toml::parse_error& e) {
    std::ostringstream what;
    what << file_name << ":" << e.source().begin.line << ": " << e.description();
    throw ConfigError(what.str());
  }
  const Reader r(file_name);
  const std::function<std::string(const toml::node&)> item = [&](const toml::node& n) { return r.text_of(n); };
  std::string mode;
  r.table(root, "the file",
          {{"socket", r.text(p.socket_path)},
           {"socket_mode",
            [&](const toml::node& n) {
              const std::string octal = r.text_of(n);
              const auto parsed = std::from_chars(octal.data(), octal.data() + octal.size(), p.socket_mode, 8);
              if (parsed.ec != std::errc() || parsed.ptr != octal.data() + octal.size() || p.socket_mode > 0777)
                r.fail(n, "socket_mode must be an octal text such as \"0666\"");
            }},
           {"bpffs", r.text(p.bpffs)},
           {"pin_dir", r.text(p.pin_dir)},
           {"interfaces", r.list(p.interfaces, item)},
           {"allow_filtered", r.flag(p.allow_filtered)},
           {"xdp",
            [&](const toml::node& n) {
              r.table(n, "[xdp]",
                      {{"mode",
                        [&](const toml::node& m) {
                          mode = r.text_of(m);
                          if (mode != "auto" && mode != "native" && mode != "generic")
                            r.fail(m, "mode must be \"auto\", \"native\" or \"generic\"");
                          p.xdp_mode = mode == "auto"     ? XdpChoice::kAuto
                                       : mode == "native" ? XdpChoice::kNative
                                                          : XdpChoice::kGeneric;
                        }},
                       {"detach_after_ms", r.number(p.detach_after_ms, 0, 3'600'000)}});
            }},
           {"port",
            [&](const toml::node& n) {
              r.table(n, "[port]",
                      {{"frames", r.number(p.port.frames, 256, 1u << 20)},
                       {"connections", r.number(p.port.connections, 1, 1u << 20)},
                       {"pool", r.number(p.port.pool, 0, 64)},
                       {"slots", r.number(p.port.slots, 1, TTO_MAX_SLOTS)},
                       {"mtu", r.number(p.port.mtu, 1500, 65535)}});
            }},
           {"limits",
            [&](const toml::node& n) {
              Limits& l = p.limits;
              r.table(n, "[limits]",
                      {{"sessions_per_user", r.number(l.sessions_per_user, 1, 1u << 20)},
                       {"sessions_per_process", r.number(l.sessions_per_process, 1, 1u << 20)},
                       {"ports_per_user", r.number(l.ports_per_user, 1, TTO_MAX_SLOTS)},
                       {"ports_per_process", r.number(l.ports_per_process, 1, TTO_MAX_SLOTS)},
                       {"listens_per_user", r.number(l.listens_per_user, 0, 1u << 20)},
                       {"listens_per_process", r.number(l.listens_per_process, 0, 1u << 16)},
                       {"flows_per_user", r.number(l.flows_per_user, 0, 1u << 20)},
                       {"flows_per_process", r.number(l.flows_per_process, 0, 1u << 20)},
                       {"leases_per_user", r.number(l.leases_per_user, 0, 1u << 20)},
                       {"frames_per_port", r.number(l.frames_per_port, 256, 1u << 20)},
                       {"pinned_mib_per_user", r.number(l.pinned_mib_per_user, 1, 1u << 24)}});
            }},
           {"rule", [&](const toml::node& n) {
              const toml::array* rules = n.as_array();
              if (rules == nullptr) r.fail(n, "write rules as [[rule]]");
              for (const toml::node& rule : *rules) p.rules.push_back(read_rule(r, rule));
            }}});
  if (p.port.frames > p.limits.frames_per_port)
    throw ConfigError(file_name + ": [port] frames is above [limits] frames_per_port");
  return p;
}

Policy load_policy(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw ConfigError(path + ": cannot be read");
  std::ostringstream text;
  text << file.rdbuf();
  return parse_policy(text.str(), path);
}

std::string print_policy(const Policy& p) {
  const auto quote_all = [](const std::vector<std::string>& list) {
    std::string out = "[";
    for (const std::string& s : list) out += (out.size() > 1 ? ", \"" : "\"") + s + "\"";
    return out + "]";
  };
  const Limits& l = p.limits;
  std::ostringstream out;
  out << "socket = \"" << p.socket_path << "\"\nsocket_mode = \"0" << std::oct << p.socket_mode << std::dec
      << "\"\nbpffs = \"" << p.bpffs << "\"\npin_dir = \"" << p.pin_dir
      << "\"\ninterfaces = " << quote_all(p.interfaces)
      << "\nallow_filtered = " << (p.allow_filtered ? "true" : "false") << "\n\n[xdp]\nmode = \""
      << (p.xdp_mode == XdpChoice::kAuto     ? "auto"
          : p.xdp_mode == XdpChoice::kNative ? "native"
                                             : "generic")
      << "\"\ndetach_after_ms = " << p.detach_after_ms << "\n\n[port]\nframes = " << p.port.frames
      << "\nconnections = " << p.port.connections << "\npool = " << p.port.pool << "\nslots = " << p.port.slots
      << "\nmtu = " << p.port.mtu << "\n\n[limits]\nsessions_per_user = " << l.sessions_per_user
      << "\nsessions_per_process = " << l.sessions_per_process << "\nports_per_user = " << l.ports_per_user
      << "\nports_per_process = " << l.ports_per_process << "\nlistens_per_user = " << l.listens_per_user
      << "\nlistens_per_process = " << l.listens_per_process << "\nflows_per_user = " << l.flows_per_user
      << "\nflows_per_process = " << l.flows_per_process << "\nleases_per_user = " << l.leases_per_user
      << "\nframes_per_port = " << l.frames_per_port
      << "\npinned_mib_per_user = " << l.pinned_mib_per_user << "\n";
  if (!p.rules.empty()) out << "\n# and " << p.rules.size() << " [[rule]] entries, in the order of the file\n";
  return out.str();
}

bool is_interface_allowed(const Policy& policy, std::string_view name) {
  return std::any_of(policy.interfaces.begin(), policy.interfaces.end(),
                     [&](const std::string& pattern) { return glob(pattern, name); });
}

bool is_allowed(const Policy& policy, const PolicyRequest& q) {
  if (!is_interface_allowed(policy, q.interface)) return false;
  const auto in = [](const PortRange& range, uint16_t port) { return range.first <= port && port <= range.last; };
  for (const Rule& rule : policy.rules) {
    if (q.is_listen ? !rule.is_for_listen : !rule.is_for_connect) continue;
    // A listener has no remote side yet, so a rule about remotes says nothing about it.
    if (q.is_listen && (!rule.remote.empty() || !rule.remote_ports.empty())) continue;
    if (!matches(rule.uids, [&](uint32_t id) { return id == q.uid; })) continue;
    if (!matches(rule.gids, [&](uint32_t id) { return id == q.gid; })) continue;
    if (!matches(rule.interfaces, [&](const std::string& pattern) { return glob(pattern, q.interface); })) continue;
    if (!matches(rule.local, [&](const AddressPrefix& a) { return a.contains(q.local); })) continue;
    if (!matches(rule.remote, [&](const AddressPrefix& a) { return a.contains(q.remote); })) continue;
    if (!matches(rule.local_ports, [&](const PortRange& range) { return in(range, q.local_port); })) continue;
    if (!matches(rule.remote_ports, [&](const PortRange& range) { return in(range, q.remote_port); })) continue;
    return rule.allow;
  }
  return true;
}

}  // namespace ttod
