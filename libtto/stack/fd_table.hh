// What each descriptor is: served by the kernel, by our TCP, an epoll set with sockets of ours in it, or libtto's own.
//
//   fd number ──▶ one atomic word {path, reason, generation, index} ──▶ SocketEntry (one open file description)
//
// Descriptors made by dup share a SocketEntry. The path is switchable while other threads sleep on the descriptor or hold
// it in epoll sets: a call takes the lock of the entry's stack and then looks at the word again. Entries are never given
// back to the system, so a stale index reads a live object with another generation, nothing worse.
//
// Locks: api_lock() guards words, reference counts, epoll bookkeeping; a stack's lock guards streams and readiness.
// Order: api_lock() before a stack's lock, neither across a sleep.
#pragma once

#include <atomic>
#include <cstdint>

#include "libtto/base/fd_map.hh"
#include "libtto/base/intrusive_list.hh"
#include "libtto/base/time.hh"
#include "libtto/stack/stack_lock.hh"
#include "libtto/stats/counters.hh"

namespace tto::socket {
class StreamSocket;
class ListenSocket;
}  // namespace tto::socket

namespace tto::stack {

class Stack;
class EpollSet;
struct SharingPage;

enum class Path : uint8_t { kNone = 0, kKernel = 1, kTcp = 2, kPair = 3, kEpoll = 8, kInternal = 15 };

/// The word of a descriptor, taken apart.
struct FdWordParts {
  Path path = Path::kNone;
  stats::Counter reason = stats::Counter::kCount;  // kKernel only: why
  uint16_t generation = 0;
  uint32_t index = 0;  // of its SocketEntry or EpollSet, 0: none

  static FdWordParts of(uint64_t word) {
    return {static_cast<Path>(word & 0xf), static_cast<stats::Counter>(word >> 4 & 0xfff),
            static_cast<uint16_t>(word >> 16), static_cast<uint32_t>(word >> 32)};
  }
  uint64_t word() const {
    return static_cast<uint64_t>(path) | (static_cast<uint64_t>(reason) & 0xfff) << 4 | uint64_t{generation} << 16 |
           uint64_t{index} << 32;
  }
};

inline Path path_of(uint64_t word) { return static_cast<Path>(word & 0xf); }
inline bool is_tcp(uint64_t word) { return path_of(word) == Path::kTcp; }
/// Undecided (neither connected nor listening yet, or listening and nobody accepted): the calls that decide must look.
inline bool is_undecided(uint64_t word) { return path_of(word) == Path::kKernel && word >> 32 != 0; }

/// An option set on a socket before it was accelerated: accepted sockets inherit it.
struct RememberedOption {
  int level = 0, name = 0;
  uint8_t bytes = 0;
  uint8_t value[16] = {};
};

/// One open file description of a TCP socket that is or may become ours.
struct SocketEntry {
  enum class Kind : uint8_t {
    kFree,
    kUndecided,  // neither connected nor listening
    kListening,  // the kernel listens; whether we do too is decided by the first accept, poll or epoll registration
    kStream,     // stream is set
    kListener,   // listener is set, the placeholder listens as well
    kLost,       // of a forked child: the parent has the connection until it is asked for it (sharing.hh)
  };

  std::atomic<Stack*> stack{nullptr};
  socket::StreamSocket* stream = nullptr;
  socket::ListenSocket* listener = nullptr;
  Kind kind = Kind::kFree;
  bool is_v6 = false;             // AF_INET6
  bool is_connecting = false;     // connect() has not reported the outcome yet
  bool is_unservable = false;     // an option was set that only the kernel serves
  bool is_bound = false;          // the application called bind()
  bool is_shared = false;         // another process may have changed the placeholder: the process forked
  bool is_orphaned = false;       // the last descriptor went while calls slept in it
  uint16_t generation = 0;
  uint32_t index = 0;
  uint32_t fd_count = 0;          // descriptors of this process
  uint32_t pins = 0;              // calls asleep in it
  std::atomic<bool> is_nonblocking{false};
  std::atomic<int64_t> receive_timeout_ns{0}, send_timeout_ns{0};  // 0: none
  std::atomic<uint32_t> receive_lowat{1};
  int backlog = 0;
  uint64_t shared_forks = 0;          // which forks' children may hold it
  bool is_shared_for_good = false;    // there is no telling
  SharingPage* inherited_page = nullptr;  // kLost: whom to ask
  int inherited_doorbell = -1;
  IntrusiveList interests;        // epoll registrations
  static constexpr int kMaxRemembered = 20;
  int remembered_count = 0;
  RememberedOption remembered[kMaxRemembered];
  SocketEntry* next_free = nullptr;
};

StackLock& api_lock();

/// False: this process never made a TCP socket through us.
bool any_entry_made();

/// Entries ever made: indices 1 to this.
uint32_t entry_count();

/// The entry a word names; never null for a word with an index.
SocketEntry& entry_at(uint32_t index);

// --- under api_lock() --------------------------------------------------------------------------------------------------
/// A new entry named by no descriptor yet; null if there is no memory.
SocketEntry* make_entry(bool is_v6);
/// Back to the free list; its generation changes.
void free_entry(SocketEntry& entry);
/// Writes fd's word (and what the tools are shown): `entry` null: a kernel socket that stays one.
bool assign(int fd, Path path, SocketEntry* entry, stats::Counter reason);
/// Rewrites the words of all descriptors of `entry`; `fd` is one of them.
void reassign_all(SocketEntry& entry, int fd, Path path, stats::Counter reason);
/// All descriptors of `entry`, of which `fd` is one, stay with the kernel for good; the entry is gone.
void give_to_kernel(SocketEntry& entry, int fd, stats::Counter reason);
void forget(int fd);
/// Calls `visit(fd, word)` for every known descriptor in [first, last], in ascending order.
template <typename Visit>
void for_each_known(uint32_t first, uint32_t last, Visit visit) {
  if (last >= kFdMapLimit) last = kFdMapLimit - 1;
  for (uint64_t n = first; n <= last;) {
    const auto number = static_cast<uint32_t>(n);
    if (number >= kFdChunkEntries && g_fd_chunks[number >> kFdChunkBits].load(std::memory_order_acquire) == nullptr) {
      n = (uint64_t{number >> kFdChunkBits} + 1) << kFdChunkBits;
      continue;
    }
    const uint64_t word = fd_word(static_cast<int>(number));
    if (word != 0) visit(static_cast<int>(number), word);
    ++n;
  }
}

/// "no-helper" for Counter::kernel_no_helper; null for what is no reason.
const char* reason_text(stats::Counter reason);

}  // namespace tto::stack
