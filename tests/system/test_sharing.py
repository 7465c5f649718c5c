#!/usr/bin/env python3
"""A3 and A4: what the parts may do, and that libtto and the kernel live side by side.

usage: test_sharing.py TEST
"""
import re
from pathlib import Path

import support
from support import PYTHON, LabError, assert_af_xdp, sum_of

import programs
from programs import bracket

CAPABILITIES = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE""".split()


def status(pid, key):
    text = Path(f"/proc/{pid}/status").read_text()
    return re.search(rf"^{key}:\s*(.+)$", text, re.M).group(1).split()


def capabilities(pid, key):
    bits = int(status(pid, key)[0], 16)
    return {f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if bits >> number & 1}


def privileges():
    """The application: an ordinary user, no capability, while its connections run over AF_XDP. ttod: only what is listed."""
    support.require("redis-server", "redis-benchmark")
    with support.Lab() as lab:
        server = programs.start_redis(lab, lab.a, tto=True)
        programs.redis_benchmark(lab, lab.b, lab.a.ip4, ["set"], 2000)
        assert_af_xdp(server, 2000 * 64, support.LISTENER)
        for key in ("CapEff", "CapPrm", "CapAmb", "CapBnd"):
            if capabilities(server.pid, key):
                raise LabError(f"the application has {key} {capabilities(server.pid, key)}")
        if "0" in status(server.pid, "Uid"):
            raise LabError("the application runs as root")
        listed = set(re.findall(r"CAP_[A-Z_]+", (support.TOP / "docs" / "privileges.md").read_text()))
        for key in ("CapEff", "CapPrm"):
            held = capabilities(lab.ttod.pid, key)
            if not held or held - listed or len(held) == len(CAPABILITIES):
                raise LabError(f"ttod's {key}: {sorted(held)}; docs/privileges.md lists {sorted(listed)}")
        print("ttod:", " ".join(sorted(capabilities(lab.ttod.pid, "CapEff"))))
        lab.check_balance()


def side_by_side():
    """Two libtto processes, a kernel server and kernel clients at the same time: one interface, queue and address."""
    support.require("redis-server", "redis-benchmark", "nginx", "wrk", "iperf3")
    with support.Lab() as lab:
        root, hashes = programs.make_files(lab, {"small": 612, "big": 8 << 20})
        redis = programs.start_redis(lab, lab.a, tto=True)
        nginx = programs.start_nginx(lab, lab.a, root, tto=True)
        iperf = lab.spawn(lab.a, ["iperf3", "-s", "-p", programs.IPERF_PORT]).await_listen(programs.IPERF_PORT)
        kernel_http = lab.spawn(lab.a, [PYTHON, "-m", "http.server", programs.PYTHON_PORT, "--bind", "::", "--directory", root])
        kernel_http.await_listen(programs.PYTHON_PORT)
        http = bracket(lab.a.ip4)
        running = [
            lab.spawn(lab.b, ["redis-benchmark", "-h", lab.a.ip4, "-p", programs.REDIS_PORT, "-t", "set,get", "-n", 40000, "-q"]),
            lab.spawn(lab.b, ["redis-benchmark", "-h", lab.a.ip6, "-p", programs.REDIS_PORT, "-t", "set,get", "-n", 40000, "-q"],
                      tto=True),
            lab.spawn(lab.b, ["wrk", "-t1", "-c8", "-d2s", f"http://{http}:{programs.NGINX_PORT}/small"]),
            lab.spawn(lab.b, ["iperf3", "-c", lab.a.ip4, "-p", programs.IPERF_PORT, "-t", 2]),
        ]
        for port in (programs.NGINX_PORT, programs.PYTHON_PORT):
            for tto in (False, True):
                for _ in range(4):
                    into = lab.work / "got"
                    programs.curl(lab, lab.b, f"http://{http}:{port}/big", into, tto=tto)
                    if programs.sha256_of(into) != hashes["big"]:
                        raise LabError(f"port {port}, tto={tto}: the bytes differ")
        for program in running:
            if program.wait(60) != 0:
                raise LabError(f"{' '.join(program.argv)} failed:\n{program.output()}")
        if "Socket errors" in running[2].output():
            raise LabError(running[2].output())
        assert_af_xdp(redis, 2 * 80000 * 3, support.LISTENER)
        assert_af_xdp(nginx, 8 * (8 << 20), support.LISTENER)
        assert_af_xdp(running[1], 80000 * 3)
        lab.check_balance()
        del iperf


def wildcard():
    """A server on :: serves IPv4 and IPv6 of the accelerated link over AF_XDP, loopback and another link by the kernel."""
    support.require("curl")
    with support.Lab(second_link=True) as lab:
        root, hashes = programs.make_files(lab, {"big": 4 << 20})
        server = lab.spawn(lab.a, [PYTHON, "-m", "http.server", programs.PYTHON_PORT, "--bind", "::", "--directory", root],
                           tto=True).await_listen(programs.PYTHON_PORT)

        def fetch(side, address):
            into = lab.work / "got"
            programs.curl(lab, side, f"http://{bracket(address)}:{programs.PYTHON_PORT}/big", into)
            if programs.sha256_of(into) != hashes["big"]:
                raise LabError(f"{address}: the bytes differ")
            return (sum_of(server.statistics(), "tx_frame_byte"), sum_of(server.statistics(), "kernel_accepted"))

        sent = 0
        for address in (lab.a.ip4, lab.a.ip6):
            now, on_kernel = fetch(lab.b, address)
            if now - sent < (4 << 20) or on_kernel:
                raise LabError(f"{address}: {now - sent} bytes over AF_XDP, {on_kernel} connections on the kernel")
            sent = now
        for number, (side, address) in enumerate([(lab.a, "127.0.0.1"), (lab.a, "::1"), (lab.b, lab.a.plain_ip4)], 1):
            now, on_kernel = fetch(side, address)
            if on_kernel != number:
                raise LabError(f"{address}: {on_kernel} connections counted on the kernel, {number} expected")
        lab.check_balance()


def no_link_local():
    """IPv6 on a link without link-local addresses: the kernel then solicits neighbours only for a packet of somebody."""
    support.require("curl")
    with support.Lab() as lab:
        root, _ = programs.make_files(lab, {"big": 1 << 20})
        for side in (lab.a, lab.b):
            side.sh("ip", "link", "set", side.ifname, "addrgenmode", "none")
            side.sh("ip", "-6", "address", "flush", "dev", side.ifname, "scope", "link")
        lab.spawn(lab.a, [PYTHON, "-m", "http.server", programs.PYTHON_PORT, "--bind", "::", "--directory", root],
                  tto=True).await_listen(programs.PYTHON_PORT)
        for side in (lab.a, lab.b):
            side.sh("ip", "-6", "neigh", "flush", "dev", side.ifname)
        url = f"http://{bracket(lab.a.ip6)}:{programs.PYTHON_PORT}/big"
        client = lab.spawn(lab.b, ["curl", "-sS", "-o", "/dev/null", url], tto=True)
        if client.wait(20) != 0:
            raise LabError(client.output())
        assert_af_xdp(client, 1 << 20)
        lab.check_balance()


if __name__ == "__main__":
    support.main({t.__name__: t for t in (privileges, side_by_side, wildcard, no_link_local)}, __doc__)
