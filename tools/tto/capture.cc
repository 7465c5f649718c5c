// tto capture: live pcapng of accelerated traffic, which tcpdump on the NIC does not see in this form. Each process is asked,
// through its stats page, to record into a ring; the rings are emptied into one file until Ctrl-C or --seconds.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "libtto/port/live_capture.hh"
#include "tools/tto/commands.hh"
#include "tools/tto/pcapng_merge.hh"
#include "tools/tto/process_view.hh"

namespace tto::tools {
namespace {

volatile std::sig_atomic_t g_stop = 0;

uint64_t monotonic_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return uint64_t(t.tv_sec) * 1000000000u + uint64_t(t.tv_nsec);
}

class Source {
 public:
  Source(int pid, int page, uint32_t* next_interface) : pid_(pid), page_(page), reader_(next_interface) {}
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  ~Source() {
    ask(0);
    close(page_);
    if (ring_ >= 0) close(ring_);
  }

  void ask(uint64_t until_ns) {
    // A process that is gone keeps its page only as long as we hold it: writing there harms nobody.
    (void)!pwrite(page_, &until_ns, sizeof until_ns, offsetof(tto_stats_page, capture_until_ns));
  }
  /// Appends what the process recorded since the last time. False: nothing more is to be had from it.
  bool drain(Buffer* out) {
    if (ring_ < 0 && !open_ring()) return kill(pid_, 0) == 0 || errno == EPERM;
    port::PcapRing head{};
    if (pread(ring_, &head, sizeof head, 0) != ssize_t(sizeof head) || head.capacity != capacity_) return false;
    lost_ = head.lost;
    if (head.produced - consumed_ > capacity_) return false;
    while (consumed_ < head.produced) {
      uint64_t at = consumed_ % capacity_;
      size_t n = std::min<uint64_t>({head.produced - consumed_, capacity_ - at, 65536});
      std::byte chunk[65536];
      if (pread(ring_, chunk, n, off_t(sizeof head + at)) != ssize_t(n)) return false;
      if (!reader_.feed(chunk, n, out)) return false;
      consumed_ += n;
    }
    if (pwrite(ring_, &consumed_, sizeof consumed_, offsetof(port::PcapRing, consumed)) < 0) return false;
    return kill(pid_, 0) == 0 || errno == EPERM;
  }
  int pid() const { return pid_; }
  uint64_t packet_count() const { return reader_.packet_count(); }
  uint64_t lost_count() const { return lost_; }

 private:
  bool open_ring() {
    int32_t number = -1;
    if (pread(page_, &number, sizeof number, offsetof(tto_stats_page, capture_fd)) != ssize_t(sizeof number)) return false;
    if (number <= 0) return false;
    int fd = open_memfd(pid_, number, true);
    port::PcapRing head{};
    bool sound = fd >= 0 && pread(fd, &head, sizeof head, 0) == ssize_t(sizeof head) &&
                 head.capacity == port::kCaptureRingBytes - sizeof head;
    if (!sound) {
      if (fd >= 0) close(fd);
      return false;
    }
    ring_ = fd;
    capacity_ = head.capacity;
    return true;
  }

  int pid_, page_, ring_ = -1;
  uint64_t capacity_ = 0, consumed_ = 0, lost_ = 0;
  StreamReader reader_;
};

bool write_all(int fd, const Buffer& data) {
  for (size_t done = 0; done < data.size();) {
    ssize_t n = write(fd, data.data() + done, data.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += size_t(n);
  }
  return true;
}

int usage() {
  std::fprintf(stderr, "usage: tto capture PID|all -w FILE|- [--seconds N]\n");
  return 2;
}

using Sources = std::vector<std::unique_ptr<Source>>;

Sources open_sources(const std::vector<int>& pids, uint32_t* next_interface) {
  Sources sources;
  for (int pid : pids) {
    std::string why;
    std::string page = find_memfd(pid, TTO_STATS_NAME, nullptr);
    if (page.empty() || !view_page(page.c_str(), &why)) {
      std::fprintf(stderr, "tto capture: %d: %s\n", pid, why.empty() ? "not under libtto, or not yours" : why.c_str());
      continue;
    }
    int fd = open(page.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) std::fprintf(stderr, "tto capture: %d: %s\n", pid, std::strerror(errno));
    else sources.push_back(std::make_unique<Source>(pid, fd, next_interface));
  }
  return sources;
}

/// Until told to stop, or until no process is left.
bool capture(Sources& sources, int file, uint64_t end_ns) {
  Buffer out = section_header();
  while (true) {
    bool last = g_stop != 0 || monotonic_ns() >= end_ns;
    for (auto& s : sources) {
      if (!last) s->ask(monotonic_ns() + 3000000000u);  // at the end asked no more only when all is read: it ends the ring
      if (s->drain(&out)) continue;
      std::fprintf(stderr, "%d ended: %llu frames, %llu not recorded\n", s->pid(),
                   static_cast<unsigned long long>(s->packet_count()), static_cast<unsigned long long>(s->lost_count()));
      s.reset();
    }
    std::erase(sources, nullptr);
    if (!write_all(file, out)) return false;
    out.clear();
    if (last || sources.empty()) break;
    ::poll(nullptr, 0, 20);
  }
  for (auto& s : sources)
    std::fprintf(stderr, "%d: %llu frames, %llu not recorded\n", s->pid(),
                 static_cast<unsigned long long>(s->packet_count()), static_cast<unsigned long long>(s->lost_count()));
  return true;
}

}  // namespace

int capture_command(int argc, char** argv) {
  const char *file = nullptr, *who = nullptr;
  double seconds = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "-w") == 0 && i + 1 < argc) file = argv[++i];
    else if (std::strcmp(argv[i], "--seconds") == 0 && i + 1 < argc) seconds = std::atof(argv[++i]);
    else if (who == nullptr) who = argv[i];
    else return usage();
  }
  if (who == nullptr || file == nullptr) return usage();
  int pid = std::atoi(who);
  if (pid <= 0 && std::strcmp(who, "all") != 0) return usage();
  uint32_t next_interface = 0;
  Sources sources = open_sources(pid > 0 ? std::vector<int>{pid} : find_processes(nullptr), &next_interface);
  if (sources.empty()) {
    std::fprintf(stderr, "tto capture: nothing to capture\n");
    return 1;
  }
  int out = std::strcmp(file, "-") == 0 ? STDOUT_FILENO : open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (out < 0) {
    std::fprintf(stderr, "tto capture: %s: %s\n", file, std::strerror(errno));
    return 1;
  }
  struct sigaction stop {};
  stop.sa_handler = [](int) { g_stop = 1; };
  sigaction(SIGINT, &stop, nullptr);
  sigaction(SIGTERM, &stop, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  if (!capture(sources, out, seconds > 0 ? monotonic_ns() + uint64_t(seconds * 1e9) : UINT64_MAX)) {
    std::fprintf(stderr, "tto capture: %s: %s\n", file, std::strerror(errno));
    return 1;
  }
  return 0;
}

}  // namespace tto::tools
