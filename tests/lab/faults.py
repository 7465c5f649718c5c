"""The lab's bad link: two veth pairs, and tests/lab/faultlink between their far ends.

A plan is text, "loss=1%,reorder=1%,duplicate=0.5%,corrupt=0.1%,delay=5ms,rate=100mbit", or the same as a dict; in a dict
"a_to_b" and "b_to_a" may be plans of one direction, and "seed" chooses the dice (1). The words are in faults.hh. What the link
did is printed when the lab ends, and counts() tells it before.

Segmentation offload is off on such a link, so that a fault befalls one frame and not an aggregate. Both ends know each
other's MAC for good: nothing but the test's own traffic is on the link, and no ARP to be lost.
"""
import json
import signal
import subprocess

from host import LabError, add_veth, await_until, sh


def plan_text(plan):
    return plan if isinstance(plan, str) else ",".join(f"{k}={v}" for k, v in plan.items())


class FaultLink:
    def __init__(self, lab, plan):
        self.lab = lab
        self.netns = f"tto-lab-f-{lab.tag}"
        self.ends = [f"ttf{letter}{lab.tag}"[:15] for letter in "ab"]
        self.process = None
        self.final = None
        plan = {"faults": plan} if isinstance(plan, str) else dict(plan)
        self.arguments = []
        for key, option in (("seed", "--seed"), ("faults", "--faults"), ("a_to_b", "--a-to-b"), ("b_to_a", "--b-to-a")):
            if key in plan:
                self.arguments += [option, plan_text(plan.pop(key)) if key != "seed" else str(plan.pop(key))]
        if plan:
            self.arguments = ["--faults", plan_text(plan)] + self.arguments  # a direction's own words come after

    def add_links(self, a, b, mtu):
        """The link of the lab, each end a (namespace, name), cut in two."""
        sh("ip", "netns", "add", self.netns)
        sh("sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1", netns=self.netns)  # it has nothing to say itself
        for end, ours in zip((a, b), self.ends):
            add_veth(end, (self.netns, ours), mtu)
            # A queue before each end makes the carrier wait for a slow receiver; without one the frame is lost.
            sh("tc", "qdisc", "add", "dev", ours, "root", "pfifo", "limit", 4096, netns=self.netns)
            sh("ip", "link", "set", ours, "up", netns=self.netns)

    def start(self):
        program = self.lab.build / "tests" / "lab" / "faultlink"
        if not program.exists():
            raise LabError(f"{program} is not built")
        self.log = self.lab.record / "faultlink.log"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.netns}", "--", "setpriv", "--pdeathsig", "TERM", "--", str(program),
                 *self.ends, *self.arguments], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        self.await_lines(1)

    def await_lines(self, number):
        def enough():
            lines = self.log.read_text().splitlines()
            if len(lines) >= number:
                return lines
            if self.process.poll() is not None:
                raise LabError(f"faultlink ended with {self.process.returncode}: {self.log.read_text()}")
            return None
        return await_until(enough, "faultlink")

    def counts(self):
        """{direction: {what: how many}} so far; after the end, in all."""
        if self.final:
            return self.final
        before = len(self.log.read_text().splitlines())
        self.process.send_signal(signal.SIGUSR1)
        return self.with_link_drops(json.loads(self.await_lines(before + 1)[-1]))

    def with_link_drops(self, counts):
        """Frames that the interfaces lost, which is no fault of the plan: a test may want there to be none."""
        for end, direction in zip(self.ends, ("b_to_a", "a_to_b")):
            shown = json.loads(sh("ip", "-j", "-s", "link", "show", "dev", end, netns=self.netns))[0]["stats64"]
            counts[direction]["link_dropped"] = shown["tx"]["dropped"]
        return counts

    def stop(self):
        if not self.process or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
            self.final = self.with_link_drops(json.loads(self.log.read_text().splitlines()[-1]))
            for direction, counts in self.final.items():
                print(f"faults {direction}: " + ", ".join(f"{k} {v}" for k, v in counts.items() if v), flush=True)
        except (subprocess.TimeoutExpired, ValueError, IndexError, LabError) as error:
            self.process.kill()
            self.process.wait(10)
            print(f"faultlink: no counts: {error}", flush=True)
