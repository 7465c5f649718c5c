#!/usr/bin/env python3
"""What `cmake --install` puts in place is enough to build and run a service: header, library, pkg-config file, example;
linked with the shared library and with the static one.

usage: test_install.py CMAKE BUILD_DIRECTORY EXAMPLE
"""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path


def run(*argv, **options):
    return subprocess.run([str(a) for a in argv], check=True, text=True, capture_output=True, timeout=120, **options).stdout


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def try_program(program, environment):
    port = free_port()
    server = subprocess.Popen([program, "serve", "127.0.0.1", str(port), "2"], env=environment, stdout=subprocess.PIPE,
                              text=True)
    try:
        if server.stdout.readline() != "serving\n":
            raise SystemExit(f"{program}: does not serve")
        for _ in range(2):
            said = run(program, "call", "127.0.0.1", port, 500, env=environment)
            print(said, end="")
            if "500 rounds" not in said or "the kernel: no-helper" not in said:
                raise SystemExit(f"{program}: {said}")
        if server.wait(20) != 0:
            raise SystemExit(f"{program}: server ended with {server.returncode}")
    finally:
        server.kill()


def main(cmake, build, example):
    for tool in ("cc", "pkg-config"):
        if not shutil.which(tool):
            print(f"SKIP {tool} is not installed")
            sys.exit(77)
    with tempfile.TemporaryDirectory() as top:
        top = Path(top)
        run(cmake, "--install", build, "--prefix", top / "usr")
        found = next((top / "usr").rglob("libtto.pc"))
        text = found.read_text()
        found.write_text(text.replace(text.splitlines()[0], f"prefix={top}/usr"))
        environment = dict(os.environ, PKG_CONFIG_PATH=str(found.parent), LD_LIBRARY_PATH=str(found.parent.parent),
                           TTO_HELPER="/nonexistent/ttod.sock")
        flags = run("pkg-config", "--cflags", "--libs", "libtto", env=environment).split()
        run("cc", "-Wall", "-Wextra", "-Werror", "-O1", example, *flags, "-o", top / "shared")
        try_program(top / "shared", environment)
        static = [f for f in flags if f.startswith("-I")] + [found.parent.parent / "libtto.a", "-lstdc++", "-lpthread"]
        run("cc", "-Wall", "-Wextra", "-Werror", "-O1", example, *static, "-o", top / "static")
        try_program(top / "static", environment)


main(*sys.argv[1:])
