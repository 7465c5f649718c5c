"""What the system tests share: the four modes, skipping loudly, and the proof that traffic really ran over AF_XDP."""
import os
import shutil
import sys
import traceback
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(TOP / "tests" / "lab"))
from lab import Lab, LabError, await_until, find_build  # noqa: E402,F401

SKIPPED = 77
PYTHON = "/usr/bin/python3"
# Who is on libtto. "kernel" runs the same script on the kernel alone: it shows that the script itself is right.
MODES = {"kernel": (False, False), "server": (True, False), "client": (False, True), "both": (True, True)}


def skip(reason):
    print(f"SKIP {reason}")
    sys.exit(SKIPPED)


def require(*programs, tto=True):
    """Skips unless this machine can run the test. What the build should have made and did not is a failure."""
    if os.geteuid() != 0:
        skip("needs root")
    for program in programs:
        if not shutil.which(program):
            skip(f"{program} is not installed")
    if tto:
        build = find_build()
        for part in (build / "preload" / "libtto_preload.so", build / "kmod-helper" / "ttod"):
            if not part.exists():
                sys.exit(f"FAILED {part.relative_to(build)} is not built in {build}")


def sum_of(statistics, name):
    return sum(s["counters"].get(name, 0) for s in statistics)


def assert_af_xdp(program, payload_bytes, allowed=None):
    """The program moved at least this payload over AF_XDP, and the kernel served none of its connections."""
    allowed = allowed or FINISHED
    statistics = program.statistics()
    if not statistics:
        raise LabError(f"{program.argv[0]}: no statistics page: nothing ran on libtto")
    moved = sum_of(statistics, "rx_frame_byte") + sum_of(statistics, "tx_frame_byte")
    fallen = {k: v for s in statistics for k, v in s["counters"].items()
              if k.startswith("kernel_") and v and k[len("kernel_"):] not in allowed}
    if moved < payload_bytes:
        raise LabError(f"{program.argv[0]}: {moved} bytes over AF_XDP, {payload_bytes} expected; kernel: {fallen}")
    if fallen:
        raise LabError(f"{program.argv[0]}: some connections were served by the kernel: {fallen}")


# A server that also listens where nothing is accelerated says so without any connection being lost to the kernel.
# Neither are connections that the kernel only finishes, because their process ends or forks.
FINISHED = ("undecided", "handed_over_exit", "handed_over_exec", "handed_over_fork", "forked")
LISTENER = (*FINISHED, "no_nic", "local")


def assert_paths(mode, server, clients, payload_bytes):
    """After a test: whoever should have been on libtto was, and the frames of each add up."""
    on_server, on_client = MODES[mode]
    if on_server:
        assert_af_xdp(server, payload_bytes, LISTENER)
    for client, bytes_ in clients if on_client else []:
        assert_af_xdp(client, bytes_)
    server.lab.check_balance()


def main(tests, usage):
    """Runs tests[argv[1]](*argv[2:]) and turns what it raises into an exit status."""
    if len(sys.argv) < 2 or sys.argv[1] not in tests:
        sys.exit(f"usage: {usage}\n  {' '.join(tests)}")
    try:
        tests[sys.argv[1]](*sys.argv[2:])
    except (LabError, AssertionError) as error:
        traceback.print_exc()
        print(f"FAILED {' '.join(sys.argv[1:])}: {error}")
        sys.exit(1)
    print(f"ok {' '.join(sys.argv[1:])}")
