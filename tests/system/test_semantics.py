#!/usr/bin/env python3
"""What programs see of their sockets over AF_XDP is what they see of the kernel's: semantics.c runs the same scenarios at
both ends of the lab's link, once on the kernel and once on libtto, and every line it prints must be the same.

usage: test_semantics.py 4|6 server|client|both
"""
import difflib
import sys

import support
from support import MODES, LabError

PORT = 7100


def ends(lab, family, mode):
    """The lines of both ends."""
    on_server, on_client = MODES[mode]
    address = lab.a.ip(int(family))
    program = lab.program("semantics")
    server = lab.spawn(lab.a, [program, "serve", address, PORT], tto=on_server).await_listen(PORT)
    client = lab.run(lab.b, [program, "call", address, PORT], tto=on_client, check=False)
    server.wait(30)
    for end in (server, client):
        if end.process.returncode != 0 or end.output().splitlines()[-1:] != ["done"]:
            raise LabError(f"{mode}: {' '.join(str(a) for a in end.argv)} ended with {end.process.returncode} after\n"
                           f"{end.output()[-1500:]}")
    return server, client


def compare(what, expected, got):
    lines = list(difflib.unified_diff(expected.output().splitlines(), got.output().splitlines(), "kernel", "libtto",
                                      lineterm="", n=2))
    if lines:
        print(f"-- {what}:")
        print("\n".join(lines))
    return not lines


def semantics(family, mode):
    support.require()
    with support.Lab() as lab:
        kernel = ends(lab, family, "kernel")
        ours = ends(lab, family, mode)
        same = [compare(what, e, g) for what, e, g in zip(("server", "client"), kernel, ours)]
        for on_tto, end in zip(MODES[mode], ours):
            if on_tto and support.sum_of(end.statistics(), "rx_frame") < 100:
                raise LabError(f"{end.argv[1]}: did not run on AF_XDP")
        if not all(same):
            raise LabError("the ends saw something else than on the kernel")
        lab.check_balance()


if __name__ == "__main__":
    support.main({f: (lambda mode, family=f: semantics(family, mode)) for f in ("4", "6")}, __doc__)
