// EINTR or go on: a blocking call that a signal handler interrupted goes on if every handler that ran was installed with
// SA_RESTART, as the kernel's would. Whoever wraps handlers says which kind ran; without a wrapper it is EINTR.
#pragma once

#include <cstdint>

namespace tto::stack {

/// A handler ran in this thread, installed without SA_RESTART.
void note_handler_without_restart();

/// Made before a wait, asked after it was interrupted.
class Interruption {
 public:
  Interruption();
  /// True: every handler since construction (or since the last answer) allows to go on.
  bool may_restart();

 private:
  uint32_t handlers_;
  uint32_t without_restart_;
};

}  // namespace tto::stack
