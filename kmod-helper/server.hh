// The daemon: accepts clients, joins sessions to ports, namespaces and leases, and takes everything back when a client
// goes. Single-threaded; nothing here waits for a client.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kmod-helper/event_loop.hh"
#include "kmod-helper/leases.hh"
#include "kmod-helper/policy.hh"
#include "kmod-helper/served_namespace.hh"
#include "kmod-helper/session.hh"
#include "kmod-helper/steering.hh"
#include "kmod-helper/virtual_ports.hh"

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
  tto_helper_grant listen(uint32_t session, const Peer& peer, Fd placeholder) override;
  tto_helper_grant open_flow(uint32_t session, const Peer& peer, const tto_helper_flow& flow, Fd placeholder) override;
  void release(uint32_t session, const tto_helper_release_item& item) override;
  bool await_closes(uint32_t session) override { return ttod::await_closes(session); }

 private:
  struct Port {
    uint32_t slot = 0;
    uint64_t bytes = 0;
    ServedNamespace* netns = nullptr;
    Fd region;  // ours too: what the client leaves is read from it
  };
  struct Client {
    Session session;
    Fd pidfd;
    std::map<uint64_t, Port> ports;  // by namespace
  };

  void close();
  void on_connection();
  void turn_away();
  void on_closes_done();
  void upkeep(Clock::time_point now);
  void end_session(uint32_t id);
  ServedNamespace* serve_namespace(int socket);
  void on_namespace_change(uint64_t cookie);
  void tell_clients(uint64_t cookie, const std::vector<tto_helper_event>& events);
  void forget_unused_namespaces();
  Port* port_for(uint32_t session, const Peer& peer, const Fd& placeholder, tto_helper_refusal& refusal);
  tto_helper_refusal check_limits(const Peer& peer, uint64_t bytes) const;
  void audit(const Peer& peer, const char* what, tto_helper_refusal refusal) const;

  const Policy& policy_;
  EventLoop loop_;
  Steering steering_;
  NicNumbers numbers_{steering_};
  VirtualPorts ports_;
  Leases leases_;
  Fd listener_;
  Fd spare_;  // given up to turn a client away when there is no other
  std::map<uint32_t, Client> clients_;
  std::map<uint64_t, std::unique_ptr<ServedNamespace>> namespaces_;
  uint32_t next_session_ = 1;
  bool stopping_ = false;
};

const char* refusal_text(tto_helper_refusal refusal);

}  // namespace ttod
