#include "libtto/stack/api_call.hh"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/single_threaded.h>

#include <cstring>

#include "libtto/stack/interruption.hh"

namespace tto::stack {

CancellationPoint::CancellationPoint() {
  if (__libc_single_threaded) return;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old_type_);
}

CancellationPoint::~CancellationPoint() {
  if (old_type_ < 0) return;
  int ignored;
  pthread_setcanceltype(old_type_, &ignored);
}

LockedCall::LockedCall(int fd, uint64_t word) {
  const FdWordParts parts = FdWordParts::of(word);
  if (parts.index == 0) return;
  notice_if_forked();
  SocketEntry& entry = entry_at(parts.index);
  Stack* stack = entry.stack.load(std::memory_order_acquire);
  if (stack != nullptr) {
    stack->lock().lock();
    is_locked_ = true;
    stack_ = stack;
  }
  // Entries of a forked child have no stack; whatever changes an entry changes the word first.
  if (fd_word(fd) != word || entry.stack.load(std::memory_order_acquire) != stack) {
    unlock();
    return;
  }
  entry_ = &entry;
  generation_ = entry.generation;
  valid_ = true;
  if (stack != nullptr) read_clock();
}

LockedCall::~LockedCall() { unlock(); }

void LockedCall::unlock() {
  if (!is_locked_) return;
  is_locked_ = false;
  stack_->lock().unlock();
  if (!finishes_) return;
  finishes_ = false;
  StackLockGuard guard(api_lock());
  if (is_same()) finish_entry(*entry_);
}

void LockedCall::progress() {
  read_clock();
  stack_->run_once(now_);
}

namespace {

/// The entry this thread sleeps in keeps its connection, also if another thread closes the descriptor (S17). A handler may
/// longjmp out of the sleep: the pin left behind is known by its frame, which lies deeper than any live one.
struct ThreadPin {
  SocketEntry* entry;
  uint16_t generation;
  const void* frame;
};
thread_local ThreadPin t_pin;

class LevelSleeper final : public Sleeper {
 public:
  LevelSleeper(LockedCall& call, uint32_t wanted)
      : call_(call), wanted_(wanted | EPOLLERR | EPOLLHUP), waiter_(ThreadWaiter::of_this_thread()) {}
  bool is_ready() override {
    if (!call_.is_same() || call_.stream() == nullptr) return true;
    socket::Readiness& readiness = call_.stream()->readiness();
    if ((call_.stream()->poll_level() & wanted_) != 0) return true;
    if (!waiter_.is_linked()) readiness.add(waiter_);  // a handler that waited for something else took it away
    return false;
  }
  void leave() { waiter_.unlink(); }

 private:
  LockedCall& call_;
  uint32_t wanted_;
  ThreadWaiter& waiter_;
};

}  // namespace

void release_stale_pin(const void* frame) {
  if (t_pin.entry == nullptr || t_pin.frame > frame) return;
  if (t_pin.entry->generation == t_pin.generation && t_pin.entry->pins > 0) --t_pin.entry->pins;
  t_pin.entry = nullptr;
}

void LockedCall::pin() {
  const void* frame = __builtin_frame_address(0);
  release_stale_pin(frame);
  ++entry_->pins;
  t_pin = {entry_, generation_, frame};
}

void LockedCall::unpin() {
  t_pin.entry = nullptr;
  if (!is_same()) return;
  if (entry_->pins > 0) --entry_->pins;
  if (entry_->pins == 0 && entry_->is_orphaned) finishes_ = true;
}

int wait_for_level(LockedCall& call, uint32_t wanted, Instant until, bool restartable) {
  LevelSleeper sleeper(call, wanted);
  Interruption interruption;
  for (;;) {
    call.pin();
    const WaitResult result = wait(call.stack(), sleeper, until, nullptr);
    call.unpin();
    if (result == WaitResult::kInterrupted && restartable && interruption.may_restart() && call.is_same()) continue;
    sleeper.leave();
    call.read_clock();
    if (result == WaitResult::kReady) return 0;
    return result == WaitResult::kTimeout ? -EAGAIN : -EINTR;
  }
}

Instant deadline_after(Instant now, int64_t timeout_ns) {
  if (timeout_ns <= 0 || timeout_ns > kNever.ns - now.ns) return kNever;
  return now + nanoseconds(timeout_ns);
}

void raise_sigpipe() { sys::tgkill(sys::getpid(), sys::gettid(), SIGPIPE); }

int unserved(int error) {
  Runtime::instance().counters().add(stats::Counter::socket_unserved);
  return -error;
}

int write_address(const wire::IpAddress& ip, uint16_t port, bool is_v6, sockaddr* out, socklen_t* bytes) {
  if (is_bad_range(bytes, sizeof *bytes)) return -EFAULT;
  if (static_cast<int>(*bytes) < 0) return -EINVAL;
  union {
    sockaddr_in v4;
    sockaddr_in6 v6;
  } a{};
  socklen_t full;
  if (is_v6) {
    a.v6.sin6_family = AF_INET6;
    a.v6.sin6_port = htons(port);
    std::memcpy(&a.v6.sin6_addr, ip.bytes.data(), 16);
    full = sizeof a.v6;
  } else {
    a.v4.sin_family = AF_INET;
    a.v4.sin_port = htons(port);
    a.v4.sin_addr.s_addr = ip.v4();
    full = sizeof a.v4;
  }
  const socklen_t given = *bytes < full ? *bytes : full;
  if (is_bad_range(out, given)) return -EFAULT;
  std::memcpy(out, &a, given);
  *bytes = full;
  return 0;
}

}  // namespace tto::stack
