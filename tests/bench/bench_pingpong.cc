// Round trips of one connection: the client sends `bytes`, the server returns them. Prints one JSON object per run.
#include "tests/bench/bench_net.hh"

using namespace bench;

static void serve(const Options& o) {
  int listener = listen_on(o);
  std::vector<char> buffer(o.bytes);
  for (;;) {
    int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) die("accept");
    prepare(fd, o);
    while (receive_all(fd, buffer.data(), o.bytes)) send_all(fd, buffer.data(), o.bytes);
    close(fd);
  }
}

static void ask(const Options& o) {
  addrinfo* a = resolve(o, false);
  int fd = connect_to(a);
  prepare(fd, o);
  std::vector<char> out(o.bytes), in(o.bytes);
  std::vector<uint32_t> rtt_ns;
  rtt_ns.reserve(8u << 20);
  uint64_t start = now_ns(), warm = start + uint64_t(o.seconds * 0.1e9), end = warm + uint64_t(o.seconds * 1e9);
  double cpu = 0;
  uint64_t counted_from = 0, position = 0;
  for (uint64_t t = start; t < end;) {
    for (size_t i = 0; i < o.bytes; ++i) out[i] = pattern_at(position + i);
    position += o.bytes;
    uint64_t sent = now_ns();
    send_all(fd, out.data(), o.bytes);
    if (!receive_all(fd, in.data(), o.bytes)) {
      std::fprintf(stderr, "the server closed\n");
      std::exit(1);
    }
    t = now_ns();
    if (in != out) {
      std::fprintf(stderr, "bytes differ after %llu\n", static_cast<unsigned long long>(position));
      std::exit(1);
    }
    if (t < warm) continue;
    if (counted_from == 0) {
      counted_from = t;
      cpu = cpu_us();
      continue;
    }
    if (rtt_ns.size() < rtt_ns.capacity()) rtt_ns.push_back(uint32_t(std::min<uint64_t>(t - sent, UINT32_MAX)));
  }
  size_t ops = rtt_ns.size();
  cpu = cpu_us() - cpu;
  auto q = quantiles(rtt_ns);
  std::printf("{\"ops\": %zu, \"p50_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f, \"max_us\": %.1f, "
              "\"client_cpu_us_per_op\": %.3f}\n",
              ops, q.p50_us, q.p99_us, q.p999_us, q.max_us, ops ? cpu / double(ops) : 0.0);
  close(fd);
  freeaddrinfo(a);
}

int main(int argc, char** argv) {
  Options o = parse(argc, argv);
  if (std::strcmp(o.role, "server") == 0) serve(o);
  else ask(o);
}
