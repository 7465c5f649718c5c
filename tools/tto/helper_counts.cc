#include "tools/tto/helper_counts.hh"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "kmod-helper/protocol/count_names.h"

namespace tto::tools {
namespace {

/// Sends a request and reads its answer, skipping what comes unasked.
template <typename Request, typename Answer>
bool exchange(int fd, Request request, tto_helper_type type, tto_helper_type expected, Answer* answer) {
  request.header = {TTO_HELPER_MAGIC, static_cast<uint16_t>(type), 0, type, sizeof request};
  if (send(fd, &request, sizeof request, MSG_NOSIGNAL) != ssize_t(sizeof request)) return false;
  for (int skipped = 0; skipped < 16; ++skipped) {
    ssize_t n = recv(fd, answer, sizeof *answer, 0);
    if (n < ssize_t(sizeof(tto_helper_header))) return false;
    if (answer->header.type == TTO_HELPER_EVENT) continue;
    return answer->header.type == expected && n == ssize_t(sizeof *answer);
  }
  return false;
}

int connect_to_helper() {
  const char* path = getenv("TTO_HELPER");
  if (path == nullptr || *path == 0) path = TTO_HELPER_DEFAULT_PATH;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof address.sun_path) return -1;
  std::strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  timeval patience{0, 500000};
  if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
                  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
                  connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)) {
    close(fd);
    return -1;
  }
  return fd;
}

NamedCounts named(const char* const* names, const uint64_t* values, size_t count) {
  NamedCounts out;
  for (size_t i = 0; i < count; ++i) out.emplace_back(names[i], values[i]);
  return out;
}

}  // namespace

bool ask_counts(int pid, HelperCounts* out) {
  int fd = connect_to_helper();
  if (fd < 0) return false;
  tto_helper_hello hello{};
  tto_helper_welcome welcome;
  hello.version = TTO_HELPER_VERSION;
  tto_helper_count count{};
  tto_helper_counted counted;
  count.pid = uint32_t(pid);
  bool good = exchange(fd, hello, TTO_HELPER_HELLO, TTO_HELPER_WELCOME, &welcome) &&
              exchange(fd, count, TTO_HELPER_COUNT, TTO_HELPER_COUNTED, &counted);
  close(fd);
  if (!good) return false;
  for (uint32_t i = 0; i < std::min<uint32_t>(counted.port_count, TTO_HELPER_COUNTED_PORTS); ++i) {
    const tto_helper_port_counts& p = counted.ports[i];
    out->ports.push_back({p.slot, named(tto_helper_tx_names, p.tx, TTO_HELPER_TX_COUNTS),
                          {{"rx_dropped", p.rx_dropped}, {"rx_ring_full", p.rx_ring_full}}});
  }
  if (counted.shows_steering != 0) out->steering = named(tto_helper_steer_names, counted.steering, TTO_HELPER_STEER_COUNTS);
  return true;
}

}  // namespace tto::tools
