#include "libtto/stack/facade.hh"

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/epoll_set.hh"
#include "libtto/stack/interruption.hh"
#include "libtto/stack/process.hh"
#include "libtto/stack/signal_deferral.hh"

namespace tto::facade {

bool leave_to_kernel(int fd) {
  if (is_known(fd)) stack::leave_to_kernel(fd, stats::Counter::kernel_handed_over_call);
  return !is_accelerated(fd);
}

int unserved(int error) {
  errno = -stack::unserved(error);
  return -1;
}

ClosedByLibc::ClosedByLibc(int fd) {
  if (fd_word(fd) == 0) return;
  stack::hand_over_if_shared(fd, fd_word(fd));
  word_ = stack::take_word(fd);
}

void ClosedByLibc::done() {
  if (word_ != 0) stack::drop_descriptor(word_);
}

void before_fork() { stack::before_fork(); }
void after_fork_parent() { stack::after_fork_parent(); }
void after_fork_child() { stack::after_fork_child(); }
void before_exit() { stack::before_exit(); }
void before_exec() { stack::before_exec(); }
void before_spawn() { stack::before_spawn(); }

bool defer_signal(int signal, const siginfo_t* info, void* context) {
  return stack::defer_signal_if_locked(signal, info, context);
}

void handler_runs(bool restarts) {
  stack::note_handler_ran();
  if (!restarts) stack::note_handler_without_restart();
}

}  // namespace tto::facade
