// What fork, exec and exit mean for descriptors of ours, until connections can be handed over (docs/support.md).
#pragma once

#include "libtto/stack/runtime.hh"

namespace tto::stack {

/// fork(), however it is called. Connections stay with the parent; in the child every call on them fails with
/// ECONNABORTED, listeners go on as the kernel's, undecided sockets are as before.
void before_fork();
void after_fork_parent();
void after_fork_child();
/// A child made behind our back finds out with its first call on a descriptor of ours.
void notice_child();
inline void notice_if_forked() {
  if (__builtin_expect(Runtime::instance().is_forked_child(), 0)) notice_child();
}

void before_exec();
void before_exit();

}  // namespace tto::stack
