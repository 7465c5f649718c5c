#include "libtto/stack/interruption.hh"

#include "libtto/stack/signal_deferral.hh"

namespace tto::stack {

namespace {
thread_local uint32_t t_without_restart;
}  // namespace

void note_handler_without_restart() { ++t_without_restart; }

Interruption::Interruption() : handlers_(handlers_run()), without_restart_(t_without_restart) {}

bool Interruption::may_restart() {
  const bool may = handlers_run() != handlers_ && t_without_restart == without_restart_;
  handlers_ = handlers_run();
  without_restart_ = t_without_restart;
  return may;
}

}  // namespace tto::stack
