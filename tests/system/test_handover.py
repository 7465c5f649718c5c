#!/usr/bin/env python3
"""Connections become the kernel's in the middle of a transfer, both ways, by everything that only the kernel can serve,
by fork, exec and exit: every byte arrives, in order, and the end of the stream is seen (handover.c).

usage: test_handover.py TRIGGER 4|6 server|client|both [COUNT [BYTES [SEED]]]
  TRIGGER    what the libtto end does (in mode both: the client): option splice stream pass spawn fork-child fork-close
             fork-exec fork-parent exec exit
  COUNT      connections, one after the other; BYTES each way: 2000000 by default
"""
import random
import sys

import support
from support import MODES, LabError

PORT = 7200
TRIGGERS = ("option", "splice", "stream", "pass", "spawn", "fork-child", "fork-close", "fork-exec", "fork-parent", "exec",
            "exit")


def handed_over(statistics):
    return {k: v for s in statistics for k, v in s["counters"].items() if k.startswith("kernel_handed_over_") and v}


def handover(trigger, family, mode, count="4", size="2000000", seed=None):
    support.require()
    seed = int(seed) if seed is not None else random.SystemRandom().randrange(1 << 32)
    count, size = int(count), int(size)
    print(f"seed {seed}")
    on_server, on_client = MODES[mode]
    inward = 0 if trigger == "exit" else size
    with support.Lab() as lab:
        address = lab.a.ip(int(family))
        program = lab.program("handover")
        ours, theirs = (trigger, "none") if on_client else ("none", trigger)
        server = lab.spawn(lab.a, [program, "serve", address, PORT, count, theirs, seed], tto=on_server)
        server.await_listen(PORT)
        client = lab.spawn(lab.b, [program, "call", address, PORT, count, ours, seed, size, inward], tto=on_client)
        for end in (client, server):
            end.wait(60 + count)
        statistics = (client if on_client else server).statistics()
        moved = handed_over(statistics)
        refused = support.sum_of(statistics, "handover_refused")
        print(f"{trigger} {mode} IPv{family}: {count} connections, {moved}, "
              f"{support.sum_of(statistics, 'handover_injected')} packets injected, {refused} refused; "
              f"{', '.join(line for line in client.output().splitlines() if line.startswith('longest'))}", flush=True)
        for end in (client, server):
            if end.process.returncode != 0 and end.tto:
                print(end.argv[1], {k: v for s in end.statistics() for k, v in s["counters"].items() if v})
        for end in (client, server):
            if end.process.returncode != 0 or end.output().splitlines()[-1:] != [f"done {count}"]:
                raise LabError(f"{mode}: {end.argv[1]} ended with {end.process.returncode} after\n{end.output()[-1500:]}")
        if (sum(moved.values()) == 0 and trigger != "fork-parent") or refused > 0:
            raise LabError(f"nothing was handed over: {moved}, {refused} refused")
        if support.sum_of(statistics, "socket_lost") > 0:
            raise LabError("a call found its connection lost")


if __name__ == "__main__":
    support.main({t: (lambda family, mode, *rest, trigger=t: handover(trigger, family, mode, *rest)) for t in TRIGGERS},
                 __doc__)
