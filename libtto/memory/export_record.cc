#include "libtto/memory/export_record.hh"

#include <cstring>

#include "libtto/base/check.hh"

namespace tto::memory {
namespace {

constexpr size_t kRecordWords = sizeof(tto_connection_record) / sizeof(uint64_t);
static_assert(sizeof(tto_connection_record) % sizeof(uint64_t) == 0, "records are copied word by word");
constexpr int kReadAttempts = 1000;

// Readers in other processes may look while we write. Each word is released after the previous publication and
// acquired before the generation is read again: who got a word of a later record also sees the later number.
void store_words(tto_connection_record* to, const tto_connection_record& from) {
  uint64_t words[kRecordWords];
  std::memcpy(words, &from, sizeof words);
  auto* w = reinterpret_cast<uint64_t*>(to);
  for (size_t i = 0; i < kRecordWords; ++i) __atomic_store_n(w + i, words[i], __ATOMIC_RELEASE);
}

void load_words(tto_connection_record* to, const tto_connection_record& from) {
  uint64_t words[kRecordWords];
  const auto* w = reinterpret_cast<const uint64_t*>(&from);
  for (size_t i = 0; i < kRecordWords; ++i) words[i] = __atomic_load_n(w + i, __ATOMIC_ACQUIRE);
  std::memcpy(to, words, sizeof words);
}

}  // namespace

ConnectionSlots::ConnectionSlots(const Region& region)
    : slots_(region.connections),
      count_(region.header->connection_count),
      free_count_(count_),
      free_(new uint32_t[count_]),
      is_taken_(new bool[count_]()) {
  for (uint32_t i = 0; i < count_; ++i) {
    free_[i] = count_ - 1 - i;  // low numbers first: few pages touched by few connections
    __atomic_store_n(&slots_[i].state, TTO_SLOT_FREE, __ATOMIC_RELEASE);
  }
}

uint32_t ConnectionSlots::take() {
  if (free_count_ == 0) return kNoSlot;
  const uint32_t slot = free_[--free_count_];
  is_taken_[slot] = true;
  slots_[slot].figures = tto_connection_figures{};
  return slot;
}

void ConnectionSlots::free(uint32_t slot) {
  if (!TTO_SOUND(slot < count_ && is_taken_[slot])) return;
  is_taken_[slot] = false;
  __atomic_store_n(&slots_[slot].state, TTO_SLOT_FREE, __ATOMIC_RELEASE);
  free_[free_count_++] = slot;
}

void ConnectionSlots::withdraw(uint32_t slot) {
  if (TTO_SOUND(slot < count_ && is_taken_[slot])) __atomic_store_n(&slots_[slot].state, TTO_SLOT_FREE, __ATOMIC_RELEASE);
}

void ConnectionSlots::commit(uint32_t slot, const tto_connection_record& record) {
  if (!TTO_SOUND(slot < count_ && is_taken_[slot])) return;
  tto_connection_slot& s = slots_[slot];
  const uint32_t next = __atomic_load_n(&s.generation, __ATOMIC_RELAXED) + 1;
  store_words(&s.record[next & 1], record);
  __atomic_store_n(&s.generation, next, __ATOMIC_RELEASE);
  if (__atomic_load_n(&s.state, __ATOMIC_RELAXED) != TTO_SLOT_LIVE) {
    __atomic_store_n(&s.state, TTO_SLOT_LIVE, __ATOMIC_RELEASE);
  }
}

bool read_record(const tto_connection_slot& slot, tto_connection_record* out) {
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    if (__atomic_load_n(&slot.state, __ATOMIC_ACQUIRE) != TTO_SLOT_LIVE) return false;
    const uint32_t generation = __atomic_load_n(&slot.generation, __ATOMIC_ACQUIRE);
    load_words(out, slot.record[generation & 1]);
    if (__atomic_load_n(&slot.generation, __ATOMIC_RELAXED) == generation &&
        __atomic_load_n(&slot.state, __ATOMIC_RELAXED) == TTO_SLOT_LIVE) {
      return true;
    }
  }
  return false;
}

}  // namespace tto::memory
