/* The transmit check, on the host end of a virtual port: what a process sends reaches the NIC only if it could have
 * been sent by the kernel for one of the process's own connections. A frame passes when
 *
 *   - it is TCP over IPv4 or IPv6, at most one VLAN tag, no fragment, no IP option or extension header, and the IP length
 *     is the frame's (shorter only by Ethernet's padding to 60 bytes);
 *   - its source MAC is a NIC of the slot's namespace and its destination MAC a neighbour on that NIC;
 *   - its tuple, reversed, is a flow entry of this slot; or, with no flow entry, it is a SYN-ACK or RST from a listen
 *     entry of this slot, to a tuple from which steer has lately brought it a segment. A SYN-ACK makes the flow entry, so that
 *     accepting needs no call to ttod. (A listener must answer stray segments with RST, RFC 9293 3.10.7.2.) Without the
 *     segment before it, either could be aimed at a connection of the kernel's on the same port.
 *
 * The frame was copied out of the process's memory before it came here, so it cannot change under the check. */
#include "maps.bpf.h"
#include "parse.h"

/* Host-end interface (unique in the hidden namespace) -> slot. Not pinned: another ttod has another namespace. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, TTO_MAX_SLOTS);
  __type(key, __u32);
  __type(value, __u32);
} tto_port_slots SEC(".maps");

static __always_inline int count(__u32 slot, __u32 reason) {
  struct tto_tx_counts *counts = bpf_map_lookup_elem(&tto_tx_counts, &slot);
  if (counts && reason < TTO_TX_COUNTS) counts->frames[reason] += 1;
  return XDP_DROP;
}

static __always_inline int group_has(const struct tto_listen_group *group, __u32 slot) {
  for (int i = 0; i < TTO_GROUP_SLOTS; ++i)
    if ((__u32)i < group->count && group->slots[i] == slot) return 1;
  return 0;
}

/* Returns the count to use if the frame may leave, else a drop reason. */
static __always_inline __u32 check_owner(__u32 slot, struct tto_slot_info *info, const struct tto_flow_key *key,
                                         const struct tcphdr *tcp) {
  struct tto_flow_value *flow = bpf_map_lookup_elem(&tto_flt, key);
  int is_syn_ack = tcp->syn && tcp->ack && !tcp->rst && !tcp->fin;
  if (flow) {
    if (flow->slot != slot) return TTO_TX_DROP_NOT_OWNER;
    if (is_syn_ack && flow->accepted) flow->iss = tcp->seq; /* the tuple's next connection: it came back soon */
    return TTO_TX_SENT;
  }
  if (!is_syn_ack && !tcp->rst) return TTO_TX_DROP_NOT_OWNER;
  struct tto_listen_key listen = {.nic = key->nic, .vlan = key->vlan, .port = key->local_port};
  __builtin_memcpy(listen.local, key->local, 16);
  struct tto_listen_group *group = bpf_map_lookup_elem(&tto_olt, &listen);
  if (!group || group->state != TTO_ENTRY_STEER || !group_has(group, slot)) return TTO_TX_DROP_NOT_OWNER;
  __u32 *asked = bpf_map_lookup_elem(&tto_arrivals, key);
  if (!asked || *asked != slot) return TTO_TX_DROP_NOT_OWNER;
  if (!is_syn_ack) return TTO_TX_SENT_LISTEN_RST;

  if (info->flow_count >= info->flow_limit) return TTO_TX_DROP_LIMIT;
  struct tto_flow_value made = {.slot = slot, .state = TTO_ENTRY_STEER, .accepted = 1, .iss = tcp->seq};
  long failed = bpf_map_update_elem(&tto_flt, key, &made, BPF_NOEXIST);
  if (failed) return failed == -17 ? TTO_TX_DROP_NOT_OWNER : TTO_TX_DROP_LIMIT;
  bpf_map_delete_elem(&tto_arrivals, key);
  __sync_fetch_and_add(&info->flow_count, 1);
  return TTO_TX_SENT_SYN_ACK;
}

static __always_inline __u32 check_frame(struct xdp_md *ctx, __u32 slot, __u32 *nic_out) {
  void *data = (void *)(long)ctx->data;
  void *end = (void *)(long)ctx->data_end;
  struct tto_slot_info *info = bpf_map_lookup_elem(&tto_slot_info, &slot);
  if (!info || info->netns_cookie == 0) return TTO_TX_DROP_NO_SLOT;

  struct ip_frame f;
  enum parse_result parsed = parse_ip(data, end, &f);
  if (parsed != PARSE_OK) return parsed == PARSE_NOT_IP ? TTO_TX_DROP_ETHERTYPE : TTO_TX_DROP_MALFORMED;
  if (f.fragment) return TTO_TX_DROP_FRAGMENT;
  if (f.protocol != IPPROTO_TCP || f.has_options) return TTO_TX_DROP_NOT_TCP;
  __u32 frame_bytes = (__u32)bpf_xdp_get_buff_len(ctx);
  __u32 wanted = f.ip_offset + f.ip_bytes;
  if (frame_bytes != wanted && !(wanted < frame_bytes && frame_bytes <= ETH_ZLEN)) return TTO_TX_DROP_LENGTH;
  struct tcphdr *tcp = f.l4;
  if ((void *)(tcp + 1) > end) return TTO_TX_DROP_MALFORMED;
  __u32 tcp_at = f.ip_offset + (f.is_v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
  if (tcp->doff < 5 || tcp_at + tcp->doff * 4u > wanted) return TTO_TX_DROP_MALFORMED;

  struct tto_nic_mac_key source = {.netns_cookie = info->netns_cookie, .vlan = f.vlan};
  __builtin_memcpy(source.mac, f.eth->h_source, 6);
  __u32 *nic = bpf_map_lookup_elem(&tto_nic_macs, &source);
  if (!nic) return TTO_TX_DROP_SOURCE_MAC;
  *nic_out = *nic;

  struct tto_neighbor_key next_hop = {.nic = *nic, .vlan = f.vlan};
  __builtin_memcpy(next_hop.mac, f.eth->h_dest, 6);
  if (!bpf_map_lookup_elem(&tto_neighbors, &next_hop) && !bpf_map_lookup_elem(&tto_seen_macs, &next_hop))
    return TTO_TX_DROP_NEIGHBOR;

  struct tto_flow_key key = {.nic = *nic, .vlan = f.vlan, .local_port = tcp->source, .remote_port = tcp->dest};
  __builtin_memcpy(key.local, f.source, 16);
  __builtin_memcpy(key.remote, f.destination, 16);
  return check_owner(slot, info, &key, tcp);
}

SEC("xdp.frags")
int tto_txcheck(struct xdp_md *ctx) {
  __u32 ifindex = ctx->ingress_ifindex;
  __u32 *known = bpf_map_lookup_elem(&tto_port_slots, &ifindex);
  if (!known) return XDP_DROP;
  __u32 slot = *known;
  __u32 nic = 0;
  __u32 verdict = check_frame(ctx, slot, &nic);
  if (verdict > TTO_TX_SENT_LISTEN_RST) return count(slot, verdict);
  if (bpf_redirect_map(&tto_nic_devs, nic, XDP_DROP) != XDP_REDIRECT) return count(slot, TTO_TX_DROP_NO_NIC);
  count(slot, verdict);
  return XDP_REDIRECT;
}

char tto_license[] SEC("license") = "Dual BSD/GPL";
