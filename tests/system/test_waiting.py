#!/usr/bin/env python3
"""Who progresses a stack while its application does something else.

usage: test_waiting.py TEST
"""
import re
import subprocess
import sys

import support
from support import LabError

from lab import await_until

SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as listener:
    while True:
        with listener.accept()[0] as s:
            print("accepted", flush=True)
            s.recv(1)
"""
CLIENT = """
import os, socket, sys
for _ in range(int(sys.argv[3])):
    os.read(0, 1)
    with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as s:
        print("connected", flush=True)
        os.read(0, 1)
"""
CONNECTIONS = 20


def handshakes():
    """A program that connects and then waits for something that is no socket of ours: its acknowledgement leaves all the
    same, long before the peer would ask again. (A progress thread that slept beyond what a spinning call had left to do
    let it wait for a second.)"""
    support.require("nstat")
    with support.Lab() as lab:
        server = lab.spawn(lab.a, [support.PYTHON, "-c", SERVER, lab.a.ip4, 7000]).await_listen(7000)
        client = lab.spawn(lab.b, [support.PYTHON, "-c", CLIENT, lab.a.ip4, 7000, CONNECTIONS], tto=True, stdin=subprocess.PIPE)

        def takeovers():
            return support.sum_of(client.statistics(), "progress_takeover")

        def go():
            client.process.stdin.write(b".")
            client.process.stdin.flush()
        for n in range(1, CONNECTIONS + 1):
            before = takeovers() if n > 1 else 0
            go()
            await_until(lambda: server.output().count("accepted") == n, "the server to accept", 20)
            await_until(lambda: takeovers() > before, "the progress thread to lead", 5)
            go()
        client.wait(10)
        support.assert_af_xdp(client, 0)
        again = int(re.search(r"TcpRetransSegs +(\d+)", lab.a.sh("nstat", "-asz", "TcpRetransSegs")).group(1))
        if again:
            raise LabError(f"the server sent {again} segments again")
        lab.check_balance()


if __name__ == "__main__":
    support.main({t.__name__: t for t in (handshakes,)}, __doc__)
