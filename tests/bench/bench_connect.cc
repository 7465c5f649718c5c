// Connections per second: connect, one request, one answer, close; one at a time. The server closes first, so TIME-WAIT
// gathers there and the client does not run out of ports. Prints one JSON object per run (client).
#include "tests/bench/bench_net.hh"

using namespace bench;

static void serve(const Options& o) {
  int listener = listen_on(o);
  if (o.wait == Wait::kSpin && fcntl(listener, F_SETFL, O_NONBLOCK) != 0) die("fcntl");
  std::vector<char> buffer(o.bytes);
  for (;;) {
    int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) {
      if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) continue;
      die("accept");
    }
    prepare(fd, o);
    if (receive_all(fd, buffer.data(), o.bytes)) send_all(fd, buffer.data(), o.bytes);
    close(fd);
  }
}

static void ask(const Options& o) {
  addrinfo* a = resolve(o, false);
  std::vector<char> out(o.bytes), in(o.bytes);
  std::vector<uint32_t> ns;
  double cpu = cpu_us();
  uint64_t start = now_ns(), end = start + uint64_t(o.seconds * 1e9), t = start;
  while (t < end) {
    int fd = connect_to(a);
    prepare(fd, o);
    for (size_t i = 0; i < o.bytes; ++i) out[i] = pattern_at(ns.size() + i);
    send_all(fd, out.data(), o.bytes);
    if (!receive_all(fd, in.data(), o.bytes) || in != out || receive_some(fd, in.data(), 1) != 0) {
      std::fprintf(stderr, "connection %zu: wrong answer\n", ns.size());
      std::exit(1);
    }
    close(fd);
    uint64_t done = now_ns();
    ns.push_back(uint32_t(std::min<uint64_t>(done - t, UINT32_MAX)));
    t = done;
  }
  cpu = cpu_us() - cpu;
  size_t ops = ns.size();
  auto q = quantiles(ns);
  std::printf("{\"ops\": %zu, \"per_second\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"client_cpu_us_per_op\": %.3f}\n",
              ops, double(ops) * 1e9 / double(t - start), q.p50_us, q.p99_us, ops ? cpu / double(ops) : 0.0);
  freeaddrinfo(a);
}

int main(int argc, char** argv) {
  Options o = parse(argc, argv);
  if (std::strcmp(o.role, "server") == 0) serve(o);
  else ask(o);
}
