// Virtual ports: veth pairs in one hidden network namespace, a pool of them made ahead.
//
//     process ── XSK on the client end ══ veth pair ══ host end ── txcheck ──▶ NIC
//                      (xsk program)                   (generic)  ◀── steer ── NIC
//
// The client end's program is in the mode of the namespace's NICs: a native redirect into a veth needs a native program
// behind it, and where all is generic a frame goes its whole way in one turn of the softirq (docs/decisions/0005).
//
// A pair is a slot; slot s has interface numbers 2s+2 (host end) and 2s+3 (client end). A pair is never deleted while
// it can be used again (deleting costs some 18 ms): after its owner it rests until its queue is free, and only if the
// owner still holds the socket is it replaced. The region and socket of one owner are never given to another.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kmod-helper/fd.hh"
#include "kmod-helper/netlink.hh"
#include "kmod-helper/protocol/helper_protocol.h"
#include "kmod-helper/steering.hh"

namespace ttod {

struct PortConfig {
  uint32_t frames = 8192;       // 4 KiB each
  uint32_t connections = 1024;  // slots of the state region
  uint32_t pool = 2;            // ports ready ahead
  uint32_t slots = 256;         // at most TTO_MAX_SLOTS
  uint32_t mtu = 65535;  // a peer on veth hands over aggregates of 64 KiB
};

/// A port made ready: an XSK bound to the pair's client end with its region's frames as UMEM.
struct ReadyPort {
  uint32_t slot = 0;
  uint32_t frame_count = 0, connection_count = 0;
  Fd xsk, region;
  tto_helper_port description{};  // header and NICs left to the caller
};

class VirtualPorts {
 public:
  VirtualPorts(Steering& steering, const PortConfig& config) : steering_(steering), config_(config) {}
  /// Makes the hidden namespace and the first port. Slots that still have a device belong to processes which outlived
  /// an earlier ttod; they are not used until they end. Throws std::system_error.
  void open();

  /// A port for a new owner, out of the pool when the wish allows; empty if none can be made.
  std::optional<ReadyPort> take(const tto_helper_open_port& wish);
  /// Puts the client end of a taken port into `mode`. Returns 0 or an errno.
  int set_mode(const ReadyPort& port, XdpMode mode);
  /// Connects a taken port to the maps. Returns 0 or an errno.
  int activate(const ReadyPort& port, uint64_t netns_cookie, uint32_t flow_limit);
  /// The owner is gone: nothing reaches the slot or leaves it any more, and accepted connections have no entries. What
  /// was granted by name is removed by name, by whoever granted it, between silence() and this.
  void give_back(uint32_t slot);
  void silence(uint32_t slot) { steering_.silence_slot(slot); }
  /// Does one piece of the work that was put off: fills the pool. True if more is due.
  bool maintain();
  /// Frees the slots of processes that outlived an earlier ttod and have ended since.
  void sweep_ended();
  uint64_t bytes_of(uint32_t frame_count, uint32_t connection_count) const;
  const PortConfig& config() const { return config_; }
  const Fd& netns() const { return netns_; }

 private:
  enum class Pair : uint8_t { kNone, kIdle, kReady, kTaken, kResting, kForeign };
  struct Slot {
    Pair pair = Pair::kNone;
    uint8_t bind_failures = 0;
    XdpMode mode = XdpMode::kNone;  // of the client end
  };

  std::optional<uint32_t> idle_slot();
  std::optional<uint32_t> rested_slot();
  int make_pair(uint32_t slot);
  void delete_pair(uint32_t slot);
  int attach_client(uint32_t slot, XdpMode mode);
  std::optional<ReadyPort> make_ready(uint32_t slot, uint32_t frames, uint32_t connections, int& error);

  Steering& steering_;
  PortConfig config_;
  Fd netns_;
  NetlinkSocket netlink_;
  std::vector<Slot> slots_;
  std::vector<ReadyPort> pool_;
  XdpMode usual_mode_ = XdpMode::kGeneric;  // of the last owner's client end: what the next one is likely to need
  uint32_t next_region_ = 1;
};

/// For a port about to be given away: setting these needs a capability that its owner lacks. 0 leaves them off.
void set_busy_poll(int xsk, uint32_t busy_poll_us);

}  // namespace ttod
