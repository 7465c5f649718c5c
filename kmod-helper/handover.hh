// Connections on their way from clients to the kernel (docs/helper-protocol.md): who may hand over what, what is in
// repair mode for how long, and which tuples may still be injected into. The sockets themselves are dealt with on a
// WorkPool, because their owners can hold their locks.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>

#include "kmod-helper/leases.hh"
#include "kmod-helper/repair.hh"
#include "kmod-helper/session.hh"
#include "kmod-helper/work_pool.hh"

namespace ttod {

class Handovers {
 public:
  using Answer = std::function<void(SessionHost::HandoverAnswer)>;
  /// How many of a session, and of a user, may be between HANDOVER and HANDOVER_END.
  static constexpr size_t kOpenPerSession = 1024, kOpenPerUser = 4096;
  static constexpr auto kOpenFor = std::chrono::seconds(5);
  static constexpr auto kInjectableFor = std::chrono::seconds(10);

  Handovers(WorkPool& pool, Leases& leases) : pool_(pool), leases_(leases) {}

  /// `socket` was checked to be a TCP socket of the owner and the namespace. Returns the handover's number and answers
  /// later, or refuses at once (then `answer` is not called).
  std::optional<uint64_t> begin(const WorkOwner& worker, const LeaseOwner& owner, ServedNamespace& netns,
                                const tto_helper_handover& request, Fd socket, Answer answer,
                                tto_helper_refusal& refusal);
  /// TTO_REFUSED_NONE: answers later.
  tto_helper_refusal end(const WorkOwner& worker, uint64_t id, uint32_t flags, Answer answer);
  /// Unanswered; what is refused is counted.
  void inject(uint32_t session, uint64_t id, std::span<uint8_t> packet);
  void release_all(uint32_t session);
  /// Gives up what was begun and not ended, forgets what ended long ago.
  void expire(Clock::time_point now);

  struct Counts {
    uint64_t handed_over = 0, injected = 0, inject_refused = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  /// What a thread works on; the loop touches it only while no thread does.
  struct Socket {
    Fd fd;
    RepairTarget target;
    SocketMemory memory;
    bool is_in_repair = false;
  };
  enum class State : uint8_t { kRestoring, kOpen, kEnding, kDone };
  struct Handover {
    LeaseOwner owner;
    ServedNamespace* netns;
    tto_helper_release_item item;
    RepairTarget target;
    uint64_t cookie = 0;  // the kernel's, of the socket
    std::shared_ptr<Socket> socket;
    State state = State::kRestoring;
    Clock::time_point deadline;
    uint32_t packets_left = 0;
  };
  struct Rate {
    Clock::time_point filled;
    uint32_t tokens = 0;
  };
  using Map = std::map<uint64_t, Handover>;

  void on_restored(uint64_t id, tto_helper_refusal refusal);
  void on_finished(uint64_t id, tto_helper_refusal refusal);
  void abandon(const Handover& handover);
  Map::iterator forget(Map::iterator at);
  bool may_inject(Handover& handover, std::span<uint8_t> packet);
  bool has_token(uint32_t session);

  WorkPool& pool_;
  Leases& leases_;
  uint64_t next_id_ = 1;
  Map handovers_;
  std::deque<uint64_t> done_;                   // the oldest first
  std::map<uint32_t, size_t> open_of_session_;  // those with a socket
  std::map<uint32_t, size_t> open_of_user_;
  std::map<uint32_t, Rate> rates_;  // by session
  Counts counts_;
};

}  // namespace ttod
