"""What tools/bench measures: the cases, the sides of each, and one measurement of one side.

A side says who is on libtto and how the kernel is set up:
  kernel        both ends on the kernel's TCP as installed, no XDP program anywhere
  kernel_tuned  the same, busy polling on, and client and server spinning where the program can
  tto_server    server on libtto, client on the kernel
  tto           both on libtto; the same program as `kernel`
  tto_spin      both on libtto; the same program as `kernel_tuned`, where that one spins
  floor         raw AF_XDP, no TCP at all: an echo, or frames one way
  kernel_no_offload  as `kernel`, without the veth's segmentation, coalescing and checksum offloads (bulk only)
"""
import json
import os
import resource
from dataclasses import dataclass, field
from pathlib import Path

import floor
import programs
from lab import Lab, await_until, process_tree

SIDES = ["kernel", "kernel_tuned", "tto_server", "tto", "tto_spin", "floor", "kernel_no_offload"]
SERVER_CPU, CLIENT_CPU = 0, (1 if (os.cpu_count() or 1) > 1 else 0)


@dataclass
class Sample:
    value: float
    cpu_us_per_op: float | None = None
    path: str | None = None  # of the libtto ends: "af_xdp", or what of them was the kernel's
    more: dict = field(default_factory=dict)


@dataclass
class Case:
    name: str
    unit: str
    op: str            # what cpu_us_per_op is per
    start: callable    # (lab, side, options) -> server Program
    load: callable     # (lab, server, side, seconds, options) -> (value, operations, more, client Program)
    mtu: int = 1500
    extra: tuple = ()  # of tto_spin, floor, kernel_no_offload
    floor: callable = floor.round_trip  # (lab, seconds) -> (value, other figures)

    def lab(self, faults=None):
        return BenchLab(self.mtu, faults)

    def sides(self, lab):
        wanted = [s for s in SIDES if s in ("kernel", "kernel_tuned", "tto_server", "tto") or s in self.extra]
        if lab.faults:  # the floor is an echo without TCP: it would wait for ever for what is lost
            wanted = [s for s in wanted if s != "floor"]
        return [s for s in wanted if not s.startswith("tto") or not lab.why_no_tto]


class BenchLab(Lab):
    """A lab in which the kernel sides see no trace of libtto, and busy polling can be switched for the whole host."""
    BUSY = ("/proc/sys/net/core/busy_poll", "/proc/sys/net/core/busy_read")

    def __init__(self, mtu, faults=None):
        super().__init__(mtu=mtu, with_ttod=False, faults=faults)
        self.why_no_tto = ""
        # Of the last server, and another for each: a tuple that the kernel has in TIME-WAIT from the run before is the
        # kernel's, also when libtto listens.
        self.port = 7000
        self.offloads = True

    def set_up(self):
        super().set_up()
        self.installed = [Path(p).read_text() for p in self.BUSY]
        (self.record / "restore").write_text(json.dumps(dict(zip(self.BUSY, self.installed))))
        if not self.preload:
            self.why_no_tto = "libtto_preload.so is not built"
        elif not (self.build / "kmod-helper" / "ttod").exists():
            self.why_no_tto = "ttod is not built"
        else:
            self.start_ttod()

    def busy_poll(self, on):
        for path, installed in zip(self.BUSY, self.installed):
            Path(path).write_text("50\n" if on else installed)

    def offload_links(self, on):
        """Off: every frame on the link is one that a wire would carry, with its checksum. On: as the veth was made."""
        if on == self.offloads:
            return
        for side in (self.a, self.b):
            state = [x for feature in ("tx", "tso", "gso") for x in (feature, "on" if on else "off")]
            side.sh("ethtool", "-K", side.ifname, *state)
        self.offloads = on

    def tear_down(self):
        if hasattr(self, "installed"):
            self.busy_poll(False)
        super().tear_down()

    def assert_no_xdp(self):
        for side in (self.a, self.b):
            await_until(lambda s=side: not self.has_xdp(s), f"the XDP program to leave {side.ifname}")


def cpu_ns(pid):
    """Processor time of a process and its children, all threads, from the scheduler."""
    total = 0
    for p in process_tree(pid):
        try:
            for task in os.listdir(f"/proc/{p}/task"):
                total += int(Path(f"/proc/{p}/task/{task}/schedstat").read_text().split()[0])
        except OSError:
            pass
    return total


def children_us():
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (use.ru_utime + use.ru_stime) * 1e6


def measure(case, lab, side, seconds):
    if side == "floor":
        lab.assert_no_xdp()
        value, more = case.floor(lab, seconds)
        return Sample(value, more=more)
    on_tto = {"tto_server": (True, False), "tto": (True, True), "tto_spin": (True, True)}.get(side, (False, False))
    spin = side in ("kernel_tuned", "tto_spin")
    if any(on_tto):  # what the server before had is no sign that the next one listens
        await_until(lambda: not lab.steered_ports(), "the listen entries of the run before to go")
    else:
        lab.assert_no_xdp()
    lab.busy_poll(side == "kernel_tuned")
    lab.offload_links(side != "kernel_no_offload")
    first = len(lab.programs)
    try:
        profile = "latency" if any(on_tto) else None
        server = case.start(lab, spin, dict(tto=on_tto[0], profile=profile, cpu=SERVER_CPU))
        server_before, client_before = cpu_ns(server.pid), children_us()
        value, operations, more, client = case.load(lab, spin, seconds, dict(tto=on_tto[1], profile=profile, cpu=CLIENT_CPU))
        cpu_us = (cpu_ns(server.pid) - server_before) / 1e3 + children_us() - client_before
        path = None
        if any(on_tto):
            lab.check_balance()
            ends = [p for p in (server, client) if p.tto]
            fallen = [f"{'server' if p is server else 'client'}: {why}" for p in ends
                      if (why := why_not_af_xdp(p, is_server=p is server))]
            path = "; ".join(fallen) or "af_xdp"
            calls = sum(s["counters"]["helper_call"] for p in ends for s in p.statistics())
            if operations and case.op == "connection":
                more = {**more, "helper_calls_per_1000": calls / operations * 1000}
        return Sample(value, cpu_us / operations if operations else None, path, more)
    finally:
        for program in lab.programs[first:]:
            program.stop(9)
            program.close_pages()
        del lab.programs[first:]
        lab.busy_poll(False)
        lab.offload_links(True)


# A server that listens on loopback too says so, without any connection of the measurement being the kernel's; and the kernel
# finishes what a program leaves behind at its end.
OF_LISTENERS = ("kernel_no_nic", "kernel_local")
OF_THE_END = ("kernel_undecided", "kernel_handed_over_exit")


def why_not_af_xdp(program, is_server):
    """Empty if at least as many frames as a measurement cannot do without came over AF_XDP, and no connection on the
    kernel."""
    stats = program.statistics()
    if not stats:
        return "no statistics page"
    frames = sum(s["counters"]["rx_frame_delivered"] for s in stats)
    allowed = OF_THE_END + (OF_LISTENERS if is_server else ())
    fallen = {k: v for s in stats for k, v in s["counters"].items() if k.startswith("kernel_") and v and k not in allowed}
    if fallen:
        return ", ".join(f"{k} {v}" for k, v in fallen.items())
    return "" if frames > (10 if program.lab.faults else 100) else f"{frames} frames delivered"


# --- the cases --------------------------------------------------------------------------------------------------------
def own_server(name, size=64):
    def start(lab, spin, options):
        lab.port += 1
        argv = [lab.program(name), "server", lab.a.ip4, lab.port, "--bytes", size, "--wait", "spin" if spin else "block"]
        return lab.spawn(lab.a, argv, **options).await_listen(lab.port)
    return start


def own_client(name, size, figure):
    def load(lab, spin, seconds, options):
        argv = [lab.program(name), "client", lab.a.ip4, lab.port, "--bytes", size, "--seconds", seconds, "--wait",
                "spin" if spin else "block"]
        client = lab.run(lab.b, argv, seconds=seconds * 3 + 20, **options)
        value, operations, more = figure(json.loads(client.output().strip().splitlines()[-1]))
        return value, operations, more, client
    return load


def start_redis(lab, spin, options):
    return programs.start_redis(lab, lab.a, **options)


def load_redis(lab, spin, seconds, options):
    each = max(2000, int(40000 * seconds))
    rates, client = programs.redis_benchmark(lab, lab.b, lab.a.ip4, ["set", "get"], each, seconds=seconds * 20 + 60,
                                             **options)
    return 2 / sum(1 / r for r in rates.values()), 2 * each, {}, client


def start_nginx(lab, spin, options):
    root, _ = programs.make_files(lab, {"small": 612})
    return programs.start_nginx(lab, lab.a, root, **options)


def load_nginx(connections):
    def load(lab, spin, seconds, options):
        duration = max(1, round(seconds))
        rate, client = programs.wrk(lab, lab.b, f"http://{lab.a.ip4}:{programs.NGINX_PORT}/small", connections, duration,
                                    **options)
        return rate, rate * duration, {}, client
    return load


def bulk_case(mtu):
    return Case(f"veth-bulk-{mtu}", "bit/s", "MiB", own_server("bench_bulk", 262144),
                own_client("bench_bulk", 262144, lambda r: (r["bits_per_second"], r["bytes"] / 1048576, {})), mtu=mtu,
                extra=("tto_spin", "floor", "kernel_no_offload"), floor=floor.one_way)


CASES = {
    "veth-pingpong": [Case("veth-pingpong", "us", "round trip", own_server("bench_pingpong"),
                           own_client("bench_pingpong", 64, lambda r: (r["p50_us"], r["ops"], {"p99": r["p99_us"]})),
                           extra=("tto_spin", "floor"))],
    "veth-bulk-1500": [bulk_case(1500)],
    "veth-bulk-9000": [bulk_case(9000)],
    "veth-redis": [Case("veth-redis", "requests/s", "request", start_redis, load_redis)],
    "veth-nginx": [Case("veth-nginx", "requests/s", "request", start_nginx, load_nginx(32)),
                   Case("veth-nginx-1", "requests/s", "request", start_nginx, load_nginx(1))],
    "veth-connect": [Case("veth-connect", "connections/s", "connection", own_server("bench_connect"),
                          own_client("bench_connect", 64, lambda r: (r["per_second"], r["ops"], {"p99_us": r["p99_us"]})),
                          extra=("tto_spin",))],
}
