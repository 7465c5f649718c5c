#!/usr/bin/env python3
"""The lab: two network namespaces joined by a veth pair, ttod, and ordinary programs run as user nobody.

    with Lab(mtu=1500) as lab:
        server = lab.spawn(lab.a, ["redis-server", …], tto=True)
        lab.run(lab.b, ["redis-cli", "-h", lab.a.ip4, "ping"])

    Lab(faults="loss=1%,delay=5ms")   the link between them is bad: see faults.py

Everything a lab makes carries its name (tto-lab-…), and a record of its owner, so that `lab.py cleanup` can remove what
a killed run left behind, and only that. Leaving the `with` block removes all of it and then looks for leaks.
Needs root. Standard library only: the system tests, tools/bench and tools/quickstart stand on it.
"""
import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import balance
from faults import FaultLink
from host import LabError, add_veth, await_until, sh

TOP = Path(__file__).resolve().parent.parent.parent
RECORDS = Path("/run")
PREFIX = "tto-lab-"
PINS = f"/sys/fs/bpf/{PREFIX}"
USER = "nobody"


def interrupt_on_signals():
    """SIGTERM and SIGHUP end the program as Ctrl-C does: by KeyboardInterrupt, so that labs are removed."""
    def interrupt(number, frame):
        raise KeyboardInterrupt
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


@contextlib.contextmanager
def no_interruption():
    """Someone who presses Ctrl-C twice still gets everything removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_time(pid):
    """Of a process, in clock ticks since boot: with the pid, its identity. None if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def find_build():
    """The build tree to take programs from: $TTO_BUILD, else build/release, else build/dev."""
    for candidate in [os.environ.get("TTO_BUILD"), TOP / "build" / "release", TOP / "build" / "dev"]:
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    raise LabError("nothing is built: cmake --preset release && cmake --build --preset release")


class Side:
    """One namespace of the lab and its end of the link."""

    def __init__(self, lab, letter, number):
        self.lab = lab
        self.letter = letter
        self.netns = f"{PREFIX}{letter}-{lab.tag}"
        self.ifname = f"tto{letter}{lab.tag}"[:15]
        self.ip4 = f"10.77.0.{number}"
        self.ip6 = f"fd77::{number}"
        # The second link, which ttod is told to leave alone.
        self.plain_ifname = f"ttp{letter}{lab.tag}"[:15]
        self.plain_ip4 = f"10.78.0.{number}"

    def ip(self, family):
        return self.ip6 if family == 6 else self.ip4

    def sh(self, *argv, check=True):
        return sh(*argv, check=check, netns=self.netns)

    def listens(self, port):
        return bool(self.sh("ss", "-Hltn", f"sport = :{port}").strip())


class Program:
    """A program started in the lab: its process, its output file, and (under tto) its statistics, kept past its end."""

    def __init__(self, lab, side, argv, process, log, tto):
        self.lab, self.side, self.argv, self.process, self.log, self.tto = lab, side, argv, process, log, tto
        self.pid = process.pid
        self.pages = {}  # pid -> open fd of its stats page
        self.page_lock = threading.Lock()

    def output(self):
        return Path(self.log).read_text(errors="replace")

    def is_running(self):
        return self.process.poll() is None

    def await_listen(self, port, seconds=10.0):
        def ready():
            if not self.is_running():
                raise LabError(f"{self.argv[0]} ended with {self.process.returncode}:\n{self.output()}")
            return self.side.listens(port)
        await_until(ready, f"{self.argv[0]} to listen on port {port}", seconds)
        if self.tto and self.lab.ttod:
            # The kernel listens a moment before the lease is there; a client that comes in between is the kernel's. A
            # server that never gets one is not waited for: the proof of the path is the test's affair.
            try:
                await_until(lambda: port in self.lab.steered_ports(), "the lease", 3)
            except LabError:
                pass
        return self

    def wait(self, seconds):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LabError(f"{' '.join(self.argv)}: not finished after {seconds} s:\n{self.output()[-2000:]}") from None

    def stop(self, how=signal.SIGTERM):
        if self.is_running():
            self.process.send_signal(how)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
                if how == signal.SIGTERM:
                    raise LabError(f"{self.argv[0]}: did not end on SIGTERM:\n{self.output()[-2000:]}") from None

    def look_for_page(self):
        """Opens the stats page of the process as soon as it has one: it then outlives the process."""
        for pid in process_tree(self.pid):
            if pid in self.pages:
                continue
            fd = open_memfd(pid, "tto-stats")
            if fd is not None:
                with self.page_lock:
                    self.pages[pid] = fd

    def statistics(self):
        """What `tto stat --json` says of each of its processes; also after they ended."""
        if self.is_running():
            self.look_for_page()
        return [self.lab.read_page(fd) for fd in self.pages.values()]

    def close_pages(self):
        for fd in self.pages.values():
            os.close(fd)
        self.pages.clear()


def process_tree(pid):
    found = [pid]
    for p in found:
        try:
            for task in os.listdir(f"/proc/{p}/task"):
                found += [int(c) for c in Path(f"/proc/{p}/task/{task}/children").read_text().split()]
        except OSError:
            pass
    return found


def open_memfd(pid, name):
    folder = f"/proc/{pid}/fd"
    try:
        for fd in os.listdir(folder):
            try:
                if os.readlink(f"{folder}/{fd}").startswith(f"/memfd:{name}"):
                    return os.open(f"{folder}/{fd}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
    except OSError:
        pass
    return None


class Lab:
    def __init__(self, mtu=1500, offload=True, static_neighbours=False, with_ttod=True, second_link=False,
                 config_lines=(), keep_log=False, faults=None):
        self.tag = f"{os.getpid() % 1000000}"
        self.mtu, self.offload, self.static_neighbours = mtu, offload, static_neighbours
        self.with_ttod, self.second_link, self.config_lines = with_ttod, second_link, list(config_lines)
        self.a, self.b = Side(self, "a", 1), Side(self, "b", 2)
        self.record = RECORDS / f"{PREFIX}{self.tag}"
        self.socket = self.record / "ttod.sock"
        self.pin_dir = Path(f"{PINS}{self.tag}")
        self.programs = []
        self.started = 0
        self.ttod = None
        self.ttod_starts = 0
        self.started_on_tto = 0
        self.dir = None
        self.build = find_build()
        self.faults = FaultLink(self, faults) if faults else None
        self.keep_log = keep_log
        self.watcher_stop = threading.Event()
        self.watcher = None

    # --- life -----------------------------------------------------------------------------------------------------
    def __enter__(self):
        if os.geteuid() != 0:
            raise LabError("the lab needs root")
        cleanup()
        try:
            self.set_up()
        except BaseException:
            with no_interruption():
                self.tear_down()
            raise
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None and kind is not KeyboardInterrupt:
            self.show_logs()
        with no_interruption():
            self.tear_down()
        left = self.leaks()
        if left and kind is None:
            raise LabError("left behind: " + "; ".join(left))
        return False

    def set_up(self):
        self.record.mkdir(mode=0o755)
        self.dir = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        self.dir.chmod(0o755)
        (self.record / "owner").write_text(f"{os.getpid()} {start_time(os.getpid())}\n{self.dir}\n")
        self.work = self.dir / "work"  # where programs may write
        self.work.mkdir()
        user = pwd.getpwnam(USER)
        os.chown(self.work, user.pw_uid, user.pw_gid)
        self.preload = None
        library = self.build / "preload" / "libtto_preload.so"
        if library.exists():  # copied: nobody may not be able to read the checkout
            self.preload = self.dir / library.name
            shutil.copyfile(library, self.preload)
            self.preload.chmod(0o755)
        for side in (self.a, self.b):
            sh("ip", "netns", "add", side.netns)
            side.sh("ip", "link", "set", "lo", "up")
        self.join(self.a.ifname, self.b.ifname, "10.77.0", "fd77::", self.faults)
        if self.second_link:
            self.join(self.a.plain_ifname, self.b.plain_ifname, "10.78.0", None)
        if self.static_neighbours or self.faults:  # ARP has no checksum: a corrupted answer would stay for minutes
            self.fix_neighbours()
        else:
            self.meet()
        self.watcher = threading.Thread(target=self.watch, daemon=True)
        self.watcher.start()
        if self.with_ttod:
            self.start_ttod()

    def join(self, name_a, name_b, net4, net6, faults=None):
        if faults:
            faults.add_links((self.a.netns, name_a), (self.b.netns, name_b), self.mtu)
        else:
            add_veth((self.a.netns, name_a), (self.b.netns, name_b), self.mtu)
        for side, name, number in ((self.a, name_a, 1), (self.b, name_b, 2)):
            if faults:
                side.sh("ethtool", "-K", name, "gro", "off", "gso", "off", "tso", "off")
            side.sh("ip", "address", "add", f"{net4}.{number}/24", "dev", name)
            if net6:
                side.sh("ip", "-6", "address", "add", f"{net6}{number}/64", "dev", name, "nodad")
            if not self.offload:
                side.sh("ethtool", "-K", name, "gro", "off", "gso", "off", "tso", "off", "tx", "off", "rx", "off")
            side.sh("ip", "link", "set", name, "up")
        if faults:
            faults.start()

    def meet(self):
        """A packet to nobody, and both kernels know each other's MAC."""
        self.b.sh("bash", "-c", f"echo >/dev/udp/{self.a.ip4}/9", check=False)
        try:
            await_until(lambda: "lladdr" in self.b.sh("ip", "neigh", "show", self.a.ip4), "the neighbour", 2)
        except LabError:
            pass  # some tests begin with a link that is not up

    def fix_neighbours(self):
        for side, peer in ((self.a, self.b), (self.b, self.a)):
            mac = json.loads(peer.sh("ip", "-j", "link", "show", "dev", peer.ifname))[0]["address"]
            for address in (peer.ip4, peer.ip6):
                side.sh("ip", "neigh", "replace", address, "lladdr", mac, "dev", side.ifname, "nud", "permanent")

    def tear_down(self):
        self.watcher_stop.set()
        for program in self.programs:
            try:
                program.stop(signal.SIGKILL)
            except LabError:
                pass
            program.close_pages()
        self.stop_ttod()
        if self.faults:
            self.faults.stop()
        remove_lab(self.record)

    # --- ttod -----------------------------------------------------------------------------------------------------
    def write_config(self):
        """The daemon's configuration: both namespaces, only the main link, nobody may use it."""
        lines = [f'socket = "{self.socket}"',
                 f'pin_dir = "{self.pin_dir}"',
                 f'interfaces = ["{self.a.ifname}", "{self.b.ifname}"]',
                 "[xdp]", "detach_after_ms = 0",
                 "[port]",
                 *self.config_lines]
        path = self.record / "ttod.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def start_ttod(self):
        self.ttod_starts += 1
        daemon = self.build / "kmod-helper" / "ttod"
        if not daemon.exists():
            raise LabError(f"{daemon} is not built")
        config = self.write_config()
        log = open(self.record / "ttod.log", "ab")
        self.ttod = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", str(daemon), "--foreground", "--config", str(config)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        log.close()
        (self.record / "ttod.pid").write_text(f"{self.ttod.pid} {start_time(self.ttod.pid)}\n")

        def ready():
            if self.ttod.poll() is not None:
                raise LabError(f"ttod ended with {self.ttod.returncode}:\n{self.ttod_log()}")
            return self.socket.is_socket()
        await_until(ready, "ttod's socket", 20)

    def stop_ttod(self, how=signal.SIGTERM):
        if self.ttod and self.ttod.poll() is None:
            self.ttod.send_signal(how)
            try:
                self.ttod.wait(10)
            except subprocess.TimeoutExpired:
                self.ttod.kill()
                self.ttod.wait(10)
        self.ttod = None

    def kill_ttod(self):
        """As a crash would: nothing is said to anyone."""
        self.ttod.kill()
        self.ttod.wait(10)
        self.ttod = None

    def map_entries(self):
        """{map: entries} of the steering tables that still hold something."""
        found = {}
        for name in ("tto_flt", "tto_olt"):
            pin = next(self.pin_dir.rglob(name), None) if self.pin_dir.exists() else None
            if pin:
                entries = json.loads(sh("bpftool", "-j", "map", "dump", "pinned", pin))
                if entries:
                    found[name] = len(entries)
        return found

    def steered_ports(self):
        """Ports in the listen table."""
        pin = next(self.pin_dir.rglob("tto_olt"), None)
        entries = json.loads(sh("bpftool", "-j", "map", "dump", "pinned", pin)) if pin else []
        return {int.from_bytes(e["formatted"]["key"]["port"].to_bytes(2, "little"), "big") for e in entries}

    def has_xdp(self, side):
        return "prog/xdp" in side.sh("ip", "-d", "link", "show", "dev", side.ifname)

    def pinned_kib(self):
        """Memory the kernel pinned for ttod."""
        status = Path(f"/proc/{self.ttod.pid}/status").read_text()
        return sum(int(l.split()[1]) for l in status.splitlines() if l.startswith(("VmPin:", "VmLck:")))

    def ttod_log(self):
        try:
            return (self.record / "ttod.log").read_text(errors="replace")
        except OSError:
            return ""

    # --- programs -------------------------------------------------------------------------------------------------
    def spawn(self, side, argv, tto=False, cpu=None, env=None, user=USER, profile=None, stdin=None, nice=None,
              pass_fds=(), capabilities=()):
        """Starts a program in a namespace as an ordinary user with no capability but those named; with tto, under the preload library."""
        argv = [str(a) for a in argv]
        variables = {"HOME": str(self.work), "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C",
                     **(env or {})}
        if tto:
            if not self.preload:
                raise LabError(f"{self.build}/preload/libtto_preload.so is not built")
            variables["LD_PRELOAD"] = str(self.preload)
            variables["TTO_HELPER"] = str(self.socket)
            if profile:
                variables["TTO_PROFILE"] = profile
        caps = ",".join(["-all"] + [f"+{c}" for c in capabilities])
        command = ["nsenter", f"--net=/run/netns/{side.netns}", f"--wdns={self.work}", "--",
                   "setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups", f"--inh-caps={caps}",
                   f"--ambient-caps={caps}", f"--bounding-set={caps}", "--no-new-privs", "--pdeathsig", "KILL", "--"]
        if nice is not None:
            command += ["nice", "-n", str(nice)]
        if cpu is not None:
            command += ["taskset", "-c", str(cpu)]
        command += ["env", "-i"] + [f"{k}={v}" for k, v in variables.items()] + argv
        self.started += 1
        self.started_on_tto += bool(tto)
        log = self.dir / f"{self.started}-{os.path.basename(argv[0])}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT,
                                       stdin=stdin or subprocess.DEVNULL, pass_fds=pass_fds)
        program = Program(self, side, argv, process, log, tto)
        self.programs.append(program)
        return program

    def run(self, side, argv, seconds=60.0, check=True, **options):
        """Runs a program to its end and returns it; .output() is what it printed."""
        program = self.spawn(side, argv, **options)
        code = program.wait(seconds)
        if check and code != 0:
            raise LabError(f"{' '.join(program.argv)}: exit status {code}:\n{program.output()[-3000:]}")
        return program

    def watch(self):
        """Keeps the stats pages of accelerated programs, so that short ones can be read after their end."""
        while not self.watcher_stop.wait(0.002):
            for program in self.programs[:]:
                if program.tto and program.is_running() and not program.pages:
                    program.look_for_page()

    def program(self, name):
        """One of our own programs, copied to where nobody can run it."""
        copy = self.dir / name
        if not copy.exists():
            found = next((p for p in (self.build / "tests" / "bench" / name, self.build / "tests" / "system" / name,
                                      self.build / "tests" / "preload" / name) if p.exists()), None)
            if not found:
                raise LabError(f"{name} is not built in {self.build}")
            shutil.copyfile(found, copy)
            copy.chmod(0o755)
        return copy

    # --- what happened --------------------------------------------------------------------------------------------
    def tto(self, *argv):
        tool = self.build / "tools" / "tto"
        if not tool.exists():
            raise LabError(f"{tool} is not built")
        done = subprocess.run([str(tool), *map(str, argv)], capture_output=True, text=True, close_fds=False,
                              env={**os.environ, "TTO_HELPER": str(self.socket)})
        if done.returncode != 0:
            raise LabError(f"tto {' '.join(map(str, argv))}: {done.stderr.strip()}")
        return done.stdout

    def read_page(self, fd):
        return json.loads(self.tto("stat", "--json", "--page", f"/proc/{os.getpid()}/fd/{fd}"))["processes"][0]

    def all_statistics(self):
        return [s for p in self.programs if p.tto for s in p.statistics()]

    def check_balance(self):
        """Every frame has exactly one fate (A5)."""
        balance.check(self)

    def show_logs(self):
        for program in self.programs:
            print(f"--- {' '.join(program.argv)} (tto={program.tto}, exit={program.process.poll()})", file=sys.stderr)
            print(program.output()[-1500:], file=sys.stderr)
        if self.ttod or (self.record / "ttod.log").exists():
            print(f"--- ttod\n{self.ttod_log()[-3000:]}", file=sys.stderr)

    def leaks(self):
        """What this lab made and is still there after tear_down."""
        namespaces = [s.netns for s in (self.a, self.b)] + ([self.faults.netns] if self.faults else [])
        left = [f"namespace {n}" for n in namespaces if Path(f"/run/netns/{n}").exists()]
        left += [f"record {self.record}"] if self.record.exists() else []
        pins = self.pin_dir
        left += [f"BPF pin {p}" for p in pins.rglob("*")] if pins.exists() else []
        links = sh("ip", "-br", "link", check=False)
        left += [f"link {n}" for n in (self.a.ifname, self.b.ifname) if n in links]
        return left


# --- leftovers of killed runs -----------------------------------------------------------------------------------------
def alive(text):
    pid, started = (text.split() + ["", ""])[:2]
    return pid.isdigit() and started != "" and start_time(int(pid)) == started


def remove_lab(record):
    """Removes all that a lab with this record made. Idempotent."""
    tag = record.name[len(PREFIX):]
    pid_file = record / "ttod.pid"
    if pid_file.exists() and alive(pid_file.read_text()):
        pid = int(pid_file.read_text().split()[0])
        os.kill(pid, signal.SIGTERM)
        try:
            await_until(lambda: start_time(pid) is None or not alive(pid_file.read_text()), "ttod to end", 5)
        except LabError:
            os.kill(pid, signal.SIGKILL)
    for letter in "habf":  # h: the hidden one of a benchmark; f: of the fault link
        netns = f"{PREFIX}{letter}-{tag}"
        if not Path(f"/run/netns/{netns}").exists():
            continue
        for pid in sh("ip", "netns", "pids", netns, check=False).split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        await_until(lambda n=netns: not sh("ip", "netns", "pids", n, check=False).split(), f"{netns} to empty", 10)
        # Deleting the devices by name first makes their end synchronous; a namespace goes later, in the background.
        for name in (f"tto{letter}{tag}"[:15], f"ttp{letter}{tag}"[:15]):
            sh("ip", "link", "del", name, check=False, netns=netns)
        sh("ip", "netns", "del", netns, check=False)
    pins = Path(f"{PINS}{tag}")
    if pins.exists():
        shutil.rmtree(pins, ignore_errors=True)
    restore = record / "restore"
    if restore.exists():  # host-wide settings a benchmark changed
        for path, value in json.loads(restore.read_text()).items():
            Path(path).write_text(value)
    owner = record / "owner"
    if owner.exists():
        lines = owner.read_text().splitlines()
        if len(lines) > 1 and lines[1].startswith(f"/tmp/{PREFIX}"):
            shutil.rmtree(lines[1], ignore_errors=True)
    shutil.rmtree(record, ignore_errors=True)


def cleanup(verbose=False):
    """Removes labs whose owner is gone."""
    removed = 0
    for record in sorted(RECORDS.glob(f"{PREFIX}*")):
        owner = record / "owner"
        if owner.exists() and alive(owner.read_text()):
            continue
        if not owner.exists() and time.time() - record.stat().st_mtime < 5:
            continue  # being made at this moment
        remove_lab(record)
        removed += 1
        if verbose:
            print(f"removed {record.name}")
    return removed


if __name__ == "__main__":
    if sys.argv[1:] == ["cleanup"]:
        cleanup(verbose=True)
    elif sys.argv[1:] == ["shell"]:  # a lab to look around in
        with Lab(with_ttod=False) as shown:
            print(f"namespaces {shown.a.netns} ({shown.a.ip4}, {shown.a.ip6}) and {shown.b.netns}; "
                  f"leave the shell to remove them")
            subprocess.run([os.environ.get("SHELL", "/bin/sh")], check=False)
    else:
        sys.exit("usage: lab.py cleanup | shell")
