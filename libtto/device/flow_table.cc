#include "libtto/device/flow_table.hh"

#include <bit>
#include <cstring>
#include <memory>

namespace tto::device {
namespace {

struct SipState {
  uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v2 += v3;
    v1 = std::rotl(v1, 13) ^ v0;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 = std::rotl(v0, 32);
    v2 += v1;
    v0 += v3;
    v1 = std::rotl(v1, 17) ^ v2;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 = std::rotl(v2, 32);
  }
};

void load_address(const wire::IpAddress& address, uint64_t* words) { std::memcpy(words, address.bytes.data(), 16); }

bool same_key(const FlowKey& a, const FlowKey& b) { return a.tuple == b.tuple && a.vlan == b.vlan; }

size_t bucket_count(size_t entries) { return std::bit_ceil(entries < 8 ? size_t{16} : entries * 2); }

}  // namespace

uint64_t keyed_hash(const uint64_t secret[2], const uint64_t* words, size_t count) {
  SipState s{secret[0] ^ 0x736f6d6570736575u, secret[1] ^ 0x646f72616e646f6du, secret[0] ^ 0x6c7967656e657261u,
             secret[1] ^ 0x7465646279746573u};
  for (size_t i = 0; i <= count; ++i) {
    const uint64_t word = i < count ? words[i] : uint64_t{count * 8} << 56;
    s.v3 ^= word;
    s.round();
    s.v0 ^= word;
  }
  s.v2 ^= 0xff;
  s.round();
  s.round();
  s.round();
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

// --- HashIndex -----------------------------------------------------------------------------------------------------

HashIndex::HashIndex(size_t entries)
    : buckets_(bucket_count(entries)), mask_(static_cast<uint32_t>(bucket_count(entries) - 1)) {}

void HashIndex::insert(uint32_t hash, uint32_t index) {
  uint32_t at = hash & mask_;
  while (buckets_[at].index_plus_one != 0) at = (at + 1) & mask_;
  buckets_[at] = {hash, index + 1};
}

void HashIndex::erase(uint32_t hash, uint32_t index) {
  uint32_t hole = hash & mask_;
  while (buckets_[hole].index_plus_one != index + 1) {
    if (buckets_[hole].index_plus_one == 0) return;
    hole = (hole + 1) & mask_;
  }
  // Close the hole with every later entry of the run that is allowed to move into it, so that no tombstones pile up.
  for (uint32_t at = (hole + 1) & mask_; buckets_[at].index_plus_one != 0; at = (at + 1) & mask_) {
    const uint32_t home = buckets_[at].hash & mask_;
    if (((at - home) & mask_) >= ((at - hole) & mask_)) {
      buckets_[hole] = buckets_[at];
      hole = at;
    }
  }
  buckets_[hole] = {};
}

// --- IndexList -----------------------------------------------------------------------------------------------------

void IndexList::push_back(uint32_t index) {
  IndexLink& link = contexts_[index].*link_;
  link = {tail_, kNoIndex, true};
  if (tail_ != kNoIndex) {
    (contexts_[tail_].*link_).next = index;
  } else {
    head_ = index;
  }
  tail_ = index;
  ++size_;
}

void IndexList::remove(uint32_t index) {
  IndexLink& link = contexts_[index].*link_;
  if (!link.linked) return;
  (link.prev != kNoIndex ? (contexts_[link.prev].*link_).next : head_) = link.next;
  (link.next != kNoIndex ? (contexts_[link.next].*link_).prev : tail_) = link.prev;
  link = {};
  --size_;
}

// --- FlowTable -----------------------------------------------------------------------------------------------------

FlowTable::FlowTable(uint32_t capacity, const uint64_t secret[2])
    : contexts_(capacity),
      index_(capacity),
      secret_{secret[0], secret[1]},
      active_(contexts_, &FlowContext::active),
      lru_(contexts_, &FlowContext::lru) {}

uint32_t FlowTable::hash(const FlowKey& key) const {
  uint64_t words[5];
  load_address(key.tuple.local, words);
  load_address(key.tuple.remote, words + 2);
  words[4] = uint64_t{key.tuple.local_port} << 32 | uint64_t{key.tuple.remote_port} << 16 | key.vlan;
  return static_cast<uint32_t>(keyed_hash(secret_, words, 5));
}

uint32_t FlowTable::find(const FlowKey& key) {
  if (recent_ != kNoIndex && contexts_[recent_].in_use && same_key(contexts_[recent_].key, key)) return recent_;
  const uint32_t index = index_.find(hash(key), [&](uint32_t i) { return same_key(contexts_[i].key, key); });
  if (index != kNoIndex) recent_ = index;
  return index;
}

uint32_t FlowTable::insert(const FlowKey& key) {
  if (!index_.is_usable()) return kNoIndex;
  uint32_t index = first_free_;
  if (index != kNoIndex) {
    first_free_ = contexts_[index].rq_head;
  } else if (untouched_ < contexts_.size()) {
    index = untouched_++;
  } else {
    return kNoIndex;
  }
  FlowContext& context = contexts_[index];
  const uint32_t generation = context.generation;
  std::construct_at(&context);
  context.generation = generation + 1;
  context.key = key;
  context.hash = hash(key);
  context.in_use = true;
  index_.insert(context.hash, index);
  lru_.push_back(index);
  ++size_;
  return index;
}

void FlowTable::bind(uint32_t index, uint64_t cookie, uint32_t owner_slot) {
  FlowContext& context = contexts_[index];
  context.bound = true;
  context.cookie = cookie;
  context.owner_slot = owner_slot;
  lru_.remove(index);
}

void FlowTable::erase(uint32_t index) {
  FlowContext& context = contexts_[index];
  if (!context.in_use) return;
  active_.remove(index);
  lru_.remove(index);
  index_.erase(context.hash, index);
  context.in_use = context.bound = false;
  ++context.generation;
  context.rq_head = first_free_;
  first_free_ = index;
  --size_;
}

void FlowTable::touch(uint32_t index, Instant now) {
  FlowContext& context = contexts_[index];
  context.last_activity = now;
  if (context.bound) return;
  lru_.remove(index);
  lru_.push_back(index);
}

FlowContext* FlowTable::bound(FlowId id) {
  if (id.index >= contexts_.size()) return nullptr;
  FlowContext& context = contexts_[id.index];
  return context.in_use && context.bound && context.generation == id.generation ? &context : nullptr;
}

// --- ListenTable ---------------------------------------------------------------------------------------------------

ListenTable::ListenTable(uint32_t capacity, const uint64_t secret[2])
    : entries_(capacity), index_(capacity), secret_{secret[0], secret[1]} {}

uint32_t ListenTable::hash(const wire::IpAddress& address, uint16_t port) const {
  uint64_t words[3];
  load_address(address, words);
  words[2] = port;
  return static_cast<uint32_t>(keyed_hash(secret_, words, 3));
}

uint32_t ListenTable::find_exact(const wire::IpAddress& address, uint16_t port) const {
  return index_.find(hash(address, port),
                     [&](uint32_t i) { return entries_[i].port == port && entries_[i].address == address; });
}

bool ListenTable::add(const wire::IpAddress& address, uint16_t port, uint64_t cookie) {
  if (!index_.is_usable() || find_exact(address, port) != kNoIndex) return false;
  uint32_t index = first_free_;
  if (index != kNoIndex) {
    first_free_ = entries_[index].next_free;
  } else if (untouched_ < entries_.size()) {
    index = untouched_++;
  } else {
    return false;
  }
  entries_[index] = {address, cookie, hash(address, port), kNoIndex, port};
  index_.insert(entries_[index].hash, index);
  return true;
}

void ListenTable::remove(const wire::IpAddress& address, uint16_t port) {
  const uint32_t index = find_exact(address, port);
  if (index == kNoIndex) return;
  index_.erase(entries_[index].hash, index);
  entries_[index].next_free = first_free_;
  first_free_ = index;
}

const uint64_t* ListenTable::find(const wire::IpAddress& local, uint16_t port) const {
  uint32_t index = find_exact(local, port);
  if (index == kNoIndex) index = find_exact(local.is_v4() ? wire::IpAddress::from_v4(0) : wire::IpAddress{}, port);
  return index == kNoIndex ? nullptr : &entries_[index].cookie;
}

}  // namespace tto::device
