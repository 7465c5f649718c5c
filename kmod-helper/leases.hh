// Who may receive what: listen and flow grants, each an entry (or several) in the steering maps, with the placeholder
// that proved it held open as long as the entry lives, or the kernel would give the port to somebody else.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "kmod-helper/fd.hh"
#include "kmod-helper/placeholder.hh"
#include "kmod-helper/policy.hh"
#include "kmod-helper/protocol/helper_protocol.h"
#include "kmod-helper/served_namespace.hh"
#include "kmod-helper/steering.hh"

namespace ttod {

/// Whose grant it is: a session's virtual port.
struct LeaseOwner {
  uint32_t session = 0;
  uint32_t slot = 0;
  uint32_t uid = 0, gid = 0;
  int pid = 0;
};

template <typename T>
struct ByBytes {
  bool operator()(const T& a, const T& b) const { return std::memcmp(&a, &b, sizeof(T)) < 0; }
};

class Leases {
 public:
  /// Throws std::system_error.
  Leases(Steering& steering, const Policy& policy);

  /// `placeholder` was checked to be a TCP socket of the owner and the namespace.
  tto_helper_grant listen(const LeaseOwner& owner, ServedNamespace& netns, ClientSocket placeholder);
  tto_helper_grant open_flow(const LeaseOwner& owner, ServedNamespace& netns, ClientSocket placeholder,
                             const tto_helper_flow& flow);
  /// Does the item name a flow of this very port: a grant with its tuple, or an accepted connection?
  bool has_flow(const LeaseOwner& owner, const ServedNamespace& netns, const tto_helper_release_item& item) const;
  void release_flow(const LeaseOwner& owner, const ServedNamespace& netns, const tto_helper_release_item& item);
  /// Flows whose local ports are reserved by sockets of ttod's own. Fills `out` but for the header.
  tto_helper_refusal lease(const LeaseOwner& owner, ServedNamespace& netns, const tto_helper_lease& wish,
                           tto_helper_leased& out);
  /// False: no such grant of this owner's session.
  bool release(uint32_t session, uint64_t grant_id);
  /// The entry that the transmit check made for an accepted connection.
  bool release_accepted(uint32_t slot, const ServedNamespace& netns, const tto_helper_flow& flow, uint32_t iss);
  void release_all(uint32_t session);

  /// Addresses or interfaces of the namespace changed: wildcard listeners follow.
  void follow(ServedNamespace& netns);
  /// A placeholder stays in its client's hands: who gave up its port (shutdown, AF_UNSPEC) loses the entries, or would
  /// receive what is meant for the port's next owner. Asking takes the socket's lock, so it is done elsewhere.
  struct Recheck {
    uint64_t grant = 0;
    std::shared_ptr<const Fd> placeholder;
    uint16_t port = 0;
    bool is_listening = false;
    bool is_held() const;  // takes the lock
  };
  struct Rechecks {
    LeaseOwner owner;
    std::vector<Recheck> of_session;
  };
  /// What is due, by session: those whose socket changed its state (watch_fd() is readable), and with `also_others` all
  /// listeners and some of the flows. What a busy session has due stays due.
  std::map<uint32_t, Rechecks> take_rechecks(bool also_others, const std::function<bool(uint32_t)>& is_busy);
  int watch_fd() const { return watch_.get(); }
  void end_given_up(uint32_t session, uint64_t grant);

 private:
  struct Listen {
    LeaseOwner owner;
    ServedNamespace* netns;
    std::shared_ptr<const Fd> placeholder;
    Placeholder bound;
    std::vector<tto_listen_key> keys;
  };
  struct Flow {
    LeaseOwner owner;
    ServedNamespace* netns;
    std::shared_ptr<const Fd> placeholder;  // the client's, or what reserves the port of a lease
    bool is_leased;
    tto_flow_key key;
    int ifindex;
    tto::wire::IpAddress next_hop;
  };

  tto_helper_refusal check_flow(const LeaseOwner& owner, const ServedNamespace& netns, const tto_helper_flow& flow,
                                const Nic** nic) const;
  tto_helper_grant install_flow(const LeaseOwner& owner, ServedNamespace& netns, const Nic& nic,
                                const tto_helper_flow& flow, Fd placeholder, bool is_leased);
  tto_helper_refusal install(uint64_t id, Listen& lease);
  tto_helper_refusal install_key(uint64_t id, Listen& lease, const Nic& nic, const tto_listen_key& key);
  void remove_key(uint64_t id, const tto_listen_key& key);
  int write_group(const tto_listen_key& key);
  void end(std::map<uint64_t, Listen>::iterator at);
  void end(std::map<uint64_t, Flow>::iterator at);
  void add_recheck(std::map<uint32_t, Rechecks>& to, uint64_t grant) const;
  void watch(uint64_t grant, const Fd& placeholder);

  /// Grants of one kind: every new one asks, and counting anew would take ever longer.
  struct Counts {
    std::map<int, size_t> of_process;
    std::map<uint32_t, size_t> of_user;
    size_t left(const LeaseOwner& owner, size_t per_process, size_t per_user) const;
    void add(const LeaseOwner& owner);
    void remove(const LeaseOwner& owner);
  };

  Steering& steering_;
  const Policy& policy_;
  uint64_t next_id_ = 1;
  uint64_t next_recheck_ = 0;   // grant
  std::set<uint64_t> changed_;  // grants whose sockets changed their state
  std::map<uint64_t, Listen> listens_;
  std::map<uint64_t, Flow> flows_;
  Counts listen_counts_, flow_counts_;
  Fd watch_;                                                                         // an epoll set of all placeholders
  std::map<uint32_t, size_t> lease_counts_;                                          // by user: reserved ports
  std::map<tto_listen_key, std::vector<uint64_t>, ByBytes<tto_listen_key>> groups_;  // the listens behind an entry
};

}  // namespace ttod
