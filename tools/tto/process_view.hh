// What a process shows of itself: its stats page and the connection slots of its region, copied once and checked.
//
// Both are memory that the watched process can change at any moment, so nothing here trusts them: the files are read with
// pread into buffers of our own (no mapping that could fault), every count and offset is checked against the file's size,
// every string is ended and stripped of control characters. A page that makes no sense is "not there".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "libtto/memory/region_layout.h"
#include "libtto/stats/stats_page.h"

namespace tto::tools {

struct Counter {
  std::string name;
  uint64_t value;
};

struct Nic {
  uint32_t ifindex;
  std::string name;
  std::string mode;  // "generic", "native", "detached"
};

struct FdView {
  int fd;
  std::string path;    // "kernel", "af_xdp", "pair"
  std::string state;   // of TCP, empty when the kernel has it
  std::string reason;  // counter name without "kernel_", empty unless the kernel serves it
  uint64_t since_ns;   // CLOCK_REALTIME
  uint32_t slot;
  std::string peer{};  // of a connection that libtto serves
};

struct Flow {
  uint32_t slot;
  std::string state, local, remote;
  tto_connection_figures figures;
  uint64_t unsent_byte, unacked_byte, unread_byte;
  bool has_sack, has_timestamps;
};

struct ProcessView {
  int pid = 0;
  uint32_t uid = 0;
  std::string command;
  uint64_t start_ns = 0;
  int region_fd = -1;  // its number in that process
  std::vector<Counter> counters;
  std::vector<Nic> nics;
  std::vector<FdView> fds;
  std::vector<Flow> flows;

  uint64_t counter(const char* name) const;
};

/// Processes whose stats page this user may read, in order of pid. `denied`: how many could not be looked into.
std::vector<int> find_processes(int* denied);
/// The view of one; none if it has no page, or one that makes no sense (`why` says which).
std::optional<ProcessView> view_process(int pid, std::string* why);
/// The same from a page that is held open elsewhere (the process may be gone; then there are no flows).
std::optional<ProcessView> view_page(const char* path, std::string* why);

/// The parts, for tests: `page` is a copy of the file, `region_fd` a descriptor of the region's memfd.
std::optional<ProcessView> interpret_page(const std::vector<unsigned char>& page, std::string* why);
std::vector<Flow> read_flows(int region_fd);
/// Opens descriptor `fd` of `pid` for reading if it is a memfd; -1 if not.
int open_memfd(int pid, int fd, bool writable = false);
/// Path of the first descriptor of `pid` that is a memfd of this name; empty if there is none. *denied if not allowed.
std::string find_memfd(int pid, const char* name, bool* denied);
std::vector<unsigned char> read_file(const char* path, size_t max_bytes);

}  // namespace tto::tools
