// tto.h: socket options. The placeholder is the first judge of every option (errno, sizes, defaults); those that mean
// something to our TCP are applied to both. What only the kernel could serve is refused, counted, and in docs/support.md.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/time.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/tcp_info.hh"

namespace tto::stack {

namespace {

enum class Service : uint8_t {
  kEngine,   // applied to the placeholder and to the connection
  kLabel,    // the placeholder's value is all there is to it
  kRefused,  // only the kernel could
};

/// No kernel knows such an option, or lets nobody set it: its own judgement, on the placeholder, is the answer.
bool is_nothing_to_set(int level, int name) {
  constexpr int kMostNames = 1000;  // the levels' own numbers end well below
  if (level != SOL_SOCKET && level != IPPROTO_TCP && level != IPPROTO_IP && level != IPPROTO_IPV6) return true;
  if (name < 0 || name > kMostNames) return true;
  if (level != SOL_SOCKET) return false;
  return name == SO_ERROR || name == SO_TYPE || name == SO_ACCEPTCONN || name == SO_PROTOCOL || name == SO_DOMAIN ||
         name == SO_SNDLOWAT || name == SO_PEERNAME;
}

Service service_of(int level, int name) {
  if (is_nothing_to_set(level, name)) return Service::kLabel;
  if (level == SOL_SOCKET) {
    switch (name) {
      case SO_SNDBUF: case SO_RCVBUF: case SO_SNDBUFFORCE: case SO_RCVBUFFORCE: case SO_KEEPALIVE: case SO_LINGER:
      case SO_RCVTIMEO_OLD: case SO_SNDTIMEO_OLD: case SO_RCVTIMEO_NEW: case SO_SNDTIMEO_NEW: case SO_RCVLOWAT:
      case SO_OOBINLINE:
        return Service::kEngine;
      case SO_REUSEADDR: case SO_REUSEPORT: case SO_DEBUG: case SO_BROADCAST: case SO_PRIORITY: case SO_NO_CHECK:
      case SO_BUSY_POLL: case SO_PREFER_BUSY_POLL: case SO_BUSY_POLL_BUDGET: case SO_INCOMING_CPU: case SO_BUF_LOCK:
        return Service::kLabel;
      default:
        return Service::kRefused;
    }
  }
  if (level == IPPROTO_TCP) {
    switch (name) {
      case TCP_NODELAY: case TCP_CORK: case TCP_KEEPIDLE: case TCP_KEEPINTVL: case TCP_KEEPCNT: case TCP_USER_TIMEOUT:
      case TCP_NOTSENT_LOWAT:
        return Service::kEngine;
      case TCP_QUICKACK: case TCP_SYNCNT: case TCP_LINGER2: case TCP_DEFER_ACCEPT: case TCP_WINDOW_CLAMP:
      case TCP_CONGESTION: case TCP_MAXSEG: case TCP_FASTOPEN: case TCP_THIN_LINEAR_TIMEOUTS: case TCP_THIN_DUPACK:
        return Service::kLabel;
      default:
        return Service::kRefused;
    }
  }
  if (level == IPPROTO_IP) {
    switch (name) {
      case IP_TOS: case IP_TTL: return Service::kEngine;
      case IP_MTU_DISCOVER: case IP_BIND_ADDRESS_NO_PORT: case IP_FREEBIND:
        return Service::kLabel;
      default: return Service::kRefused;
    }
  }
  if (level == IPPROTO_IPV6) {
    switch (name) {
      case IPV6_TCLASS: case IPV6_UNICAST_HOPS: return Service::kEngine;
      case IPV6_V6ONLY: case IPV6_MTU_DISCOVER: case IPV6_FREEBIND: case IPV6_DONTFRAG: case IPV6_AUTOFLOWLABEL:
        return Service::kLabel;
      default: return Service::kRefused;
    }
  }
  return Service::kRefused;
}

int placeholder_int(int fd, int level, int name, int fallback = 0) {
  int value = fallback;
  socklen_t bytes = sizeof value;
  return sys::getsockopt(fd, level, name, &value, &bytes) < 0 ? fallback : value;
}

int64_t placeholder_timeout_ns(int fd, int name) {
  timeval value{};
  socklen_t bytes = sizeof value;
  if (sys::getsockopt(fd, SOL_SOCKET, name, &value, &bytes) < 0) return 0;
  return int64_t{value.tv_sec} * 1'000'000'000 + int64_t{value.tv_usec} * 1'000;
}

void apply_keepalive(int fd, socket::StreamSocket& stream) {
  stream.connection().set_keepalive(placeholder_int(fd, SOL_SOCKET, SO_KEEPALIVE) != 0,
                                    seconds(placeholder_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 7200)),
                                    seconds(placeholder_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, 75)),
                                    static_cast<uint8_t>(placeholder_int(fd, IPPROTO_TCP, TCP_KEEPCNT, 9)),
                                    Runtime::instance().now());
}

void apply_linger(int fd, socket::StreamSocket& stream) {
  linger value{};
  socklen_t bytes = sizeof value;
  if (sys::getsockopt(fd, SOL_SOCKET, SO_LINGER, &value, &bytes) == 0)
    stream.set_linger(value.l_onoff != 0, seconds(value.l_linger));
}

void apply_socket_option(int fd, SocketEntry& entry, int name) {
  socket::StreamSocket* stream = entry.stream;
  switch (name) {
    case SO_RCVTIMEO_OLD: case SO_RCVTIMEO_NEW:
      entry.receive_timeout_ns.store(placeholder_timeout_ns(fd, SO_RCVTIMEO), std::memory_order_relaxed);
      return;
    case SO_SNDTIMEO_OLD: case SO_SNDTIMEO_NEW:
      entry.send_timeout_ns.store(placeholder_timeout_ns(fd, SO_SNDTIMEO), std::memory_order_relaxed);
      return;
    default: break;
  }
  if (stream == nullptr) return;
  switch (name) {
    case SO_SNDBUF: case SO_SNDBUFFORCE:
      stream->set_send_buffer(static_cast<uint32_t>(placeholder_int(fd, SOL_SOCKET, SO_SNDBUF)));
      break;
    case SO_RCVBUF: case SO_RCVBUFFORCE:
      stream->set_receive_buffer(static_cast<uint32_t>(placeholder_int(fd, SOL_SOCKET, SO_RCVBUF)));
      break;
    case SO_KEEPALIVE:
      apply_keepalive(fd, *stream);
      stream->touch();
      break;
    case SO_LINGER: apply_linger(fd, *stream); break;
    case SO_OOBINLINE: stream->set_oob_inline(placeholder_int(fd, SOL_SOCKET, SO_OOBINLINE) != 0); break;
    case SO_RCVLOWAT: {
      const auto bytes = static_cast<uint32_t>(placeholder_int(fd, SOL_SOCKET, SO_RCVLOWAT, 1));
      entry.receive_lowat.store(bytes, std::memory_order_relaxed);
      stream->set_receive_lowat(bytes);
      break;
    }
    default: break;
  }
}

void apply_tcp_option(int fd, socket::StreamSocket& stream, int name) {
  stream.touch();
  const int value = placeholder_int(fd, IPPROTO_TCP, name);
  switch (name) {
    case TCP_NODELAY: stream.connection().set_nodelay(value != 0); break;
    case TCP_CORK: stream.connection().set_cork(value != 0); break;
    case TCP_KEEPIDLE: case TCP_KEEPINTVL: case TCP_KEEPCNT: apply_keepalive(fd, stream); break;
    case TCP_USER_TIMEOUT: stream.connection().set_user_timeout(milliseconds(value)); break;
    case TCP_NOTSENT_LOWAT: stream.set_notsent_lowat(static_cast<uint32_t>(value)); break;
    default: break;
  }
}

void apply_option(int fd, SocketEntry& entry, int level, int name) {
  if (level == SOL_SOCKET) return apply_socket_option(fd, entry, name);
  if (entry.stream == nullptr) return;
  if (level == IPPROTO_TCP) return apply_tcp_option(fd, *entry.stream, name);
  const bool is_v4 = entry.stream->tuple().remote.is_v4();
  if (is_v4 != (level == IPPROTO_IP)) return;  // v4-mapped connections obey the IPv4 options, as in the kernel
  const int value = placeholder_int(fd, level, name);
  if (name == (is_v4 ? IP_TOS : IPV6_TCLASS)) entry.stream->set_tos(static_cast<uint8_t>(value));
  if (name == (is_v4 ? IP_TTL : IPV6_UNICAST_HOPS) && value > 0) entry.stream->set_ttl(static_cast<uint8_t>(value));
}

}  // namespace

bool is_served_option(int level, int name) { return service_of(level, name) != Service::kRefused; }

namespace {

void read_tcp_option(int fd, int name, tcp::ConnectionConfig& config) {
  const auto value = [&](int fallback) { return placeholder_int(fd, IPPROTO_TCP, name, fallback); };
  switch (name) {
    case TCP_NODELAY: config.nodelay = value(0) != 0; break;
    case TCP_CORK: config.cork = value(0) != 0; break;
    case TCP_SYNCNT: config.syn_retries = static_cast<uint8_t>(value(6)); break;
    case TCP_USER_TIMEOUT: config.user_timeout = milliseconds(value(0)); break;
    case TCP_KEEPIDLE: config.keepalive_idle = seconds(value(7200)); break;
    case TCP_KEEPINTVL: config.keepalive_interval = seconds(value(75)); break;
    case TCP_KEEPCNT: config.keepalive_probes = static_cast<uint8_t>(value(9)); break;
    case TCP_LINGER2:
      if (const int fin_timeout = value(60); fin_timeout > 0) config.fin_timeout = seconds(fin_timeout);
      break;
    case TCP_CONGESTION: {
      char congestion[16] = {};
      socklen_t bytes = sizeof congestion;
      if (sys::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion, &bytes) != 0) break;
      const bool is_reno = std::strncmp(congestion, "reno", sizeof congestion) == 0;
      using Congestion = tcp::ConnectionConfig::Congestion;
      config.congestion = is_reno ? Congestion::kReno : Congestion::kCubic;
      break;
    }
    default: break;
  }
}

void read_buffer_sizes(int fd, uint32_t& send_bytes, uint32_t& receive_bytes) {
  // Sizes that the application did not set are the stack's to choose, and to let grow.
  constexpr int kBufLock = 72, kSendLocked = 1, kReceiveLocked = 2;  // SO_BUF_LOCK
  const int locked = placeholder_int(fd, SOL_SOCKET, kBufLock);
  if ((locked & kSendLocked) != 0) send_bytes = static_cast<uint32_t>(placeholder_int(fd, SOL_SOCKET, SO_SNDBUF, 16384));
  if ((locked & kReceiveLocked) != 0)
    receive_bytes = static_cast<uint32_t>(placeholder_int(fd, SOL_SOCKET, SO_RCVBUF, 131072));
}

constexpr int kTcpOptionsRead[] = {TCP_NODELAY,  TCP_CORK,    TCP_SYNCNT,  TCP_USER_TIMEOUT, TCP_KEEPIDLE,
                                   TCP_KEEPINTVL, TCP_KEEPCNT, TCP_LINGER2, TCP_CONGESTION};

}  // namespace

void read_placeholder(int fd, const SocketEntry& entry, tcp::ConnectionConfig& config, uint32_t& send_bytes,
                      uint32_t& receive_bytes) {
  if (entry.is_shared) {  // what another process set is remembered nowhere
    for (const int name : kTcpOptionsRead) read_tcp_option(fd, name, config);
    config.keepalive = placeholder_int(fd, SOL_SOCKET, SO_KEEPALIVE) != 0;
    read_buffer_sizes(fd, send_bytes, receive_bytes);
    return;
  }
  bool has_sizes = false;
  for (int i = 0; i < entry.remembered_count; ++i) {
    const RememberedOption& o = entry.remembered[i];
    if (o.level == IPPROTO_TCP) read_tcp_option(fd, o.name, config);
    if (o.level != SOL_SOCKET) continue;
    if (o.name == SO_KEEPALIVE) config.keepalive = placeholder_int(fd, SOL_SOCKET, SO_KEEPALIVE) != 0;
    has_sizes = has_sizes || o.name == SO_SNDBUF || o.name == SO_RCVBUF || o.name == SO_SNDBUFFORCE ||
                o.name == SO_RCVBUFFORCE || o.name == SO_BUF_LOCK;
  }
  if (has_sizes) read_buffer_sizes(fd, send_bytes, receive_bytes);
}

void apply_placeholder(int fd, SocketEntry& entry) {
  if (entry.is_shared) {
    entry.receive_timeout_ns.store(placeholder_timeout_ns(fd, SO_RCVTIMEO), std::memory_order_relaxed);
    entry.send_timeout_ns.store(placeholder_timeout_ns(fd, SO_SNDTIMEO), std::memory_order_relaxed);
  }
  for (int i = 0; i < entry.remembered_count; ++i)
    apply_option(fd, entry, entry.remembered[i].level, entry.remembered[i].name);
}

void remember_option(SocketEntry& entry, int level, int name, const void* value, socklen_t bytes) {
  bytes = std::min<socklen_t>(bytes, sizeof RememberedOption{}.value);  // no option that we serve is longer
  RememberedOption* slot = nullptr;
  for (int i = 0; i < entry.remembered_count; ++i)
    if (entry.remembered[i].level == level && entry.remembered[i].name == name) slot = &entry.remembered[i];
  if (slot == nullptr) {
    if (entry.remembered_count == SocketEntry::kMaxRemembered) {
      entry.is_unservable = true;  // more than can be inherited faithfully
      return;
    }
    slot = &entry.remembered[entry.remembered_count++];
  }
  slot->level = level;
  slot->name = name;
  slot->bytes = static_cast<uint8_t>(bytes);
  std::memcpy(slot->value, value, bytes);
}

void replay_options(const SocketEntry& from, SocketEntry& to, int to_fd) {
  for (int i = 0; i < from.remembered_count; ++i) {
    const RememberedOption& o = from.remembered[i];
    sys::setsockopt(to_fd, o.level, o.name, o.value, o.bytes);
    to.remembered[to.remembered_count++] = o;
  }
}

namespace {

/// Set on a listener of ours: later connections inherit it (S12).
void remember_for_children(int fd, uint64_t word, int level, int name, const void* value, socklen_t bytes) {
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  if (entry.kind != SocketEntry::Kind::kListener) return;
  StackLockGuard guard(api_lock());
  if (fd_word(fd) == word) remember_option(entry, level, name, value, bytes);
}

int set_option(int fd, uint64_t word, int level, int name, const void* value, socklen_t bytes) {
  const Service service = service_of(level, name);
  if (!is_tcp(word)) {
    const int result = sys::setsockopt(fd, level, name, value, bytes);
    if (result < 0) return result;
    StackLockGuard guard(api_lock());
    if (fd_word(fd) != word) return result;
    SocketEntry& entry = entry_at(FdWordParts::of(word).index);
    if (service == Service::kRefused) {
      entry.is_unservable = true;
    } else {
      remember_option(entry, level, name, value, bytes);
    }
    return result;
  }
  if (service == Service::kRefused) {
    return hand_over(fd, word, stats::Counter::kernel_handed_over_option)
               ? sys::setsockopt(fd, level, name, value, bytes)
               : unserved(level == SOL_SOCKET ? ENOPROTOOPT : EOPNOTSUPP);
  }
  const int result = sys::setsockopt(fd, level, name, value, bytes);
  if (result < 0) return result;
  remember_for_children(fd, word, level, name, value, bytes);
  if (service == Service::kLabel) return result;
  LockedCall call(fd, word);
  if (!call) return result;
  apply_option(fd, call.entry(), level, name);
  if (call.stream() != nullptr) call.stack().push(call.now());
  return result;
}

/// An int option's answer as the kernel copies it: at most the space given.
int give(const void* from, socklen_t full, void* value, socklen_t* bytes) {
  if (is_bad_range(bytes, sizeof *bytes)) return -EFAULT;
  if (static_cast<int>(*bytes) < 0) return -EINVAL;
  const socklen_t n = *bytes < full ? *bytes : full;
  if (is_bad_range(value, n)) return -EFAULT;
  std::memcpy(value, from, n);
  *bytes = n;
  return 0;
}

/// As long as the running kernel's, which may know more fields than we do.
int give_tcp_info(int fd, const tcp_info& info, void* value, socklen_t* bytes) {
  unsigned char whole[512] = {};
  socklen_t full = sizeof whole;
  if (sys::getsockopt(fd, IPPROTO_TCP, TCP_INFO, whole, &full) < 0) full = sizeof info;
  std::memset(whole, 0, sizeof whole);
  std::memcpy(whole, &info, sizeof info);
  return give(whole, full, value, bytes);
}

bool is_plain_answer(int level, int name) {
  return level == SOL_SOCKET ? name != SO_PEERNAME && name != SO_MEMINFO : is_served_option(level, name);
}

bool is_computed_answer(int level, int name) {
  return (level == IPPROTO_TCP && name == TCP_INFO) || (level == IPPROTO_IP && name == IP_MTU) ||
         (level == IPPROTO_IPV6 && name == IPV6_MTU);
}

int get_option(int fd, uint64_t word, int level, int name, void* value, socklen_t* bytes) {
  if (!is_plain_answer(level, name) && !is_computed_answer(level, name)) {
    return entry_at(FdWordParts::of(word).index).listener != nullptr ||
                   hand_over(fd, word, stats::Counter::kernel_handed_over_option)
               ? sys::getsockopt(fd, level, name, value, bytes)
               : unserved(level == SOL_SOCKET ? ENOPROTOOPT : EOPNOTSUPP);
  }
  LockedCall call(fd, word);
  if (!call || call.stream() == nullptr) return sys::getsockopt(fd, level, name, value, bytes);
  socket::StreamSocket& stream = *call.stream();
  if (level == SOL_SOCKET && name == SO_ERROR) {
    call.progress();
    const int error = stream.take_error();
    return give(&error, sizeof error, value, bytes);
  }
  if (level == IPPROTO_TCP) {
    if (name == TCP_INFO) {
      call.progress();
      return give_tcp_info(fd, tcp_info_of(stream), value, bytes);
    }
    if (name == TCP_MAXSEG) {
      const int mss = static_cast<int>(stream.connection().effective_mss());
      return give(&mss, sizeof mss, value, bytes);
    }
  }
  if ((level == IPPROTO_IP && name == IP_MTU) || (level == IPPROTO_IPV6 && name == IPV6_MTU)) {
    const tcp::Figures figures = stream.connection().figures();
    const int mtu = static_cast<int>(figures.path_mtu_bytes);
    return give(&mtu, sizeof mtu, value, bytes);
  }
  return sys::getsockopt(fd, level, name, value, bytes);
}

}  // namespace

}  // namespace tto::stack

using namespace tto;
using namespace tto::stack;

extern "C" {

int tto_setsockopt(int fd, int level, int name, const void* value, socklen_t bytes) {
  const uint64_t word = served_word(fd);
  if (!is_tcp(word) && !is_undecided(word))
    return static_cast<int>(posix(sys::setsockopt(fd, level, name, value, bytes)));
  return static_cast<int>(posix(set_option(fd, word, level, name, value, bytes)));
}

int tto_getsockopt(int fd, int level, int name, void* value, socklen_t* bytes) {
  const uint64_t word = served_word(fd);
  if (!is_tcp(word)) return static_cast<int>(posix(sys::getsockopt(fd, level, name, value, bytes)));
  return static_cast<int>(posix(get_option(fd, word, level, name, value, bytes)));
}

}  // extern "C"
