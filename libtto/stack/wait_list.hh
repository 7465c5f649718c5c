// Who sleeps on a stack: at most one leader, on the stack's wait_fd, and followers, each on its own eventfd. Under the
// stack's lock.
#pragma once

#include <atomic>
#include <cstdint>

#include "libtto/base/intrusive_list.hh"
#include "libtto/base/time.hh"

namespace tto::stack {

class ThreadWaiter;

struct WaitList {
  IntrusiveList followers;         // ThreadWaiter::follower_link_
  ThreadWaiter* leader = nullptr;  // sleeps on wait_fd for all
  bool progress_thread_leads = false;
  Instant led_until{};        // the leading progress thread sleeps until then; 0: it does not sleep
  int progress_wake_fd = -1;  // of the progress thread; -1: there is none
  static constexpr uint32_t kAwake = 0, kParked = 1, kParkedAtDescriptor = 2;
  std::atomic<uint32_t> parked{kAwake};  // futex word: the progress thread sleeps until there is a socket, on this word
                                         // or on progress_wake_fd

  /// True: `waiter` leads now. The progress thread, if it leads, hands over.
  bool try_lead(ThreadWaiter& waiter);
  /// The leader leaves; the longest-waiting follower, if any, is woken to lead.
  void leave(ThreadWaiter& waiter);
  /// The first connection or listener: the progress thread starts ticking.
  void unpark();
  /// Something is due at `deadline`: a progress thread that leads, and sleeps longer, hears of it.
  void note_deadline(Instant deadline);
};

}  // namespace tto::stack
