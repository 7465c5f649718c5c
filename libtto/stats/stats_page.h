/* The stats page: a sealed memfd named "tto-stats" that the process itself makes, with its first TCP socket, so that `tto
 * stat` and `tto explain` work with and without ttod. Whoever may open /proc/PID/fd of the process (its own user, root)
 * may read it. Written by the process but for one word (capture_until_ns); names of counters come with it, so tool and library versions
 * may differ. Plain C. */
#ifndef TTO_STATS_PAGE_H
#define TTO_STATS_PAGE_H

#include <stdint.h>

#define TTO_STATS_MAGIC 0x3130746174736f74ull
#define TTO_STATS_VERSION 1u
#define TTO_STATS_NAME "tto-stats"
#define TTO_STATS_MAX_COUNTERS 256u
#define TTO_STATS_FDS 65536u

struct tto_stats_fd { /* 16 bytes; one per fd number below TTO_STATS_FDS */
  uint8_t path;       /* enum tto_path; 0: not a TCP socket of ours */
  uint8_t tcp_state;  /* tto::tcp::State when path is TTO_PATH_AF_XDP */
  uint16_t reason;    /* index of a counter name (kernel_*) when path is TTO_PATH_KERNEL, else 0xffff */
  uint32_t slot;      /* connection slot in the region, ~0: none */
  uint64_t since_ns;  /* CLOCK_REALTIME when the path was decided */
};

struct tto_stats_page {
  uint64_t magic;
  uint32_t version;
  uint32_t pid;
  uint64_t start_ns;          /* CLOCK_REALTIME */
  uint32_t counter_count;
  uint32_t has_region;        /* a region memfd is mapped: fd number below */
  int32_t region_fd;
  uint32_t nic_count;
  struct { uint32_t ifindex; uint8_t xdp_mode; uint8_t pad[3]; char name[16]; } nics[32];
  char names[TTO_STATS_MAX_COUNTERS][32];
  uint64_t counters[TTO_STATS_MAX_COUNTERS];
  struct tto_stats_fd fds[TTO_STATS_FDS];
  /* Capture. The one word a tool writes: CLOCK_MONOTONIC ns until which it wants to see frames (it renews this; at most
   * TTO_CAPTURE_MAX_NS ahead counts). The process answers with a ring (port/live_capture.hh) at capture_fd, else -1. */
  uint64_t capture_until_ns;
  int32_t capture_fd; /* 0 or -1: no ring */
  uint32_t reserved0;
};
#define TTO_CAPTURE_MAX_NS 10000000000ull

#endif
