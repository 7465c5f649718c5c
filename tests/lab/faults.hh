// What a bad link does to the frames of one direction: loss, duplication, reordering, corruption, delay, rate. Pure:
// frames and times in, frames out, no I/O; faultlink.cc puts it between two interfaces.
//
// Every frame costs the same draws from the direction's generator, whatever the plan and whatever befell it. So what
// happens to the n-th frame depends on the seed, the direction and n alone, and a run repeats as far as its
// traffic does. Times are nanoseconds of any clock that does not go back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libtto/base/rng.hh"

namespace faults {

/// One direction's plan. Chances are in parts per million of the frames; 0 is never.
struct Plan {
  uint32_t loss_ppm = 0;
  uint32_t duplicate_ppm = 0;        // the copy follows at once, without further faults
  uint32_t reorder_ppm = 0;          // held until 1 to kMaxOvertakers later frames have left, at most kMaxLate
  uint32_t corrupt_ppm = 0;          // one bit, anywhere behind the Ethernet header
  uint32_t corrupt_payload_ppm = 0;  // one bit of the TCP payload; frames without payload are left alone
  uint64_t delay_ns = 0;             // of every frame
  uint64_t bits_per_second = 0;      // 0: no limit
  uint64_t queue_bytes = 512 << 10;  // what waits before the rate limit; more is dropped
};

inline constexpr unsigned kMaxOvertakers = 8;
inline constexpr uint64_t kMaxLate = 1'000'000;  // when nothing follows, a late frame leaves all the same

/// "loss=1%,reorder=0.01,duplicate=0.5%,corrupt=0.1%,corrupt_payload=0.1%,delay=10ms,rate=100mbit,queue=256k". Changes
/// what it names and keeps the rest. On a mistake false, and `error` says which word.
bool parse_plan(std::string_view text, Plan& plan, std::string& error);

struct Counts {
  uint64_t frames = 0, bytes = 0;  // arrived
  uint64_t lost = 0, duplicated = 0, reordered = 0, corrupted = 0, corrupted_payload = 0;
  uint64_t queue_dropped = 0;
  uint64_t left = 0;  // frames + duplicated = left + lost + queue_dropped + held
};

/// The frame's bytes behind room for what the packet socket says of it.
struct Frame {
  static constexpr size_t kMaxBytes = 65536;
  std::vector<uint8_t> bytes;
  uint16_t checksum_start = 0, checksum_offset = 0;
  bool needs_checksum = false;  // CHECKSUM_PARTIAL: the sender left the sum to a device that is not there
};

class Lane {
 public:
  Lane(const Plan& plan, uint64_t seed) : plan_(plan), rng_(seed) {}

  void arrive(std::unique_ptr<Frame> frame, uint64_t now);
  /// The next frame that is due; null if none is. Ask until then, and again at next_event().
  std::unique_ptr<Frame> leave(uint64_t now);
  /// When leave() has something at the latest; UINT64_MAX if it holds nothing.
  uint64_t next_event() const;

  const Counts& counts() const { return counts_; }
  size_t held() const { return queue_.size() + late_.size(); }

 private:
  struct Dice {
    bool lose, duplicate, late, corrupt, corrupt_payload;
    uint64_t position, overtakers;
  };
  struct Held {
    uint64_t at;          // when it leaves, at the latest
    uint64_t overtakers;  // frames that go before it when its turn has come
    std::unique_ptr<Frame> frame;
  };

  Dice throw_dice();
  std::optional<uint64_t> due_at(size_t bytes, uint64_t now);
  std::unique_ptr<Frame> out(std::unique_ptr<Frame> frame);

  Plan plan_;
  tto::Rng rng_;
  Counts counts_;
  uint64_t busy_until_ = 0;
  std::deque<Held> queue_;  // by time
  std::list<Held> late_;    // whose turn has come and who let others by
};

/// The TCP payload of an Ethernet frame, as [first, end); empty if it is none. Never past `bytes`.
struct Extent {
  size_t first = 0, end = 0;
};
Extent tcp_payload(const uint8_t* frame, size_t bytes);

}  // namespace faults
