#include "libtto/control/tuple_pool.hh"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace tto::control {

/// A tuple of ours, free or in use.
struct TuplePool::Record {
  LeasedTuple tuple;
  Target* target = nullptr;
  bool is_free = false;
  Instant since{};             // free: since then
  Record* in_bucket = nullptr;  // the next of its bucket, or of the unused ones
  Record* before = nullptr;     // in oldest_
  Record* behind = nullptr;
  Record* next_free = nullptr;  // of its target
};

struct TuplePool::Target {
  LeaseTarget key;
  uint32_t count = 0;          // free or in use
  Record* fresh = nullptr;     // never used
  Record* first_rested = nullptr;  // used, in the order in which they came back
  Record* last_rested = nullptr;
  Target* in_bucket = nullptr;
};

struct TuplePool::Block {
  static constexpr size_t kRecords = 128;
  Block* next = nullptr;
  Record records[kRecords];
};

void TuplePool::Queue::push(Record& record) {
  record.before = last;
  record.behind = nullptr;
  (last != nullptr ? last->behind : first) = &record;
  last = &record;
}

void TuplePool::Queue::remove(Record& record) {
  (record.before != nullptr ? record.before->behind : first) = record.behind;
  (record.behind != nullptr ? record.behind->before : last) = record.before;
}

TuplePool::~TuplePool() {
  clear();
  while (blocks_ != nullptr) delete std::exchange(blocks_, blocks_->next);
}

size_t TuplePool::bucket_of(const LeaseTarget& target) {
  uint64_t hash = target.remote_port ^ static_cast<uint64_t>(target.ifindex) << 16;
  for (const wire::IpAddress* address : {&target.local, &target.remote, &target.next_hop}) {
    uint64_t words[2];
    std::memcpy(words, address->bytes.data(), sizeof words);
    hash = (hash ^ words[0]) * 0x9e3779b97f4a7c15u;
    hash = (hash ^ hash >> 29 ^ words[1]) * 0x9e3779b97f4a7c15u;
  }
  return hash >> 58;
}

TuplePool::Target* TuplePool::find(const LeaseTarget& target) const {
  Target* at = targets_[bucket_of(target)];
  while (at != nullptr && at->key != target) at = at->in_bucket;
  return at;
}

TuplePool::Target* TuplePool::find_or_make(const LeaseTarget& target) {
  if (Target* known = find(target); known != nullptr) return known;
  auto* made = new (std::nothrow) Target;
  if (made == nullptr) return nullptr;
  made->key = target;
  made->in_bucket = std::exchange(targets_[bucket_of(target)], made);
  return made;
}

TuplePool::Record* TuplePool::find(uint64_t grant_id) const {
  Record* at = records_[grant_id % kRecordBuckets];
  while (at != nullptr && at->tuple.grant_id != grant_id) at = at->in_bucket;
  return at;
}

TuplePool::Record* TuplePool::make_record() {
  if (unused_ == nullptr) {
    auto* block = new (std::nothrow) Block;
    if (block == nullptr) return nullptr;
    block->next = std::exchange(blocks_, block);
    for (Record& record : block->records) record.in_bucket = std::exchange(unused_, &record);
  }
  return std::exchange(unused_, unused_->in_bucket);
}

bool TuplePool::take(const LeaseTarget& key, Instant now, LeasedTuple& out) {
  Target* target = find(key);
  if (target == nullptr) return false;
  Record* record = target->fresh;
  if (record != nullptr) {
    target->fresh = record->next_free;
  } else {
    record = target->first_rested;
    if (record == nullptr || (target->count < kEnough && now - record->since < kRest)) return false;
    target->first_rested = record->next_free;
    if (target->first_rested == nullptr) target->last_rested = nullptr;
  }
  record->is_free = false;
  oldest_.remove(*record);
  --free_count_;
  out = record->tuple;
  return true;
}

uint32_t TuplePool::wish(const LeaseTarget& key) const {
  const Target* target = find(key);
  return target == nullptr ? 1 : std::clamp<uint32_t>(target->count, 1, TTO_HELPER_MAX_LEASE);
}

size_t TuplePool::add(const LeaseTarget& key, std::span<const tto_helper_leased_tuple> tuples, Instant now) {
  Target* target = tuples.empty() ? nullptr : find_or_make(key);
  if (target == nullptr) return 0;
  size_t kept = 0;
  for (; kept < tuples.size(); ++kept) {
    Record* record = make_record();
    if (record == nullptr) break;
    *record = Record{};
    record->tuple.grant_id = tuples[kept].grant_id;
    record->tuple.local_port = tuples[kept].local_port;
    record->target = target;
    record->is_free = true;
    record->since = now;
    record->in_bucket = std::exchange(records_[record->tuple.grant_id % kRecordBuckets], record);
    record->next_free = std::exchange(target->fresh, record);
    oldest_.push(*record);
    ++target->count;
    ++free_count_;
  }
  return kept;
}

bool TuplePool::give_back(uint64_t grant_id, uint32_t next_seq, Instant now) {
  Record* record = grant_id != 0 ? find(grant_id) : nullptr;
  if (record == nullptr || record->is_free) return false;
  record->tuple.was_used = true;
  record->tuple.next_seq = next_seq;
  record->is_free = true;
  record->since = now;
  record->next_free = nullptr;
  Target& target = *record->target;
  (target.last_rested != nullptr ? target.last_rested->next_free : target.first_rested) = record;
  target.last_rested = record;
  oldest_.push(*record);
  ++free_count_;
  return true;
}

/// Out of the tables; free ones are out of their lists already.
void TuplePool::drop(Record& record) {
  Record** link = &records_[record.tuple.grant_id % kRecordBuckets];
  while (*link != &record) link = &(*link)->in_bucket;
  *link = record.in_bucket;
  Target& target = *record.target;
  record.in_bucket = std::exchange(unused_, &record);
  if (--target.count > 0) return;
  Target** target_link = &targets_[bucket_of(target.key)];
  while (*target_link != &target) target_link = &(*target_link)->in_bucket;
  *target_link = target.in_bucket;
  delete &target;
}

bool TuplePool::forget(uint64_t grant_id) {
  Record* record = grant_id != 0 ? find(grant_id) : nullptr;
  if (record == nullptr || record->is_free) return false;
  drop(*record);
  return true;
}

bool TuplePool::take_idle(Instant now, LeasedTuple& out) {
  Record* record = oldest_.first;
  if (record == nullptr || now - record->since < kIdle) return false;
  Target& target = *record->target;
  out = record->tuple;
  if (record->tuple.was_used) {  // the oldest of all is the oldest of its target
    target.first_rested = record->next_free;
    if (target.first_rested == nullptr) target.last_rested = nullptr;
  } else {
    Record** link = &target.fresh;
    while (*link != record) link = &(*link)->next_free;
    *link = record->next_free;
  }
  oldest_.remove(*record);
  --free_count_;
  drop(*record);
  return true;
}

Instant TuplePool::next_idle() const { return oldest_.first != nullptr ? oldest_.first->since + kIdle : kNever; }

void TuplePool::clear() {
  for (Record*& bucket : records_) {
    while (bucket != nullptr) drop(*bucket);
  }
  oldest_ = {};
  free_count_ = 0;
}

}  // namespace tto::control
