#!/usr/bin/env python3
"""B3: what fails beside a connection ends as DESIGN section 3 says, and leaves nothing behind.

usage: test_failures.py TEST
"""
import json
import signal
import time
from pathlib import Path

import support
from support import PYTHON, LabError, assert_af_xdp, sum_of

from lab import await_until, sh

HERE = Path(__file__).resolve().parent
ECHO, STREAM, HOARD = 7300, 7310, 7320
SLOW = "rate=200mbit"  # so that a stream is under way for as long as it is needed


def peer(lab, side, *arguments, **options):
    copy = lab.dir / "peer.py"
    if not copy.exists():
        copy.write_text((HERE / "peer.py").read_text())
        copy.chmod(0o755)
    return lab.spawn(side, [PYTHON, copy, *arguments], **options)


def ready(program):
    await_until(lambda: "ready" in program.output() or not program.is_running(), f"{program.argv[2]} to be ready", 20)
    if "ready" not in program.output():
        raise LabError(f"{program.argv}: {program.output()}")
    return program


def ended(program, expected, seconds):
    program.wait(seconds)
    if f"ended: {expected}" not in program.output():
        raise LabError(f"{' '.join(map(str, program.argv[2:]))}: {program.output()!r}, expected {expected}")


def streams(lab, mib, port=STREAM, family=4, server_tto=True, client_tto=True):
    argv = [lab.a.ip(family), port, int(mib * (1 << 20)), port]
    server = lab.spawn(lab.a, [lab.program("byte_stream"), "serve", *argv], tto=server_tto).await_listen(port)
    return server, lab.spawn(lab.b, [lab.program("byte_stream"), "call", *argv], tto=client_tto)


def await_flow(lab, server, client):
    """Frames of this stream come over AF_XDP."""
    await_until(lambda: all(sum_of(p.statistics(), "rx_frame") > 500 for p in (server, client) if p.tto), "the stream", 20)


def intact(*ends, seconds=60):
    for end in ends:
        if end.wait(seconds) != 0:
            raise LabError(f"{end.argv[1]}: {end.output()}")


def killed_ttod():
    """The data path does not need it; new connections are the kernel's until it is back, and then they are not."""
    support.require("bpftool")
    with support.Lab(faults=SLOW) as lab:
        server, client = streams(lab, 16)
        await_flow(lab, server, client)
        lab.kill_ttod()
        meanwhile = streams(lab, 1, STREAM + 1)
        intact(*meanwhile)
        for end in meanwhile:
            if not sum_of(end.statistics(), "kernel_no_helper") or sum_of(end.statistics(), "rx_frame"):
                raise LabError(f"without ttod: {end.statistics()}")
        intact(server, client)
        for end in (server, client):
            assert_af_xdp(end, 16 << 20, support.LISTENER)
        lab.check_balance()
        lab.socket.unlink(missing_ok=True)
        lab.start_ttod()
        again = streams(lab, 1, STREAM + 2)
        intact(*again)
        for end in again:
            assert_af_xdp(end, 1 << 20, support.LISTENER)
        assert_nothing_left(lab)


def assert_nothing_left(lab):
    """All programs have ended: no entry, no program on a link, no memory pinned beyond the port made ahead."""
    await_until(lambda: not lab.map_entries(), "the steering tables to empty", 15)
    for side in (lab.a, lab.b):
        await_until(lambda s=side: not lab.has_xdp(s), f"XDP to leave {side.ifname}", 15)
    if lab.ttod.poll() is not None:
        raise LabError(f"ttod ended:\n{lab.ttod_log()}")


def killed_application():
    """The peer of a killed process gets RST, whoever it is and whatever it does: sends, waits for an answer, or is idle."""
    support.require("bpftool")
    with support.Lab() as lab:
        pinned = []
        for peer_tto in (False, True):
            for victim_serves in (True, False):
                server, client = streams(lab, 4096, server_tto=victim_serves or peer_tto,
                                         client_tto=not victim_serves or peer_tto)
                await_flow(lab, server, client)
                victim, survivor = (server, client) if victim_serves else (client, server)
                victim.stop(signal.SIGKILL)
                survivor.wait(10)
                if "Connection reset by peer" not in survivor.output():
                    raise LabError(f"peer on libtto {peer_tto}, victim serves {victim_serves}: {survivor.output()}")
            victim = peer(lab, lab.a, "echo", "::", ECHO, tto=True).await_listen(ECHO)
            others = [ready(peer(lab, lab.b, what, lab.a.ip(family), ECHO, tto=peer_tto))
                      for what in ("ask", "idle") for family in (4, 6)]
            victim.stop(signal.SIGKILL)
            for other in others:
                ended(other, "ECONNRESET", 10)
            assert_nothing_left(lab)
            pinned.append(lab.pinned_kib())
        if pinned[1] > pinned[0]:
            raise LabError(f"ttod's pinned memory grows: {pinned} KiB")


def removed_address():
    """Without its address the host gets nothing; it comes back, and so do the connections."""
    support.require("bpftool")
    with support.Lab(faults=SLOW) as lab:
        for on_tto in (False, True):  # the kernel alone first: it says what is right
            server, client = streams(lab, 12, STREAM + on_tto, server_tto=on_tto, client_tto=on_tto)
            if on_tto:
                await_flow(lab, server, client)
            else:
                time.sleep(0.2)
            lab.a.sh("ip", "address", "del", f"{lab.a.ip4}/24", "dev", lab.a.ifname)
            time.sleep(0.5)
            if not server.is_running() or not client.is_running():
                raise LabError(f"the stream ended with the address: {server.output()} {client.output()}")
            lab.a.sh("ip", "address", "add", f"{lab.a.ip4}/24", "dev", lab.a.ifname)
            intact(server, client)
        lab.check_balance()
        assert_nothing_left(lab)


def removed_link():
    """Down and up: connections go on. Removed: they end as the kernel's do, by their time-outs; ttod and programs live,
    and the next link of that name is served."""
    support.require("bpftool")
    with support.Lab(static_neighbours=True, faults=SLOW) as lab:
        server, client = streams(lab, 16)
        await_flow(lab, server, client)
        lab.b.sh("ip", "link", "set", lab.b.ifname, "down")
        time.sleep(0.3)
        lab.b.sh("ip", "link", "set", lab.b.ifname, "up")
        lab.fix_neighbours()
        intact(server, client)
        for end in (server, client):
            assert_af_xdp(end, 16 << 20, support.LISTENER)
        lab.check_balance()
    with support.Lab() as lab:
        echo = peer(lab, lab.a, "echo", "0.0.0.0", ECHO, tto=True).await_listen(ECHO)
        ours, kernels = (ready(peer(lab, lab.b, "ask", lab.a.ip4, ECHO, 1.5, tto=tto)) for tto in (True, False))
        sh("ip", "link", "del", lab.b.ifname, netns=lab.b.netns)
        for program in (kernels, ours):
            program.wait(20)
        for program in (kernels, ours):  # the kernel gives now the one reason, now the other
            if not any(f"ended: {reason}" in program.output() for reason in ("ETIMEDOUT", "ENETUNREACH")):
                raise LabError(f"tto={program.tto}: {program.output()!r}")
        lab.join(lab.a.ifname, lab.b.ifname, "10.77.0", "fd77::")
        lab.meet()
        asking = ready(peer(lab, lab.b, "ask", lab.a.ip4, ECHO, tto=True))
        await_until(lambda: sum_of(asking.statistics(), "rx_frame") > 10, "frames over the new link", 5)
        for program in (echo, asking):
            if not program.is_running():
                raise LabError(f"{program.argv}: {program.output()}")
            program.stop(signal.SIGKILL)
        assert_nothing_left(lab)


def foreign_detach():
    """A pinned link cannot be detached by `ip link`. When somebody does it by force, ttod attaches it again: connections that
    heard nothing meanwhile go on, and new ones are served."""
    support.require("bpftool")
    with support.Lab() as lab:
        echo = peer(lab, lab.a, "echo", lab.a.ip4, ECHO, tto=True).await_listen(ECHO)
        idle = ready(peer(lab, lab.b, "idle", lab.a.ip4, ECHO))
        lab.a.sh("ip", "link", "set", "dev", lab.a.ifname, "xdp", "off", check=False)
        if not lab.has_xdp(lab.a):
            raise LabError("ip link took the steering program away")
        for pin in lab.pin_dir.rglob("steer-*"):
            link = json.loads(sh("bpftool", "-j", "link", "show", "pinned", pin))
            sh("bpftool", "link", "detach", "id", link["id"])
        if lab.has_xdp(lab.a):
            raise LabError("nothing was detached")
        await_until(lambda: lab.has_xdp(lab.a), "ttod to attach again", 5)
        if not idle.is_running():
            raise LabError(f"the idle connection ended: {idle.output()}")
        before = sum_of(echo.statistics(), "connection_passive")
        asking = ready(peer(lab, lab.b, "ask", lab.a.ip4, ECHO))
        await_until(lambda: sum_of(echo.statistics(), "connection_passive") == before + 1, "the new connection", 5)
        lab.check_balance()
        for program in (asking, idle, echo):
            program.stop(signal.SIGKILL)
        assert_nothing_left(lab)


def exhausted_pool():
    """A slow reader of single bytes, each in a frame of its own, with a small pool: others are served, and nothing is lost."""
    support.require("bpftool")
    count, each = 16, 4000
    with support.Lab() as lab:
        hoard = peer(lab, lab.a, "hoard", lab.a.ip4, HOARD, tto=True, env={"TTO_FRAMES": "512"}).await_listen(HOARD)
        pour = peer(lab, lab.b, "pour", lab.a.ip4, HOARD, each, count)
        ready(pour)
        echo = peer(lab, lab.a, "echo", lab.a.ip4, ECHO, tto=True).await_listen(ECHO)
        asking = ready(peer(lab, lab.b, "ask", lab.a.ip4, ECHO))
        hoard.process.send_signal(signal.SIGUSR1)
        if hoard.wait(60) != 0 or f"read {each * count} from {count}" not in hoard.output():
            raise LabError(f"{hoard.output()} of {each * count}; {pour.output()}")
        counters = {k: sum_of(hoard.statistics(), k) for k in ("rx_frame", "rx_payload_refused", "pool_empty", "grq_short")}
        print(counters)
        if not any(counters[k] for k in ("rx_payload_refused", "pool_empty", "grq_short")):
            raise LabError(f"the pool was never short: {counters}")
        lab.check_balance()
        for program in (pour, asking, echo):
            program.stop(signal.SIGKILL)
        assert_nothing_left(lab)


def confined():
    """No memory to lock, no io_uring: everything is served all the same."""
    support.require("bpftool", "prlimit")
    with support.Lab() as lab:
        argv = [lab.a.ip4, STREAM, 8 << 20, STREAM]
        inside = ["prlimit", "--memlock=0:0", lab.program("without_io_uring"), lab.program("byte_stream")]
        server = lab.spawn(lab.a, [*inside, "serve", *argv], tto=True).await_listen(STREAM)
        client = lab.spawn(lab.b, [*inside, "call", *argv], tto=True)
        intact(server, client)
        for end in (server, client):
            assert_af_xdp(end, 8 << 20, support.LISTENER)
        lab.check_balance()
        assert_nothing_left(lab)


if __name__ == "__main__":
    support.main({t.__name__: t for t in (killed_ttod, killed_application, removed_address, removed_link, foreign_detach,
                                          exhausted_pool, confined)}, __doc__)
