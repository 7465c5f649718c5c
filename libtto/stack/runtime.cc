#include "libtto/stack/runtime.hh"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "libtto/base/fd_map.hh"
#include "libtto/base/settings.hh"
#include "libtto/base/sys.hh"
#include "libtto/memory/region_mapping.hh"
#include "libtto/port/xsk_port.hh"
#include "libtto/stack/clock.hh"
#include "libtto/stack/process_page.hh"
#include "libtto/stack/progress_thread.hh"
#include "libtto/stack/runtime_state.hh"
#include "libtto/stack/sharing.hh"
#include "libtto/stack/stack_impl.hh"
#include "libtto/stack/waiting.hh"

namespace tto::stack {
namespace {

constexpr Duration kRetryAfter = seconds(1);

// Counters before there is a page, and if there never is one.
constinit std::atomic<uint64_t> g_private_words[stats::kCounterCount] = {};

struct Global {
  StackLock lock;  // start-up only
  std::atomic<RunningStack*> running{nullptr};
  std::atomic<tto_stats_page*> page{nullptr};
  int page_fd = -1;
  std::atomic<stats::Counters*> counters{nullptr};
  std::atomic<uint32_t*> fork_word{nullptr};  // 1 here, 0 in a forked child until it has noticed
  Instant retry_at{};
  stats::Counter last_reason = stats::Counter::kernel_no_helper;
};
constinit Global g;
alignas(stats::Counters) constinit unsigned char g_counters_memory[sizeof(stats::Counters)] = {};
constinit Runtime g_runtime;

uint32_t number_from(const char* name, uint32_t otherwise) {
  const char* text = setting(name);
  if (text == nullptr || *text == '\0') return otherwise;
  char* end = nullptr;
  const unsigned long value = strtoul(text, &end, 10);
  return *end == '\0' && value <= UINT32_MAX ? static_cast<uint32_t>(value) : otherwise;
}

bool has_profile(const char* name) {
  const char* profile = setting("TTO_PROFILE");
  return profile != nullptr && strcmp(profile, name) == 0;
}

bool is_disabled_by_environment() {
  const char* disable = setting("TTO_DISABLE");
  return (disable != nullptr && strcmp(disable, "0") != 0 && *disable != '\0') || has_profile("kernel");
}

StackConfig config_from_environment() {
  StackConfig config;
  uint32_t spin_us = 30;
  if (has_profile("latency")) spin_us = 200;
  if (has_profile("throughput")) spin_us = 10;
  if (has_profile("safe")) spin_us = 0;
  config.spin_budget = microseconds(number_from("TTO_SPIN_US", spin_us));
  config.ack_ride = microseconds(500);
  config.device.bulk_interval = microseconds(has_profile("throughput") ? 100 : 25);
  sys::getrandom(config.isn_secret, sizeof config.isn_secret, 0);
  return config;
}

/// A word that is 1 here and 0 in whatever is forked from here, by whatever call.
uint32_t* make_fork_word() {
  constexpr size_t kPage = 4096;
  void* memory = sys::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sys::is_error(memory)) return nullptr;
  if (sys::madvise(memory, kPage, MADV_WIPEONFORK) != 0) {
    sys::munmap(memory, kPage);
    return nullptr;
  }
  auto* word = static_cast<uint32_t*>(memory);
  *word = 1;
  return word;
}

bool add_to_epoll(int epoll, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  return fd >= 0 && sys::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

stats::Counter reason_of_connect_error(int error) {
  if (error == EPROTO) return stats::Counter::kernel_helper_version;
  if (error == EACCES || error == EPERM) return stats::Counter::kernel_policy;
  return stats::Counter::kernel_no_helper;
}

void show_region(tto_stats_page* page, int region_fd) {
  if (page == nullptr) return;
  page->region_fd = region_fd;
  page->has_region = 1;
}

}  // namespace

uint64_t netns_cookie(int socket) {
  constexpr int kNetnsCookie = 71;  // SO_NETNS_COOKIE
  uint64_t cookie = 0;
  socklen_t bytes = sizeof cookie;
  return sys::getsockopt(socket, SOL_SOCKET, kNetnsCookie, &cookie, &bytes) == 0 ? cookie : 0;
}

RunningStack::~RunningStack() {
  stack.reset();
  const int xsk_fd = port.wait_fd();
  port.close();
  if (FdWord* word = xsk_fd >= 0 ? fd_word_for_writing(xsk_fd) : nullptr; word != nullptr) word->store(0);
  if (wait_fd >= 0) close_internal_fd(wait_fd);
  if (region_fd >= 0) close_internal_fd(region_fd);
}

bool RunningStack::is_unused() {
  StackLockGuard guard(stack->lock());
  return stack->connection_count() == 0 && !stack->has_listeners() && !stack->has_sleepers();
}

/// Its progress thread is parked in it for ever, so the object stays; what it held of the system goes. Nobody can
/// get a socket of it any more: it has no session with ttod.
void RunningStack::retire() {
  StackLockGuard guard(stack->lock());
  stack->abandon();
  environment.abandon();
  const int xsk_fd = port.wait_fd();
  port.close();
  if (FdWord* word = xsk_fd >= 0 ? fd_word_for_writing(xsk_fd) : nullptr; word != nullptr) word->store(0);
  mapping.unmap();
  environment.net.close();
  close_internal_fd(wait_fd);
  close_internal_fd(region_fd);
  wait_fd = region_fd = -1;
}

/// kCount if it runs.
stats::Counter RunningStack::start(int any_tcp_socket, std::atomic<uint64_t>* words, tto_stats_page* page) {
  const char* path = setting("TTO_HELPER");
  if (path == nullptr || *path == '\0') path = TTO_HELPER_DEFAULT_PATH;
  environment.helper.set_counters(&Runtime::instance().counters());
  if (const int error = environment.helper.connect(path); error != 0) return reason_of_connect_error(error);
  if (!environment.net.open()) return stats::Counter::kernel_no_resource;
  cookie = netns_cookie(any_tcp_socket);
  // A thread that moved to another namespace sees the routes of that one.
  if (netns_cookie(environment.net.notification_fd()) != cookie) return stats::Counter::kernel_bad_socket;
  tto_helper_open_port wish{};
  wish.frame_count = number_from("TTO_FRAMES", 0);
  wish.busy_poll_us = number_from("TTO_BUSY_POLL_US", 0);
  auto grant = environment.helper.open_port(any_tcp_socket, wish);
  if (!grant.has_value()) {
    return environment.helper.is_connected() ? reason_of(grant.error()) : stats::Counter::kernel_no_helper;
  }
  region_fd = make_internal_fd(grant->region_fd);
  const int xsk_fd = make_internal_fd(grant->xsk_fd);
  if (mapping.map(region_fd) != 0 || port.open(xsk_fd, grant->description, mapping.region(), 0) != 0) {
    close_internal_fd(xsk_fd);
    return stats::Counter::kernel_no_resource;
  }
  environment.set_nics(grant->description);
  const int epoll = sys::epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return stats::Counter::kernel_no_resource;
  wait_fd = make_internal_fd(epoll);
  if (!add_to_epoll(wait_fd, port.wait_fd()) || !add_to_epoll(wait_fd, environment.net.notification_fd()) ||
      !add_to_epoll(wait_fd, environment.helper.fd())) {
    return stats::Counter::kernel_no_resource;
  }
  PortBinding binding;
  binding.port = &port;
  binding.region = mapping.region();
  binding.nic_count = std::min<uint32_t>(grant->description.nic_count, TTO_HELPER_MAX_NICS);
  std::copy_n(grant->description.nics, binding.nic_count, binding.nics);
  binding.wait_fd = wait_fd;
  stack.reset(new (std::nothrow) Stack(config_from_environment(), binding, environment, words));
  if (stack == nullptr || !start_progress_thread(*stack)) return stats::Counter::kernel_no_resource;
  make_sharing_page(stack->impl().waiters.progress_wake_fd);
  show_region(page, region_fd);
  environment.set_page(page);
  return stats::Counter::kCount;
}

// --- the runtime ---------------------------------------------------------------------------------------------------

Runtime& Runtime::instance() { return g_runtime; }

RunningStack* the_running_stack() { return g.running.load(std::memory_order_acquire); }

Instant Runtime::now() { return read_clock(); }

tto_stats_page* Runtime::stats_page() {
  counters();
  return g.page.load(std::memory_order_acquire);
}

stats::Counters& Runtime::counters() {
  if (stats::Counters* known = g.counters.load(std::memory_order_acquire); known != nullptr) return *known;
  StackLockGuard guard(g.lock);
  if (stats::Counters* known = g.counters.load(std::memory_order_acquire); known != nullptr) return *known;
  const StatsPageMapping made = make_stats_page();
  g.page_fd = made.fd;
  auto* words = made.page != nullptr ? reinterpret_cast<std::atomic<uint64_t>*>(made.page->counters) : g_private_words;
  auto* counters = new (g_counters_memory) stats::Counters(words);
  g.page.store(made.page, std::memory_order_release);
  g.counters.store(counters, std::memory_order_release);
  return *counters;
}

Stack* Runtime::running_stack() {
  RunningStack* running = g.running.load(std::memory_order_acquire);
  return running == nullptr ? nullptr : running->stack.get();
}

Stack* Runtime::stack_for(int any_tcp_socket, stats::Counter* reason) {
  tto_stats_page* page = stats_page();
  RunningStack* running = g.running.load(std::memory_order_acquire);
  if (running == nullptr) {
    StackLockGuard guard(g.lock);
    running = g.running.load(std::memory_order_acquire);
    const Instant now = read_clock();
    if (running == nullptr && now < g.retry_at) {
      *reason = g.last_reason;
      return nullptr;
    }
    if (running == nullptr) {
      g.retry_at = now + kRetryAfter;
      running = is_disabled_by_environment() ? nullptr : start_stack(any_tcp_socket, page, &g.last_reason);
      if (running == nullptr) {
        if (is_disabled_by_environment()) g.last_reason = stats::Counter::kernel_disabled;
        *reason = g.last_reason;
        return nullptr;
      }
    }
  }
  *reason = why_not(*running, any_tcp_socket);
  if (*reason == stats::Counter::kernel_no_helper) running = replace(running, any_tcp_socket, page, reason);
  return *reason == stats::Counter::kCount ? running->stack.get() : nullptr;
}

RunningStack* Runtime::start_stack(int any_tcp_socket, tto_stats_page* page, stats::Counter* reason) {
  *reason = stats::Counter::kernel_no_resource;
  if (g.fork_word.load() == nullptr) g.fork_word.store(make_fork_word());
  auto* running = new (std::nothrow) RunningStack();
  if (running == nullptr || g.fork_word.load() == nullptr) return nullptr;
  auto* words = page != nullptr ? reinterpret_cast<std::atomic<uint64_t>*>(page->counters) : g_private_words;
  *reason = running->start(any_tcp_socket, words, page);
  if (*reason != stats::Counter::kCount) {
    delete running;
    return nullptr;
  }
  g.running.store(running, std::memory_order_release);
  return running;
}

/// ttod went, and what it had granted with it. Another one gives a port of its own, so a stack of its own: as soon as the
/// old one, which goes on without ttod for as long as it has sockets, has none. Looked at once a second at most.
RunningStack* Runtime::replace(RunningStack* old, int any_tcp_socket, tto_stats_page* page, stats::Counter* reason) {
  StackLockGuard guard(g.lock);
  RunningStack* running = g.running.load(std::memory_order_acquire);
  const Instant now = read_clock();
  if (running == old && now >= g.retry_at) {
    g.retry_at = now + kRetryAfter;
    if (!old->is_unused()) return old;
    stats::Counter why = stats::Counter::kCount;
    RunningStack* fresh = start_stack(any_tcp_socket, page, &why);
    if (fresh == nullptr) return old;
    old->retire();
    running = fresh;
  }
  if (running != old) *reason = why_not(*running, any_tcp_socket);
  return running;
}

stats::Counter Runtime::why_not(RunningStack& running, int any_tcp_socket) {
  if (netns_cookie(any_tcp_socket) != running.cookie) return stats::Counter::kernel_bad_socket;
  StackLockGuard guard(running.stack->lock());
  if (running.environment.is_revoked() || !running.environment.helper.is_connected()) {
    return stats::Counter::kernel_no_helper;
  }
  return stats::Counter::kCount;
}

// --- fork ----------------------------------------------------------------------------------------------------------

bool Runtime::is_forked_child() const {
  const uint32_t* word = g.fork_word.load(std::memory_order_acquire);
  return word != nullptr && *static_cast<const volatile uint32_t*>(word) == 0;
}

void Runtime::before_fork() {
  if (Stack* stack = running_stack(); stack != nullptr) stack->lock().lock();
}

void Runtime::after_fork_parent() {
  if (Stack* stack = running_stack(); stack != nullptr) stack->lock().unlock();
}

// The child's copies of the descriptors go; the mappings stay where they are, untouched: the region and the rings are
// the parent's. What the parent's stack had allocated stays allocated.
void Runtime::after_fork_child() {
  if (RunningStack* running = g.running.exchange(nullptr); running != nullptr) {
    Stack& stack = *running->stack;
    stack.abandon();
    if (stack.lock().is_held_by_this_thread()) {
      stack.lock().unlock();
    } else {
      stack.lock().reset();
    }
    running->environment.abandon();
    for (const int fd : {running->port.wait_fd(), running->wait_fd, running->region_fd}) close_internal_fd(fd);
  }
  forget_waiters_after_fork();
  g.lock.reset();
  if (g.page_fd >= 0) close_internal_fd(g.page_fd);
  g.page_fd = -1;
  g.page.store(nullptr, std::memory_order_relaxed);
  g.counters.store(nullptr, std::memory_order_relaxed);
  g.retry_at = {};
  if (uint32_t* word = g.fork_word.load(); word != nullptr) *word = 1;
}

}  // namespace tto::stack
