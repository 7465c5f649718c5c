// tto.h: epoll.
#include <climits>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/epoll_set.hh"

namespace tto::stack {

namespace {

constexpr uint32_t kTurnsWithoutKernel = 8;

/// Another epoll descriptor is put into a set: it must become readable for what only its user half knows (S4).
void watch_nested(int fd) {
  StackLockGuard guard(api_lock());
  const uint64_t word = fd_word(fd);
  if (path_of(word) != Path::kEpoll) return;
  EpollSet* inner = epoll_set_of(word);
  if (inner == nullptr) inner = make_epoll_set(fd);
  if (inner == nullptr) return;
  inner->is_watched.store(true, std::memory_order_relaxed);
  Stack* stack = inner->stack.load(std::memory_order_acquire);
  if (stack == nullptr) return;
  StackLockGuard stack_guard(stack->lock());
  if (inner->has_ready()) inner->signal();
}

/// epoll_ctl on an undecided socket: the kernel does it, we remember it.
int control_undecided(int epfd, int operation, int fd, epoll_event* event, SocketEntry& entry) {
  const int result = sys::epoll_ctl(epfd, operation, fd, event);
  if (result < 0) return result;
  EpollSet* set = epoll_set_of(fd_word(epfd));
  if (set == nullptr && operation == EPOLL_CTL_ADD) set = make_epoll_set(epfd);
  if (set == nullptr) return 0;
  Interest* interest = find_interest(entry, *set, fd);
  switch (operation) {
    case EPOLL_CTL_ADD:
      if (interest == nullptr) interest = make_interest(*set, entry, fd, *event);
      if (interest != nullptr) interest->in_kernel = true;
      break;
    case EPOLL_CTL_MOD:
      if (interest == nullptr) break;
      interest->events = event->events;
      interest->data = event->data.u64;
      break;
    case EPOLL_CTL_DEL:
      if (interest != nullptr) free_interest(*interest);
      break;
    default: break;
  }
  return 0;
}

int check_exclusive(uint32_t events) {
  constexpr uint32_t kAllowed =
      EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
  return (events & EPOLLEXCLUSIVE) != 0 && (events & ~kAllowed) != 0 ? -EINVAL : 0;
}

/// The kernel's half of a listener follows; streams have none.
void update_kernel_half(Interest& interest) {
  if (interest.entry->listener == nullptr) return;
  epoll_event event{};
  event.events = interest.events;
  event.data.u64 = reinterpret_cast<uint64_t>(&interest);
  const int epfd = interest.set->epfd.load(std::memory_order_relaxed);
  const int operation = interest.in_kernel ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  interest.in_kernel = sys::epoll_ctl(epfd, operation, interest.fd, &event) == 0;
}

int add_stream(int epfd, int fd, const epoll_event& event, SocketEntry& entry, EpollSet* set) {
  if (epfd == fd) return -EINVAL;
  if (const int error = check_exclusive(event.events); error < 0) return error;
  if (set == nullptr) {
    // Is it an epoll descriptor at all? The kernel says: nothing of that name is registered.
    epoll_event unused{};
    const int probe = sys::epoll_ctl(epfd, EPOLL_CTL_DEL, fd, &unused);
    if (probe < 0 && probe != -ENOENT) return probe;
    set = make_epoll_set(epfd);
    if (set == nullptr) return -ENOMEM;
  }
  if (find_interest(entry, *set, fd) != nullptr) return -EEXIST;
  Interest* interest = make_interest(*set, entry, fd, event);
  if (interest == nullptr) return -ENOMEM;
  update_kernel_half(*interest);
  enter_user_half(*interest);
  return 0;
}

int modify_stream(Interest& interest, const epoll_event& event) {
  if ((event.events & EPOLLEXCLUSIVE) != 0 || (interest.events & EPOLLEXCLUSIVE) != 0) return -EINVAL;
  interest.events = event.events;
  interest.data = event.data.u64;
  interest.is_disabled = false;
  update_kernel_half(interest);
  if (interest.current() != 0) interest.set->make_ready(interest);
  return 0;
}

/// epoll_ctl on a socket of ours, with both locks.
int control_ours(int epfd, int operation, int fd, epoll_event* event, SocketEntry& entry) {
  EpollSet* set = epoll_set_of(fd_word(epfd));
  if (operation != EPOLL_CTL_DEL && is_bad_range(event, sizeof *event)) return -EFAULT;
  if (operation == EPOLL_CTL_ADD) return add_stream(epfd, fd, *event, entry, set);
  Interest* interest = set != nullptr ? find_interest(entry, *set, fd) : nullptr;
  if (interest == nullptr) {
    epoll_event unused{};
    return sys::epoll_ctl(epfd, operation, fd, operation == EPOLL_CTL_DEL ? &unused : event);  // its errno
  }
  if (operation == EPOLL_CTL_MOD) return modify_stream(*interest, *event);
  if (operation != EPOLL_CTL_DEL) return -EINVAL;
  if (interest->in_kernel) {
    epoll_event unused{};
    sys::epoll_ctl(epfd, EPOLL_CTL_DEL, fd, &unused);
  }
  free_interest(*interest);
  return 0;
}

int control_tracked(int epfd, int operation, int fd, epoll_event* event) {
  served_word(fd);
  decide_listener(fd);
  for (;;) {
    const uint64_t word = fd_word(fd);
    StackLockGuard guard(api_lock());
    if (fd_word(fd) != word) continue;
    if (is_undecided(word))
      return control_undecided(epfd, operation, fd, event, entry_at(FdWordParts::of(word).index));
    if (!is_tcp(word)) return sys::epoll_ctl(epfd, operation, fd, event);
    SocketEntry& entry = entry_at(FdWordParts::of(word).index);
    Stack* stack = entry.stack.load(std::memory_order_acquire);
    if (stack == nullptr) return sys::epoll_ctl(epfd, operation, fd, event);
    StackLockGuard stack_guard(stack->lock());
    return control_ours(epfd, operation, fd, event, entry);
  }
}

// --- waiting -----------------------------------------------------------------------------------------------------------

struct Wait {
  int epfd;
  epoll_event* events;
  int capacity;
  int64_t timeout_ns;  // negative: for ever
  const sigset_t* mask;
};

/// The kernel's half, now; what is ours in it translated.
int take_kernel(const Wait& w, EpollSet& set, epoll_event* events, int capacity) {
  const int n = sys::epoll_pwait(w.epfd, events, capacity, 0, nullptr);
  return n > 0 ? set.translate(events, n) : n;
}

/// A listener that fired in both halves is reported once.
int merge(epoll_event* events, int ours, int all) {
  int kept = ours;
  for (int i = ours; i < all; ++i) {
    bool is_known = false;
    for (int j = 0; j < ours && !is_known; ++j) {
      if (events[j].data.u64 != events[i].data.u64) continue;
      events[j].events |= events[i].events;
      is_known = true;
    }
    if (!is_known) events[kept++] = events[i];
  }
  return kept;
}

class EpollSleeper final : public Sleeper {
 public:
  EpollSleeper(EpollSet& set, int epfd) : set_(set), epfd_(epfd), waiter_(ThreadWaiter::of_this_thread()) {}
  bool is_ready() override {
    if (kernel_is_ready_ || set_.has_ready()) return true;
    if (++turns_ % 16 == 0 && kernel_polls()) return true;
    if (!waiter_.is_linked()) set_.readiness.add(waiter_);
    return false;
  }
  int sleep(int wait_fd, int wake_fd, Duration timeout, const sigset_t* mask) override {
    pollfd fds[3] = {{epfd_, POLLIN, 0}, {wait_fd, POLLIN, 0}, {wake_fd, POLLIN, 0}};
    timespec limit{timeout.ns / 1'000'000'000, timeout.ns % 1'000'000'000};
    const int n = sys::ppoll(fds, 3, timeout.ns == INT64_MAX ? nullptr : &limit, mask);
    if (n > 0 && fds[0].revents != 0) kernel_is_ready_ = true;
    return n == -EINTR ? -EINTR : 0;
  }
  void leave() { waiter_.unlink(); }
  bool take_kernel_ready() {
    const bool was = kernel_is_ready_;
    kernel_is_ready_ = false;
    return was;
  }

 private:
  bool kernel_polls() {
    pollfd fd{epfd_, POLLIN, 0};
    timespec none{};
    kernel_is_ready_ = sys::ppoll(&fd, 1, &none, nullptr) > 0 && fd.revents != 0;
    return kernel_is_ready_;
  }

  EpollSet& set_;
  int epfd_;
  ThreadWaiter& waiter_;
  uint32_t turns_ = 0;
  bool kernel_is_ready_ = false;
};

/// What is there now, of both halves. `look` at the kernel's half in any case; else now and then. -errno is the kernel's.
int collect(const Wait& w, EpollSet& set, bool look) {
  if (!look && set.turns_without_kernel >= kTurnsWithoutKernel) look = true;
  // One place is the kernel's when it is its turn, so that our sockets cannot starve it.
  const int share = look && w.capacity > 1 ? w.capacity - 1 : w.capacity;
  const int ours = set.harvest(w.events, share);
  if (!look && ours > 0) {
    ++set.turns_without_kernel;
    return ours;
  }
  if (ours == w.capacity) return ours;
  set.turns_without_kernel = 0;
  const int theirs = take_kernel(w, set, w.events + ours, w.capacity - ours);
  if (theirs <= 0) return ours > 0 ? ours : theirs;
  return merge(w.events, ours, ours + theirs);
}

/// With sockets of ours in the set.
int wait_both(const Wait& w, EpollSet& set, Stack& stack, uint64_t word) {
  StackLockGuard guard(stack.lock());
  if (fd_word(w.epfd) != word) return -EBADF;
  Runtime& runtime = Runtime::instance();
  const Instant begin = runtime.now();
  stack.run_once(begin);
  int n = collect(w, set, w.timeout_ns == 0);
  if (n != 0 || w.timeout_ns == 0) return n;
  const Instant until = w.timeout_ns < 0 ? kNever : deadline_after(begin, w.timeout_ns);
  EpollSleeper sleeper(set, w.epfd);
  for (;;) {
    const WaitResult result = wait(stack, sleeper, until, w.mask);
    n = result == WaitResult::kInterrupted ? -EINTR : collect(w, set, sleeper.take_kernel_ready());
    if (n != 0 || result != WaitResult::kReady) break;
  }
  sleeper.leave();
  return n;
}

int64_t kernel_wait(const Wait& w, int64_t left_ns) {
  timespec limit{left_ns / 1'000'000'000, left_ns % 1'000'000'000};
  const timespec* timeout = left_ns < 0 ? nullptr : &limit;
  const long n = blocking_call(SYS_epoll_pwait2, w.epfd, w.events, w.capacity, timeout, w.mask, sys::kSignalSetBytes);
  if (n != -ENOSYS) return n;
  const int64_t ms = left_ns < 0 ? -1 : (left_ns + 999'999) / 1'000'000;
  return blocking_call(SYS_epoll_pwait, w.epfd, w.events, w.capacity, ms > INT_MAX ? INT_MAX : ms, w.mask,
                       sys::kSignalSetBytes);
}

/// With a set that has no socket of ours yet: another thread may put one in while we sleep, and wakes us by the eventfd.
int wait_in_kernel(const Wait& w, EpollSet& set, int64_t left_ns) {
  set.kernel_sleepers.fetch_add(1, std::memory_order_relaxed);
  const auto n = static_cast<int>(kernel_wait(w, left_ns));
  set.kernel_sleepers.fetch_sub(1, std::memory_order_relaxed);
  if (n <= 0) return n;
  Stack* stack = set.stack.load(std::memory_order_acquire);
  StackLockGuard guard(stack != nullptr ? stack->lock() : api_lock());
  const int kept = set.translate(w.events, n);
  return kept > 0 ? kept : -EAGAIN;
}

/// In a forked child: connections of the set that stayed with the parent are asked for, or they would never be reported.
void claim_interests(EpollSet& set) {
  for (;;) {
    int fd = -1;
    {
      StackLockGuard guard(api_lock());
      for (IntrusiveNode* n = set.interests.first(); n != nullptr && fd < 0; n = set.interests.next(n)) {
        const Interest& interest = *static_cast<Interest::Node*>(n)->self;
        if (interest.entry->inherited_page != nullptr) fd = interest.fd;
      }
    }
    if (fd < 0 || !is_tcp(fd_word(fd))) return;
    served_word(fd);
  }
}

int wait_on(const Wait& w) {
  notice_if_forked();
  if (w.capacity <= 0 || w.capacity > INT_MAX / static_cast<int>(sizeof(epoll_event))) return -EINVAL;
  if (is_bad_range(w.events, static_cast<size_t>(w.capacity) * sizeof(epoll_event))) return -EFAULT;
  const Instant begin = Runtime::instance().now();
  int64_t left_ns = w.timeout_ns;
  for (;;) {
    const uint64_t word = fd_word(w.epfd);
    EpollSet* set = epoll_set_of(word);
    if (set == nullptr) return static_cast<int>(kernel_wait(w, left_ns));
    Stack* stack = set->stack.load(std::memory_order_acquire);
    Wait rest = w;
    rest.timeout_ns = left_ns;
    int n;
    const bool has_ours = set->user_count.load(std::memory_order_relaxed) != 0;
    if (has_ours && stack == nullptr) claim_interests(*set);
    if (has_ours && stack != nullptr) {
      n = wait_both(rest, *set, *stack, word);
    } else {
      n = wait_in_kernel(rest, *set, left_ns);
    }
    if (n != -EAGAIN) return n;
    if (w.timeout_ns < 0) continue;
    left_ns = w.timeout_ns - (Runtime::instance().now() - begin).ns;
    if (left_ns < 0) left_ns = 0;
  }
}

/// On an epoll descriptor without a socket of ours: a thread that adds the first one meanwhile wakes us by the eventfd.
/// `call` is the program's own system call, and no other: sandboxes know which ones a program makes.
template <typename Call>
int wait_plain(const Wait& w, Call call) {
  if (w.timeout_ns == 0) return static_cast<int>(call());
  const Instant begin = Runtime::instance().now();
  if (!enter_plain_wait(w.epfd)) return wait_on(w);
  const auto n = static_cast<int>(call());
  EpollSet* set = leave_plain_wait(w.epfd);
  if (n <= 0 || set == nullptr) return n;
  {
    Stack* stack = set->stack.load(std::memory_order_acquire);
    StackLockGuard guard(stack != nullptr ? stack->lock() : api_lock());
    const int kept = set->translate(w.events, n);
    if (kept > 0) return kept;
  }
  Wait rest = w;
  if (w.timeout_ns > 0) {
    rest.timeout_ns = w.timeout_ns - (Runtime::instance().now() - begin).ns;
    if (rest.timeout_ns < 0) rest.timeout_ns = 0;
  }
  return wait_on(rest);
}

bool has_set(int epfd) {
  const uint64_t word = fd_word(epfd);
  return path_of(word) == Path::kEpoll && word >> 32 != 0;
}

bool is_plain_epoll(int epfd) {
  const uint64_t word = fd_word(epfd);
  return path_of(word) == Path::kEpoll && word >> 32 == 0;
}

int64_t ns_of_ms(int timeout_ms) { return timeout_ms < 0 ? -1 : int64_t{timeout_ms} * 1'000'000; }

void note_epoll_descriptor(int epfd) {
  if (FdWord* word = fd_word_for_writing(epfd)) {
    FdWordParts parts;
    parts.path = Path::kEpoll;
    word->store(parts.word(), std::memory_order_release);
  }
}

}  // namespace

}  // namespace tto::stack

using namespace tto;
using namespace tto::stack;

extern "C" {

int tto_epoll_create1(int flags) {
  const int epfd = sys::epoll_create1(flags);
  if (epfd >= 0) {
    forget_former_life(epfd);
    note_epoll_descriptor(epfd);
  }
  return static_cast<int>(posix(epfd));
}

int tto_epoll_ctl(int epfd, int operation, int fd, epoll_event* event) {
  const uint64_t word = fd_word(fd);
  if (is_internal_fd(fd) || is_internal_fd(epfd)) return static_cast<int>(posix(-EBADF));
  if (is_tcp(word) || is_undecided(word)) return static_cast<int>(posix(control_tracked(epfd, operation, fd, event)));
  const int result = sys::epoll_ctl(epfd, operation, fd, event);
  if (result == 0 && path_of(word) == Path::kEpoll && operation == EPOLL_CTL_ADD) watch_nested(fd);
  return static_cast<int>(posix(result));
}

int tto_epoll_pwait(int epfd, epoll_event* events, int capacity, int timeout_ms, const sigset_t* mask) {
  const Wait w{epfd, events, capacity, ns_of_ms(timeout_ms), mask};
  if (has_set(epfd)) return static_cast<int>(posix(wait_on(w)));
  const auto call = [&] {
    return blocking_call(SYS_epoll_pwait, epfd, events, capacity, timeout_ms, mask, sys::kSignalSetBytes);
  };
  return static_cast<int>(posix(is_plain_epoll(epfd) ? wait_plain(w, call) : call()));
}

int tto_epoll_wait(int epfd, epoll_event* events, int capacity, int timeout_ms) {
  return tto_epoll_pwait(epfd, events, capacity, timeout_ms, nullptr);
}

int tto_epoll_pwait2(int epfd, epoll_event* events, int capacity, const timespec* timeout, const sigset_t* mask) {
  const auto call = [&] {
    return blocking_call(SYS_epoll_pwait2, epfd, events, capacity, timeout, mask, sys::kSignalSetBytes);
  };
  const bool is_bad = timeout != nullptr && (is_bad_range(timeout, sizeof *timeout) || timeout->tv_nsec < 0 ||
                                             timeout->tv_nsec > 999'999'999 || timeout->tv_sec < 0);
  if (is_bad || (!has_set(epfd) && !is_plain_epoll(epfd))) return static_cast<int>(posix(call()));
  int64_t timeout_ns = -1;
  if (timeout != nullptr) {
    timeout_ns = timeout->tv_sec > INT64_MAX / 2'000'000'000 ? INT64_MAX
                                                            : timeout->tv_sec * 1'000'000'000 + timeout->tv_nsec;
  }
  const Wait w{epfd, events, capacity, timeout_ns, mask};
  return static_cast<int>(posix(has_set(epfd) ? wait_on(w) : wait_plain(w, call)));
}

}  // extern "C"
