"""The floor of a round trip: raw AF_XDP echo between the lab's namespaces, no TCP; the best of {direct, virtual port} x
{busy poll off, on}.

Busy polling without putting off the device's interrupts (napi_defer_hard_irqs): a veth tells its AF_XDP sockets no NAPI
to poll, so with them put off, frames wait for the timer (seen on Linux 6.18: 220 us instead of 7).
"""
import json
import subprocess

from lab import LabError, sh


class VirtualPorts:
    """A hidden namespace with one veth pair for each side, as ttod makes them."""

    def __init__(self, lab):
        self.lab, self.netns = lab, lab.a.netns.replace("-a-", "-h-")

    def __enter__(self):
        sh("ip", "netns", "add", self.netns)
        sh("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1", netns=self.netns)
        for letter in "ab":
            sh("ip", "link", "add", f"host{letter}", "type", "veth", "peer", "name", f"client{letter}", netns=self.netns)
            for end in ("host", "client"):
                sh("ip", "link", "set", f"{end}{letter}", "up", netns=self.netns)
        return self

    def __exit__(self, *_):
        sh("ip", "netns", "del", self.netns, check=False)


def echo(lab, seconds, busy_poll_us, ends):
    tool = lab.build / "tests" / "bench" / "bench_xsk_echo"
    if not tool.exists():
        raise LabError("bench_xsk_echo is not built")
    done = subprocess.run([str(tool), str(seconds), str(busy_poll_us), *ends], capture_output=True, text=True,
                          timeout=seconds + 30)
    if done.returncode != 0:
        raise LabError(f"floor {ends}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def measure(lab, seconds):
    """{variant: result}, each a quarter of the time."""
    found = {}
    with VirtualPorts(lab) as hidden:
        ends = {"direct": [f"{s.netns}:{s.ifname}" for s in (lab.a, lab.b)],
                "virtual": [f"{s.netns}:{s.ifname}:{hidden.netns}:host{s.letter}:client{s.letter}"
                            for s in (lab.a, lab.b)]}
        for kind in ends:
            for busy in (0, 50):
                found[kind + ("_busy" if busy else "")] = echo(lab, max(0.2, seconds / 4), busy, ends[kind])
    return found
