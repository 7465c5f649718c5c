#!/usr/bin/env python3
"""B1: a bad link costs time, never bytes.

usage: test_faults.py TEST [ARGUMENT]
  b1 [MIB]      both ways at once over a bad link: kernel and libtto peers, IPv4 and IPv6; MIB each way (2)
  partial       what corruption is seen on a link that leaves the kernel's checksums unfinished, and what is not
"""
import re
import time

import support
from support import MODES, LabError, sum_of

PORT = 7200
BAD = "loss=1%,reorder=1%,duplicate=0.5%,corrupt=0.1%"
SEED = 20261122


def stream(lab, family, mode, mib, seed, port, seconds):
    """Both ends of a byte stream; what each printed is checked. Returns (server, client, seconds it took)."""
    on_server, on_client = MODES[mode]
    program, address, size = lab.program("byte_stream"), lab.a.ip(family), int(mib * (1 << 20))
    start = time.monotonic()
    server = lab.spawn(lab.a, [program, "serve", address, port, size, seed], tto=on_server).await_listen(port)
    client = lab.spawn(lab.b, [program, "call", address, port, size, seed], tto=on_client)
    for end in (client, server):
        end.wait(seconds)
    return server, client, time.monotonic() - start


def assert_intact(ends, what):
    for end in ends:
        if end.process.returncode != 0:
            raise LabError(f"{what}: {end.argv[1]} ended with {end.process.returncode}: {end.output()}")


def assert_no_other_loss(faults):
    """What was lost was lost by the plan, or the figures of a run would not be the plan's."""
    for direction, counts in faults.counts().items():
        other = {k: counts[k] for k in ("overrun", "too_long", "refused", "link_dropped") if counts[k]}
        if other:
            raise LabError(f"{direction}: the lab itself lost frames: {other}")


def b1(mib="2"):
    """Intact with loss, reordering, duplication and corruption at once; corruption is seen by whoever receives it."""
    support.require("ethtool", "tc")
    for mode in ("server", "client", "both"):
        with support.Lab(offload=False, faults={"faults": BAD, "seed": SEED}) as lab:
            for family in (4, 6):
                server, client, took = stream(lab, family, mode, float(mib), SEED + family, PORT + family,
                                              30 + 2 * float(mib))
                assert_intact((server, client), f"{mode}, IPv{family}")
                bad = 0
                for on_tto, end in zip(MODES[mode], (server, client)):
                    if on_tto:
                        support.assert_af_xdp(end, int(float(mib) * (1 << 20)), support.LISTENER)
                        bad += sum_of(end.statistics(), "drop_tcp_checksum") + sum_of(end.statistics(), "drop_ip_checksum")
                print(f"{mode} IPv{family}: {mib} MiB each way in {took:.2f} s; corrupt frames seen by libtto: {bad}",
                      flush=True)
            lab.check_balance()
            counts = lab.faults.counts().values()
            for fault in ("lost", "reordered", "duplicated", "corrupted"):
                if not all(c[fault] for c in counts):
                    raise LabError(f"the link was not bad enough: no frame {fault}: {lab.faults.counts()}")
            assert_no_other_loss(lab.faults)


def partial():
    """A kernel that leaves its checksums unfinished (transmit checksum offload, as on any veth) sends payload that no
    receiver can check, libtto as little as the kernel: tests/unit/wire shows which bits of such a frame are covered. What
    libtto sends has a full checksum, and every receiver sees that it is damaged."""
    support.require("ethtool", "tc")
    mib = 1
    for mode in ("kernel", "server", "client", "both"):
        with support.Lab(offload=True, with_ttod=mode != "kernel", faults={"corrupt_payload": "2%", "seed": SEED}) as lab:
            ends = stream(lab, 4, mode, mib, SEED, PORT, 60)[:2]
            for side, on_tto, end, peer_on_tto in zip((lab.a, lab.b), MODES[mode], ends, MODES[mode][::-1]):
                wrong = int(re.search(r"(\d+) wrong", end.output()).group(1))
                seen = (sum_of(end.statistics(), "drop_tcp_checksum") if on_tto else
                        int(re.search(r"TcpInCsumErrors +(\d+)", side.sh("nstat", "-asz", "TcpInCsumErrors")).group(1)))
                what = f"{mode}: {'libtto' if on_tto else 'kernel'} from {'libtto' if peer_on_tto else 'kernel'}: " \
                       f"{wrong} bytes wrong, {seen} frames seen to be corrupt"
                print(what, flush=True)
                if peer_on_tto and (wrong or not seen) or not peer_on_tto and (not wrong or seen):
                    raise LabError(what)
            lab.check_balance()


if __name__ == "__main__":
    support.main({t.__name__: t for t in (b1, partial)}, __doc__)
