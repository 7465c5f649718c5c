// Start and end of libtto in a process: nothing before the first TCP socket is used, one stack per process by default,
// the progress thread, forked children. The API layer asks here for a stack; here it learns why there is none.
#pragma once

#include "libtto/stack/stack.hh"
#include "libtto/stats/stats_page.h"

namespace tto::stack {

struct RunningStack;

/// All of its state is static and starts as zeroes: it works before constructors and after destructors have run.
///
/// Threads: any. Environment: TTO_HELPER (ttod's socket), TTO_DISABLE, TTO_PROFILE (latency, balanced, throughput, safe,
/// kernel), TTO_SPIN_US, TTO_FRAMES, TTO_BUSY_POLL_US. Read once, with the first socket (base/settings.hh).
class Runtime {
 public:
  /// The process's runtime; made on first use, never destroyed (threads may be inside at exit).
  static Runtime& instance();

  /// The stack that serves the namespace of `any_tcp_socket`, started if need be; null and the reason if the kernel has
  /// to serve. A failed start is tried again at most once a second.
  Stack* stack_for(int any_tcp_socket, stats::Counter* reason);
  /// The stack if one is running, without starting any.
  Stack* running_stack();

  struct Connect {
    wire::IpAddress destination;
    uint16_t destination_port = 0;
    // What is known of the placeholder without asking the kernel.
    bool is_unbound = false;
    bool has_options = true;
    bool is_v6_socket = false;
  };
  /// Route, policy, port reservation on `placeholder` (bound if it is not) and the lease for an active open: fills
  /// tuple, next_hop, grant_id, the sysctls' part of config, and limits of `out`. The caller holds no lock. Returns a kernel_* reason, or Counter::kCount for "accelerated"; never
  /// leaves the placeholder worse than the kernel's own connect() would find it.
  stats::Counter prepare_connect(Stack& stack, int placeholder, const Connect& wish, Stack::ConnectRequest& out);
  /// The lease for a listener (already listening in the kernel): fills grant_id, the sysctls' part of config, and limits.
  /// Same return. Under the stack's lock, which the caller keeps until its listener is there: SYNs are steered here from now on.
  stats::Counter prepare_listen(Stack& stack, int placeholder, Stack::ListenRequest& out);
  /// Makes the connection the kernel's, in the open file that `placeholder` names. Under the stack's lock; system calls
  /// and a word with ttod: some 100 us, and the time to copy both queues. kRefused: nothing changed.
  HandoverResult hand_over(Stack& stack, socket::StreamSocket& stream, int placeholder, Instant now);
  /// The same for a connection whose descriptor is closed: the kernel finishes it. False: it stays ours.
  bool hand_over_orphan(Stack& stack, socket::StreamSocket& stream, Instant now);

  /// The counters; those of a private page before start() has made the stats page.
  stats::Counters& counters();
  /// The stats page, made with the first call (the first TCP socket); null if no memory was to be had.
  tto_stats_page* stats_page();
  Instant now();
  /// atfork hooks, for fork() however it is called: the child's stack is abandoned, its accelerated sockets are dead to
  /// it (docs/support.md: every call on them fails with ECONNABORTED). The parent's lock is held across the fork.
  void before_fork();
  void after_fork_parent();
  void after_fork_child();
  /// True in a process that was forked, by whatever means (a MADV_WIPEONFORK word), from one that ran a stack. Checked by
  /// the API layer before any use of an accelerated socket.
  bool is_forked_child() const;

 private:
  RunningStack* start_stack(int any_tcp_socket, tto_stats_page* page, stats::Counter* reason);
  RunningStack* replace(RunningStack* old, int any_tcp_socket, tto_stats_page* page, stats::Counter* reason);
  stats::Counter why_not(RunningStack& running, int any_tcp_socket);
};

}  // namespace tto::stack
