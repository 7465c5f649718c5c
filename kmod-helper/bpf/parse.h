/* Header parsing shared by the XDP programs: Ethernet, at most one VLAN tag, IPv4 or IPv6, then a layer-4 pointer.
 * Only the first buffer of a frame is looked at; headers that do not fit there count as malformed. */
#ifndef TTO_PARSE_H
#define TTO_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer_maps.h"

#define TTO_IP_MORE_FRAGMENTS 0x2000
#define TTO_IP_FRAGMENT_OFFSET 0x1fff
#define TTO_VLAN_ID 0x0fff

struct vlan_tag {
  __be16 tci;
  __be16 next_type;
};

enum parse_result { PARSE_OK, PARSE_MALFORMED, PARSE_NOT_IP };

struct ip_frame {
  struct ethhdr *eth;
  void *l4;          /* after the IP header; nothing behind it is checked yet */
  __u8 source[16] __attribute__((aligned(8)));
  __u8 destination[16] __attribute__((aligned(8)));
  __u32 ip_offset;   /* from the frame's start */
  __u32 ip_bytes;    /* as the IP header says, header included */
  __u16 vlan;
  __u16 fragment;    /* offset and more-fragments bit, host order; 0 for IPv6 */
  __u8 protocol;
  __u8 is_v6;
  __u8 has_options;  /* IPv4 options */
};

static __always_inline void map_v4(__u8 out[16], __be32 v4) {
  __u32 *words = (__u32 *)out;
  words[0] = words[1] = 0;
  words[2] = bpf_htonl(0xffff);
  words[3] = v4;
}

static __always_inline void copy_v6(__u8 out[16], const struct in6_addr *v6) {
  __builtin_memcpy(out, v6, 16);
}

static __always_inline int is_v4_mapped(const __u8 a[16]) {
  const __u32 *words = (const __u32 *)a;
  return (words[0] | words[1] | (words[2] ^ bpf_htonl(0xffff))) == 0;
}

static __always_inline enum parse_result parse_ip(void *data, void *end, struct ip_frame *f) {
  struct ethhdr *eth = data;
  if ((void *)(eth + 1) > end) return PARSE_MALFORMED;
  f->eth = eth;
  f->vlan = 0;
  __be16 type = eth->h_proto;
  void *at = eth + 1;
  if (type == bpf_htons(ETH_P_8021Q)) {
    struct vlan_tag *tag = at;
    if ((void *)(tag + 1) > end) return PARSE_MALFORMED;
    f->vlan = bpf_ntohs(tag->tci) & TTO_VLAN_ID;
    type = tag->next_type;
    at = tag + 1;
  }
  f->ip_offset = at - data;
  if (type == bpf_htons(ETH_P_IP)) {
    struct iphdr *ip = at;
    if ((void *)(ip + 1) > end) return PARSE_MALFORMED;
    __u32 header_bytes = ip->ihl * 4u;
    if (ip->version != 4 || header_bytes < sizeof(*ip)) return PARSE_MALFORMED;
    if (at + header_bytes > end) return PARSE_MALFORMED;
    map_v4(f->source, ip->saddr);
    map_v4(f->destination, ip->daddr);
    f->protocol = ip->protocol;
    f->fragment = bpf_ntohs(ip->frag_off) & (TTO_IP_MORE_FRAGMENTS | TTO_IP_FRAGMENT_OFFSET);
    f->ip_bytes = bpf_ntohs(ip->tot_len);
    f->is_v6 = 0;
    f->has_options = header_bytes != sizeof(*ip);
    f->l4 = at + header_bytes;
    return PARSE_OK;
  }
  if (type == bpf_htons(ETH_P_IPV6)) {
    struct ipv6hdr *ip = at;
    if ((void *)(ip + 1) > end) return PARSE_MALFORMED;
    if (ip->version != 6) return PARSE_MALFORMED;
    copy_v6(f->source, &ip->saddr);
    copy_v6(f->destination, &ip->daddr);
    /* Would pass for IPv4 in the maps' keys. */
    if (is_v4_mapped(f->source) || is_v4_mapped(f->destination)) return PARSE_MALFORMED;
    f->protocol = ip->nexthdr;
    f->fragment = 0;
    f->ip_bytes = bpf_ntohs(ip->payload_len) + sizeof(*ip);
    f->is_v6 = 1;
    f->has_options = 0;
    f->l4 = ip + 1;
    return PARSE_OK;
  }
  return PARSE_NOT_IP;
}

static __always_inline int is_same_address(const __u8 *a, const __u8 *b) {
  const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;
  return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3])) == 0;
}

static __always_inline int is_same_mac(const __u8 *a, const __u8 *b) {
  return ((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) | (a[5] ^ b[5])) == 0;
}

#endif
