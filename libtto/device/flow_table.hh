// FLT and OLT: which flow a segment belongs to (D1), else which listener (D14).
//
//   FlowKey ─keyed hash─▶ HashIndex ─▶ FlowContext[]      classification apart from context
//
// Two kinds of entries. *Bound*: has an owner, stays until unbound. *Autonomous*: made by a segment with payload of an
// unknown flow (D2); the least recently used one is given up when room is needed. The hash is keyed with a secret, so a
// remote party cannot choose addresses and ports that meet in one chain.
// No call allocates after construction.
#pragma once

#include <cstddef>
#include <cstdint>

#include "libtto/device/flow_context.hh"
#include "libtto/device/lazy_array.hh"

namespace tto::device {

/// SipHash-1-3 of whole words.
uint64_t keyed_hash(const uint64_t secret[2], const uint64_t* words, size_t count);

/// Open addressing with linear probing, at most half full: from a 32-bit hash to indices of entries kept elsewhere.
class HashIndex {
 public:
  explicit HashIndex(size_t entries);

  /// First index under `hash` for which `is_match(index)`; kNoIndex if none.
  template <typename Match>
  uint32_t find(uint32_t hash, Match is_match) const {
    if (buckets_.size() == 0) return kNoIndex;
    for (uint32_t at = hash & mask_;; at = (at + 1) & mask_) {
      const Bucket& bucket = buckets_[at];
      if (bucket.index_plus_one == 0) return kNoIndex;
      if (bucket.hash == hash && is_match(bucket.index_plus_one - 1)) return bucket.index_plus_one - 1;
    }
  }
  void insert(uint32_t hash, uint32_t index);
  void erase(uint32_t hash, uint32_t index);
  bool is_usable() const { return buckets_.size() != 0; }

 private:
  struct Bucket {
    uint32_t hash;
    uint32_t index_plus_one;  // 0: empty
  };
  LazyArray<Bucket> buckets_;
  uint32_t mask_;
};

/// A list threaded through FlowContexts by index.
class IndexList {
 public:
  IndexList(LazyArray<FlowContext>& contexts, IndexLink FlowContext::*link) : contexts_(contexts), link_(link) {}

  void push_back(uint32_t index);
  void remove(uint32_t index);  // harmless if it is not in the list
  uint32_t first() const { return head_; }
  uint32_t next(uint32_t index) const { return (contexts_[index].*link_).next; }
  size_t size() const { return size_; }

 private:
  LazyArray<FlowContext>& contexts_;
  IndexLink FlowContext::*link_;
  uint32_t head_ = kNoIndex;
  uint32_t tail_ = kNoIndex;
  size_t size_ = 0;
};

class FlowTable {
 public:
  FlowTable(uint32_t capacity, const uint64_t secret[2]);

  /// kNoIndex if there is no entry. Frames of one flow come in trains, so the last answer is tried first.
  uint32_t find(const FlowKey& key);
  /// A new autonomous entry; kNoIndex if none is free. The key must not be in the table.
  uint32_t insert(const FlowKey& key);
  void bind(uint32_t index, uint64_t cookie, uint32_t owner_slot);
  /// The entry goes; ids of it name nothing from now on.
  void erase(uint32_t index);
  /// Most recently used from now on (autonomous entries).
  void touch(uint32_t index, Instant now);
  /// The entry to give up when room is needed; kNoIndex if all are bound.
  uint32_t least_recently_used() const { return lru_.first(); }

  FlowContext& at(uint32_t index) { return contexts_[index]; }
  const FlowContext& at(uint32_t index) const { return contexts_[index]; }
  /// Null if `id` is stale or was never valid.
  FlowContext* bound(FlowId id);
  FlowId id_of(uint32_t index) const { return {index, contexts_[index].generation}; }

  IndexList& active() { return active_; }
  const IndexList& active() const { return active_; }
  size_t size() const { return size_; }

 private:
  uint32_t hash(const FlowKey& key) const;

  LazyArray<FlowContext> contexts_;
  HashIndex index_;
  uint64_t secret_[2];
  uint32_t first_free_ = kNoIndex;  // linked by rq_head
  uint32_t untouched_ = 0;          // contexts from here on were never used
  uint32_t recent_ = kNoIndex;
  size_t size_ = 0;
  IndexList active_;
  IndexList lru_;
};

class ListenTable {
 public:
  ListenTable(uint32_t capacity, const uint64_t secret[2]);

  bool add(const wire::IpAddress& address, uint16_t port, uint64_t cookie);
  void remove(const wire::IpAddress& address, uint16_t port);
  /// The exact address first, then the wildcard of its family. Null: no listener.
  const uint64_t* find(const wire::IpAddress& local, uint16_t port) const;

 private:
  struct Entry {
    wire::IpAddress address;
    uint64_t cookie;
    uint32_t hash;
    uint32_t next_free;
    uint16_t port;
  };
  uint32_t hash(const wire::IpAddress& address, uint16_t port) const;
  uint32_t find_exact(const wire::IpAddress& address, uint16_t port) const;

  LazyArray<Entry> entries_;
  HashIndex index_;
  uint64_t secret_[2];
  uint32_t first_free_ = kNoIndex;
  uint32_t untouched_ = 0;
};

}  // namespace tto::device
