#!/usr/bin/env python3
"""What programs see of a TCP socket over AF_XDP is what they see of the kernel's.

Each behaviour (behaviour.h) is one function that both ends of a connection run. Here all of them run in the lab, once with
nobody on libtto and once with the server, the client, or both on it; every line that an end prints must be the same. A
behaviour whose sockets were not accelerated shows nothing, and fails.

usage: diff.py [4] [6] [server] [client] [both] [BEHAVIOUR…] [--awaiting]   default: all but those that await something
"""
import difflib
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "system"))
import support  # noqa: E402
from support import MODES, LabError  # noqa: E402

# These hand a connection over to the kernel, whose TIME-WAIT then takes the next connection of the same tuple, by design:
# to be run by name, on their own. The last of them differs (docs/support.md).
AWAITING_HANDOVER = {
    "S13_child_serves", "S13_both_write", "S13_child_shuts_down", "S13_exec_keeps_it", "S13_spawned_program_serves",
    "S14_passed_on", "S8_splice", "S8_stdio", "S1_connect_to_nowhere_dissolves",
    "S16_asynchronous_io_signals", "S13_listener_in_the_child"}
# The kernel serves these sockets by design.
MAY_BE_KERNEL = {"S13_listener_in_the_child", "S2_unconnected"}
SILENT = {4: "10.77.0.250", 6: "fd77::250"}


class Run:
    """One pass over the behaviours, restarted after each that hangs or dies."""

    def __init__(self, lab, family, mode, port, names):
        self.lab, self.family, self.mode, self.port, self.names = lab, family, mode, port, names
        self.found = ({}, {})  # of server and client: name -> (lines, paths)
        self.problems = {}
        self.error = None

    def go(self):
        try:
            names = list(self.names)
            while names:
                names = self.attempt(names)
        except Exception as error:  # told by the main thread
            self.error = error

    def attempt(self, names):
        """The names that are left to run after this."""
        ends, sockets = [], socket.socketpair()
        for role, side, on_tto, end in zip(("serve", "call"), (self.lab.a, self.lab.b), MODES[self.mode], sockets):
            argv = [self.lab.program("behaviours"), role, end.fileno(), self.lab.a.ip(self.family), SILENT[self.family],
                    self.port, *names]
            ends.append(self.lab.spawn(side, argv, tto=on_tto, pass_fds=[end.fileno()]))
        for end in sockets:
            end.close()
        for end in ends:
            end.wait(120)
        self.port += 20
        begun = None
        for found, end in zip(self.found, ends):
            for name, text in re.findall(r"^# begin (\S+)\n(.*?)(?=^# begin|\Z)", end.output(), re.M | re.S):
                begun = name if begun is None or names.index(name) > names.index(begun) else begun
                lines = text.splitlines()
                found[name] = ([line for line in lines if not line.startswith("#")],
                               [line.split()[2:] for line in lines if line.startswith("# path")])
        codes = [end.process.returncode for end in ends]
        if codes == [0, 0]:
            return []
        if begun is None:
            raise LabError(f"{self.mode}: nothing ran: {codes}\n{ends[0].output()}\n{ends[1].output()}")
        self.problems[begun] = f"the ends ended with {codes}"
        return names[names.index(begun) + 1:]


def difference(name, kernel, ours):
    """What a behaviour showed that it should not have; empty if it behaved."""
    if name in ours.problems:
        said = "\n".join(f"{end}: {line}" for end, found in zip(("server", "client"), ours.found)
                         for line in found.get(name, ([], []))[0][-3:])
        return f"{ours.problems[name]}\n{said}"
    told = []
    for end, on_tto, expected, got in zip(("server", "client"), MODES[ours.mode], kernel.found, ours.found):
        lines, paths = got[name]
        told += difflib.unified_diff(expected[name][0], lines, f"{end} on the kernel", f"{end}, {ours.mode} on libtto", "",
                                     "", 1, "")
        if on_tto and lines and name not in MAY_BE_KERNEL and (not paths or any(p[0] != "af_xdp" for p in paths)):
            told.append(f"{end}: was not accelerated: {paths}")
    return "\n".join(told)


def judge(names, runs):
    failed = 0
    for name in names:
        bad = []
        for family in sorted({family for family, _ in runs}):
            kernel = runs[family, "kernel"]
            if name in kernel.problems:
                bad.append((f"IPv{family} kernel", difference(name, kernel, kernel)))
                continue
            for (of, mode), run in runs.items():
                told = difference(name, kernel, run) if of == family and mode != "kernel" else ""
                if told:
                    bad.append((f"IPv{family} {mode}", told))
        failed += bool(bad)
        print(f"{'DIFFERS' if bad else 'same'} {name}" + "".join(f" [{where}]" for where, _ in bad))
        for where, told in bad:
            print(f"-- {where}\n{told}")
    return failed


def main(arguments):
    support.require()
    awaiting = "--awaiting" in arguments
    arguments = [a for a in arguments if a != "--awaiting"]
    families = [int(a) for a in arguments if a in ("4", "6")] or [4, 6]
    modes = [a for a in arguments if a in MODES and a != "kernel"] or ["server", "client", "both"]
    begin = time.monotonic()
    with support.Lab() as lab:
        every = subprocess.run([lab.program("behaviours"), "list"], capture_output=True, text=True, check=True).stdout.split()
        names = [a for a in arguments if a in every] or [n for n in every if awaiting or n not in AWAITING_HANDOVER]
        for address in SILENT.values():  # resolves, and never answers
            lab.b.sh("ip", "neigh", "replace", address, "lladdr", "02:00:00:00:00:01", "dev", lab.b.ifname, "nud", "permanent")
        runs = {(family, mode): Run(lab, family, mode, 10000 + 2000 * i, names)
                for i, (family, mode) in enumerate((f, m) for f in families for m in ["kernel", *modes])}
        threads = [threading.Thread(target=run.go) for run in runs.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for run in runs.values():
            if run.error:
                raise run.error
        failed = judge(names, runs)
        lab.check_balance()
    print(f"{len(names)} behaviours, {failed} differ, {len(AWAITING_HANDOVER - set(names))} await handover, "
          f"{time.monotonic() - begin:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
