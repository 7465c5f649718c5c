// One connection, one direction: the client sends for some seconds, the server counts and, with --verify, checks every
// byte; it answers with the count when the stream ends. Prints one JSON object per run (client).
#include "tests/bench/bench_net.hh"

using namespace bench;

static void serve(const Options& o) {
  int listener = listen_on(o);
  std::vector<char> buffer(o.bytes);
  for (;;) {
    int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    prepare(fd, o);
    uint64_t total = 0;
    for (size_t n; (n = receive_some(fd, buffer.data(), o.bytes)) > 0; total += n) {
      for (size_t i = 0; o.verify && i < n; ++i) {
        if (buffer[i] != pattern_at(total + i)) {
          std::fprintf(stderr, "byte %llu differs\n", static_cast<unsigned long long>(total + i));
          std::exit(1);
        }
      }
    }
    char reply[32];
    std::snprintf(reply, sizeof reply, "%020llu\n", static_cast<unsigned long long>(total));
    send_all(fd, reply, 21);
    close(fd);
  }
}

static void pour(const Options& o) {
  addrinfo* a = resolve(o, false);
  int fd = connect_to(a);
  prepare(fd, o);
  std::vector<char> buffer(o.bytes);
  double cpu = cpu_us();
  uint64_t start = now_ns(), end = start + uint64_t(o.seconds * 1e9), total = 0;
  for (size_t i = 0; i < o.bytes; ++i) buffer[i] = pattern_at(i);
  while (now_ns() < end) {
    for (size_t i = 0; o.verify && i < o.bytes; ++i) buffer[i] = pattern_at(total + i);
    send_all(fd, buffer.data(), o.bytes);
    total += o.bytes;
  }
  shutdown(fd, SHUT_WR);
  char reply[32] = {};
  if (!receive_all(fd, reply, 21)) {
    std::fprintf(stderr, "the server gave no count\n");
    std::exit(1);
  }
  uint64_t took_ns = now_ns() - start;
  cpu = cpu_us() - cpu;
  if (std::strtoull(reply, nullptr, 10) != total) {
    std::fprintf(stderr, "sent %llu bytes, the server counted %s", static_cast<unsigned long long>(total), reply);
    std::exit(1);
  }
  std::printf("{\"bytes\": %llu, \"bits_per_second\": %.0f, \"client_cpu_us_per_op\": %.3f}\n",
              static_cast<unsigned long long>(total), double(total) * 8e9 / double(took_ns),
              cpu / (double(total) / 1048576.0));
  close(fd);
  freeaddrinfo(a);
}

int main(int argc, char** argv) {
  Options o = parse(argc, argv);
  if (std::strcmp(o.role, "server") == 0) serve(o);
  else pour(o);
}
