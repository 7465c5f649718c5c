#!/usr/bin/env python3
"""A server that closes its listening socket and binds the same port again at once, as iperf3 does after every test.

usage: rebind.py server ADDRESS PORT ROUNDS     rebind.py client ADDRESS PORT ROUNDS

Every listening socket serves one connection. The next one is bound while that connection is still open, and only then is
the client told to go on: so nobody but a socket that was closed can be in the way.
"""
import socket
import sys

BLOCK = bytes(range(256)) * 16
NEXT = b"next"


def listen(address, port):
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(5)
    # From the first look into its queue on, it is libtto's; who connects before is served by the kernel.
    listener.setblocking(False)
    try:
        raise RuntimeError(f"nobody was told to connect: {listener.accept()}")
    except BlockingIOError:
        listener.setblocking(True)
    return listener


def receive(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError(f"{len(data)} of {count} bytes")
        data += more
    return data


def serve(address, port, rounds):
    listener = listen(address, port)
    for _ in range(rounds):
        connection, _ = listener.accept()
        connection.sendall(receive(connection, len(BLOCK)))
        listener.close()
        listener = listen(address, port)
        connection.sendall(NEXT)
        connection.close()


def ask(address, port, rounds):
    for number in range(rounds):
        with socket.create_connection((address, port), timeout=10) as connection:
            connection.sendall(BLOCK)
            if receive(connection, len(BLOCK)) != BLOCK:
                raise ValueError(f"round {number}: other bytes came back")
            if receive(connection, len(NEXT)) != NEXT:
                raise ValueError(f"round {number}: the server did not bind again")


role, where, at, times = sys.argv[1:]
{"server": serve, "client": ask}[role](where, int(at), int(times))
print(role, "done", times)
