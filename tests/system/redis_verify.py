"""Writes values of many sizes into redis, pipelined, reads them back and compares. Prints the number of bytes checked."""
import hashlib
import socket
import sys


def value(number):
    """Unforeseeable but repeatable bytes; sizes from 0 to about 1 MiB, around the sizes of segments and buffers."""
    size = [0, 1, 63, 64, 1447, 1448, 1449, 4096, 16384, 65535, 65536, 262144, 1048577][number % 13]
    block = hashlib.sha256(str(number).encode()).digest()
    return (block * (size // 32 + 1))[:size]


def command(*words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def main():
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
    stream = connection.makefile("rb")
    checked = 0
    for first in range(0, 130, 13):  # a batch of writes is all sent before any answer is read
        batch = range(first, first + 13)
        connection.sendall(b"".join(command("SET", f"key{n}", value(n)) for n in batch))
        for _ in batch:
            assert stream.readline() == b"+OK\r\n"
    for n in range(130):
        connection.sendall(command("GET", f"key{n}"))
        size = int(stream.readline()[1:])
        got = stream.read(size + 2)
        assert got == value(n) + b"\r\n", f"key{n} differs"
        checked += 2 * size
    connection.shutdown(socket.SHUT_WR)
    assert stream.read() == b""
    print(checked)


main()
