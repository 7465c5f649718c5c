// Connection slots of the state region: who has which, and the export record that survives the process.
//
//   writer (owner, under the stack's lock)             reader (ttod, tto stat; any time)
//   fill record[(g+1) & 1]                             g = generation (acquire)
//   generation = g+1          (release)                copy record[g & 1]
//   state = LIVE, the first time                       take it if generation is still g, else again
//
// The writer never touches the published copy, so after it dies, at whatever instruction, that copy is whole.
#pragma once

#include <cstdint>
#include <memory>

#include "libtto/memory/frame_pool.hh"
#include "libtto/memory/region_layout.h"

namespace tto::memory {

inline constexpr uint32_t kNoSlot = ~0u;

class ConnectionSlots {
 public:
  /// All slots of `region` are free afterwards. Allocates; nothing later does.
  explicit ConnectionSlots(const Region& region);

  /// Reserves a slot, kNoSlot if there is none. Readers see it only from its first commit on.
  uint32_t take();
  /// Withdraws the record and gives the slot back.
  void free(uint32_t slot);
  /// Withdraws the record; the slot stays taken.
  void withdraw(uint32_t slot);
  /// Publishes `record`.
  void commit(uint32_t slot, const tto_connection_record& record);
  /// Live figures, written in place by the owner.
  tto_connection_figures& figures(uint32_t slot) { return slots_[slot].figures; }
  uint32_t free_count() const { return free_count_; }

 private:
  tto_connection_slot* slots_;
  uint32_t count_;
  uint32_t free_count_;
  std::unique_ptr<uint32_t[]> free_;  // stack of free slot numbers
  std::unique_ptr<bool[]> is_taken_;  // private: the region itself may be scribbled on by forked children
};

/// Copies the published record of a slot; never a torn one. False: the slot is free, or its owner kept changing it.
/// Needs nothing from the slot but that it is mapped.
bool read_record(const tto_connection_slot& slot, tto_connection_record* out);

}  // namespace tto::memory
