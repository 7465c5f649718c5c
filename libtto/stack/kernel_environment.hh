// The outside world as the kernel and ttod tell it: routes, neighbours and links from rtnetlink, leases from the helper.
// Under the stack's lock.
#pragma once

#include <optional>

#include "libtto/control/helper_client.hh"
#include "libtto/control/net_view.hh"
#include "libtto/control/sysctls.hh"
#include "libtto/control/tuple_pool.hh"
#include "libtto/port/live_capture.hh"
#include "libtto/stack/stack.hh"
#include "libtto/stats/stats_page.h"

namespace tto::stack {

stats::Counter reason_of(tto_helper_refusal refusal);

class KernelEnvironment final : public Environment {
 public:
  /// Marks that a route may carry.
  struct RouteQuery {
    wire::IpAddress destination;
    const wire::IpAddress* source = nullptr;
    int oif = 0;
    uint8_t tos = 0;
    uint32_t mark = 0;
  };
  /// A next hop, known by address; its MAC may have to be waited for.
  struct Resolved {
    NextHop hop;
    wire::IpAddress next_hop_address;
    bool has_mac = false;
  };

  Expected<NextHop, stats::Counter> next_hop(const wire::IpAddress& destination, const wire::IpAddress* source,
                                             int oif) override;
  Expected<Resolved, stats::Counter> resolve(const RouteQuery& query);
  uint64_t generation() override { return net.generation() + nic_generation_; }
  void release_flow(const device::FlowKey& key, int ifindex, uint64_t grant_id, uint32_t iss) override;
  void forget_flow(uint64_t grant_id) override { tuples_.forget(grant_id); }
  bool keep_flow(uint64_t grant_id, uint32_t next_seq) override;
  Instant next_event() override;
  void release_listener(uint64_t grant_id) override;
  void inject(uint64_t handover_id, std::span<const uint8_t> packet) override;
  void refresh(Instant now) override;
  port::FramePort& observed_port(port::FramePort& port, memory::FramePool& pool, Instant now) override;

  /// Where tools see the interfaces and ask for captures; null: nowhere. Shows the interfaces known now.
  void set_page(tto_stats_page* page);
  /// In a forked child: closes what is ours, leaves alone what is shared.
  void abandon();
  /// The interfaces that the port serves, as ttod last described them.
  void set_nics(const tto_helper_port& port);
  bool is_revoked() const { return is_revoked_; }

  struct Lease {
    control::LeasedTuple tuple;
    wire::MacAddress mac;  // of the next hop; zero: ttod was not asked, or does not know it yet
  };
  /// A tuple for an active open: one that is at hand, else ttod is asked for more (and waited for).
  Expected<Lease, tto_helper_refusal> lease_tuple(const control::LeaseTarget& target, Instant now);

  control::NetView net;
  control::HelperClient helper;
  control::SysctlCache sysctls;

 private:
  const tto_helper_nic* nic_at(int ifindex) const;
  void on_event(const tto_helper_event& event);
  void take_event(const tto_helper_event& event);
  void show_nics();
  void release_tuple(uint64_t grant_id);

  // Exists while a tool asks for it.
  struct Capture {
    Capture(port::FramePort& port, memory::FramePool& pool);
    port::PcapPort recorder;
    port::LiveCapture live{recorder};
  };

  tto_helper_nic nics_[TTO_HELPER_MAX_NICS];
  uint32_t nic_count_ = 0;
  uint64_t nic_generation_ = 0;
  bool is_revoked_ = false;
  uint32_t slot_ = 0;  // the virtual port's number at ttod
  control::TuplePool tuples_;
  Instant flush_at_ = kNever;
  tto_stats_page* page_ = nullptr;
  std::optional<Capture> capture_;
};

}  // namespace tto::stack
