#!/usr/bin/env python3
"""A2: unmodified programs against each other over the lab's link, IPv4 and IPv6, every byte checked where they allow it.

usage: test_programs.py PROGRAM kernel|server|client|both      (who is on libtto; the rest is on the kernel)
"""
import json
from pathlib import Path

import support
from support import MODES, PYTHON, LabError

import programs
from programs import bracket

HERE = Path(__file__).resolve().parent
FAMILIES = (4, 6)


def helper(lab, name):
    """A script of ours, copied to where nobody can read it."""
    copy = lab.dir / name
    copy.write_text((HERE / name).read_text())
    copy.chmod(0o755)
    return [PYTHON, copy]


def with_lab(mode, test, **options):
    on_server, on_client = MODES[mode]
    with support.Lab(with_ttod=mode != "kernel", **options) as lab:
        test(lab, dict(tto=on_server), dict(tto=on_client), mode)


def redis(lab, on_server, on_client, mode):
    server = programs.start_redis(lab, lab.a, **on_server)
    clients, payload = [], 0
    for family in FAMILIES:
        address = lab.a.ip(family)
        for pipeline, requests in ((1, 10000), (16, 100000)):
            _, client = programs.redis_benchmark(lab, lab.b, address, ["set", "get"], requests, pipeline=pipeline, **on_client)
            clients.append((client, 2 * 64 * requests))
            payload += 2 * 64 * requests
        client = lab.run(lab.b, helper(lab, "redis_verify.py") + [address, programs.REDIS_PORT], **on_client)
        checked = int(client.output().split()[-1])
        clients.append((client, checked))
        payload += checked
    support.assert_paths(mode, server, clients, payload)


SIZES = {"empty": 0, "one": 1, "small": 612, "medium": 1 << 20, "large": 64 << 20}


def fetch_all(lab, url, hashes, on_client, clients, sizes=None):
    """Fetches every file, one by one and all at once, and compares; the bytes fetched."""
    fetched = 0
    for name, digest in hashes.items():
        into = lab.work / f"got-{name}"
        client = programs.curl(lab, lab.b, f"{url}/{name}", into, **on_client)
        if programs.sha256_of(into) != digest:
            raise LabError(f"{url}/{name}: the bytes differ")
        clients.append((client, into.stat().st_size))
        fetched += into.stat().st_size
        into.unlink()
    many = lab.work / "many"
    many.mkdir(exist_ok=True)
    many.chmod(0o777)
    argv = ["curl", "-sS", "--fail", "-g", "--max-time", 60, "--parallel", "--parallel-max", 8, "--parallel-immediate"]
    for copy in range(8):
        argv += ["-o", many / str(copy), f"{url}/medium"]
    client = lab.run(lab.b, argv, **on_client)
    for copy in range(8):
        if programs.sha256_of(many / str(copy)) != hashes["medium"]:
            raise LabError(f"{url}/medium, in parallel: the bytes differ")
    clients.append((client, 8 * SIZES["medium"]))
    return fetched + 8 * SIZES["medium"]


def nginx(lab, on_server, on_client, mode):
    root, hashes = programs.make_files(lab, SIZES)
    server = programs.start_nginx(lab, lab.a, root, **on_server)
    clients, payload = [], 0
    for family in FAMILIES:
        url = f"http://{bracket(lab.a.ip(family))}:{programs.NGINX_PORT}"
        payload += fetch_all(lab, url, hashes, on_client, clients)
    support.assert_paths(mode, server, clients, payload)


def http_server(lab, on_server, on_client, mode):
    root, hashes = programs.make_files(lab, SIZES)
    server = lab.spawn(lab.a, [PYTHON, "-m", "http.server", programs.PYTHON_PORT, "--bind", "::", "--directory", root],
                       **on_server).await_listen(programs.PYTHON_PORT)
    clients, payload = [], 0
    for family in FAMILIES:
        url = f"http://{bracket(lab.a.ip(family))}:{programs.PYTHON_PORT}"
        payload += fetch_all(lab, url, hashes, on_client, clients)
    support.assert_paths(mode, server, clients, payload)


def curl(lab, on_server, on_client, mode):
    """Uploads: the server answers with the hash of what it got."""
    root, hashes = programs.make_files(lab, SIZES)
    server = lab.spawn(lab.a, helper(lab, "upload_server.py") + [programs.PYTHON_PORT],
                       **on_server).await_listen(programs.PYTHON_PORT)
    clients, payload = [], 0
    for family in FAMILIES:
        for name, digest in hashes.items():
            client = lab.run(lab.b, ["curl", "-sS", "--fail", "-g", "--max-time", 60, "-T", root / name,
                                     f"http://{bracket(lab.a.ip(family))}:{programs.PYTHON_PORT}/{name}"], **on_client)
            if client.output().strip() != digest:
                raise LabError(f"upload of {name}: the server got other bytes: {client.output()!r}")
            clients.append((client, SIZES[name]))
            payload += SIZES[name]
    support.assert_paths(mode, server, clients, payload)


def iperf3(lab, on_server, on_client, mode):
    server = lab.spawn(lab.a, ["iperf3", "-s", "-p", programs.IPERF_PORT], **on_server).await_listen(programs.IPERF_PORT)
    clients, payload = [], 0
    for family in FAMILIES:
        for extra in ([], ["-R"], ["-P", 4], ["-P", 4, "-R"]):
            client = lab.run(lab.b, ["iperf3", "-J", "-c", lab.a.ip(family), "-p", programs.IPERF_PORT, "-t", 1, *extra],
                             **on_client)
            end = json.loads(client.output())["end"]
            sent, received = end["sum_sent"]["bytes"], end["sum_received"]["bytes"]
            if not 0 < received <= sent:
                raise LabError(f"iperf3 {extra}: sent {sent}, received {received}")
            clients.append((client, received))
            payload += received
    support.assert_paths(mode, server, clients, payload)


def wrk(lab, on_server, on_client, mode):
    root, _ = programs.make_files(lab, {"small": 612})
    server = programs.start_nginx(lab, lab.a, root, **on_server)
    clients, payload = [], 0
    for family in FAMILIES:
        for connections in (1, 32):
            url = f"http://{bracket(lab.a.ip(family))}:{programs.NGINX_PORT}/small"
            rate, client = programs.wrk(lab, lab.b, url, connections, 1, **on_client)
            clients.append((client, int(rate * 612 / 2)))
            payload += int(rate * 612 / 2)
    support.assert_paths(mode, server, clients, payload)


def sockperf(lab, on_server, on_client, mode):
    """IPv4 only: Debian's sockperf 3.7 takes no IPv6 address."""
    port = programs.SOCKPERF_PORT
    server = lab.spawn(lab.a, ["sockperf", "server", "--tcp", "-i", lab.a.ip4, "-p", port], **on_server).await_listen(port)
    client = lab.run(lab.b, ["sockperf", "ping-pong", "--tcp", "-i", lab.a.ip4, "-p", port, "-t", 1, "-m", 64], **on_client)
    text = client.output()
    received = next((int(l.split("ReceivedMessages=")[1].split(";")[0]) for l in text.splitlines()
                     if "[Valid Duration]" in l), 0)
    if received < 100 or "# dropped messages = 0; # duplicated messages = 0; # out-of-order messages = 0" not in text:
        raise LabError(f"sockperf: {text}")
    support.assert_paths(mode, server, [(client, 64 * received)], 64 * received)


def rebind(lab, on_server, on_client, mode):
    """A port is free as soon as close() of the listening socket has returned."""
    rounds, block = 50, 4096
    script = helper(lab, "rebind.py")
    for family in FAMILIES:
        port = programs.PYTHON_PORT + family
        arguments = [lab.a.ip(family), port, rounds]
        server = lab.spawn(lab.a, script + ["server"] + arguments, **on_server).await_listen(port)
        client = lab.run(lab.b, script + ["client"] + arguments, **on_client)
        if server.wait(10) != 0:
            raise LabError(f"rebind: {server.output()}")
        support.assert_paths(mode, server, [(client, 2 * block * rounds)], 2 * block * rounds)


NEEDS = {"redis": ["redis-server", "redis-benchmark"], "nginx": ["nginx", "curl"], "http_server": ["curl"],
         "curl": ["curl"], "iperf3": ["iperf3"], "wrk": ["nginx", "wrk"], "sockperf": ["sockperf"], "rebind": []}


# The link is a second old: until its link-local address is sure, a question for an IPv6 neighbour without a packet waits.
OPTIONS = {"rebind": {"static_neighbours": True}}


def run(test):
    def body(mode):
        if mode not in MODES:
            raise SystemExit(f"no mode {mode}")
        support.require(*NEEDS[test.__name__], tto=mode != "kernel")
        with_lab(mode, test, **OPTIONS.get(test.__name__, {}))
    return body


if __name__ == "__main__":
    support.main({t.__name__: run(t) for t in (redis, nginx, http_server, curl, iperf3, wrk, sockperf, rebind)}, __doc__)
