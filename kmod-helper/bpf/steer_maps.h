/* What the BPF programs and ttod share: keys, values, counters and map names. Plain C, included by both sides.
 *
 *   steer (on a NIC)         flt, olt -> slot -> slot_devs (devmap) -> host end of the slot's virtual port
 *   txcheck (on a host end)  port_slots -> slot -> slot_info; nic_macs -> nic -> nic_devs (devmap) -> the NIC
 *
 * All maps but port_slots are pinned: they outlive ttod, as do the links of steer, so live connections go on. The
 * layout version is in the name of the pin directory; a new layout starts from nothing.
 * Addresses are 16 bytes (IPv4 v4-mapped), ports in network byte order, VLAN 0 = untagged. */
#ifndef TTO_STEER_MAPS_H
#define TTO_STEER_MAPS_H

#include <linux/types.h>

#define TTO_MAPS_VERSION 2
#define TTO_MAX_SLOTS 1024
#define TTO_MAX_NICS 256
#define TTO_GROUP_SLOTS 8

/* `nic` is ttod's number of the device that steer is attached to: interface indexes repeat across namespaces. */
struct tto_flow_key {
  __u32 nic;
  __u16 vlan;
  __u16 reserved; /* 0 */
  __u8 local[16], remote[16];
  __be16 local_port, remote_port;
};

enum tto_entry_state {
  TTO_ENTRY_STEER = 1,
  TTO_ENTRY_HOLD = 2 /* nobody to deliver to: the frames pass to the kernel (docs/decisions/0006) */
};

struct tto_flow_value {
  __u32 slot;
  __u8 state;
  __u8 accepted; /* made by txcheck for a SYN-ACK, not by ttod */
  __u16 reserved;
  __be32 iss;    /* of an accepted flow's newest SYN-ACK: which connection of this tuple a release speaks of */
};

struct tto_listen_key {
  __u32 nic;
  __u16 vlan;
  __be16 port;
  __u8 local[16];
};

/* The slots that share a listen address; the flow's hash picks one. */
struct tto_listen_group {
  __u32 count;
  __u32 state;
  __u32 slots[TTO_GROUP_SLOTS];
};

struct tto_nic_info {
  __u8 mac[6];
  __u16 reserved;
  __u32 ifindex;      /* in its namespace */
  __u32 reserved1;
  __u64 netns_cookie; /* with ifindex: how a restarted ttod knows the NIC again */
};

struct tto_slot_info {
  __u64 netns_cookie; /* 0: the slot is free, everything it sends is dropped */
  __u32 flow_limit;   /* of entries made by txcheck */
  __u32 flow_count;   /* atomic, both sides */
};

struct tto_nic_mac_key { /* a client sends with the MAC of the NIC it means, in its own namespace */
  __u64 netns_cookie;
  __u8 mac[6];
  __u16 vlan;
};

struct tto_neighbor_key {
  __u32 nic;
  __u16 vlan;
  __u8 mac[6];
};

enum tto_steer_count {
  TTO_STEER_FLOW,           /* redirected: exact entry */
  TTO_STEER_LISTEN,         /* redirected: listen entry */
  TTO_STEER_ICMP,           /* redirected: an ICMP error about a flow */
  TTO_STEER_FRAGMENT,       /* redirected: first fragment of a flow */
  TTO_STEER_PASS_NO_ENTRY,  /* TCP that nobody leased */
  TTO_STEER_PASS_OTHER,     /* not TCP over IP, other MAC, later fragment, extension header */
  TTO_STEER_PASS_MALFORMED, /* too short for its own headers */
  TTO_STEER_PASS_KERNEL,    /* a kernel socket owns the tuple */
  TTO_STEER_PASS_HOLD,
  TTO_STEER_PASS_NO_PORT,   /* the owner's port is gone */
  TTO_STEER_COUNTS
};

enum tto_tx_count {
  TTO_TX_SENT,
  TTO_TX_SENT_SYN_ACK,    /* and made the flow entry */
  TTO_TX_SENT_LISTEN_RST, /* a listener's RST for a segment that belongs to no flow */
  TTO_TX_DROP_NO_SLOT,
  TTO_TX_DROP_MALFORMED,
  TTO_TX_DROP_ETHERTYPE,
  TTO_TX_DROP_NOT_TCP,
  TTO_TX_DROP_FRAGMENT,
  TTO_TX_DROP_LENGTH,
  TTO_TX_DROP_SOURCE_MAC,
  TTO_TX_DROP_NEIGHBOR,
  TTO_TX_DROP_NOT_OWNER,
  TTO_TX_DROP_LIMIT,
  TTO_TX_DROP_NO_NIC,
  TTO_TX_COUNTS
};

struct tto_tx_counts {
  __u64 frames[TTO_TX_COUNTS];
};

#endif
