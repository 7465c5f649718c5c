"""Small ends of connections for the tests of failures.

  peer.py echo ADDRESS PORT              answers every byte with itself, any number of connections
  peer.py idle ADDRESS PORT [SECONDS]    one byte there and back, "ready", then waits for what comes (bytes are ignored)
  peer.py ask ADDRESS PORT [SECONDS]     a byte there and back every 10 ms, "ready" after the first
  peer.py hoard ADDRESS PORT             accepts, reads nothing until it is told by SIGUSR1, then reads all and prints how much
  peer.py pour ADDRESS PORT BYTES COUNT  COUNT connections, BYTES on each as single bytes, then FIN; "ready" when none goes on

idle and ask end with "ended: " and the name of the error, or EOF; SECONDS is TCP_USER_TIMEOUT.
"""
import errno
import selectors
import signal
import socket
import sys
import time


def address_of(argv):
    return (argv[2], int(argv[3]))


def family(argv):
    return socket.AF_INET6 if ":" in argv[2] else socket.AF_INET


def say(text):
    print(text, flush=True)


def listening(argv):
    s = socket.socket(family(argv))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(address_of(argv))
    s.listen(128)
    return s


def echo(argv):
    waiting = selectors.DefaultSelector()
    listener = listening(argv)
    waiting.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                waiting.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            try:
                data = key.fileobj.recv(4096)
                if data:
                    key.fileobj.sendall(data)
                    continue
            except OSError:
                pass
            waiting.unregister(key.fileobj)
            key.fileobj.close()


def connected(argv):
    s = socket.socket(family(argv))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if len(argv) > 4 and argv[1] != "pour":
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(float(argv[4]) * 1000))
    s.connect(address_of(argv))
    return s


def until_the_end(argv, turn):
    s = connected(argv)
    try:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
        say("ready")
        while turn(s):
            pass
        say("ended: EOF")
    except OSError as error:
        say(f"ended: {errno.errorcode.get(error.errno, error)}")


def idle(argv):
    until_the_end(argv, lambda s: s.recv(4096))


def ask(argv):
    def turn(s):
        time.sleep(0.01)
        s.sendall(b"x")
        return s.recv(1)
    until_the_end(argv, turn)


def hoard(argv):
    listener = listening(argv)
    told = []
    signal.signal(signal.SIGUSR1, lambda number, frame: told.append(number))
    held, total = [], 0
    listener.settimeout(0.05)
    while not told:
        try:
            held.append(listener.accept()[0])
        except TimeoutError:
            pass
    for s in held:
        s.settimeout(60)
        while data := s.recv(65536):
            total += len(data)
    say(f"read {total} from {len(held)}")


def pour(argv):
    each, count = int(argv[4]), int(argv[5])
    waiting = selectors.DefaultSelector()
    for _ in range(count):
        s = connected(argv)
        s.setblocking(False)
        waiting.register(s, selectors.EVENT_WRITE, [each])
    stuck_said = False
    while waiting.get_map():
        ready = waiting.select(0.5)
        if not ready and not stuck_said:
            stuck_said = True
            say("ready")
        for key, _ in ready:
            try:
                key.fileobj.send(b"x")
            except BlockingIOError:
                continue
            key.data[0] -= 1
            if key.data[0] == 0:
                key.fileobj.shutdown(socket.SHUT_WR)
                waiting.unregister(key.fileobj)
    if not stuck_said:
        say("ready")
    say("done")
    signal.pause()


{f.__name__: f for f in (echo, idle, ask, hoard, pour)}[sys.argv[1]](sys.argv)
