#include "tools/tto/process_view.hh"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libtto/tcp/state.hh"

namespace tto::tools {
namespace {

constexpr uint32_t kMaxSlots = 1u << 20;

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

bool read_at(int fd, void* into, size_t bytes, uint64_t offset) {
  auto* p = static_cast<char*>(into);
  while (bytes > 0) {
    ssize_t n = pread(fd, p, bytes, off_t(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n;
    bytes -= size_t(n);
    offset += uint64_t(n);
  }
  return true;
}

/// At most `max` characters, up to the first NUL; anything that is not plain ASCII shows as '?'.
std::string printable(const char* text, size_t max) {
  std::string s(text, strnlen(text, max));
  for (char& c : s)
    if (c < 0x20 || c > 0x7e) c = '?';
  return s;
}

std::string state_name(uint8_t raw) {
  return raw <= uint8_t(tcp::State::kTimeWait) ? tcp::name(tcp::State(raw)) : "?";
}

std::string endpoint(uint8_t family, const uint8_t address[16], uint16_t port) {
  char text[INET6_ADDRSTRLEN] = "?";
  inet_ntop(family == 4 ? AF_INET : AF_INET6, family == 4 ? address + 12 : address, text, sizeof text);
  return (family == 4 ? std::string(text) : "[" + std::string(text) + "]") + ":" + std::to_string(port);
}

std::string path_name(uint8_t path) {
  switch (path) {
    case 1: return "kernel";
    case 2: return "af_xdp";
    case 3: return "pair";
    default: return "?";
  }
}

uint64_t distance(uint64_t from, uint64_t to) { return to > from ? to - from : 0; }

Flow flow_of(uint32_t slot, const tto_connection_slot& s) {
  const tto_connection_record& r = s.record[s.generation & 1];
  Flow f;
  f.slot = slot;
  f.state = state_name(r.tcp_state);
  f.local = endpoint(r.family, r.local, r.local_port);
  f.remote = endpoint(r.family, r.remote, r.remote_port);
  f.figures = s.figures;
  f.unsent_byte = distance(std::max(r.snd_nxt, r.snd_una), r.snd_end);
  f.unacked_byte = distance(r.snd_una, r.snd_nxt);
  f.unread_byte = distance(r.rcv_read, r.rcv_nxt);
  f.has_sack = (r.flags & TTO_REC_SACK) != 0;
  f.has_timestamps = (r.flags & TTO_REC_TIMESTAMPS) != 0;
  return f;
}

/// A slot whose record did not change while it was copied.
bool read_slot(int fd, uint64_t offset, tto_connection_slot* out) {
  for (int attempt = 0; attempt < 5; ++attempt) {
    uint32_t generation = 0;
    if (!read_at(fd, out, sizeof *out, offset)) return false;
    if (!read_at(fd, &generation, sizeof generation, offset + offsetof(tto_connection_slot, generation))) return false;
    if (generation == out->generation) return true;
  }
  return false;
}

std::string command_of(int pid) {
  auto raw = read_file(("/proc/" + std::to_string(pid) + "/comm").c_str(), 64);
  std::string s(raw.begin(), raw.end());
  if (!s.empty() && s.back() == '\n') s.pop_back();
  return printable(s.data(), s.size());
}

}  // namespace

uint64_t ProcessView::counter(const char* name) const {
  for (const Counter& c : counters)
    if (c.name == name) return c.value;
  return 0;
}

std::vector<unsigned char> read_file(const char* path, size_t max_bytes) {
  std::vector<unsigned char> content;
  Fd fd(open(path, O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return content;
  content.resize(max_bytes);
  size_t got = 0;
  for (ssize_t n; got < max_bytes && (n = read(fd.get(), content.data() + got, max_bytes - got)) > 0;) got += size_t(n);
  content.resize(got);
  return content;
}

std::string find_memfd(int pid, const char* name, bool* denied) {
  std::string folder = "/proc/" + std::to_string(pid) + "/fd";
  DIR* d = opendir(folder.c_str());
  if (d == nullptr) {
    if (denied != nullptr) *denied = errno == EACCES || errno == EPERM;
    return "";
  }
  std::string wanted = std::string("/memfd:") + name + " (deleted)", found;
  while (dirent* entry = readdir(d)) {
    std::string link = folder + "/" + entry->d_name;
    char target[256];
    ssize_t n = readlink(link.c_str(), target, sizeof target);
    if (n > 0 && std::string_view(target, size_t(n)) == wanted) {
      found = link;
      break;
    }
  }
  closedir(d);
  return found;
}

int open_memfd(int pid, int fd, bool writable) {
  std::string link = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
  char target[64];
  ssize_t n = readlink(link.c_str(), target, sizeof target);
  if (n < 7 || std::memcmp(target, "/memfd:", 7) != 0) return -1;
  // The number may have been reused meanwhile: never block, and read regular files only.
  int opened = open(link.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
  struct stat st;
  if (opened >= 0 && (fstat(opened, &st) != 0 || !S_ISREG(st.st_mode))) {
    close(opened);
    return -1;
  }
  return opened;
}

/// Is `pid` the page's own process, by the number it has here or in its own pid namespace? Others (a forked child, a tool
/// that keeps the page) may hold the file too.
bool is_own_page(const std::string& page, int pid) {
  Fd fd(open(page.c_str(), O_RDONLY | O_CLOEXEC));
  uint32_t written = 0;
  if (fd.get() < 0 || !read_at(fd.get(), &written, sizeof written, offsetof(tto_stats_page, pid))) return false;
  if (int(written) == pid) return true;
  auto raw = read_file(("/proc/" + std::to_string(pid) + "/status").c_str(), 8192);
  std::string status(raw.begin(), raw.end());
  size_t at = status.find("\nNSpid:");
  if (at == std::string::npos) return false;
  std::string line = status.substr(at, status.find('\n', at + 1) - at);
  size_t last = line.find_last_of(" \t");
  return last != std::string::npos && std::atoi(line.c_str() + last) == int(written);
}

std::vector<int> find_processes(int* denied) {
  std::vector<int> pids;
  if (denied != nullptr) *denied = 0;
  DIR* d = opendir("/proc");
  if (d == nullptr) return pids;
  while (dirent* entry = readdir(d)) {
    int pid = std::atoi(entry->d_name);
    bool no = false;
    if (pid <= 0) continue;
    std::string page = find_memfd(pid, TTO_STATS_NAME, &no);
    if (!page.empty() && is_own_page(page, pid)) pids.push_back(pid);
    if (no && denied != nullptr) ++*denied;
  }
  closedir(d);
  std::sort(pids.begin(), pids.end());
  return pids;
}

std::optional<ProcessView> interpret_page(const std::vector<unsigned char>& raw, std::string* why) {
  if (raw.size() < sizeof(tto_stats_page)) {
    *why = "the stats page is too short";
    return std::nullopt;
  }
  std::vector<tto_stats_page> holder(1);  // aligned, and off the stack
  tto_stats_page& page = holder[0];
  std::memcpy(&page, raw.data(), sizeof page);
  if (page.magic != TTO_STATS_MAGIC) {
    *why = "the stats page is still being made";
    return std::nullopt;
  }
  if (page.version != TTO_STATS_VERSION) {
    *why = "the stats page has version " + std::to_string(page.version) + ", this tool reads " +
           std::to_string(TTO_STATS_VERSION);
    return std::nullopt;
  }
  ProcessView view;
  view.pid = int(page.pid);
  view.start_ns = page.start_ns;
  if (page.has_region != 0) view.region_fd = page.region_fd;
  uint32_t counters = std::min<uint32_t>(page.counter_count, TTO_STATS_MAX_COUNTERS);
  for (uint32_t i = 0; i < counters; ++i)
    view.counters.push_back({printable(page.names[i], sizeof page.names[i]), page.counters[i]});
  for (uint32_t i = 0; i < std::min<uint32_t>(page.nic_count, 32); ++i) {
    const auto& nic = page.nics[i];
    view.nics.push_back({nic.ifindex, printable(nic.name, sizeof nic.name),
                         nic.xdp_mode == 1 ? "generic" : nic.xdp_mode == 2 ? "native" : "detached"});
  }
  for (uint32_t fd = 0; fd < TTO_STATS_FDS; ++fd) {
    const tto_stats_fd& f = page.fds[fd];
    if (f.path == 0) continue;
    FdView v{int(fd), path_name(f.path), "", "", f.since_ns, f.slot};
    if (f.path == 2) v.state = state_name(f.tcp_state);
    if (f.path == 1 && f.reason < counters) {
      v.reason = view.counters[f.reason].name;
      if (v.reason.rfind("kernel_", 0) == 0) v.reason.erase(0, 7);
    }
    view.fds.push_back(v);
  }
  return view;
}

std::vector<Flow> read_flows(int fd) {
  std::vector<Flow> flows;
  struct stat st;
  tto_region_header header;
  if (fstat(fd, &st) != 0 || !read_at(fd, &header, sizeof header, 0)) return flows;
  auto size = uint64_t(st.st_size);
  if (header.magic != TTO_REGION_MAGIC || header.version != TTO_REGION_VERSION) return flows;
  if (header.connection_count > kMaxSlots || header.connections_offset > size) return flows;
  if (uint64_t{header.connection_count} * sizeof(tto_connection_slot) > size - header.connections_offset) return flows;
  for (uint32_t i = 0; i < header.connection_count; ++i) {
    uint64_t offset = header.connections_offset + uint64_t{i} * sizeof(tto_connection_slot);
    uint32_t state = 0;
    if (!read_at(fd, &state, sizeof state, offset + offsetof(tto_connection_slot, state))) break;
    if (state != TTO_SLOT_LIVE) continue;
    tto_connection_slot slot;
    if (read_slot(fd, offset, &slot) && slot.state == TTO_SLOT_LIVE) flows.push_back(flow_of(i, slot));
  }
  return flows;
}

std::optional<ProcessView> view_page(const char* path, std::string* why) {
  auto raw = read_file(path, sizeof(tto_stats_page));
  if (raw.empty()) {
    *why = std::string("cannot read ") + path + ": " + std::strerror(errno);
    return std::nullopt;
  }
  auto view = interpret_page(raw, why);
  if (!view) return view;
  view->command = command_of(view->pid);
  return view;
}

std::optional<ProcessView> view_process(int pid, std::string* why) {
  bool denied = false;
  std::string page = find_memfd(pid, TTO_STATS_NAME, &denied);
  std::string process = "/proc/" + std::to_string(pid);
  if (page.empty()) {
    if (denied) *why = "permission denied: whose counters you may read is a matter of owning the process or being root";
    else if (!std::filesystem::exists(process)) *why = "no such process";
    else *why = "not under libtto, or has not used a TCP socket yet";
    return std::nullopt;
  }
  auto view = view_page(page.c_str(), why);
  if (!view) return view;
  view->pid = pid;  // the page's own word could be another's: a fork before it was replaced
  view->command = command_of(pid);
  struct stat st;
  if (stat(process.c_str(), &st) == 0) view->uid = st.st_uid;
  if (view->region_fd >= 0) {
    Fd fd(open_memfd(pid, view->region_fd));
    if (fd.get() >= 0) view->flows = read_flows(fd.get());
  }
  for (FdView& f : view->fds)
    for (const Flow& flow : view->flows)
      if (flow.slot == f.slot && f.path == "af_xdp") {
        f.state = flow.state;
        f.peer = flow.remote;
      }
  return view;
}

}  // namespace tto::tools
