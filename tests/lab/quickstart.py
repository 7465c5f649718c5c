#!/usr/bin/env python3
"""The part of tools/quickstart that needs root: the lab, three ways of running the same programs in it, one table."""
import sys
import time

import programs
from lab import Lab, LabError, cleanup, interrupt_on_signals

WAYS = [("kernel – kernel", False, False), ("tto server, kernel client", True, False), ("tto both ends", True, True)]
BIG = 1 << 30
REQUESTS = 100000


def path_of(*ends):
    """How the libtto ends were really served, from their statistics."""
    ends = [e for e in ends if e.tto]
    if not ends:
        return "kernel"
    for end in ends:
        if sum(s["counters"]["rx_frame_delivered"] for s in end.statistics()) < 1000:
            return "kernel"
    return "af_xdp"


def one_way(lab, name, on_server, on_client, root, digest):
    print(f"== {name}: redis", flush=True)
    redis = programs.start_redis(lab, lab.a, tto=on_server)
    rates, benchmark = programs.redis_benchmark(lab, lab.b, lab.a.ip4, ["set", "get"], REQUESTS, tto=on_client)
    paths = {path_of(redis, benchmark)}
    print(f"== {name}: 1 GiB from nginx", flush=True)
    nginx = programs.start_nginx(lab, lab.a, root, tto=on_server)
    into = lab.work / "got"
    start = time.monotonic()
    curl = programs.curl(lab, lab.b, f"http://{lab.a.ip4}:{programs.NGINX_PORT}/big", into, tto=on_client)
    seconds = time.monotonic() - start
    if programs.sha256_of(into) != digest:
        raise LabError(f"{name}: the file fetched differs from the file served")
    into.unlink()
    paths.add(path_of(nginx, curl))
    if on_server:
        lab.check_balance()
        print(lab.tto("stat"))
    redis.stop()
    nginx.stop()
    if on_server and paths != {"af_xdp"}:
        raise LabError(f"{name}: not served by AF_XDP but by {', '.join(sorted(paths))}")
    return [name, f"{rates['set']:,.0f}", f"{rates['get']:,.0f}", f"{seconds:.1f} s", "equal", ", ".join(sorted(paths))]


def main():
    cleanup(verbose=True)
    print("== lab: two network namespaces, a veth pair, ttod; programs run as user nobody", flush=True)
    with Lab() as lab:
        root, hashes = programs.make_files(lab, {"big": BIG})
        rows = [["", "redis SET/s", "redis GET/s", "1 GiB by curl", "SHA-256", "path"]]
        rows += [one_way(lab, *way, root, hashes["big"]) for way in WAYS]
    width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(text.rjust(w) if i else text.ljust(w) for i, (text, w) in enumerate(zip(row, width))))
    print("\nEverything made is removed again. Next: README.md, and `tools/bench` for figures that can be trusted.")


if __name__ == "__main__":
    interrupt_on_signals()
    try:
        main()
    except LabError as error:
        sys.exit(f"quickstart: {error}")
    except KeyboardInterrupt:
        print("quickstart: interrupted; what it made is removed", file=sys.stderr)
        sys.exit(130)
