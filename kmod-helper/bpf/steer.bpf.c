/* The steering program, on a NIC: leased TCP goes to its owner's virtual port, everything else to the kernel.
 *
 *   exact entry (FLT)  -> its slot
 *   listen entry (OLT) -> a slot of its group, unless a kernel socket that is not listening owns the tuple: connections
 *                         older than the listener, handed over, or in TIME_WAIT stay with the kernel
 *   ICMP error         -> the owner of the flow that the quoted packet belongs to
 *   else               -> XDP_PASS
 *
 * An entry whose port is gone passes: the kernel then answers for its dead owner. */
#include "maps.bpf.h"
#include "parse.h"

const volatile __u32 nic_id = 0; /* set for each attachment */

#define BPF_TCP_STATE_LISTEN 10

static __always_inline int count_and_pass(__u32 reason) {
  __u64 *n = bpf_map_lookup_elem(&tto_steer_counts, &reason);
  if (n) *n += 1;
  return XDP_PASS;
}

static __always_inline int steer_to(__u32 slot, __u32 reason) {
  long verdict = bpf_redirect_map(&tto_slot_devs, slot, XDP_PASS);
  if (verdict != XDP_REDIRECT) return count_and_pass(TTO_STEER_PASS_NO_PORT);
  count_and_pass(reason);
  return (int)verdict;
}

static __always_inline int steer_flow(const struct tto_flow_value *flow, __u32 reason) {
  if (flow->state != TTO_ENTRY_STEER) return count_and_pass(TTO_STEER_PASS_HOLD);
  return steer_to(flow->slot, reason);
}

/* Is there a kernel socket for this very tuple, established, closing or half open? */
static __always_inline int kernel_owns(struct xdp_md *ctx, const struct ip_frame *f, const struct tcphdr *tcp) {
  struct bpf_sock_tuple tuple = {};
  __u32 bytes;
  if (f->is_v6) {
    __builtin_memcpy(tuple.ipv6.saddr, f->source, 16);
    __builtin_memcpy(tuple.ipv6.daddr, f->destination, 16);
    tuple.ipv6.sport = tcp->source;
    tuple.ipv6.dport = tcp->dest;
    bytes = sizeof(tuple.ipv6);
  } else {
    tuple.ipv4.saddr = ((const __u32 *)f->source)[3];
    tuple.ipv4.daddr = ((const __u32 *)f->destination)[3];
    tuple.ipv4.sport = tcp->source;
    tuple.ipv4.dport = tcp->dest;
    bytes = sizeof(tuple.ipv4);
  }
  struct bpf_sock *sk = bpf_skc_lookup_tcp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
  if (!sk) return 0;
  int owned = sk->state != BPF_TCP_STATE_LISTEN;
  bpf_sk_release(sk);
  return owned;
}

static __always_inline void remember_mac(const struct ip_frame *f) {
  struct tto_neighbor_key key = {.nic = nic_id, .vlan = f->vlan};
  __u8 one = 1;
  __builtin_memcpy(key.mac, f->eth->h_source, 6);
  if (key.mac[0] & 1) return;
  if (bpf_map_lookup_elem(&tto_neighbors, &key) || bpf_map_lookup_elem(&tto_seen_macs, &key)) return;
  bpf_map_update_elem(&tto_seen_macs, &key, &one, BPF_ANY);
}

static __always_inline __u32 group_member(const struct tto_listen_group *group, const struct ip_frame *f, __be16 port) {
  const __u32 *words = (const __u32 *)f->source;
  __u32 hash = (words[0] ^ words[1] ^ words[2] ^ words[3] ^ port) * 0x9e3779b1u;
  __u32 count = group->count;
  if (count > TTO_GROUP_SLOTS) count = TTO_GROUP_SLOTS;
  if (count <= 1) return group->slots[0];
  __u32 index = (hash >> 16) % count;
  asm volatile("" : "+r"(index)); /* or clang drops the mask, which the verifier needs */
  return group->slots[index & (TTO_GROUP_SLOTS - 1)];
}

static __always_inline int steer_tcp(struct xdp_md *ctx, struct ip_frame *f, void *end) {
  struct tcphdr *tcp = f->l4;
  if (f->fragment & TTO_IP_FRAGMENT_OFFSET) return count_and_pass(TTO_STEER_PASS_OTHER);
  if ((void *)(tcp + 1) > end) return count_and_pass(TTO_STEER_PASS_MALFORMED);

  struct tto_flow_key key = {.nic = nic_id, .vlan = f->vlan, .local_port = tcp->dest, .remote_port = tcp->source};
  __builtin_memcpy(key.local, f->destination, 16);
  __builtin_memcpy(key.remote, f->source, 16);
  struct tto_flow_value *flow = bpf_map_lookup_elem(&tto_flt, &key);
  if (flow) {
    /* A SYN may open the tuple's next connection while the release of its last one is under way: it asked, too. */
    if (!f->fragment && flow->accepted && tcp->syn && !tcp->ack) {
      __u32 owner = flow->slot;
      bpf_map_update_elem(&tto_arrivals, &key, &owner, BPF_ANY);
    }
    return steer_flow(flow, f->fragment ? TTO_STEER_FRAGMENT : TTO_STEER_FLOW);
  }
  if (f->fragment) return count_and_pass(TTO_STEER_PASS_OTHER);

  struct tto_listen_key listen = {.nic = nic_id, .vlan = f->vlan, .port = tcp->dest};
  __builtin_memcpy(listen.local, f->destination, 16);
  struct tto_listen_group *group = bpf_map_lookup_elem(&tto_olt, &listen);
  if (!group || group->count == 0) return count_and_pass(TTO_STEER_PASS_NO_ENTRY);
  if (group->state != TTO_ENTRY_STEER) return count_and_pass(TTO_STEER_PASS_HOLD);
  if (kernel_owns(ctx, f, tcp)) return count_and_pass(TTO_STEER_PASS_KERNEL);
  if (tcp->syn) remember_mac(f);
  __u32 slot = group_member(group, f, tcp->source);
  bpf_map_update_elem(&tto_arrivals, &key, &slot, BPF_ANY);
  return steer_to(slot, TTO_STEER_LISTEN);
}

/* `f` quotes, after 8 bytes of ICMP, a packet that this host sent: its source is our side of the flow. */
static __always_inline int steer_icmp(struct ip_frame *f, void *end) {
  __u8 *icmp = f->l4;
  struct tto_flow_key key = {.nic = nic_id, .vlan = f->vlan};
  if (f->fragment) return count_and_pass(TTO_STEER_PASS_OTHER);
  if ((void *)(icmp + 8) > end) return count_and_pass(TTO_STEER_PASS_MALFORMED);
  __be16 *ports;
  if (f->is_v6) {
    struct ipv6hdr *inner = (void *)(icmp + 8);
    if (icmp[0] < 1 || icmp[0] > 4) return count_and_pass(TTO_STEER_PASS_OTHER);
    if ((void *)(inner + 1) > end) return count_and_pass(TTO_STEER_PASS_MALFORMED);
    if (inner->nexthdr != IPPROTO_TCP) return count_and_pass(TTO_STEER_PASS_OTHER);
    copy_v6(key.local, &inner->saddr);
    copy_v6(key.remote, &inner->daddr);
    ports = (void *)(inner + 1);
  } else {
    struct iphdr *inner = (void *)(icmp + 8);
    if (icmp[0] != 3 && icmp[0] != 11 && icmp[0] != 12) return count_and_pass(TTO_STEER_PASS_OTHER);
    if ((void *)(inner + 1) > end) return count_and_pass(TTO_STEER_PASS_MALFORMED);
    __u32 header_bytes = inner->ihl * 4u;
    if (header_bytes < sizeof(*inner)) return count_and_pass(TTO_STEER_PASS_MALFORMED);
    if (inner->protocol != IPPROTO_TCP || (inner->frag_off & bpf_htons(TTO_IP_FRAGMENT_OFFSET)))
      return count_and_pass(TTO_STEER_PASS_OTHER);
    map_v4(key.local, inner->saddr);
    map_v4(key.remote, inner->daddr);
    ports = (void *)inner + header_bytes;
  }
  if ((void *)(ports + 2) > end) return count_and_pass(TTO_STEER_PASS_MALFORMED);
  if (!is_same_address(key.local, f->destination)) return count_and_pass(TTO_STEER_PASS_OTHER);
  key.local_port = ports[0];
  key.remote_port = ports[1];
  struct tto_flow_value *flow = bpf_map_lookup_elem(&tto_flt, &key);
  if (!flow) return count_and_pass(TTO_STEER_PASS_OTHER);
  return steer_flow(flow, TTO_STEER_ICMP);
}

SEC("xdp.frags")
int tto_steer(struct xdp_md *ctx) {
  void *data = (void *)(long)ctx->data;
  void *end = (void *)(long)ctx->data_end;
  struct ip_frame f;
  enum parse_result parsed = parse_ip(data, end, &f);
  if (parsed != PARSE_OK)
    return count_and_pass(parsed == PARSE_NOT_IP ? TTO_STEER_PASS_OTHER : TTO_STEER_PASS_MALFORMED);
  __u32 nic = nic_id;
  struct tto_nic_info *info = bpf_map_lookup_elem(&tto_nic_info, &nic);
  if (!info || !is_same_mac(info->mac, f.eth->h_dest)) return count_and_pass(TTO_STEER_PASS_OTHER);
  if (f.protocol == IPPROTO_TCP) return steer_tcp(ctx, &f, end);
  if (f.protocol == (f.is_v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) return steer_icmp(&f, end);
  return count_and_pass(TTO_STEER_PASS_OTHER);
}

char tto_license[] SEC("license") = "Dual BSD/GPL";
