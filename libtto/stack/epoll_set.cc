#include "libtto/stack/epoll_set.hh"

#include <sys/eventfd.h>

#include <new>

#include "libtto/base/sys.hh"
#include "libtto/socket/listen_socket.hh"
#include "libtto/socket/stream_socket.hh"
#include "libtto/stack/stack.hh"

namespace tto::stack {

namespace {

constexpr uint32_t kAlways = EPOLLERR | EPOLLHUP;

/// Objects in pages that are never given back, so that a stale pointer or index meets a live object.
template <typename T, size_t kPerChunk>
struct Pool {
  T* free = nullptr;
  uint32_t made = 0;

  template <typename OnMake>
  T* take(OnMake on_make) {
    if (free == nullptr) {
      void* pages = sys::mmap(nullptr, sizeof(T) * kPerChunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (sys::is_error(pages)) return nullptr;
      T* chunk = static_cast<T*>(pages);
      for (size_t i = kPerChunk; i-- > 0;) {
        T* t = new (&chunk[i]) T;
        t->next_free = free;
        free = t;
      }
      on_make(chunk, made);
      made += kPerChunk;
    }
    T* t = free;
    free = t->next_free;
    t->next_free = nullptr;
    return t;
  }
  void give(T* t) {
    t->next_free = free;
    free = t;
  }
};

constexpr size_t kSetsPerChunk = 16;
constexpr size_t kMaxSetChunks = 4096;
constinit Pool<Interest, 64> g_interests;
constinit Pool<EpollSet, kSetsPerChunk> g_sets;
EpollSet* g_set_chunks[kMaxSetChunks];

uint32_t widened(uint32_t level) {
  if ((level & EPOLLIN) != 0) level |= EPOLLRDNORM;
  if ((level & EPOLLOUT) != 0) level |= EPOLLWRNORM;
  return level;
}

Interest* of(IntrusiveNode* node) { return static_cast<Interest::Node*>(node)->self; }

}  // namespace

// --- Interest ----------------------------------------------------------------------------------------------------------

void Interest::notify(uint32_t happened) {
  if (is_disabled || (widened(happened) & (events | kAlways)) == 0) return;
  set->make_ready(*this);
}

uint32_t Interest::current() const {
  if (is_disabled) return 0;
  uint32_t level = 0;
  if (entry->stream != nullptr) {
    level = entry->stream->poll_level();
  } else if (entry->listener != nullptr) {
    level = entry->listener->readiness().level();
  }
  return widened(level) & (events | kAlways);
}

// --- EpollSet ----------------------------------------------------------------------------------------------------------

void EpollSet::make_ready(Interest& interest) {
  if (!interest.ready.is_linked()) {
    ready.push_back(interest.ready);
    ++ready_count;
  }
  readiness.update(EPOLLIN, EPOLLIN);
  if (is_watched.load(std::memory_order_relaxed) || kernel_sleepers.load(std::memory_order_relaxed) > 0) signal();
}

bool EpollSet::has_ready() {
  while (IntrusiveNode* node = ready.first()) {
    if (of(node)->current() != 0) return true;
    node->unlink();
    --ready_count;
  }
  readiness.update(0, 0);
  clear_signal();
  return false;
}

int EpollSet::harvest(epoll_event* out, int capacity) {
  int n = 0;
  for (uint32_t i = ready_count; i > 0 && n < capacity; --i) {
    Interest* it = of(ready.pop_front());
    --ready_count;
    const uint32_t level = it->current();
    if (level == 0) continue;
    out[n].events = level;
    out[n].data.u64 = it->data;
    ++n;
    if ((it->events & EPOLLONESHOT) != 0) {
      it->is_disabled = true;
    } else if ((it->events & EPOLLET) == 0) {
      ready.push_back(it->ready);
      ++ready_count;
    }
  }
  if (ready_count == 0) {
    readiness.update(0, 0);
    clear_signal();
  }
  return n;
}

int EpollSet::translate(epoll_event* events, int count) {
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    epoll_event event = events[i];
    if (event.data.u64 == reinterpret_cast<uint64_t>(this)) {
      clear_signal();
      continue;
    }
    for (IntrusiveNode* n = listeners.first(); n != nullptr; n = listeners.next(n)) {
      Interest* it = of(n);
      if (event.data.u64 != reinterpret_cast<uint64_t>(it)) continue;
      event.data.u64 = it->data;
      if ((it->events & EPOLLONESHOT) != 0) it->is_disabled = true;
      break;
    }
    events[kept++] = event;
  }
  return kept;
}

void EpollSet::signal() {
  if (is_signalled || epfd.load(std::memory_order_relaxed) < 0) return;
  if (event_fd < 0) {
    event_fd = make_internal_fd(sys::eventfd2(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (event_fd < 0) return;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = reinterpret_cast<uint64_t>(this);
    sys::epoll_ctl(epfd.load(std::memory_order_relaxed), EPOLL_CTL_ADD, event_fd, &event);
  }
  const uint64_t one = 1;
  sys::write(event_fd, &one, sizeof one);
  is_signalled = true;
}

void EpollSet::clear_signal() {
  if (!is_signalled) return;
  uint64_t count;
  sys::read(event_fd, &count, sizeof count);
  is_signalled = false;
}

EpollSet& epoll_set_at(uint32_t index) { return g_set_chunks[(index - 1) / kSetsPerChunk][(index - 1) % kSetsPerChunk]; }

EpollSet* epoll_set_of(uint64_t word) {
  const FdWordParts parts = FdWordParts::of(word);
  return parts.path == Path::kEpoll && parts.index != 0 ? &epoll_set_at(parts.index) : nullptr;
}

namespace {

/// Writes the word of a descriptor of the set; what it was.
uint64_t write_word(int epfd, const EpollSet& set) {
  FdWord* word = fd_word_for_writing(epfd);
  if (word == nullptr) return 0;
  FdWordParts parts;
  parts.path = Path::kEpoll;
  parts.index = set.index;
  parts.generation = set.generation;
  return word->exchange(parts.word(), std::memory_order_acq_rel);
}

// The word of an epoll descriptor without a set counts, in the place of a reason, the threads asleep in it.
constexpr uint64_t kOnePlainSleeper = 1 << 4;
constexpr uint64_t kPlainSleepers = 0xfff << 4;

bool is_plain(uint64_t word) { return path_of(word) == Path::kEpoll && word >> 32 == 0; }

}  // namespace

bool enter_plain_wait(int epfd) {
  FdWord* word = fd_word_for_writing(epfd);
  if (word == nullptr) return true;
  uint64_t now = word->load(std::memory_order_acquire);
  while (is_plain(now) && (now & kPlainSleepers) != kPlainSleepers) {
    if (word->compare_exchange_weak(now, now + kOnePlainSleeper)) return true;
  }
  return is_plain(now);
}

EpollSet* leave_plain_wait(int epfd) {
  FdWord* word = fd_word_for_writing(epfd);
  if (word == nullptr) return nullptr;
  uint64_t now = word->load(std::memory_order_acquire);
  while (is_plain(now) && (now & kPlainSleepers) != 0) {
    if (word->compare_exchange_weak(now, now - kOnePlainSleeper)) return nullptr;
  }
  EpollSet* set = epoll_set_of(now);
  if (set != nullptr && set->kernel_sleepers.load(std::memory_order_relaxed) > 0)
    set->kernel_sleepers.fetch_sub(1, std::memory_order_relaxed);
  return set;
}

EpollSet* make_epoll_set(int epfd) {
  if (g_sets.free == nullptr && g_sets.made / kSetsPerChunk >= kMaxSetChunks) return nullptr;
  EpollSet* set = g_sets.take([](EpollSet* chunk, uint32_t made) {
    g_set_chunks[made / kSetsPerChunk] = chunk;
    for (uint32_t i = 0; i < kSetsPerChunk; ++i) chunk[i].index = made + i + 1;
  });
  if (set == nullptr) return nullptr;
  set->fd_count = 1;
  set->epfd.store(epfd, std::memory_order_relaxed);
  const uint64_t before = write_word(epfd, *set);
  set->kernel_sleepers.store(is_plain(before) ? static_cast<uint32_t>((before & kPlainSleepers) / kOnePlainSleeper) : 0,
                             std::memory_order_relaxed);
  return set;
}

void share_epoll_descriptor(int newfd, uint64_t word) {
  if (EpollSet* set = epoll_set_of(word)) {
    ++set->fd_count;
    write_word(newfd, *set);
  } else if (FdWord* plain = fd_word_for_writing(newfd)) {
    plain->store(word & ~kPlainSleepers, std::memory_order_release);
  }
}

void leave_epoll_number(int epfd, uint32_t index) {
  if (index == 0) return;
  EpollSet& set = epoll_set_at(index);
  if (set.epfd.load(std::memory_order_relaxed) != epfd) return;
  int other = -1;
  if (set.fd_count > 1) {
    for_each_known(0, kFdMapLimit - 1, [&](int fd, uint64_t word) {
      const FdWordParts parts = FdWordParts::of(word);
      if (fd != epfd && parts.path == Path::kEpoll && parts.index == index) other = fd;
    });
  }
  set.epfd.store(other, std::memory_order_relaxed);
}

void drop_epoll_descriptor(uint32_t index) {
  EpollSet& set = epoll_set_at(index);
  if (--set.fd_count > 0) return;
  Stack* stack = set.stack.load(std::memory_order_acquire);
  const auto empty = [&] {
    while (IntrusiveNode* n = set.interests.first()) free_interest(*of(n));
  };
  if (stack != nullptr) {
    StackLockGuard guard(stack->lock());
    empty();
  } else {
    empty();
  }
  close_internal_fd(set.event_fd);
  set.event_fd = -1;
  set.is_signalled = false;
  set.is_watched.store(false, std::memory_order_relaxed);
  set.stack.store(nullptr, std::memory_order_relaxed);
  set.user_count.store(0, std::memory_order_relaxed);
  ++set.generation;
  g_sets.give(&set);
}

// --- interests ---------------------------------------------------------------------------------------------------------

Interest* find_interest(SocketEntry& entry, const EpollSet& set, int fd) {
  for (IntrusiveNode* n = entry.interests.first(); n != nullptr; n = entry.interests.next(n))
    if (of(n)->set == &set && of(n)->fd == fd) return of(n);
  return nullptr;
}

Interest* make_interest(EpollSet& set, SocketEntry& entry, int fd, const epoll_event& event) {
  Interest* it = g_interests.take([](Interest*, uint32_t) {});
  if (it == nullptr) return nullptr;
  it->set = &set;
  it->entry = &entry;
  it->fd = fd;
  it->events = event.events;
  it->data = event.data.u64;
  it->in_kernel = it->in_user = it->is_disabled = false;
  it->by_entry.self = it->by_set.self = it->by_listener.self = it->ready.self = it;
  entry.interests.push_back(it->by_entry);
  set.interests.push_back(it->by_set);
  return it;
}

namespace {

void leave_user_half(Interest& it) {
  if (!it.in_user) return;
  it.in_user = false;
  it.unlink();
  it.by_listener.unlink();
  if (it.ready.is_linked()) {
    it.ready.unlink();
    --it.set->ready_count;
  }
  it.set->user_count.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace

void free_interest(Interest& it) {
  leave_user_half(it);
  it.by_entry.unlink();
  it.by_set.unlink();
  g_interests.give(&it);
}

void drop_interests(SocketEntry& entry) {
  while (IntrusiveNode* n = entry.interests.first()) free_interest(*of(n));
}

void forget_kernel_interests(SocketEntry& entry) { drop_interests(entry); }

void enter_user_half(Interest& it) {
  SocketEntry& entry = *it.entry;
  EpollSet& set = *it.set;
  if (!it.in_user) {
    it.in_user = true;
    set.user_count.fetch_add(1, std::memory_order_relaxed);
    set.stack.store(entry.stack.load(std::memory_order_relaxed), std::memory_order_release);
  }
  if (entry.stream != nullptr) entry.stream->readiness().add(it);
  if (entry.listener != nullptr) {
    entry.listener->readiness().add(it);
    set.listeners.push_back(it.by_listener);
  }
  if (it.current() != 0) set.make_ready(it);
  if (set.kernel_sleepers.load(std::memory_order_relaxed) > 0) set.signal();
}

void move_interests_to_user(SocketEntry& entry) {
  for (IntrusiveNode* n = entry.interests.first(); n != nullptr; n = entry.interests.next(n)) {
    Interest& it = *of(n);
    if (it.in_kernel) {
      epoll_event unused{};
      sys::epoll_ctl(it.set->epfd.load(std::memory_order_relaxed), EPOLL_CTL_DEL, it.fd, &unused);
      it.in_kernel = false;
    }
    enter_user_half(it);
  }
}

void watch_listener(SocketEntry& entry) {
  for (IntrusiveNode* n = entry.interests.first(); n != nullptr; n = entry.interests.next(n)) {
    Interest& it = *of(n);
    const int epfd = it.set->epfd.load(std::memory_order_relaxed);
    epoll_event event{};
    event.events = it.events;
    event.data.u64 = reinterpret_cast<uint64_t>(&it);
    if (it.in_kernel) sys::epoll_ctl(epfd, EPOLL_CTL_DEL, it.fd, &event);  // EPOLLEXCLUSIVE cannot be modified
    it.in_kernel = sys::epoll_ctl(epfd, EPOLL_CTL_ADD, it.fd, &event) == 0;
    enter_user_half(it);
  }
}

void move_interests_to_kernel(SocketEntry& entry) {
  for (IntrusiveNode* n = entry.interests.first(); n != nullptr; n = entry.interests.next(n)) {
    Interest& it = *of(n);
    leave_user_half(it);
    epoll_event event{};
    if (it.in_kernel) sys::epoll_ctl(it.set->epfd.load(std::memory_order_relaxed), EPOLL_CTL_DEL, it.fd, &event);
    event.events = it.is_disabled ? 0 : it.events;
    event.data.u64 = it.data;
    it.in_kernel = sys::epoll_ctl(it.set->epfd.load(std::memory_order_relaxed), EPOLL_CTL_ADD, it.fd, &event) == 0;
  }
}

void abandon_epoll_sets() {
  for_each_known(0, kFdMapLimit - 1, [](int epfd, uint64_t word) {  // the threads that slept are the parent's
    if (is_plain(word)) fd_word_for_writing(epfd)->store(word & ~kPlainSleepers, std::memory_order_release);
  });
  for (uint32_t i = 1; i <= g_sets.made; ++i) {
    EpollSet& set = epoll_set_at(i);
    set.stack.store(nullptr, std::memory_order_relaxed);
    set.kernel_sleepers.store(0, std::memory_order_relaxed);
    close_internal_fd(set.event_fd);  // shared with the parent
    set.event_fd = -1;
    set.is_signalled = false;
  }
}

}  // namespace tto::stack
