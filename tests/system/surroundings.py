"""What test_surroundings.py runs in the lab: a program in odd surroundings. usage: surroundings.py STATEMENT ADDRESS PORT

After each step it writes a line to the descriptor that $STEPS names and waits for one of input.
"""
import ctypes
import os
import resource
import select
import socket
import sys
import threading

ADDRESS, PORT = sys.argv[2], int(sys.argv[3])
STEPS = os.fdopen(int(os.environ["STEPS"]), "w") if "STEPS" in os.environ else sys.stdout
CLONE_NEWNET = 0x40000000
TCP_INFO_OPTIONS = 5  # where tcpi_options is in struct tcp_info


def step(*words):
    print(*words, file=STEPS, flush=True)
    return sys.stdin.readline()


def connected():
    return socket.create_connection((ADDRESS, PORT), timeout=5)


def echo(connection, count=1 << 20):
    sent = os.urandom(count)
    threading.Thread(target=connection.sendall, args=(sent,)).start()
    got = bytearray()
    while len(got) < count:
        got += connection.recv(1 << 16)
    return bytes(got) == sent


def serve():
    listener = socket.create_server((ADDRESS, PORT), backlog=64)

    def one(peer):
        while data := peer.recv(1 << 16):
            peer.sendall(data)
        peer.close()

    while True:
        threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()


def M1():
    first = connected()
    options = first.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)[TCP_INFO_OPTIONS]
    step("timestamps-sack-wscale", options)
    while True:  # what was read is remembered for a second
        with connected() as later:
            if later.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)[TCP_INFO_OPTIONS] == 0:
                break
    step("none", echo(first))


def M2():
    libc = ctypes.CDLL(None, use_errno=True)
    locked = libc.mlockall(3)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    connection = connected()
    good = echo(connection)
    policies = sorted(os.sched_getscheduler(int(t)) for t in os.listdir("/proc/self/task"))
    size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmLck"))
    step(locked, good, size // 1024, *policies)


def M3():
    connection = connected()
    step("sleeps")
    connection.recv(1)


def M4():
    datagrams = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.sendto(b"x", (ADDRESS, 9))
    epoll = select.epoll()
    epoll.register(udp, select.EPOLLIN)
    epoll.poll(0.01)
    select.select([udp], [], [], 0.01)
    os.system("ip -br link >/dev/null; true")
    never_connected = socket.socket()
    never_connected.close()
    files = sorted(os.readlink(f"/proc/self/fd/{n}").split(":")[0] for n in os.listdir("/proc/self/fd")
                   if os.path.lexists(f"/proc/self/fd/{n}"))
    maps = [line.split()[-1] for line in open("/proc/self/maps") if "libtto" not in line and "[anon" not in line]
    named = sorted({m for m in maps if m.startswith("/") and "memfd" in m or "xsk" in m})
    step(len(os.listdir("/proc/self/task")), *files, *named)
    datagrams[0].close()


def M5():
    step("loaded")
    late = connected()  # to an address that came after we did
    step(echo(late))
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    unshared = libc.unshare(CLONE_NEWNET), os.system("ip link set lo up")
    here = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(here.getsockname(), timeout=5)
    here.accept()[0].sendall(b"in another namespace")
    there = client.recv(64) == b"in another namespace"
    libc.setns(before, 0)
    step(*unshared, echo(late), there, echo(connected()))


def M6():
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    connection = connected()
    high = os.dup2(connection.fileno(), limit - 1)
    connection.close()
    moved = socket.socket(fileno=high)
    moved.setblocking(True)
    good = echo(moved)
    size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
    step(good, high, size // 1024)


def M7():
    step(echo(connected()))


if sys.argv[1] == "serve":
    serve()
globals()[sys.argv[1]]()
