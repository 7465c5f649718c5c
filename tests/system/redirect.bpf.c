// What the steering program comes to for these tests: every frame of a queue goes to that queue's XSK.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(max_entries, 8);
  __type(key, __u32);
  __type(value, __u32);
} xsks SEC(".maps");

SEC("xdp.frags")
int redirect_to_xsk(struct xdp_md* ctx) { return (int)bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP); }

char _license[] SEC("license") = "GPL";
