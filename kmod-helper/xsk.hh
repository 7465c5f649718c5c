// Makes an AF_XDP socket for another process: the UMEM is the frames of a state region, the rings are left for the
// process to map. Copy mode, multi-buffer, need-wakeup: what a veth can do.
#pragma once

#include <cstdint>

#include "kmod-helper/fd.hh"
#include "kmod-helper/protocol/helper_protocol.h"

namespace ttod {

/// Binds queue 0 of `ifindex` (in the calling thread's namespace) and fills in the ring part of `out`. Returns 0 or an
/// errno; EBUSY: another socket still holds the queue. The frames are pinned until the last descriptor is closed.
int make_xsk(int region_fd, uint32_t ifindex, Fd& xsk, tto_helper_port& out);
/// Setting these needs a capability that the process does not have. 0 leaves them off.
void set_busy_poll(int xsk, uint32_t busy_poll_us);

}  // namespace ttod
