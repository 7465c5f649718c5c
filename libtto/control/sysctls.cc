#include "libtto/control/sysctls.hh"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>

#include "libtto/base/sys.hh"

namespace tto::control {
namespace {

constexpr Duration kLifetime = seconds(1);
constexpr uint8_t kMaxWindowScale = 14;  // RFC 7323 §2.3
constexpr char kDirectory[] = "/proc/sys/net/";

/// One file under kDirectory, without the newline; empty if it cannot be read.
std::span<const char> read_file(const char* name, std::span<char> room) {
  char path[96];
  const size_t directory = sizeof(kDirectory) - 1, length = std::strlen(name);
  if (directory + length >= sizeof(path)) return {};
  std::memcpy(path, kDirectory, directory);
  std::memcpy(path + directory, name, length + 1);
  const int fd = sys::openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  ssize_t bytes;
  do {
    bytes = sys::read(fd, room.data(), room.size());
  } while (bytes == -EINTR);
  (void)sys::close(fd);
  if (bytes <= 0) return {};
  auto content = room.first(static_cast<size_t>(bytes));
  while (!content.empty() && (content.back() == '\n' || content.back() == '\0'))
    content = content.first(content.size() - 1);
  return content;
}

/// Numbers apart by blanks; how many there were.
size_t parse_numbers(std::span<const char> text, std::span<uint64_t> out) {
  size_t count = 0, at = 0;
  while (count < out.size()) {
    while (at < text.size() && (text[at] == ' ' || text[at] == '\t')) ++at;
    uint64_t value = 0;
    const size_t start = at;
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9' && value < UINT32_MAX; ++at) {
      value = value * 10 + static_cast<uint64_t>(text[at] - '0');
    }
    if (at == start) break;
    out[count++] = value;
  }
  return count;
}

/// Counts what could be read; a setting that could not keeps its value.
class Reader {
 public:
  template <typename T>
  void number(const char* name, T& out, uint64_t most = T(-1)) {
    uint64_t value = 0;
    if (numbers(name, {&value, 1})) out = static_cast<T>(std::min(value, most));
  }
  void flag(const char* name, bool& out) {
    uint64_t value = 0;
    if (numbers(name, {&value, 1})) out = value != 0;
  }
  void memory(const char* name, TcpSysctls::Memory& out) {
    uint64_t values[3];
    if (!numbers(name, values)) return;
    const auto bytes = [](uint64_t v) { return static_cast<uint32_t>(std::min<uint64_t>(v, INT32_MAX)); };
    out = {bytes(values[0]), bytes(values[1]), bytes(values[2])};
  }
  void word(const char* name, std::span<char> out) {
    char room[128];
    const auto text = read_file(name, room);
    if (text.empty() || text.size() >= out.size()) return;
    std::copy(text.begin(), text.end(), out.begin());
    out[text.size()] = '\0';
    ++count_;
  }
  bool read_any() const { return count_ > 0; }

 private:
  bool numbers(const char* name, std::span<uint64_t> out) {
    char room[128];
    if (parse_numbers(read_file(name, room), out) != out.size()) return false;
    ++count_;
    return true;
  }
  int count_ = 0;
};

}  // namespace

uint8_t TcpSysctls::receive_window_scale(uint32_t locked_bytes) const {
  if (!window_scaling) return 0;
  const uint32_t largest = locked_bytes != 0 ? locked_bytes : std::max(rmem.most, core_rmem_max);
  const int bits = std::bit_width(largest) - 1;
  return static_cast<uint8_t>(std::clamp(bits - 15, 0, int{kMaxWindowScale}));
}

bool read_tcp_sysctls(TcpSysctls& out) {
  out = TcpSysctls{};
  Reader reader;
  uint8_t timestamps = 1;
  reader.memory("ipv4/tcp_rmem", out.rmem);
  reader.memory("ipv4/tcp_wmem", out.wmem);
  reader.number("core/rmem_max", out.core_rmem_max, INT32_MAX);
  reader.flag("ipv4/tcp_moderate_rcvbuf", out.moderate_rcvbuf);
  reader.number("ipv4/tcp_timestamps", timestamps);
  reader.flag("ipv4/tcp_sack", out.sack);
  reader.flag("ipv4/tcp_window_scaling", out.window_scaling);
  reader.flag("ipv4/tcp_slow_start_after_idle", out.slow_start_after_idle);
  reader.number("ipv4/tcp_ecn", out.ecn);
  reader.number("ipv4/tcp_mtu_probing", out.mtu_probing, 2);
  reader.number("ipv4/tcp_base_mss", out.base_mss);
  reader.number("ipv4/tcp_early_retrans", out.early_retrans);
  reader.number("ipv4/tcp_syn_retries", out.syn_retries);
  reader.number("ipv4/tcp_synack_retries", out.synack_retries);
  reader.number("ipv4/tcp_retries2", out.retries2);
  reader.number("ipv4/tcp_orphan_retries", out.orphan_retries);
  reader.number("ipv4/tcp_keepalive_probes", out.keepalive_probes);
  reader.number("ipv4/tcp_keepalive_time", out.keepalive_time_s);
  reader.number("ipv4/tcp_keepalive_intvl", out.keepalive_interval_s);
  reader.number("ipv4/tcp_fin_timeout", out.fin_timeout_s);
  reader.number("ipv4/tcp_rto_min_us", out.min_rto_us);
  reader.number("ipv4/tcp_notsent_lowat", out.notsent_lowat_bytes);
  reader.word("ipv4/tcp_congestion_control", out.congestion_control);
  out.timestamps = timestamps != 0;
  out.timestamp_offset = timestamps == 1;
  return reader.read_any();
}

const TcpSysctls& SysctlCache::get(Instant now) {
  if (!is_read_ || now - read_at_ >= kLifetime) {
    (void)read_tcp_sysctls(values_);  // without /proc the defaults serve
    read_at_ = now;
    is_read_ = true;
  }
  return values_;
}

}  // namespace tto::control
