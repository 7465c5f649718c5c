/* The language between a client process and ttod, over a SOCK_SEQPACKET Unix socket (default /run/tto/ttod.sock, or
 * $TTO_HELPER). One datagram is one message: header, then body. All integers are host byte order; addresses are 16
 * bytes (IPv4 is v4-mapped); ports are host byte order. Descriptors travel by SCM_RIGHTS, in the order named here.
 *
 * Asynchronous: a client may have many requests outstanding; each answer carries the request's id. Batched: requests
 * that name flows carry arrays. Nothing a client sends is trusted; a malformed message ends the session.
 *
 *   client -> ttod                         ttod -> client
 *   HELLO                                  WELCOME | REFUSED
 *   OPEN_PORT   fds: a TCP socket          PORT       fds: XSK, region memfd    | REFUSED
 *   LISTEN      fds: the placeholder       GRANTED (one grant)                  | REFUSED
 *   OPEN_FLOWS  fds: one placeholder each  GRANTED (one grant per flow, each with its own result)
 *   LEASE       (a destination, how many)  LEASED (local ports, a grant each)   | REFUSED
 *   RELEASE     (grants or tuples)         - | GRANTED (no grants), if it wants an answer
 *   HANDOVER    fds: the placeholder       RESTORING (it is in repair mode)     | REFUSED (it is as it was)
 *   HANDOVER_END                           HANDED_OVER (it is the kernel's)     | REFUSED (it is in CLOSE)
 *   INJECT      (one IP packet)            -
 *   COUNT       (a process)                COUNTED                              | REFUSED
 *                                          EVENT  (a NIC changed, the link was lost, the port is revoked)
 *
 * A grant lives until RELEASE or until the session ends. Flows of accepted connections are made by the transmit check
 * when the SYN-ACK leaves; the client releases them by tuple. */
#ifndef TTO_HELPER_PROTOCOL_H
#define TTO_HELPER_PROTOCOL_H

#include <stdint.h>

#define TTO_HELPER_MAGIC 0x6f74745fu
#define TTO_HELPER_VERSION 2u
#define TTO_HELPER_DEFAULT_PATH "/run/tto/ttod.sock"
#define TTO_HELPER_MAX_MESSAGE 8192u
#define TTO_HELPER_MAX_BATCH 64u
#define TTO_HELPER_MAX_LEASE 128u
#define TTO_HELPER_MAX_NICS 32u

enum tto_helper_type {
  TTO_HELPER_HELLO = 1,
  TTO_HELPER_OPEN_PORT = 2,
  TTO_HELPER_LISTEN = 3,
  TTO_HELPER_OPEN_FLOWS = 4,
  TTO_HELPER_RELEASE = 5,
  TTO_HELPER_HANDOVER = 6,
  TTO_HELPER_HANDOVER_END = 7,
  TTO_HELPER_INJECT = 8,
  TTO_HELPER_LEASE = 9,
  TTO_HELPER_COUNT = 10,
  TTO_HELPER_WELCOME = 129,
  TTO_HELPER_PORT = 130,
  TTO_HELPER_GRANTED = 131,
  TTO_HELPER_REFUSED = 132,
  TTO_HELPER_EVENT = 133,
  TTO_HELPER_RESTORING = 134,
  TTO_HELPER_HANDED_OVER = 135,
  TTO_HELPER_LEASED = 136,
  TTO_HELPER_COUNTED = 137
};

/* Why ttod refuses; the client counts it as the fd's fallback reason. */
enum tto_helper_refusal {
  TTO_REFUSED_NONE = 0,
  TTO_REFUSED_VERSION = 1,
  TTO_REFUSED_MALFORMED = 2,
  TTO_REFUSED_POLICY = 3,
  TTO_REFUSED_LIMIT = 4,      /* ports, flows or pinned bytes of this user */
  TTO_REFUSED_NO_NIC = 5,     /* no accelerated interface in the socket's namespace */
  TTO_REFUSED_FILTERED = 6,   /* firewall or tc rules on the path */
  TTO_REFUSED_FOREIGN_XDP = 7,
  TTO_REFUSED_BAD_SOCKET = 8, /* not a TCP socket of this user, namespace and state */
  TTO_REFUSED_IN_USE = 9,     /* the tuple or listen address has an owner */
  TTO_REFUSED_NO_RESOURCE = 10,
  TTO_REFUSED_NO_ROUTE = 11,
  TTO_REFUSED_NOT_OWNER = 12 /* no such flow or handover of this session */
};

struct tto_helper_header {
  uint32_t magic;
  uint16_t type;
  uint16_t reserved;
  uint32_t request_id; /* chosen by the client, echoed; 0 in EVENT */
  uint32_t bytes;      /* of the whole message */
};

struct tto_helper_hello {
  struct tto_helper_header header;
  uint32_t version;
  uint32_t reserved;
};

struct tto_helper_welcome {
  struct tto_helper_header header;
  uint32_t version;
  uint32_t session_id;
};

struct tto_helper_refused {
  struct tto_helper_header header;
  uint32_t reason; /* enum tto_helper_refusal */
  uint32_t reserved;
};

/* fds: any TCP socket of the namespace to be served (its namespace is read from it, never from the client's word). */
struct tto_helper_open_port {
  struct tto_helper_header header;
  uint32_t frame_count;      /* wish; 0: the profile's default */
  uint32_t connection_count; /* wish; 0: default */
  uint32_t busy_poll_us;     /* wish; 0: off */
  uint32_t flags;
};

struct tto_helper_nic {
  uint32_t nic_id;   /* ttod's number: interface indexes repeat across namespaces */
  uint32_t ifindex;  /* in the client's namespace */
  uint32_t mtu_bytes;
  uint16_t vlan;     /* 0: none */
  uint8_t mac[6];
  uint8_t partial_checksums; /* peers may leave only the pseudo-header sum (DESIGN 2.13) */
  uint8_t xdp_mode;          /* 0: not attached (attached with the first entry), 1 generic, 2 native */
  uint8_t reserved[2];
  char name[16];
};

struct tto_helper_ring { /* offsets of struct xdp_ring_offset */
  uint64_t producer, consumer, desc, flags;
};

/* fds: the bound XSK, the region's memfd. The client maps the region whole and the four rings of the XSK. */
struct tto_helper_port {
  struct tto_helper_header header;
  uint32_t slot;        /* virtual port number */
  uint32_t region_id;
  uint64_t region_bytes;
  uint32_t fill_entries, completion_entries, rx_entries, tx_entries;
  struct tto_helper_ring fill, completion, rx, tx;
  uint32_t mtu_bytes;   /* of the virtual port */
  uint32_t max_slices;
  uint8_t zero_copy, needs_wakeup, multi_buffer, busy_poll;
  uint32_t nic_count;
  struct tto_helper_nic nics[TTO_HELPER_MAX_NICS];
};

/* fds: the listening placeholder. Address and port are read from it. */
struct tto_helper_listen {
  struct tto_helper_header header;
};

struct tto_helper_flow {
  uint8_t local[16], remote[16];
  uint16_t local_port, remote_port;
  uint32_t ifindex;
  uint8_t next_hop[16]; /* its neighbour entry is resolved and kept by ttod */
};

/* fds: one bound placeholder per flow, in order; proves the local port. */
struct tto_helper_open_flows {
  struct tto_helper_header header;
  uint32_t count;
  uint32_t reserved;
  struct tto_helper_flow flows[TTO_HELPER_MAX_BATCH];
};

struct tto_helper_grant {
  uint64_t grant_id; /* 0: refused */
  uint32_t reason;   /* enum tto_helper_refusal */
  uint8_t next_hop_mac[6]; /* flows only, zero if not resolved yet: follow rtnetlink */
  uint8_t reserved[6];
};

struct tto_helper_granted {
  struct tto_helper_header header;
  uint32_t count;
  uint32_t reserved;
  struct tto_helper_grant grants[TTO_HELPER_MAX_BATCH];
};

/* Tuples to one destination, for which ttod chooses and reserves the local ports itself: no placeholder is bound. One
 * connection after another may use a tuple until it is released. */
struct tto_helper_lease {
  struct tto_helper_header header;
  uint32_t slot;  /* of the session's port in the namespace that is meant */
  uint32_t count; /* wish, 1 to TTO_HELPER_MAX_LEASE */
  uint8_t local[16], remote[16];
  uint16_t remote_port;
  uint16_t reserved;
  uint32_t ifindex;
  uint8_t next_hop[16];
};

struct tto_helper_leased_tuple {
  uint64_t grant_id;
  uint16_t local_port;
  uint16_t reserved[3];
};

struct tto_helper_leased {
  struct tto_helper_header header;
  uint32_t count;          /* at least 1; may be fewer than asked for */
  uint8_t next_hop_mac[6]; /* as in tto_helper_grant */
  uint8_t reserved[2];
  struct tto_helper_leased_tuple tuples[TTO_HELPER_MAX_LEASE];
};

struct tto_helper_release_item {
  uint64_t grant_id;            /* or 0: the tuple of an accepted connection */
  struct tto_helper_flow flow;  /* next_hop unused */
  uint32_t iss;                 /* of that connection (host byte order): a later one of the same tuple is left alone */
  uint32_t reserved;
};

struct tto_helper_release {
  struct tto_helper_header header;
  uint32_t count;
  uint32_t wants_answer; /* 1: answered once ttod has closed every descriptor this session gave it and released */
  struct tto_helper_release_item items[TTO_HELPER_MAX_BATCH];
};

enum tto_helper_restore_flag { /* options that both sides agreed on */
  TTO_RESTORE_SACK = 1,
  TTO_RESTORE_TIMESTAMPS = 2,
  TTO_RESTORE_WSCALE = 4
};

/* What the kernel socket shall be, in host byte order. The queues are the client's to fill, by TCP_REPAIR_QUEUE and
 * send() on its own descriptor, between RESTORING and HANDOVER_END; neither needs a capability. */
struct tto_helper_restore {
  uint32_t snd_una;       /* of the first byte that will go into the send queue */
  uint32_t rcv_unread;    /* of the first byte that will go into the receive queue: rcv.nxt less what is unread */
  uint8_t snd_wscale, rcv_wscale;
  uint8_t flags;          /* enum tto_helper_restore_flag */
  uint8_t reserved;
  uint16_t peer_mss;      /* as the peer announced it */
  uint16_t reserved1;
  uint32_t tsval;         /* our timestamp clock now, in ms, even; 0 without timestamps */
  uint32_t send_bytes, receive_bytes; /* what the queues must hold; ttod has a limit. Auto-tuned again afterwards */
};

/* fds: the placeholder, in CLOSE, unbound or bound to the flow's local side. The flow is named as RELEASE names it, with
 * its tuple in any case; it has to be this session's. */
struct tto_helper_handover {
  struct tto_helper_header header;
  struct tto_helper_release_item item;
  struct tto_helper_restore restore;
};

/* From here until HANDOVER_END, which must come within 5 s, the socket is ESTABLISHED and in repair mode. */
struct tto_helper_restoring {
  struct tto_helper_header header;
  uint64_t handover_id;
};

enum tto_helper_handover_end_flag {
  TTO_HANDOVER_NO_PROBE = 1, /* leave repair mode without a window probe */
  TTO_HANDOVER_CANCEL = 2    /* back to CLOSE, silently; the flow stays the client's */
};

/* The socket goes live, then the flow's entry and grant go: what comes next is the kernel's. */
struct tto_helper_handover_end {
  struct tto_helper_header header;
  uint64_t handover_id;
  uint32_t flags; /* enum tto_helper_handover_end_flag */
  uint32_t reserved;
};

/* For 10 s from here packets of the tuple may be injected. */
struct tto_helper_handed_over {
  struct tto_helper_header header;
  uint64_t handover_id;
};

#define TTO_HELPER_MAX_PACKET (TTO_HELPER_MAX_MESSAGE - 32u)

/* A packet that reached the client although its connection is the kernel's by now (or a FIN or ACK that brings the
 * socket into its state): from the tuple's remote side to its local side, IPv4 or IPv6 with TCP right behind it, no IP
 * options, extension headers or fragments; the IP length is packet_bytes. ttod makes the checksums. */
struct tto_helper_inject {
  struct tto_helper_header header;
  uint64_t handover_id;
  uint32_t packet_bytes;
  uint32_t reserved;
  uint8_t packet[TTO_HELPER_MAX_PACKET];
};

/* For tools: what the BPF programs counted of a process's ports (count_names.h). The process must be of the asker's user,
 * or the asker root: otherwise, and if it has no port, REFUSED with NOT_OWNER. */
struct tto_helper_count {
  struct tto_helper_header header;
  uint32_t pid; /* as ttod sees it */
  uint32_t reserved;
};

#define TTO_HELPER_TX_COUNTS 14u
#define TTO_HELPER_STEER_COUNTS 10u
#define TTO_HELPER_COUNTED_PORTS 8u

struct tto_helper_port_counts {
  uint32_t slot;
  uint32_t reserved;
  uint64_t tx[TTO_HELPER_TX_COUNTS]; /* since the port was opened */
  uint64_t rx_dropped, rx_ring_full; /* by its AF_XDP socket: no frame posted to receive into, or no room to say so */
};

struct tto_helper_counted {
  struct tto_helper_header header;
  uint32_t port_count;
  uint32_t shows_steering; /* 1: the asker is root; the NICs' counts are everybody's */
  uint64_t steering[TTO_HELPER_STEER_COUNTS]; /* since the maps were made */
  struct tto_helper_port_counts ports[TTO_HELPER_COUNTED_PORTS];
};

enum tto_helper_event_kind {
  TTO_EVENT_NIC_CHANGED = 1, /* nic: new state */
  TTO_EVENT_NIC_LOST = 2,    /* nic: gone, or its steering program is */
  TTO_EVENT_PORT_REVOKED = 3
};

struct tto_helper_event {
  struct tto_helper_header header;
  uint32_t kind;
  uint32_t reserved;
  struct tto_helper_nic nic;
};

#ifdef __cplusplus
static_assert(sizeof(struct tto_helper_header) == 16, "protocol layout");
static_assert(sizeof(struct tto_helper_release) <= TTO_HELPER_MAX_MESSAGE, "protocol layout");
static_assert(sizeof(struct tto_helper_counted) <= TTO_HELPER_MAX_MESSAGE, "protocol layout");
static_assert(sizeof(struct tto_helper_inject) == TTO_HELPER_MAX_MESSAGE, "protocol layout");
static_assert(sizeof(struct tto_helper_open_flows) <= TTO_HELPER_MAX_MESSAGE, "protocol layout");
#endif

#endif
