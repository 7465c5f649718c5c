// The daemon: accepts clients, joins sessions to ports, namespaces and leases, and takes everything back when a client
// goes. One thread; nothing here waits for a client: what may is done by the threads of closer.hh and work_pool.hh.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kmod-helper/event_loop.hh"
#include "kmod-helper/handover.hh"
#include "kmod-helper/leases.hh"
#include "kmod-helper/log.hh"
#include "kmod-helper/policy.hh"
#include "kmod-helper/served_namespace.hh"
#include "kmod-helper/session.hh"
#include "kmod-helper/steering.hh"
#include "kmod-helper/virtual_ports.hh"
#include "kmod-helper/work_pool.hh"

namespace ttod {

class Server : public SessionHost {
 public:
  explicit Server(const Policy& policy);
  ~Server() override;

  /// Opens maps and the hidden namespace. Throws std::runtime_error (or std::system_error), like the next two.
  void open();
  /// Asks for a port and an entry the way a client does, and takes them back: shows that what is needed works with the
  /// rights that are left.
  void self_test();
  /// From here on clients can connect.
  void open_socket();
  /// Serves until stop(). The stop descriptor is watched by the caller's handler on loop().
  void run();
  void stop() { stopping_ = true; }
  EventLoop& loop() { return loop_; }

  PortAnswer open_port(uint32_t session, const Peer& peer, const tto_helper_open_port& wish, Fd socket) override;
  std::optional<Sockets> inspect(uint32_t session, std::vector<Fd> fds) override;
  tto_helper_grant listen(uint32_t session, const Peer& peer, ClientSocket placeholder) override;
  tto_helper_grant open_flow(uint32_t session, const Peer& peer, const tto_helper_flow& flow,
                             ClientSocket placeholder) override;
  std::optional<HandoverAnswer> begin_handover(uint32_t session, const Peer& peer, const tto_helper_handover& request,
                                               Fd placeholder) override;
  std::optional<HandoverAnswer> end_handover(uint32_t session, const Peer& peer, uint64_t handover_id,
                                             uint32_t flags) override;
  void inject(uint32_t session, uint64_t handover_id, std::span<uint8_t> packet) override;
  tto_helper_refusal lease(uint32_t session, const Peer& peer, const tto_helper_lease& wish,
                           tto_helper_leased& out) override;
  void release(uint32_t session, const tto_helper_release_item& item) override;
  std::optional<tto_helper_counted> counts(const Peer& peer, uint32_t pid) override;
  bool await_closes(uint32_t session) override { return !pool_.has_work(session) && ttod::await_closes(session); }

 private:
  struct Port {
    uint32_t slot = 0;
    uint64_t bytes = 0;
    ServedNamespace* netns = nullptr;
    Fd region;  // ours too: what the client leaves is read from it
    Fd xsk;     // ours too: it knows what it dropped
  };
  struct Client {
    Session session;
    Fd pidfd;
    std::map<uint64_t, Port> ports;  // by namespace
    std::optional<HandoverAnswer> closing;  // the answer to HANDOVER_END, until ttod holds no descriptor of it any more
    std::optional<Clock::time_point> answer_due;   // while its session waits for a thread
    std::optional<Clock::time_point> recheck_due;  // while its placeholders are being looked at
  };

  void close();
  void on_connection();
  void on_message(uint32_t id);
  void go_on(uint32_t id, const std::function<bool(Session&)>& with);
  WorkOwner worker_for(uint32_t session, const Peer& peer) const { return {peer.uid, peer.pid, session}; }
  void answer_closed(uint32_t id, bool at_once);
  void recheck(bool also_others);
  void end_overdue(Clock::time_point now);
  void turn_away();
  void on_closes_done();
  void upkeep(Clock::time_point now);
  void end_session(uint32_t id);
  ServedNamespace* serve_namespace(int socket, uint32_t uid);
  void on_namespace_change(uint64_t cookie);
  void tell_clients(uint64_t cookie, const std::vector<tto_helper_event>& events);
  void forget_unused_namespaces();
  Port* port_for(uint32_t session, const Peer& peer, const Fd& placeholder, tto_helper_refusal& refusal);
  tto_helper_refusal check_limits(const Peer& peer, uint64_t bytes) const;
  void audit(const Peer& peer, const char* what, tto_helper_refusal refusal);

  const Policy& policy_;
  EventLoop loop_;
  Steering steering_;
  NicNumbers numbers_{steering_};
  VirtualPorts ports_;
  Leases leases_;
  WorkPool& pool_;
  Handovers handovers_;
  std::map<uint32_t, LogLimit> audits_;  // by user
  Fd listener_;
  Fd spare_;  // given up to turn a client away when there is no other
  std::map<uint32_t, Client> clients_;
  std::map<uint64_t, std::unique_ptr<ServedNamespace>> namespaces_;
  uint32_t next_session_ = 1;
  bool stopping_ = false;
};

const char* refusal_text(tto_helper_refusal refusal);

}  // namespace ttod
