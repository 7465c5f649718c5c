/* The pinned maps, as steer and txcheck declare them (steer_maps.h says who uses which). */
#ifndef TTO_MAPS_BPF_H
#define TTO_MAPS_BPF_H

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "steer_maps.h"

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 262144);
  __type(key, struct tto_flow_key);
  __type(value, struct tto_flow_value);
} tto_flt SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 16384);
  __type(key, struct tto_listen_key);
  __type(value, struct tto_listen_group);
} tto_olt SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_DEVMAP);
  __uint(max_entries, TTO_MAX_SLOTS);
  __type(key, __u32);
  __type(value, __u32);
} tto_slot_devs SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_DEVMAP);
  __uint(max_entries, TTO_MAX_NICS);
  __type(key, __u32);
  __type(value, __u32);
} tto_nic_devs SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, TTO_MAX_NICS);
  __type(key, __u32);
  __type(value, struct tto_nic_info);
} tto_nic_info SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, TTO_MAX_SLOTS);
  __type(key, __u32);
  __type(value, struct tto_slot_info);
} tto_slot_info SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 4096);
  __type(key, struct tto_nic_mac_key);
  __type(value, __u32);
} tto_nic_macs SEC(".maps");

/* Next hops the kernel knows, kept by ttod. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 65536);
  __type(key, struct tto_neighbor_key);
  __type(value, __u8);
} tto_neighbors SEC(".maps");

/* MACs that sent a SYN to a listen entry: the SYN-ACK may leave before ttod hears of the kernel's new neighbour. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 8192);
  __type(key, struct tto_neighbor_key);
  __type(value, __u8);
} tto_seen_macs SEC(".maps");

/* Tuples of segments that reached a listen entry and were handed to this slot, lately: what a listener may answer. The
 * kernel had no socket of that tuple when the segment came. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 65536);
  __type(key, struct tto_flow_key);
  __type(value, __u32);
} tto_arrivals SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, TTO_STEER_COUNTS);
  __type(key, __u32);
  __type(value, __u64);
} tto_steer_counts SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, TTO_MAX_SLOTS);
  __type(key, __u32);
  __type(value, struct tto_tx_counts);
} tto_tx_counts SEC(".maps");

#endif
