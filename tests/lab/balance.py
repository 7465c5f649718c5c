"""Does every frame have exactly one fate? From what processes count, and what ttod's BPF programs count of them."""
import json

from host import LabError, await_until

# Reasons of the transmit check that only a broken or hostile sender gives. Late segments of a released tuple, and neighbours
# and interfaces that have gone, are other matters.
NEVER_DROPPED = {"drop_malformed", "drop_ethertype", "drop_not_tcp", "drop_fragment", "drop_length", "drop_source_mac"}


def check(lab):
    check_fates(lab)
    check_programs(lab)


def check_fates(lab):
    """Every received frame has exactly one fate (A5)."""
    for s in lab.all_statistics():
        c = s["counters"]
        drops = {k: v for k, v in c.items() if k.startswith("drop_") and v}
        fates = c["rx_frame_delivered"] + c["rx_frame_passed"] + sum(drops.values())
        if c["rx_frame"] != fates:
            raise LabError(f"pid {s['pid']}: {c['rx_frame']} frames received, {fates} accounted for: "
                           f"delivered {c['rx_frame_delivered']}, passed {c['rx_frame_passed']}, {drops}")


def check_programs(lab):
    """The same for what lies between the processes and the link, by the counts of ttod's BPF programs: whatever a process
    sent was let out or dropped for a reason; whatever was steered reached its process or was dropped on the way. Frames
    on their way are waited for; those of processes that have ended since are nobody's."""
    if not lab.ttod or lab.ttod.poll() is not None:
        return
    if lab.ttod_starts > 1:  # what was counted of ports that went with an earlier ttod is gone
        return
    wrong = ""

    def agrees():
        nonlocal wrong
        wrong = imbalance(lab)
        return not wrong
    try:
        await_until(agrees, "the counts to agree", 3)
    except LabError:
        raise LabError(wrong) from None


def imbalance(lab):
    live = [p for p in lab.programs if p.tto and p.is_running()]
    views = [v for p in live for v in json.loads(lab.tto("stat", p.pid, "--json"))["processes"]]
    taken = sum(s["counters"]["rx_frame"] for s in lab.all_statistics())
    for v in views:
        for port in v.get("ports", [])[:1]:
            checked = sum(port["transmit_check"].values())
            if checked != v["counters"]["tx_frame"]:
                return f"pid {v['pid']}: {v['counters']['tx_frame']} frames sent, {checked} checked: {port}"
            broken = {k: n for k, n in port["transmit_check"].items() if n and k in NEVER_DROPPED}
            if broken:
                return f"pid {v['pid']}: the transmit check dropped what libtto must never send: {broken}"
    if not any("steering" in v for v in views):
        return ""
    lost = sum(n for v in views for port in v["ports"] for n in port["receive_drops"].values())
    steering = next(v["steering"] for v in views if "steering" in v)
    steered = sum(n for k, n in steering.items() if not k.startswith("pass_"))
    all_live = len(live) == lab.started_on_tto
    if taken + lost > steered or all_live and taken + lost != steered:
        return f"{steered} frames steered to processes, {taken} taken by them, {lost} dropped on the way: {steering}"
    return ""
