// Capture on demand: while a tool asks for it through the stats page, frames are recorded into a ring in a memfd that the
// tool reads (`tto capture`). Costs one load per call of poll() while nobody asks.
//
//   tool: writes capture_until_ns ──▶ poll(): makes the ring, sets the port's sink, tells capture_fd ──▶ tool: reads, renews
//   nobody renews                 ──▶ poll(): takes all of it away
//
// Threads: under the stack's lock. System calls: when a capture begins or ends, none otherwise.
#pragma once

#include <cstddef>
#include <optional>

#include "libtto/base/time.hh"
#include "libtto/port/pcap_port.hh"
#include "libtto/stats/stats_page.h"

namespace tto::port {

inline constexpr size_t kCaptureRingBytes = sizeof(PcapRing) + (4u << 20);

class LiveCapture {
 public:
  explicit LiveCapture(PcapPort& port) : port_(port) {}
  ~LiveCapture() { end(nullptr); }
  LiveCapture(const LiveCapture&) = delete;
  LiveCapture& operator=(const LiveCapture&) = delete;

  /// Begins or ends recording as the page asks. `now` is CLOCK_MONOTONIC. Call it every few milliseconds, `page` may be null.
  void poll(tto_stats_page* page, Instant now);
  bool is_recording() const { return sink_.has_value(); }
  /// Does the page ask for a capture?
  static bool is_wanted(const tto_stats_page* page, Instant now);
  /// In a forked child: closes the child's descriptor and leaves the page, which is the parent's, alone.
  void abandon() { end(nullptr); }

 private:
  void begin(tto_stats_page* page);
  void end(tto_stats_page* page);

  PcapPort& port_;
  std::optional<PcapRingSink> sink_;
  void* ring_ = nullptr;
  int fd_ = -1;
};

}  // namespace tto::port
