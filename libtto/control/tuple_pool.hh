// Leased tuples that no connection uses at the moment. ttod leases them in batches, so that an active open needs no call
// to it: the first open to a destination asks for one, and each time none is free as many more as there are, at most
// kMaxLease at a time.
//
// A tuple serves one connection after another. It comes back when its connection is over for both sides (TIME-WAIT, if it
// was ours, included), and rests before it is used again, as long as there are few of them: what the network still
// holds of the old connection is then gone, and a peer in TIME-WAIT has seen its clock move. Its next connection starts
// beyond the last one's sequence numbers (RFC 6191). Those that nobody wanted for a while go back to ttod.
//
// Threads: under the stack's lock. No system call; memory in blocks, when there are more tuples than ever before.
#pragma once

#include <cstdint>
#include <span>

#include "kmod-helper/protocol/helper_protocol.h"
#include "libtto/base/time.hh"
#include "libtto/wire/address.hh"

namespace tto::control {

/// What tuples are leased for.
struct LeaseTarget {
  wire::IpAddress local, remote, next_hop;
  uint16_t remote_port = 0;
  int ifindex = 0;

  bool operator==(const LeaseTarget&) const = default;
};

struct LeasedTuple {
  uint64_t grant_id = 0;
  uint16_t local_port = 0;
  bool was_used = false;
  uint32_t next_seq = 0;  // was_used: what the last connection would have sent next
};

class TuplePool {
 public:
  static constexpr Duration kRest = milliseconds(10);  // while there are fewer than kEnough to this destination
  static constexpr Duration kIdle = seconds(5);
  static constexpr uint32_t kEnough = TTO_HELPER_MAX_LEASE;

  TuplePool() = default;
  ~TuplePool();
  TuplePool(const TuplePool&) = delete;
  TuplePool& operator=(const TuplePool&) = delete;

  /// A free tuple; false: ask ttod for wish() more and add() them.
  bool take(const LeaseTarget& target, Instant now, LeasedTuple& out);
  uint32_t wish(const LeaseTarget& target) const;
  /// How many were kept: those behind are the caller's to use once and release (no memory).
  size_t add(const LeaseTarget& target, std::span<const tto_helper_leased_tuple> tuples, Instant now);
  /// The connection is over for both sides. False: not of this pool.
  bool give_back(uint64_t grant_id, uint32_t next_seq, Instant now);
  /// The tuple is being released, handed over, or lost. False: not one in use of this pool.
  bool forget(uint64_t grant_id);
  /// One that has been free for kIdle, taken out of the pool; false: there is none.
  bool take_idle(Instant now, LeasedTuple& out);
  /// When take_idle() has something at the earliest.
  Instant next_idle() const;
  /// The session that leased them is gone; what is in use stays in use.
  void clear();
  size_t free_count() const { return free_count_; }

 private:
  struct Target;
  struct Record;
  struct Block;
  /// In the order in which they became free.
  struct Queue {
    Record* first = nullptr;
    Record* last = nullptr;
    void push(Record& record);
    void remove(Record& record);
  };

  static constexpr size_t kTargetBuckets = 64, kRecordBuckets = 1024;

  static size_t bucket_of(const LeaseTarget& target);
  Target* find(const LeaseTarget& target) const;
  Target* find_or_make(const LeaseTarget& target);
  Record* make_record();
  Record* find(uint64_t grant_id) const;
  void drop(Record& record);

  Target* targets_[kTargetBuckets] = {};
  Record* records_[kRecordBuckets] = {};
  Record* unused_ = nullptr;
  Block* blocks_ = nullptr;
  Queue oldest_;  // all free ones
  size_t free_count_ = 0;
};

}  // namespace tto::control
