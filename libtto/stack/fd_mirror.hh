// The descriptors as `tto explain` sees them: path, reason and time of each, in the stats page. Plain stores, under
// api_lock(); without a page nothing is written and nothing is lost: show_fds_in() writes what is known so far.
#pragma once

#include "libtto/stack/fd_table.hh"
#include "libtto/stats/stats_page.h"

namespace tto::stack {

void mirror_fd(int fd, Path path, stats::Counter reason, const SocketEntry* entry);
/// From now on `page` shows the descriptors; null: none (a forked child, before it has its own).
void show_fds_in(tto_stats_page* page);
/// Shows them in the process's page, made by now. Takes api_lock().
void show_descriptors();

}  // namespace tto::stack
