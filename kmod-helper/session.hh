// One client: reads its messages, checks every field, answers. It decides nothing about resources itself; those go
// through SessionHost, so that the protocol is tested without a kernel.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kmod-helper/fd.hh"
#include "kmod-helper/placeholder.hh"
#include "kmod-helper/protocol/helper_protocol.h"

namespace ttod {

struct Peer {
  int pid = 0;
  uint32_t uid = 0, gid = 0;
};

/// What a session asks of the daemon. Refusals come back as values; nothing here ends a session. What may wait for a
/// client (all that takes a socket's lock) may be answered later, by a call of the session's on_...(): until then the
/// session takes no other message.
class SessionHost {
 public:
  struct PortAnswer {
    tto_helper_refusal refusal = TTO_REFUSED_NONE;
    tto_helper_port port{};  // without header
    Fd xsk, region;
  };

  virtual ~SessionHost() = default;
  virtual PortAnswer open_port(uint32_t session, const Peer& peer, const tto_helper_open_port& wish, Fd socket) = 0;
  using Sockets = std::vector<ClientSocket>;
  struct HandoverAnswer {
    tto_helper_refusal refusal = TTO_REFUSED_NONE;
    uint64_t handover_id = 0;
  };

  /// Reads what was sent; later: on_inspected().
  virtual std::optional<Sockets> inspect(uint32_t session, std::vector<Fd> fds) = 0;
  virtual tto_helper_grant listen(uint32_t session, const Peer& peer, ClientSocket placeholder) = 0;
  virtual tto_helper_grant open_flow(uint32_t session, const Peer& peer, const tto_helper_flow& flow,
                                     ClientSocket placeholder) = 0;
  /// Later: on_handover_answer(), likewise for the next.
  virtual std::optional<HandoverAnswer> begin_handover(uint32_t session, const Peer& peer,
                                                       const tto_helper_handover& request, Fd placeholder) = 0;
  virtual std::optional<HandoverAnswer> end_handover(uint32_t session, const Peer& peer, uint64_t handover_id,
                                                     uint32_t flags) = 0;
  virtual void inject(uint32_t session, uint64_t handover_id, std::span<uint8_t> packet) = 0;
  /// Fills `out` but for the header; at least one tuple if it is not refused.
  virtual tto_helper_refusal lease(uint32_t session, const Peer& peer, const tto_helper_lease& wish,
                                   tto_helper_leased& out) = 0;
  virtual void release(uint32_t session, const tto_helper_release_item& item) = 0;
  /// Without header. Nothing if the process has no port that this peer may look at.
  virtual std::optional<tto_helper_counted> counts(const Peer& peer, uint32_t pid) = 0;
  /// Is every descriptor closed that the session sent and does not use any more? If not, the host calls the session's
  /// answer_release() when that may have changed.
  virtual bool await_closes(uint32_t session) = 0;
};

class Session {
 public:
  Session(SessionHost& host, uint32_t id, Peer peer, Fd socket);

  /// Takes the messages that are there, a bounded number, while nothing is waited for. False: the session is over
  /// (why() says for what reason).
  bool on_readable();
  bool is_waiting() const { return waiting_request_.has_value(); }
  /// What the host answers later, if the session is waiting for it. False as above.
  bool on_inspected(SessionHost::Sockets sockets);
  bool on_handover_answer(SessionHost::HandoverAnswer answer);
  void give_up(std::string why) { why_ = std::move(why); }
  /// False: the client does not read what it is sent.
  bool send_event(tto_helper_event event);
  /// Answers the RELEASE that waits, if there is one and everything is closed. False as above.
  bool answer_release();

  uint32_t id() const { return id_; }
  const Peer& peer() const { return peer_; }
  int fd() const { return socket_.get(); }
  const std::string& why() const { return why_; }
  bool is_greeted() const { return greeted_; }

 private:
  bool on_message(std::span<const std::byte> message, std::vector<Fd>& fds);
  bool on_hello(std::span<const std::byte> message, const std::vector<Fd>& fds);
  bool on_open_port(std::span<const std::byte> message, std::vector<Fd>& fds);
  bool on_listen(std::span<const std::byte> message, std::vector<Fd>& fds);
  bool on_open_flows(std::span<const std::byte> message, std::vector<Fd>& fds);
  bool on_lease(std::span<const std::byte> message, const std::vector<Fd>& fds);
  bool on_release(std::span<const std::byte> message, const std::vector<Fd>& fds);
  bool on_handover(std::span<const std::byte> message, std::vector<Fd>& fds);
  bool on_handover_end(std::span<const std::byte> message, const std::vector<Fd>& fds);
  bool on_inject(std::span<const std::byte> message, const std::vector<Fd>& fds);
  bool on_count(std::span<const std::byte> message, const std::vector<Fd>& fds);
  using WithSockets = std::function<bool(SessionHost::Sockets)>;
  bool inspect(std::vector<Fd>& fds, WithSockets then);
  bool answer_listen(SessionHost::Sockets sockets);
  bool answer_open_flows(const tto_helper_open_flows& request, SessionHost::Sockets sockets);
  bool wait_for_handover(std::optional<SessionHost::HandoverAnswer> answer, tto_helper_type type);
  bool answer_handover(const SessionHost::HandoverAnswer& answer);
  bool send(void* message, size_t bytes, tto_helper_type type, std::span<const int> fds = {});
  bool refuse(tto_helper_refusal reason);
  bool malformed(const char* what);

  SessionHost& host_;
  uint32_t id_;
  Peer peer_;
  Fd socket_;
  uint32_t request_id_ = 0;  // of the message being answered
  std::optional<uint32_t> waiting_request_;  // whose answer the host has yet to give
  WithSockets then_;
  tto_helper_type handover_answer_ = TTO_HELPER_RESTORING;
  std::optional<uint32_t> waiting_release_;  // its request id; a later one says the same of all before it
  bool greeted_ = false;
  std::string why_ = "closed by the client";
};

}  // namespace ttod
