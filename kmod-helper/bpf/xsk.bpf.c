/* On the client end of a virtual port: everything that reaches it is for the process's AF_XDP socket. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#include "steer_maps.h"

/* Client-end interface (unique in the hidden namespace) -> socket; each virtual port has one queue. */
struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(max_entries, 65536);
  __type(key, __u32);
  __type(value, __u32);
} tto_xsks SEC(".maps");

SEC("xdp.frags")
int tto_xsk(struct xdp_md *ctx) { return bpf_redirect_map(&tto_xsks, ctx->ingress_ifindex, XDP_DROP); }

char tto_license[] SEC("license") = "Dual BSD/GPL";
