#include "libtto/stack/signal_deferral.hh"

#include <atomic>
#include <cstring>

#include "libtto/base/sys.hh"

namespace tto::stack {
namespace {

constexpr uint32_t kMaxDeferred = 8;
// All that the kernel fills of a siginfo_t. Whole ones would not fit into what a dlopen'ed library has of static TLS.
constexpr size_t kInfoBytes = 48;

// Only its own thread and that thread's signal handlers touch it: plain words, kept in order by signal fences.
struct Deferral {
  volatile uint32_t depth = 0;
  volatile uint32_t count = 0;
  volatile uint32_t handlers_run = 0;
  struct Entry {
    int sig = 0;
    alignas(8) unsigned char info[kInfoBytes] = {};
  } queue[kMaxDeferred] = {};
};
constinit thread_local Deferral t_deferral;

bool is_fault(int sig, const siginfo_t* info) {
  if (info == nullptr || info->si_code <= 0) return false;
  return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP;
}

bool is_queued(int sig) {
  for (uint32_t i = 0; i < t_deferral.count; ++i) {
    if (t_deferral.queue[i].sig == sig) return true;
  }
  return false;
}

// With the depth at 0, so that the handlers run now. Each may lock and unlock, and may longjmp out of here: the queue is
// emptied one by one before each is raised.
void raise_deferred() {
  while (t_deferral.count > 0) {
    const Deferral::Entry entry = t_deferral.queue[0];
    siginfo_t info{};
    std::memcpy(&info, entry.info, kInfoBytes);
    const uint32_t left = t_deferral.count - 1;
    for (uint32_t i = 0; i < left; ++i) t_deferral.queue[i] = t_deferral.queue[i + 1];
    t_deferral.count = left;
    const pid_t process = sys::getpid(), thread = sys::gettid();
    if (sys::call(SYS_rt_tgsigqueueinfo, process, thread, entry.sig, &info) < 0) {
      sys::tgkill(process, thread, entry.sig);
    }
  }
}

}  // namespace

void begin_deferral() {
  t_deferral.depth = t_deferral.depth + 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

void end_deferral() {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  t_deferral.depth = t_deferral.depth - 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (__builtin_expect(t_deferral.depth == 0 && t_deferral.count > 0, 0)) raise_deferred();
}

bool defer_signal_if_locked(int sig, const siginfo_t* info, void* /*ucontext*/) {
  if (t_deferral.depth == 0 || is_fault(sig, info)) return false;
  // Standard signals do not queue in the kernel either.
  if (sig < SIGRTMIN && is_queued(sig)) return true;
  if (t_deferral.count == kMaxDeferred) return true;
  siginfo_t copy{};
  copy.si_code = SI_TKILL;
  if (info != nullptr) copy = *info;
  copy.si_signo = sig;
  Deferral::Entry& entry = t_deferral.queue[t_deferral.count];
  entry.sig = sig;
  std::memcpy(entry.info, &copy, kInfoBytes);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  t_deferral.count = t_deferral.count + 1;
  return true;
}

void note_handler_ran() { t_deferral.handlers_run = t_deferral.handlers_run + 1; }
uint32_t handlers_run() { return t_deferral.handlers_run; }

}  // namespace tto::stack
