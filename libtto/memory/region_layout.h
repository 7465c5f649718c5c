/* The state region: one sealed memfd, made by ttod, mapped by the process and by ttod, and read by the stats tool.
 *
 *   +--------------------+ 0
 *   | tto_region_header  |  written by ttod before the client sees it; the client writes nothing here
 *   +--------------------+ connections_offset
 *   | connection slots   |  export records (double-buffered) + live figures; written by the process
 *   +--------------------+ frame_descs_offset
 *   | frame descriptors  |  one per frame: owner state, queue link, stream position; written by the process
 *   +--------------------+ frames_offset (page-aligned)      <- the AF_XDP UMEM starts here
 *   | frames             |  frame_count * frame_bytes; the kernel and the process write here
 *   +--------------------+ total_bytes
 *
 * To ttod the whole region but its own header copy is hostile, mutable input: copy once, check, never follow twice.
 * Plain C: the helper, the tools and libtto include it. Every layout change bumps TTO_REGION_VERSION. */
#ifndef TTO_MEMORY_REGION_LAYOUT_H
#define TTO_MEMORY_REGION_LAYOUT_H

#include <stdint.h>

#define TTO_REGION_MAGIC 0x3130676572657474ull /* "ttereg01" */
#define TTO_REGION_VERSION 1u

/* A frame handle is (region, index) in one word: region in the top 8 bits, index in the low 24. */
#define TTO_FRAME_NULL 0xffffffffu

struct tto_region_header {
  uint64_t magic;
  uint32_t version;
  uint32_t region_id;    /* unique within ttod's life */
  uint64_t total_bytes;
  uint32_t frame_bytes;  /* 4096: the AF_XDP chunk */
  uint32_t frame_count;
  uint32_t connection_count; /* slots */
  uint32_t reserved0;
  uint64_t connections_offset;
  uint64_t frame_descs_offset;
  uint64_t frames_offset;
};

/* Who owns a frame. Bits, because a frame of the send queue is also in flight until the port completes it. */
enum tto_frame_state {
  TTO_FRAME_FREE = 0,
  TTO_FRAME_POSTED = 1 << 0,    /* on the port's fill ring: the kernel may write it at any time */
  TTO_FRAME_RECEIVED = 1 << 1,  /* in the device: being classified or gathered */
  TTO_FRAME_RX_QUEUED = 1 << 2, /* in a connection's receive queue (in order or out of order) */
  TTO_FRAME_TX_QUEUED = 1 << 3, /* in a connection's send queue: sent or not, not acknowledged */
  TTO_FRAME_IN_FLIGHT = 1 << 4, /* on the port's transmit ring: must not be changed before it is reclaimed */
  TTO_FRAME_HEADER = 1 << 5     /* carries headers only (pure ACK, SYN, RST): freed when reclaimed */
};

struct tto_frame_desc { /* 32 bytes */
  uint32_t next;        /* handle of the next frame in the same queue or aggregate, TTO_FRAME_NULL at the end */
  uint16_t data_offset; /* payload start, from the frame's first byte */
  uint16_t data_bytes;
  uint64_t stream_offset; /* 64-bit sequence number of the first payload byte */
  uint32_t owner;         /* connection slot, ~0: none */
  uint8_t state;          /* enum tto_frame_state, or-ed */
  uint8_t refs;           /* buffer references held beyond the queue's own */
  uint16_t payload_sum;   /* ones' complement sum of the payload (tx: computed while copying), valid if has_sum */
  uint8_t has_sum;
  uint8_t transmissions;  /* times sent, saturating */
  uint8_t reserved[6];
};

/* The export record: everything that a kernel socket needs to go on (CRITIQUE's repair recipe). Two per slot; the
 * process fills the inactive one and then publishes its number, so no reader ever sees a torn record. */
struct tto_connection_record {
  uint8_t tcp_state; /* tto::tcp::State */
  uint8_t family;    /* 4 or 6 */
  uint8_t snd_wscale, rcv_wscale;
  uint8_t flags;     /* TTO_REC_* */
  uint8_t tos;
  uint16_t peer_mss; /* as announced */
  uint8_t local[16], remote[16]; /* v4-mapped when family is 4 */
  uint16_t local_port, remote_port; /* host byte order */
  uint32_t ifindex;
  uint64_t snd_una, snd_nxt, snd_end; /* snd_end: after the last byte send() accepted */
  uint64_t rcv_nxt, rcv_read;         /* rcv_read: next byte the application will read */
  uint64_t rcv_wnd_edge;              /* right edge last announced */
  uint64_t snd_wl1;
  uint32_t snd_wnd, snd_wnd_max;      /* bytes, unscaled */
  uint32_t ts_offset, ts_recent;      /* our TSval = ms clock + ts_offset */
  uint32_t tx_head, tx_frames;        /* send queue: linked frame descriptors, from snd_una on */
  uint32_t rx_head, rx_frames;        /* receive queue: linked, from rcv_read on */
};
#define TTO_REC_SACK 1u
#define TTO_REC_TIMESTAMPS 2u
#define TTO_REC_FIN_SENT 4u     /* a FIN occupies snd_end */
#define TTO_REC_FIN_RECEIVED 8u /* counted in rcv_nxt */
#define TTO_REC_SHARED 16u      /* a forked process may hold it too */

/* Live figures of one connection for `tto stat`; plain stores by the owner, never read back by it. */
struct tto_connection_figures {
  uint64_t rx_byte, tx_byte, rx_segment, tx_segment, rx_aggregate;
  uint64_t retransmit_segment, rto_expired, ooo_segment, dup_ack, drop_segment;
  uint32_t srtt_us, rttvar_us, rto_us, cwnd_bytes, ssthresh_bytes, mss;
  int32_t fd;
  uint32_t reserved0;
};

#define TTO_SLOT_FREE 0u
#define TTO_SLOT_LIVE 1u
struct tto_connection_slot {
  uint32_t state;      /* TTO_SLOT_*; atomic */
  uint32_t generation; /* odd/even publishes record[generation & 1]; atomic, release */
  struct tto_connection_record record[2];
  struct tto_connection_figures figures;
} __attribute__((aligned(64)));

#ifdef __cplusplus
static_assert(sizeof(struct tto_frame_desc) == 32, "one descriptor is half a cache line");
#endif

#endif
