// One thread per stack that progresses it while no application thread does: acknowledgements, retransmissions, window
// updates and FINs happen whatever the application is busy with (DESIGN 2.10).
//
//   no sockets:               parked on a futex
//   somebody progresses:      looks once per tick
//   nobody did for a tick:    sleeps on the stack's wait_fd itself, until an application thread waits or progresses again
//
// SCHED_OTHER whatever its creator is (M2), all signals blocked, a small stack.
#pragma once

#include "libtto/stack/stack.hh"

namespace tto::stack {

/// Starts it; false if there can be no thread. It is never joined: at exit it goes with the process.
bool start_progress_thread(Stack& stack);

}  // namespace tto::stack
