// Signal handlers, deferred while a lock of ours is held (DESIGN 2.10), so that a handler may call anything of libtto and
// may longjmp out of it. The kernel gets one handler of ours; what the program installed is kept here and answered to it.
#include <errno.h>
#include <signal.h>

#include <atomic>

#include "libtto/stack/facade.hh"
#include "preload/export.hh"
#include "preload/libc_calls.hh"

namespace facade = tto::facade;

namespace {

TTO_LIBC(sigaction, int(int, const struct sigaction*, struct sigaction*));

constexpr int kSignals = 65;

/// What the program installed. Read inside handlers: each word alone is atomic, the handler is written last.
struct Installed {
  std::atomic<void*> handler;  // null: nothing of ours is in the kernel
  std::atomic<int> flags;
};
Installed g_installed[kSignals];
std::atomic<bool> g_interrupts[kSignals];  // siginterrupt() asked signal() for handlers without SA_RESTART

void run(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  if (facade::defer_signal(signal, info, context)) {
    errno = saved_errno;
    return;
  }
  Installed& installed = g_installed[signal];
  void* handler = installed.handler.load(std::memory_order_acquire);
  const int flags = installed.flags.load(std::memory_order_relaxed);
  if (handler == nullptr) return;  // taken away while the signal was on its way
  if ((flags & static_cast<int>(SA_RESETHAND)) != 0) {
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    installed.handler.store(nullptr, std::memory_order_release);
    libc_sigaction(signal, &standard, nullptr);
  }
  facade::handler_runs((flags & SA_RESTART) != 0);
  errno = saved_errno;
  if ((flags & SA_SIGINFO) != 0) {
    reinterpret_cast<void (*)(int, siginfo_t*, void*)>(handler)(signal, info, context);
  } else {
    reinterpret_cast<void (*)(int)>(handler)(signal);
  }
}

bool is_function(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 || (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN);
}

/// What the kernel reports, as the program knows it.
void restore_view(struct sigaction& old, void* handler, int flags) {
  if ((old.sa_flags & SA_SIGINFO) == 0 || old.sa_sigaction != run || handler == nullptr) return;
  old.sa_flags = flags;
  if ((flags & SA_SIGINFO) != 0) {
    old.sa_sigaction = reinterpret_cast<void (*)(int, siginfo_t*, void*)>(handler);
  } else {
    old.sa_handler = reinterpret_cast<void (*)(int)>(handler);
  }
}

int change(int signal, const struct sigaction* wanted, struct sigaction* old) {
  if (signal <= 0 || signal >= kSignals) return libc_sigaction(signal, wanted, old);
  Installed& installed = g_installed[signal];
  void* old_handler = installed.handler.load(std::memory_order_acquire);
  const int old_flags = installed.flags.load(std::memory_order_relaxed);
  struct sigaction before {};
  int result;
  if (wanted == nullptr) {
    result = libc_sigaction(signal, nullptr, &before);
  } else if (!is_function(*wanted)) {
    const struct sigaction copy = *wanted;
    result = libc_sigaction(signal, &copy, &before);
    if (result == 0) installed.handler.store(nullptr, std::memory_order_release);
  } else {
    struct sigaction ours = *wanted;
    void* handler = (wanted->sa_flags & SA_SIGINFO) != 0 ? reinterpret_cast<void*>(wanted->sa_sigaction)
                                                        : reinterpret_cast<void*>(wanted->sa_handler);
    const int flags = wanted->sa_flags;
    ours.sa_sigaction = run;
    // Handlers that go after one use are taken away by run(): a deferred signal comes twice to it.
    ours.sa_flags = (flags | SA_SIGINFO) & ~static_cast<int>(SA_RESETHAND);
    installed.flags.store(flags, std::memory_order_relaxed);
    installed.handler.store(handler, std::memory_order_release);
    result = libc_sigaction(signal, &ours, &before);
    if (result != 0) {
      installed.flags.store(old_flags, std::memory_order_relaxed);
      installed.handler.store(old_handler, std::memory_order_release);
    }
  }
  if (result == 0 && old != nullptr) {
    restore_view(before, old_handler, old_flags);
    *old = before;
  }
  return result;
}

using Handler = void (*)(int);

Handler install(int signal, Handler handler, int flags) {
  if (handler == SIG_ERR || signal <= 0 || signal >= kSignals) {
    errno = EINVAL;
    return SIG_ERR;
  }
  struct sigaction wanted {}, old{};
  wanted.sa_handler = handler;
  wanted.sa_flags = flags;
  sigemptyset(&wanted.sa_mask);
  if ((flags & SA_NODEFER) == 0) sigaddset(&wanted.sa_mask, signal);
  return change(signal, &wanted, &old) < 0 ? SIG_ERR : old.sa_handler;
}

Handler install_bsd(int signal, Handler handler) {
  const bool interrupts = signal > 0 && signal < kSignals && g_interrupts[signal].load(std::memory_order_relaxed);
  return install(signal, handler, interrupts ? 0 : SA_RESTART);
}
Handler install_sysv(int signal, Handler handler) {
  return install(signal, handler, static_cast<int>(SA_RESETHAND) | SA_NODEFER);
}

}  // namespace

TTO_EXPORT(int, sigaction, int signal, const struct sigaction* wanted, struct sigaction* old) {
  return change(signal, wanted, old);
}
TTO_EXPORT(int, __sigaction, int signal, const struct sigaction* wanted, struct sigaction* old) {
  return change(signal, wanted, old);
}
TTO_EXPORT(Handler, signal, int signal, Handler handler) { return install_bsd(signal, handler); }
TTO_EXPORT(Handler, bsd_signal, int signal, Handler handler) { return install_bsd(signal, handler); }
TTO_EXPORT(Handler, ssignal, int signal, Handler handler) { return install_bsd(signal, handler); }
TTO_EXPORT(Handler, sysv_signal, int signal, Handler handler) { return install_sysv(signal, handler); }
TTO_EXPORT(Handler, __sysv_signal, int signal, Handler handler) { return install_sysv(signal, handler); }
TTO_EXPORT(int, siginterrupt, int signal, int interrupts) {
  struct sigaction action {};
  if (change(signal, nullptr, &action) < 0) return -1;
  g_interrupts[signal].store(interrupts != 0, std::memory_order_relaxed);
  action.sa_flags = interrupts != 0 ? action.sa_flags & ~SA_RESTART : action.sa_flags | SA_RESTART;
  return change(signal, &action, nullptr);
}
