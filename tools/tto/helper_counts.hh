// The frames that ttod's BPF programs counted, asked of ttod: a process cannot see them itself.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tto::tools {

using NamedCounts = std::vector<std::pair<std::string, uint64_t>>;

struct PortCounts {
  uint32_t slot = 0;
  NamedCounts transmit_check, receive_drops;
};

struct HelperCounts {
  std::vector<PortCounts> ports;
  NamedCounts steering;  // of all NICs; empty unless we are root
};

/// Of `pid`, which must be ours unless we are root. Waits half a second at most; false: ttod ($TTO_HELPER) is not there, or
/// does not answer, or there is nothing that we may see.
bool ask_counts(int pid, HelperCounts* out);

}  // namespace tto::tools
