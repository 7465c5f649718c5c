"""Commands on this host, run as root, and waiting for what they bring about."""
import subprocess
import time


class LabError(Exception):
    pass


def sh(*argv, check=True, netns=None):
    """Runs a set-up command as root; its output as text."""
    argv = [str(a) for a in argv]
    if netns:
        argv = ["nsenter", f"--net=/run/netns/{netns}", "--"] + argv
    done = subprocess.run(argv, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def await_until(condition, what, seconds=10.0):
    """Waits for a condition of the outside world (a port that listens, a socket file); its value."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds} s for {what}")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def add_veth(one, other, mtu):
    """A veth pair between two ends, each a (namespace, name)."""
    sh("ip", "link", "add", one[1], "netns", one[0], "mtu", mtu, "type", "veth", "peer", "name", other[1], "netns", other[0],
       "mtu", mtu)
