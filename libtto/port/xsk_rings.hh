// The four rings that an AF_XDP socket shares with the kernel. We produce into fill and tx, and consume rx and
// completion.
//
//   producer index ── written by one side (release), read by the other (acquire) ── counts entries ever produced
//   consumer index ── the same, the other way round; index & mask is the place
//
// Each side keeps a copy of the other's index and refreshes it only when the copy says full or empty.
#pragma once

#include <linux/if_xdp.h>

#include <algorithm>
#include <cstdint>

namespace tto::port {

// Newer than the headers of the oldest system we build on; part of the kernel's ABI.
inline constexpr uint32_t kXdpPacketContinues = 1u << 0;  // XDP_PKT_CONTD, in xdp_desc.options
inline constexpr uint16_t kXdpUseMultiBuffer = 1u << 4;   // XDP_USE_SG, in sxdp_flags
inline constexpr int kXdpMaxTxBudgetOption = 9;           // XDP_MAX_TX_SKB_BUDGET

/// Where one ring lies in its mapping.
template <typename T>
struct RingPlace {
  uint32_t* producer = nullptr;
  uint32_t* consumer = nullptr;
  uint32_t* flags = nullptr;
  T* entries = nullptr;
  uint32_t count = 0;  // a power of two
};

template <typename T>
class ProducerRing {
 public:
  void attach(const RingPlace<T>& place) {
    place_ = place;
    next_ = __atomic_load_n(place.producer, __ATOMIC_RELAXED);
    consumer_seen_ = next_ - place.count;  // looks full: the first use asks the kernel
  }
  /// How many entries can be written; looks at the kernel's index if its copy says fewer than `wanted`.
  uint32_t space(uint32_t wanted) {
    if (place_.count - (next_ - consumer_seen_) < wanted) consumer_seen_ = consumer();
    return place_.count - (next_ - consumer_seen_);
  }
  /// The entry `ahead` places behind the last published one.
  T& entry(uint32_t ahead) { return place_.entries[(next_ + ahead) & (place_.count - 1)]; }
  void publish(uint32_t n) {
    next_ += n;
    __atomic_store_n(place_.producer, next_, __ATOMIC_RELEASE);
  }
  /// Published and not yet taken by the kernel.
  uint32_t pending() const { return next_ - consumer(); }
  bool wants_wakeup() const { return (__atomic_load_n(place_.flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP) != 0; }
  uint32_t count() const { return place_.count; }

 private:
  uint32_t consumer() const {
    const uint32_t seen = __atomic_load_n(place_.consumer, __ATOMIC_ACQUIRE);
    // An index that cannot be (it is shared memory) counts as "nothing consumed": full, never an overrun.
    return next_ - seen <= place_.count ? seen : next_ - place_.count;
  }

  RingPlace<T> place_;
  uint32_t next_ = 0;
  uint32_t consumer_seen_ = 0;
};

template <typename T>
class ConsumerRing {
 public:
  void attach(const RingPlace<T>& place) {
    place_ = place;
    next_ = producer_seen_ = __atomic_load_n(place.consumer, __ATOMIC_RELAXED);
  }
  /// How many entries can be read; looks at the kernel's index if its copy says fewer than `wanted`.
  uint32_t available(uint32_t wanted) {
    if (producer_seen_ - next_ < wanted) {
      const uint32_t seen = __atomic_load_n(place_.producer, __ATOMIC_ACQUIRE);
      if (seen - next_ <= place_.count) producer_seen_ = seen;
    }
    return producer_seen_ - next_;
  }
  /// The entry `ahead` places behind the last released one; read it once.
  const T& entry(uint32_t ahead) const { return place_.entries[(next_ + ahead) & (place_.count - 1)]; }
  void release(uint32_t n) {
    next_ += n;
    __atomic_store_n(place_.consumer, next_, __ATOMIC_RELEASE);
  }
  uint32_t count() const { return place_.count; }

 private:
  RingPlace<T> place_;
  uint32_t next_ = 0;
  uint32_t producer_seen_ = 0;
};

}  // namespace tto::port
