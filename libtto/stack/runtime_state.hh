// What a running stack of the process stands on. For runtime.cc and opening.cc only.
#pragma once

#include <cstdint>
#include <memory>

#include "libtto/memory/region_mapping.hh"
#include "libtto/port/xsk_port.hh"
#include "libtto/stack/kernel_environment.hh"
#include "libtto/stack/stack.hh"
#include "libtto/stats/stats_page.h"

namespace tto::stack {

/// Names a network namespace; 0 if the kernel does not say.
uint64_t netns_cookie(int socket);

/// Made whole or not at all; freed only if it never ran.
struct RunningStack {
  RunningStack() = default;
  ~RunningStack();
  RunningStack(const RunningStack&) = delete;
  RunningStack& operator=(const RunningStack&) = delete;

  /// No socket of it is left, and no thread sleeps in it.
  bool is_unused();
  /// For one that is unused and has lost its session: gives up descriptors and rings.
  void retire();
  stats::Counter start(int any_tcp_socket, std::atomic<uint64_t>* words, tto_stats_page* page);

  KernelEnvironment environment;
  memory::RegionMapping mapping;
  port::XskPort port;
  std::unique_ptr<Stack> stack;
  uint64_t cookie = 0;
  int wait_fd = -1;
  int region_fd = -1;
};

/// Null if none runs.
RunningStack* the_running_stack();

}  // namespace tto::stack
