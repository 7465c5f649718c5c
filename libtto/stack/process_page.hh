// The process's stats page: a sealed memfd that tools find through /proc/PID/fd.
#pragma once

#include "libtto/stats/stats_page.h"

namespace tto::stack {

struct StatsPageMapping {
  tto_stats_page* page = nullptr;
  int fd = -1;
};

/// Makes a page with the counters' names; null page if there is no memory or descriptor.
StatsPageMapping make_stats_page();

}  // namespace tto::stack
