// The stack's lock, and the deferral of signal handlers while it is held (DESIGN 2.10): a handler that interrupts a
// holder runs when the lock is released, so it may call libtto and may longjmp; no lock is ever left held.
#pragma once

#include <atomic>
#include <cstdint>

namespace tto::stack {

/// A futex lock. Uncontended: one atomic exchange each way, no system call. Not recursive.
class StackLock {
 public:
  void lock();
  bool try_lock();
  void unlock();
  bool is_held_by_this_thread() const;
  /// Somebody waits for it. A holder that spins makes room then.
  bool is_contended() const { return word_.load(std::memory_order_relaxed) == 2; }
  /// In a forked child, where the holder may not exist any more.
  void reset() {
    word_.store(0, std::memory_order_relaxed);
    holder_.store(nullptr, std::memory_order_relaxed);
  }

 private:
  std::atomic<uint32_t> word_{0};  // 0 free, 1 held, 2 held and contended
  std::atomic<const void*> holder_{nullptr};  // an address in the holder's thread-local storage
};

class StackLockGuard {
 public:
  explicit StackLockGuard(StackLock& lock) : lock_(lock) { lock_.lock(); }
  ~StackLockGuard() { lock_.unlock(); }
  StackLockGuard(const StackLockGuard&) = delete;
  StackLockGuard& operator=(const StackLockGuard&) = delete;

 private:
  StackLock& lock_;
};

}  // namespace tto::stack
