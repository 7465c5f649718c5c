// What fork, exec and exit mean for descriptors of ours: connections are handed over to the kernel (docs/support.md).
#pragma once

#include "libtto/stack/runtime.hh"

namespace tto::stack {

/// fork(), however it is called. Connections stay with the parent until the child touches them (sharing.hh); listeners go
/// on as the kernel's, undecided sockets are as before.
void before_fork();
void after_fork_parent();
void after_fork_child();
/// A child made behind our back finds out with its first call on a descriptor of ours.
void notice_child();
inline void notice_if_forked() {
  if (__builtin_expect(Runtime::instance().is_forked_child(), 0)) notice_child();
}

/// Another program is started with what this process's descriptors without close-on-exec name, or takes its place.
void before_spawn();
void before_exec();
/// Everything that has not ended is handed over; the kernel does what it does for a process of its own.
void before_exit();

}  // namespace tto::stack
