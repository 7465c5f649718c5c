#include "libtto/stack/stack_lock.hh"

#include "libtto/base/sys.hh"
#include "libtto/stack/signal_deferral.hh"

namespace tto::stack {
namespace {

thread_local char t_identity;  // its address names the thread

long futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
  return sys::futex(reinterpret_cast<uint32_t*>(&word), operation | FUTEX_PRIVATE_FLAG, value);
}

}  // namespace

void StackLock::lock() {
  begin_deferral();
  uint32_t expected = 0;
  if (!word_.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed)) {
    while (word_.exchange(2, std::memory_order_acquire) != 0) futex(word_, FUTEX_WAIT, 2);
  }
  holder_.store(&t_identity, std::memory_order_relaxed);
}

bool StackLock::try_lock() {
  begin_deferral();
  uint32_t expected = 0;
  if (word_.compare_exchange_strong(expected, 1, std::memory_order_acquire, std::memory_order_relaxed)) {
    holder_.store(&t_identity, std::memory_order_relaxed);
    return true;
  }
  end_deferral();
  return false;
}

void StackLock::unlock() {
  holder_.store(nullptr, std::memory_order_relaxed);
  if (word_.exchange(0, std::memory_order_release) == 2) futex(word_, FUTEX_WAKE, 1);
  end_deferral();
}

bool StackLock::is_held_by_this_thread() const { return holder_.load(std::memory_order_relaxed) == &t_identity; }

}  // namespace tto::stack
