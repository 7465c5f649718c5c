#!/usr/bin/env python3
"""What the tools show of a program at work: tto capture, tto stat, tto explain.

usage: test_tools.py TEST
"""
import json
import subprocess

import support
from support import LabError

import programs
from lab import await_until


def check(condition, what):
    if not condition:
        raise LabError(what)


def redis_load(lab, **options):
    """An accelerated redis-server on side a under endless load from an ordinary client, once frames flow."""
    server = programs.start_redis(lab, lab.a, tto=True)
    client = lab.spawn(lab.b, ["redis-benchmark", "-h", lab.a.ip4, "-p", programs.REDIS_PORT, "-t", "set", "-n", 100000000,
                               "-c", 20, "-q"], **options)
    await_until(lambda: support.sum_of(server.statistics(), "rx_frame") > 1000, "load", 20)
    return server, client


def tshark(file, display_filter, *fields):
    """One list of the fields per frame that passes the filter; every checksum is verified."""
    argv = ["tshark", "-r", file, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y", display_filter,
            "-T", "fields"]
    for field in fields:
        argv += ["-e", field]
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    check(done.returncode == 0, f"tshark: {done.stderr.strip()}")
    return [line.split("\t") for line in done.stdout.splitlines()]


def capture():
    """A capture of a process under load is a file that tshark reads: both directions, good checksums; then it stops."""
    support.require("redis-server", "redis-benchmark", "tshark")
    with support.Lab(offload=False) as lab:  # the peer's checksums, too, are complete on the link
        server, client = redis_load(lab)
        for turn in range(2):  # what the first has taken is none of the second's business
            file = lab.dir / f"{turn}.pcapng"
            lab.tto("capture", server.pid, "-w", file, "--seconds", 1)
            rows = tshark(file, "tcp", "ip.src", "ip.dst", "tcp.checksum.status", "ip.checksum.status", "tcp.len",
                          "frame.time_epoch", "tcp.seq_raw",
                          "tcp.checksum", "tcp.checksum_calculated")
            check(len(rows) > 1000, f"{len(rows)} TCP frames in a second of load")
            times = [float(row[5]) for row in rows]
            check(max(times) - min(times) < 5, f"a second of capture spans {max(times) - min(times)} s")
            for source, peer in ((lab.a.ip4, lab.b.ip4), (lab.b.ip4, lab.a.ip4)):
                ours = [row for row in rows if row[:2] == [source, peer]]
                check(any(int(row[4]) > 0 for row in ours), f"no payload from {source} among {len(ours)} frames")
            # Linux sends a sum of 0 as 0xffff, its other form; tshark knows only the one.
            bad = [row for row in rows if row[3] != "1" or row[2] != "1" and row[7:9] != ["0xffff", "0x0000"]]
            check(not bad, f"{len(bad)} of {len(rows)} frames have a bad checksum: {bad[:3]}")
        client.stop()
        await_until(lambda: not has_ring(server.pid), "the ring to go", 10)
        lab.check_balance()


def has_ring(pid):
    return "/memfd:tto-capture" in subprocess.run(["ls", "-l", f"/proc/{pid}/fd"], capture_output=True, text=True).stdout


def views():
    """Paths, states and reasons of descriptors, figures of connections, modes of links: as they are."""
    support.require("redis-server", "redis-benchmark")
    with support.Lab() as lab:
        server, client = redis_load(lab)
        # One connection of the kernel's: from the machine's own loopback.
        local = lab.spawn(lab.a, ["redis-cli", "-h", "127.0.0.1", "-p", programs.REDIS_PORT, "monitor"])
        await_until(lambda: "OK" in local.output(), "the local client", 10)
        view = json.loads(lab.tto("stat", server.pid, "--json"))["processes"][0]
        check([n["xdp_mode"] for n in view["nics"]] == ["generic"] and lab.has_xdp(lab.a), f"links: {view['nics']}")
        flows = [f for f in view["flows"] if f["state"] == "ESTABLISHED"]
        check(len(flows) == 20, f"{len(flows)} established connections, 20 expected: {view['flows']}")
        for flow in flows:
            check(flow["local"] == f"{lab.a.ip4}:{programs.REDIS_PORT}" and flow["remote"].startswith(lab.b.ip4 + ":"),
                  f"addresses: {flow}")
            check(flow["rx_byte"] > 0 and flow["tx_byte"] > 0 and 0 < flow["srtt_us"] < 1000000, f"figures: {flow}")
        fds = {f["fd"]: f for f in json.loads(lab.tto("explain", server.pid, "--json"))["fds"]}
        for flow in flows:
            fd = fds.get(flow["fd"])
            check(fd and fd["path"] == "af_xdp" and fd["state"] == "ESTABLISHED", f"fd of {flow}: {fd}")
        kernel = [f for f in fds.values() if f["path"] == "kernel"]
        check(kernel and all(f["reason"] and f["reason_text"] for f in kernel), f"kernel descriptors: {kernel}")
        check("accepted" in [f["reason"] for f in kernel], f"no loopback descriptor is explained: {kernel}")
        text = lab.tto("explain", server.pid)
        check("XDP generic" in text and "accepted: accepted by the kernel" in text, text)
        client.stop()
        local.stop()
        server.stop()
        # The link loses its program when nobody needs it; whoever comes next sees it attached again.
        await_until(lambda: not lab.has_xdp(lab.a), "XDP to leave", 15)


ASK = """
import socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
def ask(type, *body):
    s.send(struct.pack("=IHHIIII", 0x6f74745f, type, 0, 1, 24, *body))
    return s.recv(8192)
ask(1, 2, 0)
answer = ask(10, int(sys.argv[2]), 0)
print(*struct.unpack_from("=H", answer, 4), *struct.unpack_from("=II", answer, 16))
"""


def counts():
    """ttod tells what its programs counted of a process's frames: to its user and to root, and of all links to root only."""
    support.require("redis-server", "redis-benchmark")
    with support.Lab() as lab:
        server = programs.start_redis(lab, lab.a, tto=True)
        programs.redis_benchmark(lab, lab.b, lab.a.ip4, ["set"], 2000)
        lab.check_balance()
        view = json.loads(lab.tto("stat", server.pid, "--json"))["processes"][0]
        checked = view["ports"][0]["transmit_check"]
        check(checked["sent"] > 2000 and checked["sent_syn_ack"] >= 50, f"transmit check: {checked}")
        check(view["steering"]["flow"] > 2000 and view["steering"]["listen"] >= 50, f"steering: {view['steering']}")
        check("transmit check of port" in lab.tto("stat", server.pid), "the table does not show the counts")
        counted, refused, not_owner = "137", "132", "12"
        argv = [support.PYTHON, "-c", ASK, lab.socket, server.pid]
        answers = {user: lab.run(lab.b, argv, user=user).output().split() for user in ("nobody", "daemon", "root")}
        check(answers == {"nobody": [counted, "1", "0"], "root": [counted, "1", "1"], "daemon": [refused, not_owner, "0"]},
              f"{answers}")
        of_none = lab.run(lab.b, argv[:-1] + [1], user="root").output().split()
        check(of_none == [refused, not_owner, "0"], f"a process without a port: {of_none}")


def figures():
    """The figures of a bulk connection, each way, agree with each other and with what the kernel's end counted."""
    support.require("iperf3")
    with support.Lab(offload=False) as lab:  # or a segment is whatever the peer hands over, up to 64 KiB
        server = lab.spawn(lab.a, ["iperf3", "-s", "-p", programs.IPERF_PORT], tto=True).await_listen(programs.IPERF_PORT)
        for reverse in (False, True):
            client = lab.spawn(lab.b, ["iperf3", "-c", lab.a.ip4, "-p", programs.IPERF_PORT, "-t", 4, "-J"] +
                               (["-R"] if reverse else []))
            moved = "tx_byte" if reverse else "rx_byte"
            flow = await_until(lambda m=moved: bulk_flow(lab, server, m), "bulk traffic", 20)
            if client.wait(40) != 0:
                raise LabError(client.output())
            end = json.loads(client.output())["end"]
            total = end["sum_sent" if reverse else "sum_received"]
            check(flow[moved] <= total["bytes"] + (16 << 20), f"{flow} of a transfer of {total}")
            # A connection whose MSS is 1448 receives no more than that per segment and, at full speed, nearly that.
            if not reverse:
                check(0.5 < flow["rx_byte"] / (flow["rx_segment"] * flow["mss"]) <= 1, f"bytes per segment: {flow}")
                check(flow["coalescing"] > 2, f"bulk data are not coalesced: {flow}")
            check(flow["rx_aggregate"] <= flow["rx_segment"], f"more aggregates than segments: {flow}")
            check(0 < flow["srtt_us"] < 2000000, f"{flow}")
            if reverse:  # the sender's own count, which iperf3 takes from TCP_INFO at the end
                check(flow["retransmit_segment"] <= total["retransmits"], f"{flow}, iperf3: {total}")
                check(flow["retransmit_segment"] * 20 < flow["tx_segment"], f"every 20th segment sent again: {flow}")


def bulk_flow(lab, server, moved):
    view = json.loads(lab.tto("stat", server.pid, "--json"))["processes"][0]
    return next((f for f in view["flows"] if f[moved] > 20000000), None)


if __name__ == "__main__":
    support.main({t.__name__: t for t in (capture, views, counts, figures)}, __doc__)
