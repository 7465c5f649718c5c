#!/usr/bin/env python3
"""Real programs under the preload library without ttod, over loopback: the same bytes as without it.

usage: programs.py LIBRARY CASE
"""
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYTHON = "/usr/bin/python3"
SKIPPED = 77


def environment(library):
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    env["TTO_HELPER"] = "/nonexistent/ttod.sock"
    if library:
        env["LD_PRELOAD"] = library
    return env


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, library, argv, port, cwd=None):
        self.process = subprocess.Popen(argv, env=environment(library), cwd=cwd, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise RuntimeError(f"{argv[0]} does not listen") from None
                time.sleep(0.01)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def client(library, *argv):
    return subprocess.run([str(a) for a in argv], env=environment(library), check=True, capture_output=True,
                          timeout=60).stdout


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            print(f"SKIP {program} is not installed")
            sys.exit(SKIPPED)


def http(library):
    need("curl")
    with tempfile.TemporaryDirectory() as top:
        data = os.urandom(5 << 20)
        (Path(top) / "file").write_bytes(data)
        port = free_port()
        with Server(library, [PYTHON, "-m", "http.server", str(port), "--bind", "127.0.0.1"], port, cwd=top):
            for preload in (None, library):
                got = client(preload, "curl", "-sSf", f"http://127.0.0.1:{port}/file")
                if hashlib.sha256(got).digest() != hashlib.sha256(data).digest():
                    raise RuntimeError("the bytes differ")


def redis(library):
    need("redis-server", "redis-cli")
    port = free_port()
    with Server(library, ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"], port):
        for preload in (None, library):
            if client(preload, "redis-cli", "-p", port, "ping") != b"PONG\n":
                raise RuntimeError("no PONG")
            value = "v" * 200000
            client(preload, "redis-cli", "-p", port, "set", "k", value[:100000])
            if client(preload, "redis-cli", "-p", port, "strlen", "k").strip() != b"100000":
                raise RuntimeError("another length")


def iperf3(library):
    need("iperf3")
    port = free_port()
    with Server(library, ["iperf3", "-s", "-p", str(port)], port):
        time.sleep(0.2)
        client(library, "iperf3", "-c", "127.0.0.1", "-p", port, "-t", 1, "-P", 2)
        client(library, "iperf3", "-c", "127.0.0.1", "-p", port, "-t", 1, "-R")


def main(library, case):
    if not Path(library).is_file():  # the dynamic linker would go on without it
        sys.exit(f"{library} is not built")
    {"http": http, "redis": redis, "iperf3": iperf3}[case](str(Path(library).resolve()))
    print(f"{case}: the same")


main(*sys.argv[1:])
