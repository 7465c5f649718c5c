#!/usr/bin/env python3
"""CPython's own tests of sockets, selectors and socket servers come out under libtto exactly as without it (B6).

usage: test_cpython.py all | loopback | wire

loopback: the process talks to itself on 127.0.0.1, which the kernel serves, and which must be visible (M8). wire: two rules
in the other namespace, one DNAT and one SNAT, lead it to itself over the link.
"""
import importlib.util
import re
import sys

import support
from support import LabError

WORKERS = 12
# A connection that a child serves: see docs/support.md for what happens until connections are handed over on fork.
AWAITING_HANDOVER = {"test.test_socketserver.SocketServerTest.test_ForkingTCPServer"}
SUITE = support.TOP / "tests" / "system" / "cpython_suite.py"


def start(lab, tto, host):
    return [lab.spawn(lab.a, [support.PYTHON, lab.dir / SUITE.name, host, i, WORKERS], tto=tto) for i in range(WORKERS)]


def collect(workers):
    found = {}
    for worker in workers:
        worker.wait(100)
        text = worker.output()
        if "# done" not in text:
            raise LabError(f"{worker.argv} (tto={worker.tto}): ended with {worker.process.returncode}:\n{text[-2000:]}")
        for outcome, test in re.findall(r"^(passed|skipped|failed|expected-failure|unexpected-success) (\S+.*)$", text, re.M):
            found[test] = outcome
    return found


def compare(lab, host, expected, got):
    """The statistics of those that ran on libtto."""
    kernel, ours = collect(expected), collect(got)

    def differing():
        return sorted(t for t in kernel.keys() | ours.keys()
                      if kernel.get(t) != ours.get(t) and t not in AWAITING_HANDOVER)

    again = differing()
    if again:  # some of them measure time, and fail on the kernel too where the machine is busy: alone, then
        print("again:", *again)
        for tto, found in ((False, kernel), (True, ours)):
            found.update(collect([lab.run(lab.a, [support.PYTHON, lab.dir / SUITE.name, host, *again], tto=tto)]))
    different = differing()
    for test in different:
        print(f"{test}: {kernel.get(test)} on the kernel, {ours.get(test)} on libtto")
        for worker in got:
            told = re.search(rf"^failed {re.escape(test)}\n((?:#.*\n)*)", worker.output(), re.M)
            if told:
                print(told.group(1))
    count = {o: sum(v == o for v in ours.values()) for o in ("passed", "failed", "skipped")}
    print(f"{host}: {len(ours)} tests: " + ", ".join(f"{n} {o}" for o, n in count.items()))
    if different:
        raise LabError(f"{len(different)} tests come out differently")
    if count["passed"] < 400:
        raise LabError("too few tests passed to show anything")
    return [s for worker in got for s in worker.statistics()]


def lead_to_itself(lab):
    """Side a's own address is reached over the link: what it sends to itself leaves, is given another source by side b, and
    comes back; b's answers to that source are led back the same way."""
    a, b = lab.a, lab.b
    a.sh("ip", "rule", "add", "pref", "1", "iif", a.ifname, "lookup", "local")
    a.sh("ip", "rule", "add", "pref", "2", "to", a.ip4, "lookup", "77")
    a.sh("ip", "rule", "add", "pref", "3", "lookup", "local")
    a.sh("ip", "rule", "del", "pref", "0")
    a.sh("ip", "route", "add", a.ip4, "via", b.ip4, "dev", a.ifname, "src", a.ip4, "table", "77")
    for name in ("all", a.ifname):
        a.sh("sysctl", "-qw", f"net.ipv4.conf.{name}.rp_filter=0", f"net.ipv4.conf.{name}.accept_local=1")
    b.sh("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0",
         f"net.ipv4.conf.{b.ifname}.send_redirects=0", "net.ipv4.conf.all.rp_filter=0",
         f"net.ipv4.conf.{b.ifname}.rp_filter=0")
    b.sh("ip", "address", "add", "10.77.0.201/32", "dev", b.ifname)
    b.sh("nft", "add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; "
         f"add rule ip nat post ip saddr {a.ip4} ip daddr {a.ip4} snat to 10.77.0.201")


def check_wire(statistics):
    ours = support.sum_of(statistics, "connection_active") + support.sum_of(statistics, "connection_passive")
    kernel = {k: v for k in statistics[0]["counters"] if k.startswith("kernel_") and (v := support.sum_of(statistics, k))}
    print(f"{ours} connections over AF_XDP; by the kernel: {kernel}")
    if ours < 100:
        raise LabError("too few connections were accelerated to show anything")


def check_loopback(statistics):
    served = support.sum_of(statistics, "kernel_local")
    print(f"{served} connections were served by the kernel because both ends are here (kernel_local)")
    if served == 0:
        raise LabError("M8: nothing tells that loopback connections are not accelerated")


def run(*wheres):
    support.require()
    if importlib.util.find_spec("test.test_socket") is None:
        support.skip("CPython's tests are not installed (libpython3.11-testsuite)")
    with support.Lab() as lab:
        program = lab.dir / SUITE.name
        program.write_bytes(SUITE.read_bytes())
        program.chmod(0o644)
        lead_to_itself(lab)
        checks = {"loopback": ("127.0.0.1", check_loopback), "wire": (lab.a.ip4, check_wire)}
        under_way = [(*checks[where], *(start(lab, tto, checks[where][0]) for tto in (False, True))) for where in wheres]
        for host, check, expected, got in under_way:
            check(compare(lab, host, expected, got))
        lab.check_balance()


if __name__ == "__main__":
    support.main({"all": lambda: run("loopback", "wire"), "loopback": lambda: run("loopback"), "wire": lambda: run("wire")},
                 __doc__)
