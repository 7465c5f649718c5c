#include "libtto/stack/sharing.hh"

#include <algorithm>

#include "libtto/base/sys.hh"
#include "libtto/stack/api_call.hh"
#include "libtto/stack/clock.hh"
#include "libtto/stack/epoll_set.hh"

namespace tto::stack {

namespace {

constexpr uint32_t kWords = 1u << 20;    // entries beyond share words: the generation tells most of them apart
constexpr uint32_t kTickets = 1024;      // one for each thread of all children that waits
constexpr int kMaxForks = 64;
constexpr Duration kPatience = seconds(3);
constexpr Duration kNap = milliseconds(20);

enum class Answer : uint32_t { kNone = 0, kRequested = 1, kDone = 2, kGone = 3 };

}  // namespace

struct SharingPage {
  std::atomic<uint32_t> pending;            // a ticket was put somewhere
  pid_t owner;
  std::atomic<uint32_t> tickets[kTickets];  // entry index, 0: none; in no order
  std::atomic<uint32_t> words[kWords];      // generation << 16 | Answer
};

namespace {

SharingPage* g_page = nullptr;
int g_doorbell = -1;
uint64_t g_live_forks = 0;        // bits of g_alive in use
int g_alive[kMaxForks];           // the owner's end of each fork's pipe
int g_child_end = -1;             // of the fork under way

std::atomic<uint32_t>& word_of(SharingPage& page, uint32_t index) { return page.words[index % kWords]; }
uint32_t make_word(uint16_t generation, Answer answer) { return uint32_t{generation} << 16 | static_cast<uint32_t>(answer); }

void wake(std::atomic<uint32_t>& word) {
  sys::futex(reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, 0x7fffffff);
}

/// Forgets forks of which no process is left. Under api_lock().
void reap_forks(uint64_t which) {
  for (int i = 0; i < kMaxForks; ++i) {
    if ((which & g_live_forks & uint64_t{1} << i) == 0) continue;
    pollfd fd{g_alive[i], 0, 0};
    if (sys::poll(&fd, 1, 0) == 0) continue;
    close_internal_fd(g_alive[i]);
    g_live_forks &= ~(uint64_t{1} << i);
  }
}

/// The number of a fresh fork, its pipe made; -1 if there is none.
int take_fork() {
  if (g_live_forks == ~uint64_t{0}) reap_forks(~uint64_t{0});
  if (g_live_forks == ~uint64_t{0}) return -1;
  int ends[2];
  if (sys::pipe2(ends, O_CLOEXEC) != 0) return -1;
  const int number = __builtin_ctzll(~g_live_forks);
  g_alive[number] = make_internal_fd(ends[0]);
  g_child_end = make_internal_fd(ends[1]);
  g_live_forks |= uint64_t{1} << number;
  return number;
}

int descriptor_of(const SocketEntry& entry) {
  int found = -1;
  const int shown = entry.stream->fd();
  if (shown >= 0 && is_tcp(fd_word(shown)) && FdWordParts::of(fd_word(shown)).index == entry.index) return shown;
  for_each_known(0, kFdMapLimit - 1, [&](int fd, uint64_t word) {
    if (is_tcp(word) && FdWordParts::of(word).index == entry.index) found = fd;
  });
  return found;
}

bool serve(uint32_t index, uint16_t generation) {
  StackLockGuard guard(api_lock());
  if (index == 0 || index > entry_count()) return false;
  SocketEntry& entry = entry_at(index);
  Stack* stack = entry.stack.load(std::memory_order_acquire);
  if (entry.generation != generation || entry.kind != SocketEntry::Kind::kStream || stack == nullptr) return false;
  StackLockGuard stack_guard(stack->lock());
  const int fd = entry.stream != nullptr ? descriptor_of(entry) : -1;
  return fd >= 0 && hand_over_entry(entry, fd, *stack, stats::Counter::kernel_handed_over_fork);
}

/// The placeholder says itself whether it is connected.
bool is_live_in_kernel(int fd) {
  constexpr int kTcp = 6, kTcpInfo = 11, kClose = 7;
  uint8_t info[4] = {};
  socklen_t bytes = sizeof info;
  return sys::getsockopt(fd, kTcp, kTcpInfo, info, &bytes) == 0 && info[0] != kClose;
}

void put_ticket(SharingPage& page, uint32_t index) {
  for (uint32_t i = 0; i < kTickets; ++i) {
    uint32_t free = 0;
    if (page.tickets[(index + i) % kTickets].compare_exchange_strong(free, index, std::memory_order_release)) break;
  }
  page.pending.store(1, std::memory_order_release);
}

/// Asks the owner and waits. True: the kernel has it.
bool ask_owner(const SocketEntry& entry, int fd) {
  SharingPage* page = entry.inherited_page;
  if (page == nullptr || entry.inherited_doorbell < 0) return false;
  std::atomic<uint32_t>& word = word_of(*page, entry.index);
  const uint32_t done = make_word(entry.generation, Answer::kDone);
  const uint32_t requested = make_word(entry.generation, Answer::kRequested);
  uint32_t seen = word.load(std::memory_order_acquire);
  if (seen == done) return true;
  if (!word.compare_exchange_strong(seen, requested, std::memory_order_acq_rel)) return seen == done;
  put_ticket(*page, entry.index);
  const uint64_t one = 1;
  sys::write(entry.inherited_doorbell, &one, sizeof one);
  const Instant until = read_clock() + kPatience;
  while (read_clock() < until) {
    seen = word.load(std::memory_order_acquire);
    if (seen == done) return true;
    if (seen != requested) break;  // gone, or the word is another connection's by now
    const timespec nap{0, kNap.ns};
    sys::futex(reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, requested, &nap);
    if (sys::call(SYS_kill, page->owner, 0) == -ESRCH) break;
  }
  return is_live_in_kernel(fd);
}

}  // namespace

void make_sharing_page(int doorbell_fd) {
  g_doorbell = doorbell_fd;
  void* memory = sys::mmap(nullptr, sizeof(SharingPage), PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  g_page = sys::is_error(memory) ? nullptr : static_cast<SharingPage*>(memory);
  if (g_page != nullptr) g_page->owner = sys::getpid();
}

void begin_fork() {
  g_child_end = -1;
  const int number = take_fork();
  for (uint32_t i = 1; i <= entry_count(); ++i) {
    SocketEntry& entry = entry_at(i);
    entry.shared_forks &= g_live_forks;
    if (entry.kind != SocketEntry::Kind::kStream) continue;
    if (number < 0) {
      entry.is_shared_for_good = true;
    } else {
      entry.shared_forks |= uint64_t{1} << number;
    }
  }
}

void end_fork_in_parent() {
  if (g_child_end >= 0) close_internal_fd(g_child_end);
  g_child_end = -1;
}

bool is_shared(SocketEntry& entry) {
  if (entry.is_shared_for_good) return true;
  if ((entry.shared_forks & g_live_forks) == 0) return false;
  reap_forks(entry.shared_forks);
  entry.shared_forks &= g_live_forks;
  return entry.shared_forks != 0;
}

void note_handed_over(SocketEntry& entry) {
  if (g_page == nullptr) return;
  std::atomic<uint32_t>& word = word_of(*g_page, entry.index);
  const uint32_t seen = word.exchange(make_word(entry.generation, Answer::kDone), std::memory_order_acq_rel);
  if ((seen & 0xffff) == static_cast<uint32_t>(Answer::kRequested)) wake(word);
}

bool has_living_children() {
  StackLockGuard guard(api_lock());
  reap_forks(~uint64_t{0});
  return g_live_forks != 0;
}

bool has_sharing_requests() {
  return g_page != nullptr && g_page->pending.load(std::memory_order_acquire) != 0;
}

void serve_sharing_requests() {
  if (!has_sharing_requests() || g_page->pending.exchange(0, std::memory_order_acquire) == 0) return;
  for (std::atomic<uint32_t>& ticket : g_page->tickets) {
    if (ticket.load(std::memory_order_relaxed) == 0) continue;
    const uint32_t index = ticket.exchange(0, std::memory_order_acquire);
    std::atomic<uint32_t>& word = word_of(*g_page, index);
    uint32_t wanted = word.load(std::memory_order_acquire);
    if ((wanted & 0xffff) != static_cast<uint32_t>(Answer::kRequested)) continue;
    if (serve(index, static_cast<uint16_t>(wanted >> 16))) continue;  // answered by note_handed_over()
    word.compare_exchange_strong(wanted, make_word(static_cast<uint16_t>(wanted >> 16), Answer::kGone));
    wake(word);
  }
}

void begin_life_as_child() {
  for (int i = 0; i < kMaxForks; ++i) {
    if ((g_live_forks & uint64_t{1} << i) != 0) close_internal_fd(g_alive[i]);
  }
  g_live_forks = 0;
  g_child_end = -1;  // stays open: it says that this process lives
  for (uint32_t i = 1; i <= entry_count(); ++i) {
    SocketEntry& entry = entry_at(i);
    entry.shared_forks = 0;
    entry.is_shared_for_good = false;
    if (entry.kind != SocketEntry::Kind::kLost || entry.inherited_page != nullptr) continue;
    entry.inherited_page = g_page;
    entry.inherited_doorbell = g_doorbell;
  }
  g_page = nullptr;
  g_doorbell = -1;
}

bool claim_inherited(int fd, uint64_t word) {
  notice_if_forked();
  SocketEntry& entry = entry_at(FdWordParts::of(word).index);
  if (!is_tcp(word) || entry.kind != SocketEntry::Kind::kLost) return false;
  const bool is_kernels = ask_owner(entry, fd);
  StackLockGuard guard(api_lock());
  if (fd_word(fd) != word) return true;
  if (!is_kernels) {
    Runtime::instance().counters().add(stats::Counter::socket_lost);
    entry.inherited_page = nullptr;  // not asked again
    return true;
  }
  forget_kernel_interests(entry);
  give_to_kernel(entry, fd, stats::Counter::kernel_forked);
  Runtime::instance().counters().add(stats::Counter::kernel_forked);
  return true;
}

}  // namespace tto::stack
