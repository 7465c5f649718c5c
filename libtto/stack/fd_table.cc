#include "libtto/stack/fd_table.hh"

#include <array>
#include <cstring>
#include <new>

#include "libtto/base/sys.hh"
#include "libtto/stack/fd_mirror.hh"

namespace tto::stack {

namespace {

// Entries live in chunks of doubling size that are never unmapped: index i (from 1) is in chunk floor(log2(i)) / 64.
constexpr uint32_t kChunkEntries = 64;
constexpr uint32_t kMaxChunks = 1u << 16;

SocketEntry* g_chunks[kMaxChunks];
uint32_t g_entry_count = 0;  // ever made
SocketEntry* g_free = nullptr;
alignas(StackLock) unsigned char g_lock_storage[sizeof(StackLock)];

}  // namespace

// Zero bytes are a free lock: usable before any constructor runs.
StackLock& api_lock() { return *reinterpret_cast<StackLock*>(g_lock_storage); }

bool any_entry_made() { return g_entry_count != 0; }

uint32_t entry_count() { return g_entry_count; }

SocketEntry& entry_at(uint32_t index) {
  const uint32_t i = index - 1;
  return g_chunks[i / kChunkEntries][i % kChunkEntries];
}

namespace {

/// More entries on the free list; false without memory.
bool grow() {
  const uint32_t chunk = g_entry_count / kChunkEntries;
  if (chunk >= kMaxChunks) return false;
  void* pages = sys::mmap(nullptr, sizeof(SocketEntry) * kChunkEntries, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (sys::is_error(pages)) return false;
  auto* entries = static_cast<SocketEntry*>(pages);
  for (uint32_t i = kChunkEntries; i-- > 0;) {
    SocketEntry* e = new (&entries[i]) SocketEntry;
    e->index = g_entry_count + i + 1;
    e->next_free = g_free;
    g_free = e;
  }
  g_chunks[chunk] = entries;
  g_entry_count += kChunkEntries;
  return true;
}

}  // namespace

SocketEntry* make_entry(bool is_v6) {
  if (g_free == nullptr && !grow()) return nullptr;
  SocketEntry* e = g_free;
  g_free = e->next_free;
  e->next_free = nullptr;
  e->kind = SocketEntry::Kind::kUndecided;
  e->is_v6 = is_v6;
  return e;
}

void free_entry(SocketEntry& e) {
  e.kind = SocketEntry::Kind::kFree;
  e.stack.store(nullptr, std::memory_order_release);
  e.stream = nullptr;
  e.listener = nullptr;
  e.is_connecting = e.is_unservable = e.is_orphaned = e.is_bound = e.is_shared = false;
  ++e.generation;
  e.fd_count = e.pins = 0;
  e.is_nonblocking.store(false, std::memory_order_relaxed);
  e.receive_timeout_ns.store(0, std::memory_order_relaxed);
  e.send_timeout_ns.store(0, std::memory_order_relaxed);
  e.receive_lowat.store(1, std::memory_order_relaxed);
  e.backlog = 0;
  e.shared_forks = 0;
  e.is_shared_for_good = false;
  e.inherited_page = nullptr;
  e.inherited_doorbell = -1;
  e.remembered_count = 0;
  e.next_free = g_free;
  g_free = &e;
}

bool assign(int fd, Path path, SocketEntry* entry, stats::Counter reason) {
  FdWord* word = fd_word_for_writing(fd);
  if (word == nullptr) return false;
  FdWordParts parts{path, reason, 0, 0};
  if (entry != nullptr) {
    parts.index = entry->index;
    parts.generation = entry->generation;
  }
  word->store(parts.word(), std::memory_order_release);
  mirror_fd(fd, path, reason, entry);
  return true;
}

namespace {

/// `target` null: the words lose their entry.
void rewrite(SocketEntry& entry, int fd, Path path, SocketEntry* target, stats::Counter reason) {
  assign(fd, path, target, reason);
  uint32_t left = entry.fd_count - 1;
  if (left == 0) return;  // the usual case: no dup, no search
  for_each_known(0, kFdMapLimit - 1, [&](int other, uint64_t word) {
    if (left == 0 || other == fd) return;
    const FdWordParts parts = FdWordParts::of(word);
    if (parts.index != entry.index || (parts.path != Path::kKernel && parts.path != Path::kTcp)) return;
    assign(other, path, target, reason);
    --left;
  });
}

}  // namespace

void reassign_all(SocketEntry& entry, int fd, Path path, stats::Counter reason) {
  rewrite(entry, fd, path, &entry, reason);
}

void give_to_kernel(SocketEntry& entry, int fd, stats::Counter reason) {
  rewrite(entry, fd, Path::kKernel, nullptr, reason);
  free_entry(entry);
}

void forget(int fd) {
  if (fd_word(fd) == 0) return;
  if (FdWord* word = fd_word_for_writing(fd)) word->store(0, std::memory_order_release);
  mirror_fd(fd, Path::kNone, stats::Counter::kCount, nullptr);
}

namespace {

struct ReasonName {
  stats::Counter counter;
  std::array<char, 24> text;
};

constexpr std::array<char, 24> dashed(const char* name) {
  std::array<char, 24> out{};
  for (size_t i = 0; name[i] != '\0' && i + 1 < out.size(); ++i) out[i] = name[i] == '_' ? '-' : name[i];
  return out;
}

constexpr ReasonName kReasons[] = {
#define TTO_FALLBACK(name, text) {stats::Counter::kernel_##name, dashed(#name)},
#include "libtto/stats/fallback_reason.def"
#undef TTO_FALLBACK
};

}  // namespace

const char* reason_text(stats::Counter reason) {
  for (const ReasonName& r : kReasons)
    if (r.counter == reason) return r.text.data();
  return nullptr;
}

}  // namespace tto::stack
