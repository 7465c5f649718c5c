"""The floor of a round trip: raw AF_XDP echo between the lab's namespaces, no TCP; the best of {direct, virtual port} x
{busy poll off, on}."""
import json

from lab import LabError


def measure(lab, seconds):
    raise LabError("bench_xsk_echo is not built")
