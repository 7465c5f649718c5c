// The process's side of the helper protocol. Asynchronous underneath; the calls here wait, with a bound, because
// they stand in for connect(), listen() and start-up, which may block anyway. Releases are queued and sent in batches.
//
// Threads: under the stack's lock. System calls: raw sendmsg, recvmsg, ppoll on the helper's socket.
#pragma once

#include <cstdint>
#include <span>

#include "kmod-helper/protocol/helper_protocol.h"
#include "libtto/base/result.hh"
#include "libtto/base/time.hh"
#include "libtto/stats/counters.hh"
#include "libtto/wire/address.hh"

namespace tto::control {

struct PortGrant {
  int xsk_fd = -1;
  int region_fd = -1;
  tto_helper_port description{};
};

struct HandoverRequest {
  tto_helper_release_item item{};
  tto_helper_restore restore{};
  int placeholder = -1;
};

struct HandoverAnswer {
  uint64_t handover_id = 0;  // 0: refused
  tto_helper_refusal reason = TTO_REFUSED_NO_RESOURCE;
};

struct HandoverEnd {
  uint64_t handover_id = 0;
  uint32_t flags = 0;  // enum tto_helper_handover_end_flag
};

class HelperClient {
 public:
  ~HelperClient();
  /// Connects to `path` and shakes hands. Returns 0 or an errno (ENOENT, ECONNREFUSED: no helper; EPROTO: version).
  int connect(const char* path);
  /// `any_tcp_socket` shows the namespace. The descriptors of the grant are the caller's.
  Expected<PortGrant, tto_helper_refusal> open_port(int any_tcp_socket, const tto_helper_open_port& wish);
  Expected<tto_helper_grant, tto_helper_refusal> listen(int placeholder);
  /// One answer per flow, in order; `placeholders` likewise. False: the session is lost (every answer is a refusal).
  bool open_flows(std::span<const tto_helper_flow> flows, std::span<const int> placeholders,
                  std::span<tto_helper_grant> answers);
  /// Tuples whose ports ttod reserves, at most wish.count and `tuples` of them; how many. `mac` is the next hop's, zero if
  /// it is not resolved yet.
  Expected<uint32_t, tto_helper_refusal> lease(const tto_helper_lease& wish, std::span<tto_helper_leased_tuple> tuples,
                                               wire::MacAddress& mac);
  /// Queued; leaves when a batch is full or at flush().
  void release(const tto_helper_release_item& item);
  void flush();
  /// Releases what is queued and `item` at once, and waits until ttod has closed its descriptors, so that the kernel
  /// can give their ports away. False: that takes longer than a close may; it happens later.
  bool release_now(const tto_helper_release_item& item);
  /// Has ttod restore connections into their placeholders: one answer per request, in order. Many may be asked for at
  /// once. False: the session is lost (what has no answer by then is a refusal, and its socket may be in repair mode
  /// and silent for good).
  bool handover(std::span<const HandoverRequest> requests, std::span<HandoverAnswer> answers);
  /// Makes restored sockets live. TTO_REFUSED_NONE: it is the kernel's, and may be injected into for 10 s.
  bool handover_end(std::span<const HandoverEnd> ends, std::span<tto_helper_refusal> answers);
  /// Gives one IP packet (from its IP header on) to the kernel's socket. Unanswered. False: it is too large, or the
  /// session is lost.
  bool inject(uint64_t handover_id, std::span<const uint8_t> packet);
  /// Takes the next event ttod sent, if one is there; never blocks.
  bool poll_event(tto_helper_event& out);
  /// False once the session is lost: connections go on, new ones use the kernel until it is back.
  bool is_connected() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  /// Where the messages sent are counted; null: nowhere.
  void set_counters(stats::Counters* counters) { counters_ = counters; }
  /// In a forked child: forget the session without a word on the wire.
  void abandon();

 private:
  struct Answer;
  static constexpr uint32_t kMaxEvents = 16;
  static constexpr size_t kMaxOutstanding = 32;  // of one batch: what neither side's socket buffer refuses

  /// Sends one message with descriptors; gives the session up when it cannot.
  bool send(void* message, size_t bytes, tto_helper_type type, std::span<const int> fds);
  /// Waits for the answer to the last request sent; events that come first are kept for poll_event.
  bool wait_answer(Answer& out);
  /// The same: 1 is there, 0 not before the deadline, -1 the session is lost.
  int wait_answer_until(Answer& out, int64_t deadline_ns);
  /// Keeps up to kMaxOutstanding requests on the way; `send_one(i)` sends a request, `on_answer(i, answer)` takes its
  /// answer. False: the session is lost.
  template <typename SendOne, typename OnAnswer>
  bool exchange(size_t count, const SendOne& send_one, const OnAnswer& on_answer);
  /// Takes one datagram: 1 taken, 0 none there, -1 the session is lost.
  int receive(Answer& out);
  void keep_event(const Answer& message);
  tto_helper_refusal refusal_of(const Answer& answer);
  void lose();

  int fd_ = -1;
  stats::Counters* counters_ = nullptr;
  uint32_t next_request_id_ = 1;
  tto_helper_release pending_{};
  tto_helper_event events_[kMaxEvents];
  uint32_t event_head_ = 0, event_count_ = 0;
};

}  // namespace tto::control
