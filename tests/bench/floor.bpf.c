// The least an XDP program can do: all frames to the queue's XSK, or all frames to one other device.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
  __uint(type, BPF_MAP_TYPE_XSKMAP);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} xsks SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_DEVMAP);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u32);
} out SEC(".maps");

SEC("xdp.frags")
int to_xsk(struct xdp_md* ctx) { return (int)bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_DROP); }

SEC("xdp.frags")
int to_device(struct xdp_md* ctx) {
  (void)ctx;
  return (int)bpf_redirect_map(&out, 0, XDP_DROP);
}

char _license[] SEC("license") = "GPL";
