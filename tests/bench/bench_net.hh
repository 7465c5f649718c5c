// What the benchmark programs share: addresses, options, time, figures.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <arpa/inet.h>
#include <cerrno>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

namespace bench {

[[noreturn]] inline void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

inline uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return uint64_t(t.tv_sec) * 1000000000u + uint64_t(t.tv_nsec);
}

/// Processor time of this process so far.
inline double cpu_us() {
  rusage use;
  getrusage(RUSAGE_SELF, &use);
  auto us = [](const timeval& t) { return double(t.tv_sec) * 1e6 + double(t.tv_usec); };
  return us(use.ru_utime) + us(use.ru_stime);
}

enum class Wait { kBlock, kSpin };  // sleep in recv(), or call it non-blocking until it returns something

struct Options {
  const char* role = "";
  const char* address = "";
  const char* port = "";
  double seconds = 1;
  size_t bytes = 64;
  Wait wait = Wait::kBlock;
  int busy_poll_us = 0;
  bool verify = false;
};

inline Options parse(int argc, char** argv) {
  Options o;
  auto usage = [&] {
    std::fprintf(stderr,
                 "usage: %s server|client ADDRESS PORT [--seconds N] [--bytes N] [--wait block|spin] "
                 "[--busy-poll US] [--verify]\n",
                 argv[0]);
    std::exit(2);
  };
  if (argc < 4) usage();
  o.role = argv[1];
  o.address = argv[2];
  o.port = argv[3];
  for (int i = 4; i < argc; ++i) {
    auto is = [&](const char* name) { return std::strcmp(argv[i], name) == 0; };
    if (is("--verify")) {
      o.verify = true;
      continue;
    }
    if (i + 1 >= argc) usage();
    const char* value = argv[i + 1];
    if (is("--seconds")) o.seconds = std::atof(value);
    else if (is("--bytes")) o.bytes = size_t(std::atoll(value));
    else if (is("--busy-poll")) o.busy_poll_us = std::atoi(value);
    else if (is("--wait")) o.wait = std::strcmp(value, "spin") == 0 ? Wait::kSpin : Wait::kBlock;
    else usage();
    ++i;
  }
  if (o.bytes == 0) usage();
  return o;
}

inline addrinfo* resolve(const Options& o, bool passive) {
  addrinfo hint{}, *found = nullptr;
  hint.ai_socktype = SOCK_STREAM;
  hint.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  if (getaddrinfo(o.address, o.port, &hint, &found) != 0) {
    std::fprintf(stderr, "bad address %s port %s\n", o.address, o.port);
    std::exit(2);
  }
  return found;
}

inline void prepare(int fd, const Options& o) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (o.busy_poll_us > 0) {  // raising it above the system's default wants a capability: then the default stays
    setsockopt(fd, SOL_SOCKET, SO_BUSY_POLL, &o.busy_poll_us, sizeof o.busy_poll_us);
  }
  if (o.wait == Wait::kSpin && fcntl(fd, F_SETFL, O_NONBLOCK) != 0) die("fcntl");
}

inline int listen_on(const Options& o) {
  addrinfo* a = resolve(o, true);
  int fd = socket(a->ai_family, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(fd, a->ai_addr, a->ai_addrlen) != 0) die("bind");
  if (listen(fd, 1024) != 0) die("listen");
  freeaddrinfo(a);
  return fd;
}

inline int connect_to(const addrinfo* a) {
  int fd = socket(a->ai_family, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  if (connect(fd, a->ai_addr, a->ai_addrlen) != 0) die("connect");
  return fd;
}

/// recv that waits as the options say; 0 at the end of the stream.
inline size_t receive_some(int fd, char* buffer, size_t bytes) {
  for (;;) {
    ssize_t n = recv(fd, buffer, bytes, 0);
    if (n >= 0) return size_t(n);
    if (errno != EAGAIN && errno != EINTR) die("recv");
  }
}

inline bool receive_all(int fd, char* buffer, size_t bytes) {
  for (size_t got = 0; got < bytes;) {
    size_t n = receive_some(fd, buffer + got, bytes - got);
    if (n == 0) return false;
    got += n;
  }
  return true;
}

inline void send_all(int fd, const char* buffer, size_t bytes) {
  for (size_t sent = 0; sent < bytes;) {
    ssize_t n = send(fd, buffer + sent, bytes - sent, MSG_NOSIGNAL);
    if (n >= 0) sent += size_t(n);
    else if (errno != EAGAIN && errno != EINTR) die("send");
  }
}

/// Byte `position` of the test stream: neither periodic in a segment's length nor in a buffer's.
inline char pattern_at(uint64_t position) { return char((position * 0x9e3779b97f4a7c15u) >> 56); }

struct Quantiles {
  double p50_us, p99_us, p999_us, max_us;
};

inline Quantiles quantiles(std::vector<uint32_t>& ns) {
  if (ns.empty()) return {};
  std::sort(ns.begin(), ns.end());
  auto at = [&](double q) { return ns[size_t(q * double(ns.size() - 1))] / 1e3; };
  return {at(0.5), at(0.99), at(0.999), ns.back() / 1e3};
}

}  // namespace bench
