// SIGURG to the owner of a descriptor that urgent data has arrived for (fcntl(2), F_SETOWN): the placeholder knows who.
#include <fcntl.h>
#include <signal.h>

#include "libtto/base/sys.hh"
#include "libtto/stack/stack_impl.hh"

namespace tto::stack {

// Handlers run when the stack's lock is released (stack_lock.hh).
void signal_urgent_data(int fd) {
  f_owner_ex owner{};
  if (fd < 0 || sys::call(SYS_fcntl, fd, F_GETOWN_EX, &owner) < 0 || owner.pid == 0) return;
  switch (owner.type) {
    case F_OWNER_TID:
      sys::call(SYS_tkill, owner.pid, SIGURG);
      break;
    case F_OWNER_PID:
      sys::call(SYS_kill, owner.pid, SIGURG);
      break;
    case F_OWNER_PGRP:
      sys::call(SYS_kill, -owner.pid, SIGURG);
      break;
    default:
      break;
  }
}

}  // namespace tto::stack
