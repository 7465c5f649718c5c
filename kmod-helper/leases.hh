// Who may receive what: listen and flow grants, each an entry (or several) in the steering maps, with the placeholder
// that proved it held open as long as the entry lives, or the kernel would give the port to somebody else.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
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
};

template <typename T>
struct ByBytes {
  bool operator()(const T& a, const T& b) const { return std::memcmp(&a, &b, sizeof(T)) < 0; }
};

class Leases {
 public:
  Leases(Steering& steering, const Policy& policy) : steering_(steering), policy_(policy) {}

  /// `placeholder` was checked to be a TCP socket of the owner and the namespace.
  tto_helper_grant listen(const LeaseOwner& owner, ServedNamespace& netns, Fd placeholder);
  tto_helper_grant open_flow(const LeaseOwner& owner, ServedNamespace& netns, Fd placeholder,
                             const tto_helper_flow& flow);
  /// False: no such grant of this owner's session.
  bool release(uint32_t session, uint64_t grant_id);
  /// The entry that the transmit check made for an accepted connection.
  bool release_accepted(uint32_t slot, const ServedNamespace& netns, const tto_helper_flow& flow, uint32_t iss);
  void release_all(uint32_t session);

  /// Addresses or interfaces of the namespace changed: wildcard listeners follow.
  void follow(ServedNamespace& netns);
  /// A placeholder stays in its client's hands: who gave up its port (shutdown, AF_UNSPEC) loses the entries, or would
  /// receive what is meant for the port's next owner. All listeners, and some of the flows each time.
  void recheck();
  size_t count_of(uint32_t session, bool listens) const;

 private:
  struct Listen {
    LeaseOwner owner;
    ServedNamespace* netns;
    Fd placeholder;
    Placeholder bound;
    std::vector<tto_listen_key> keys;
  };
  struct Flow {
    LeaseOwner owner;
    ServedNamespace* netns;
    Fd placeholder;
    tto_flow_key key;
    int ifindex;
    tto::wire::IpAddress next_hop;
  };

  tto_helper_refusal install(uint64_t id, Listen& lease);
  tto_helper_refusal install_key(uint64_t id, Listen& lease, const Nic& nic, const tto_listen_key& key);
  void remove_key(uint64_t id, const tto_listen_key& key);
  int write_group(const tto_listen_key& key);
  void end(std::map<uint64_t, Listen>::iterator at);
  void end(std::map<uint64_t, Flow>::iterator at);
  size_t flow_count_of(uint32_t session) const;

  Steering& steering_;
  const Policy& policy_;
  uint64_t next_id_ = 1;
  uint64_t next_recheck_ = 0;  // grant
  std::map<uint64_t, Listen> listens_;
  std::map<uint64_t, Flow> flows_;
  std::map<uint32_t, size_t> flow_counts_;  // by session: every grant asks, and counting anew would take ever longer
  std::map<tto_listen_key, std::vector<uint64_t>, ByBytes<tto_listen_key>> groups_;  // the listens behind an entry
};

}  // namespace ttod
