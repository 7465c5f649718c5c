#!/usr/bin/env python3
"""Surroundings that break preload libraries: M1 to M7 (M8: test_cpython.py).

usage: test_surroundings.py all | M1 | … | M7
"""
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import support
from support import LabError

PORT = 7300
SCRIPT = support.TOP / "tests" / "system" / "surroundings.py"


class Program:
    """surroundings.py in one statement's part; said() is what it prints at its next step."""

    def __init__(self, lab, statement, address=None, around=(), capabilities=()):
        self.stdout, inside = os.pipe()
        script = lab.dir / SCRIPT.name
        argv = [*around, support.PYTHON, script, statement, address or lab.a.ip4, PORT]
        self.program = lab.spawn(lab.b, argv, tto=True, stdin=subprocess.PIPE, pass_fds=[inside], env={"STEPS": inside},
                                 capabilities=capabilities)
        os.close(inside)
        self.lines = os.fdopen(self.stdout)

    def said(self):
        line = self.lines.readline().split()
        if not line:
            raise LabError(f"it ended: {self.program.output()}")
        return line

    def go_on(self):
        self.program.process.stdin.write(b"\n")
        self.program.process.stdin.flush()

    def end(self):
        self.program.look_for_page()
        self.go_on()
        self.program.wait(20)
        return self.program.statistics()


def expect(what, got, wanted):
    if got != wanted:
        raise LabError(f"{what}: {got}, expected {wanted}")


def accelerated(statistics):
    expect("accelerated", support.sum_of(statistics, "connection_active") > 0, True)


def M1_sysctls_are_read_when_a_socket_is_made(lab):
    program = Program(lab, "M1")
    expect("options at first", program.said(), ["timestamps-sack-wscale", "7"])
    names = ("tcp_timestamps", "tcp_sack", "tcp_window_scaling")
    lab.b.sh("sysctl", "-qw", *(f"net.ipv4.{n}=0" for n in names))
    program.go_on()
    expect("options later", program.said(), ["none", "True"])
    lab.b.sh("sysctl", "-qw", *(f"net.ipv4.{n}=1" for n in names))
    accelerated(program.end())


def M2_locked_memory_and_real_time_priority(lab):
    program = Program(lab, "M2", capabilities=("ipc_lock", "sys_nice"))
    locked, good, mib, *policies = program.said()
    expect("mlockall, echo", (locked, good), ("0", "True"))
    # FIFO is inherited by the program's own thread, never by ours.
    expect("a thread of libtto at real-time priority", str(os.SCHED_OTHER) in policies, True)
    if int(mib) > 512:
        raise LabError(f"{mib} MiB are locked")
    accelerated(program.end())


def M3_a_blocked_call_sleeps(lab):
    def consumed(pid):
        fields = [Path(f"/proc/{t}/stat").read_text().rsplit(")", 1)[1].split() for t in tasks(pid)]
        return {f[0] for f in fields}, sum(int(f[11]) + int(f[12]) for f in fields)

    def tasks(pid):
        return [f"{pid}/task/{t}" for t in os.listdir(f"/proc/{pid}/task")]

    program = Program(lab, "M3")
    expect("step", program.said(), ["sleeps"])
    program.program.look_for_page()
    program.go_on()
    pid = program.program.pid
    support.await_until(lambda: consumed(pid)[0] == {"S"}, "all threads to sleep")
    before = consumed(pid)[1]
    time.sleep(0.5)  # what is measured is a length of time
    states, after = consumed(pid)
    if states != {"S"} or after - before > 1:
        raise LabError(f"blocked, it is {states} and used {after - before} ticks in half a second")
    accelerated(program.program.statistics())
    program.program.stop()


def M4_nothing_before_the_first_tcp_connection(lab):
    program = Program(lab, "M4")
    threads, *files = program.said()
    expect("threads", threads, "1")
    ours = [f for f in files if "memfd" in f or "xsk" in f or "eventfd" in f.lower()]
    expect("descriptors and mappings of libtto", ours, [])
    expect("pages", program.end(), [])
    expect("clients ttod heard of", f"pid {program.program.pid} " in lab.ttod_log(), False)


def M5_addresses_and_namespaces_come_later(lab):
    program = Program(lab, "M5", "10.79.0.1", capabilities=("sys_admin", "net_admin"))
    expect("step", program.said(), ["loaded"])
    for side, number in ((lab.a, 1), (lab.b, 2)):
        side.sh("ip", "address", "add", f"10.79.0.{number}/24", "dev", side.ifname)
    program.go_on()
    expect("a late address", program.said(), ["True"])
    program.program.look_for_page()
    program.go_on()
    expect("unshare(), ip, the old connection, a new one in the new namespace, one back home", program.said(),
           ["0", "0", "True", "True", "True"])
    accelerated(program.end())


def M6_a_huge_descriptor_limit(lab):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = int(Path("/proc/sys/fs/nr_open").read_text())
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0], most))
    except ValueError:  # not even root may, here
        most = before[1]
    program = Program(lab, "M6")
    good, high, mib = program.said()
    expect("echo on the highest descriptor", (good, int(high)), ("True", most - 1))
    if int(mib) > 100:
        raise LabError(f"{mib} MiB of memory for tables")
    accelerated(program.end())


def M7_under_observation(lab, with_valgrind=True):
    observers = [["strace", "-f", "-o", "/dev/null"], ["gdb", "-q", "-batch", "-ex", "run", "--args"]]
    for around in observers + [["valgrind", "-q"]] * with_valgrind:
        if not shutil.which(around[0]):
            print(f"   M7: {around[0]} is not installed")
            continue
        program = Program(lab, "M7", around=around)
        expect(f"echo under {around[0]}", program.said(), ["True"])
        accelerated(program.end())


STATEMENTS = {f.__name__.split("_")[0]: f for f in (
    M1_sysctls_are_read_when_a_socket_is_made, M2_locked_memory_and_real_time_priority, M3_a_blocked_call_sleeps,
    M4_nothing_before_the_first_tcp_connection, M5_addresses_and_namespaces_come_later, M6_a_huge_descriptor_limit,
    M7_under_observation)}


def run(names):
    support.require()
    with support.Lab() as lab:
        script = lab.dir / SCRIPT.name
        script.write_bytes(SCRIPT.read_bytes())
        script.chmod(0o644)
        server = lab.spawn(lab.a, [support.PYTHON, script, "serve", "0.0.0.0", PORT])
        server.await_listen(PORT)
        for name in names:
            begin = time.monotonic()
            if name == "M7" and len(names) > 1:  # valgrind takes ten seconds: by argument
                M7_under_observation(lab, with_valgrind=False)
            else:
                STATEMENTS[name](lab)
            print(f"ok {STATEMENTS[name].__name__} {time.monotonic() - begin:.1f} s", flush=True)
        lab.check_balance()


if __name__ == "__main__":
    support.main({"all": lambda: run(STATEMENTS), **{n: (lambda name=n: run([name])) for n in STATEMENTS}}, __doc__)
