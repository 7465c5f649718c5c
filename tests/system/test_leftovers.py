#!/usr/bin/env python3
"""A5: nothing made in a run is left behind, whatever part of it is killed.

usage: test_leftovers.py TEST
"""
import os
import signal
import subprocess
import sys
from pathlib import Path

import support
from support import LabError, assert_af_xdp

import programs
from lab import PREFIX, await_until

LAB_SCRIPT = support.TOP / "tests" / "lab" / "lab.py"


def await_nothing_steered(lab):
    """The steering tables are empty, no XDP program is attached, and ttod lives."""
    await_until(lambda: not lab.map_entries(), "the steering tables to empty", 15)
    for side in (lab.a, lab.b):
        await_until(lambda s=side: not lab.has_xdp(s), f"XDP to leave {side.ifname}", 15)
    if lab.ttod.poll() is not None:
        raise LabError(f"ttod ended:\n{lab.ttod_log()}")


def redis_round(lab, requests=2000, **options):
    _, client = programs.redis_benchmark(lab, lab.b, lab.a.ip4, ["set", "get"], requests, **options)
    return client


def ordinary_end():
    """After programs ended as they should, nothing of them is left, and ttod pins no more memory than before."""
    support.require("redis-server", "redis-benchmark", "bpftool")
    with support.Lab() as lab:
        pinned = []
        for _ in range(3):
            server = programs.start_redis(lab, lab.a, tto=True)
            redis_round(lab, tto=True)
            assert_af_xdp(server, 2000 * 64, support.LISTENER)
            lab.check_balance()
            server.stop()
            await_nothing_steered(lab)
            pinned.append(lab.pinned_kib())
        if pinned[2] > pinned[0]:
            raise LabError(f"ttod's pinned memory grows: {pinned} KiB")


def killed_program():
    """Server and client killed under load: their leases return, and the next ones run as if nothing had been."""
    support.require("redis-server", "redis-benchmark", "bpftool")
    with support.Lab() as lab:
        for victim in ("server", "client"):
            server = programs.start_redis(lab, lab.a, tto=True)
            client = lab.spawn(lab.b, ["redis-benchmark", "-h", lab.a.ip4, "-n", 100000000, "-t", "set", "-q"], tto=True)
            await_until(lambda: support.sum_of(client.statistics(), "rx_frame") > 1000, "load", 20)
            (server if victim == "server" else client).stop(signal.SIGKILL)
            if victim == "server":
                client.stop(signal.SIGKILL)
            else:
                redis_round(lab)  # the server goes on
                server.stop()
            await_nothing_steered(lab)
        server = programs.start_redis(lab, lab.a, tto=True)
        redis_round(lab)
        assert_af_xdp(server, 2000 * 64, support.LISTENER)


def killed_ttod():
    """Live connections go on without ttod; a new ttod takes up what the old one left; then all of it goes."""
    support.require("redis-server", "redis-benchmark", "bpftool")
    with support.Lab() as lab:
        server = programs.start_redis(lab, lab.a, tto=True)
        client = lab.spawn(lab.b, ["redis-benchmark", "-h", lab.a.ip4, "-p", programs.REDIS_PORT, "-t", "set", "-n", 150000, "-q"])
        before = await_until(lambda: support.sum_of(server.statistics(), "rx_frame"), "load", 20)
        lab.kill_ttod()
        if client.wait(90) != 0:
            raise LabError(f"the connections did not survive ttod:\n{client.output()}")
        if support.sum_of(server.statistics(), "rx_frame") < before + 10000:
            raise LabError("the connections did not go on over AF_XDP")
        lab.check_balance()
        server.stop()
        lab.socket.unlink(missing_ok=True)
        lab.start_ttod()
        await_nothing_steered(lab)
        server = programs.start_redis(lab, lab.a, tto=True)
        redis_round(lab)
        assert_af_xdp(server, 2000 * 64, support.LISTENER)


CLIENT = """
import socket, sys, time
while True:
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
        while s.recv(100):
            pass
    time.sleep(0.02)
"""
SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as listener:
    while True:
        with listener.accept()[0] as s:
            s.sendall(b"hello")
"""


def restarted_ttod():
    """A client without connections at the moment goes on with the next ttod: its new ones are accelerated again."""
    support.require("bpftool")
    with support.Lab() as lab:
        lab.spawn(lab.a, [support.PYTHON, "-c", SERVER, lab.a.ip4, 7000]).await_listen(7000)
        client = lab.spawn(lab.b, [support.PYTHON, "-c", CLIENT, lab.a.ip4, 7000], tto=True)

        def count(name):
            return support.sum_of(client.statistics(), name)
        for _ in range(2):
            before = count("connection_active")
            await_until(lambda: count("connection_active") > before + 5, "connections over AF_XDP", 20)
            lab.kill_ttod()
            await_until(lambda: count("kernel_no_helper"), "connections on the kernel", 20)
            lab.socket.unlink(missing_ok=True)
            lab.start_ttod()
        before = count("connection_active")
        await_until(lambda: count("connection_active") > before + 5, "connections over AF_XDP again", 20)
        lab.check_balance()
        if not client.is_running():
            raise LabError(f"the client ended:\n{client.output()}")
        client.stop()
        await_nothing_steered(lab)


def held_lab():
    """Not a test: a busy lab that tells its tag and then waits to be killed."""
    support.require("redis-server", "redis-benchmark")
    with support.Lab() as lab:
        programs.start_redis(lab, lab.a, tto=True)
        client = lab.spawn(lab.b, ["redis-benchmark", "-h", lab.a.ip4, "-n", 100000000, "-t", "set", "-q"], tto=True)
        await_until(lambda: support.sum_of(client.statistics(), "rx_frame") > 100, "load", 20)
        print(lab.tag, flush=True)
        signal.pause()


def killed_lab():
    """The run itself killed: the next cleanup finds and removes everything."""
    support.require("redis-server", "redis-benchmark")
    run = subprocess.Popen([sys.executable, __file__, "held_lab"], stdout=subprocess.PIPE, text=True)
    tag = run.stdout.readline().strip()
    run.kill()
    run.wait()
    if not tag:
        raise LabError("the lab did not start")
    subprocess.run([sys.executable, LAB_SCRIPT, "cleanup"], check=True)

    def left():
        places = [Path("/run/netns"), Path("/run"), Path("/tmp"), Path("/sys/fs/bpf")]
        names = [str(f) for p in places if p.is_dir() for f in p.iterdir() if f.name.startswith(PREFIX) and tag in f.name]
        return names + [p for p in os.listdir("/proc") if p.isdigit() and uses_lab(p, tag)]
    await_until(lambda: not left(), f"nothing of lab {tag} to be left: {left()}", 15)


def uses_lab(pid, tag):
    try:
        return f"{PREFIX}{tag}" in Path(f"/proc/{pid}/cmdline").read_text() and int(pid) != os.getpid()
    except OSError:
        return False


if __name__ == "__main__":
    support.main({t.__name__: t for t in (ordinary_end, killed_program, killed_ttod, restarted_ttod, killed_lab, held_lab)}, __doc__)
