// The user-space half of an epoll descriptor (DESIGN 2.11).
//
//   epoll fd ─┬─ the kernel's set: kernel descriptors, undecided sockets, placeholders of listeners, our eventfd
//             └─ EpollSet: one Interest per accelerated socket, watching its Readiness; those that fired are in `ready`
//
// A set exists from the moment a socket that may become ours is added to the epoll descriptor; others cost one branch.
// An undecided socket is registered with the kernel and known here; when it becomes ours its Interest moves over.
// Listeners are in both halves (their accept queues are). What we register in the kernel's half carries the address of an
// Interest or of the set as its data, which no application registers.
//
// Locks: lists of a set and of an entry under api_lock(); `ready`, `listeners`, watchers and levels under the stack's lock.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>

#include "libtto/base/intrusive_list.hh"
#include "libtto/socket/readiness.hh"
#include "libtto/stack/fd_table.hh"

namespace tto::stack {

class EpollSet;

/// One registration: (set, descriptor) -> events and data, as epoll_ctl made it.
class Interest final : public socket::Watcher {
 public:
  void notify(uint32_t events) override;

  /// A node that knows its Interest.
  struct Node : IntrusiveNode {
    Interest* self = nullptr;
  };

  EpollSet* set = nullptr;
  SocketEntry* entry = nullptr;
  int fd = -1;
  uint32_t events = 0;
  uint64_t data = 0;
  bool in_kernel = false;
  bool in_user = false;
  bool is_disabled = false;  // a one-shot that fired
  Node by_entry, by_set, by_listener, ready;
  Interest* next_free = nullptr;

  /// What epoll_wait would report of it now.
  uint32_t current() const;
};

class EpollSet {
 public:
  uint32_t index = 0;
  uint16_t generation = 0;
  uint32_t fd_count = 0;
  std::atomic<int> epfd{-1};                 // one of the numbers that name it
  std::atomic<Stack*> stack{nullptr};
  std::atomic<uint32_t> user_count{0};       // interests in the user half
  std::atomic<uint32_t> kernel_sleepers{0};  // threads in the kernel's wait that do not know our half
  std::atomic<bool> is_watched{false};       // from another epoll set
  bool is_signalled = false;                 // our eventfd is readable
  int event_fd = -1;
  uint32_t turns_without_kernel = 0;
  IntrusiveList interests;
  IntrusiveList listeners;                   // interests in both halves; under the stack's lock
  IntrusiveList ready;
  uint32_t ready_count = 0;
  socket::Readiness readiness;               // of the epoll descriptor itself
  EpollSet* next_free = nullptr;

  /// Under the stack's lock: something of the user half can be reported (drops what went stale).
  bool has_ready();
  /// Under the stack's lock: reports up to `capacity` events of the user half.
  int harvest(epoll_event* out, int capacity);
  /// Replaces what we registered ourselves by what the application expects, removes our own; returns how many are left.
  /// Under the stack's lock, if there is a stack.
  int translate(epoll_event* events, int count);
  /// Wakes threads in the kernel's wait.
  void signal();
  void clear_signal();
  void make_ready(Interest& interest);
};

// --- under api_lock() --------------------------------------------------------------------------------------------------
EpollSet& epoll_set_at(uint32_t index);
/// The set of an epoll descriptor's word, null if it has none.
EpollSet* epoll_set_of(uint64_t word);
/// Makes one for the epoll descriptor `epfd`; null without memory.
EpollSet* make_epoll_set(int epfd);
/// A thread is about to sleep in the kernel's wait of an epoll descriptor without a set: if one is made meanwhile, it is
/// among the set's kernel_sleepers. False: there is one by now. Without any lock.
bool enter_plain_wait(int epfd);
/// It came back. The set, if there is one now.
EpollSet* leave_plain_wait(int epfd);
void share_epoll_descriptor(int newfd, uint64_t word);
/// `epfd` is about to stop naming its set.
void leave_epoll_number(int epfd, uint32_t index);
void drop_epoll_descriptor(uint32_t index);

Interest* find_interest(SocketEntry& entry, const EpollSet& set, int fd);
Interest* make_interest(EpollSet& set, SocketEntry& entry, int fd, const epoll_event& event);
/// With the stack's lock as well if the interest is in the user half.
void free_interest(Interest& interest);
/// The entry goes: so do its registrations. With the lock of its stack, if it has one.
void drop_interests(SocketEntry& entry);
/// The socket stays in the kernel: nothing to know of its registrations any more.
void forget_kernel_interests(SocketEntry& entry);
/// The socket became ours, or a listener's second half appears, or it is the kernel's again. With the stack's lock.
void move_interests_to_user(SocketEntry& entry);
void watch_listener(SocketEntry& entry);
void move_interests_to_kernel(SocketEntry& entry);
/// Puts an interest of a socket of ours into the user half, and reports it if it is ready. With the stack's lock.
void enter_user_half(Interest& interest);

/// In a forked child, whose parent keeps the connections.
void abandon_epoll_sets();

}  // namespace tto::stack
