"""The floors, raw AF_XDP between the lab's namespaces, no TCP. Of a round trip: an echo, the best of {direct, virtual port}
x {busy poll off, on}. Of a transfer: frames of the link's MTU one way, as fast as they go, the best of {direct, virtual
port}.

Busy polling without putting off the device's interrupts (napi_defer_hard_irqs): a veth tells its AF_XDP sockets no NAPI
to poll, so with them put off, frames wait for the timer (seen on Linux 6.18: 220 us instead of 7).
"""
import json
import subprocess

from lab import LabError, sh

VIRTUAL_MTU = 9216  # ttod's default
BATCH = 64          # frames for one system call of the blast


class VirtualPorts:
    """A hidden namespace with one veth pair for each side, as ttod makes them."""

    def __init__(self, lab):
        self.lab, self.netns = lab, lab.a.netns.replace("-a-", "-h-")

    def __enter__(self):
        sh("ip", "netns", "add", self.netns)
        sh("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", netns=self.netns)
        for letter in "ab":
            sh("ip", "link", "add", f"host{letter}", "mtu", VIRTUAL_MTU, "type", "veth", "peer", "name",
               f"client{letter}", "mtu", VIRTUAL_MTU, netns=self.netns)
            for end in ("host", "client"):
                sh("ip", "link", "set", f"{end}{letter}", "up", netns=self.netns)
        return self

    def __exit__(self, *_):
        sh("ip", "netns", "del", self.netns, check=False)


def run(lab, name, seconds, *arguments):
    tool = lab.build / "tests" / "bench" / name
    if not tool.exists():
        raise LabError(f"{name} is not built")
    done = subprocess.run([str(tool), str(seconds), *map(str, arguments)], capture_output=True, text=True,
                          timeout=seconds + 30)
    if done.returncode != 0:
        raise LabError(f"{name} {arguments}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def ends(lab, hidden):
    return {"direct": [f"{s.netns}:{s.ifname}" for s in (lab.a, lab.b)],
            "virtual": [f"{s.netns}:{s.ifname}:{hidden.netns}:host{s.letter}:client{s.letter}" for s in (lab.a, lab.b)]}


def round_trip(lab, seconds):
    """(p50 in us, other figures), each variant a quarter of the time."""
    found = {}
    with VirtualPorts(lab) as hidden:
        for kind, pair in ends(lab, hidden).items():
            for busy in (0, 50):
                name = kind + ("_busy" if busy else "")
                found[name] = run(lab, "bench_xsk_echo", max(0.2, seconds / 4), busy, *pair)
    best = min(found.values(), key=lambda r: r["p50_us"])
    return best["p50_us"], {"p99": best["p99_us"], **{k: r["p50_us"] for k, r in found.items()}}


def one_way(lab, seconds):
    """(bits of whole frames per second, other figures), each variant half of the time."""
    found = {}
    with VirtualPorts(lab) as hidden:
        for kind, pair in ends(lab, hidden).items():
            found[kind] = run(lab, "bench_xsk_blast", max(0.2, seconds / 2), lab.mtu + 14, BATCH, *pair)["bits_per_second"]
    return max(found.values()), found
