#!/usr/bin/env python3
"""Which statements of the conformance list (R1…, S1…, M1…) have a test that bears their number.

  check_statements.py          fails if docs/support-tcp.md says "yes" or "partly" of a statement that no test bears, if
                               it leaves one out, or if a test bears the number of a statement it calls "no"
  check_statements.py --list   every statement with the tests that bear its number

A test bears a number by its name: R40_… of a GoogleTest case, R22_R23_… of a script; of programs in Python and C, by
naming the number at all. As a unit test it runs without arguments.
"""
import re
import sys
from collections import defaultdict
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
LAST = {"R": 80, "S": 17, "M": 8}
NUMBER = re.compile(r"(?<![A-Za-z0-9])([RSM])(\d{1,2})(?![0-9A-Za-z])")
CASE = re.compile(r"^(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)\s*\)", re.M)


def numbers_in_name(name):
    return [(kind, int(n)) for kind, n in re.findall(r"(?:^|_)([RSM])(\d{1,2})(?=_|$)", name)]


def tests_by_statement():
    found = defaultdict(set)
    for path in sorted((TOP / "tests").rglob("*")):
        name = str(path.relative_to(TOP / "tests"))
        if path.suffix == ".cc":
            for suite, case in CASE.findall(path.read_text()):
                for key in numbers_in_name(case):
                    found[key].add(f"{name}: {suite}.{case}")
        elif path.suffix == ".tcp":
            for key in numbers_in_name(path.stem):
                found[key].add(name)
        elif path.suffix in (".py", ".c"):
            for kind, n in NUMBER.findall(path.read_text()):
                found[(kind, int(n))].add(name)
    return found


def claims():
    """Statement number -> what docs/support-tcp.md says of it."""
    said = {}
    for line in (TOP / "docs/support-tcp.md").read_text().split("\n"):
        cells = [c.strip() for c in line.split("|")]
        if len(cells) < 4 or not re.match(r"R\d", cells[1]):
            continue
        text = cells[1]
        for first, last in re.findall(r"R(\d+)–R(\d+)", text):
            for n in range(int(first), int(last) + 1):
                said[n] = cells[2]
        for n in re.findall(r"R(\d+)", text):
            said[int(n)] = cells[2]
    return said


def main():
    tests = tests_by_statement()
    if sys.argv[1:] == ["--list"]:
        for kind, last in LAST.items():
            for n in range(1, last + 1):
                have = sorted(tests[(kind, n)])
                print(f"{kind}{n}: {len(have)}" + "".join(f"\n    {t}" for t in have))
        return
    if sys.argv[1:]:
        sys.exit(__doc__)
    said, bad = claims(), []
    for n in range(1, LAST["R"] + 1):
        state, have = said.get(n), tests[("R", n)]
        if state is None:
            bad.append(f"R{n}: docs/support-tcp.md does not mention it")
        elif state.startswith(("yes", "partly")) and not have:
            bad.append(f"R{n}: docs/support-tcp.md says {state}, and no test bears its number")
        elif state == "no" and have:
            bad.append(f"R{n}: docs/support-tcp.md says no, but there is {sorted(have)[0]}")
    print("\n".join(bad))
    print(f"statements: {len(bad)} found, {sum(1 for n in range(1, 81) if tests[('R', n)])} of 80 have tests")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
