#!/usr/bin/env python3
"""Adds up what tests/run left in a folder: CTest's JUnit files and its own steps. Lists every failure and every skipped
test with its reason; the last line is "N passed, N failed, N skipped". Exit status 1 if anything failed."""
import re
import sys
import xml.etree.ElementTree as xml
from pathlib import Path


def outcomes(folder):
    """(outcome, name, reason) of everything that ran or should have."""
    steps = folder / "steps"
    for line in steps.read_text().splitlines() if steps.exists() else []:
        outcome, name, reason = (line.split("\t") + [""])[:3]
        yield outcome, name, reason
    for file in sorted(folder.glob("*.xml")):
        try:
            cases = list(xml.parse(file).getroot().iter("testcase"))
        except xml.ParseError as error:
            yield "FAIL", file.stem, f"unreadable results: {error}"
            continue
        for case in cases:
            name = f"{file.stem}: {case.get('name')}"
            said = case.findtext("system-out") or ""
            why = next((l for l in said.splitlines() if l.startswith("SKIP")), "")
            if case.find("failure") is not None or case.get("status") == "fail":
                yield "FAIL", name, ""
            elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
                yield "skip", name, why or "not run"
            else:
                # A GoogleTest program counts by its cases, and says which of them skipped themselves.
                ran = re.search(r"\[  PASSED  \] (\d+) test", said)
                for _ in range(int(ran.group(1)) if ran else 1):
                    yield "pass", name, ""
                for case_name in sorted(set(re.findall(r"\[  SKIPPED \] ([\w/.]+)$", said, re.M))):
                    yield "skip", f"{name}: {case_name}", ""


def main():
    folder = Path(sys.argv[1])
    count = {"pass": 0, "FAIL": 0, "skip": 0}
    for outcome, name, reason in outcomes(folder):
        count[outcome] += 1
        if outcome == "FAIL":
            print(f"FAILED   {name}  {reason}")
        elif outcome == "skip":
            print(f"SKIPPED  {name}  {reason}")
    if count["skip"]:
        print(f"!!!! {count['skip']} tests were SKIPPED: they show nothing about this machine or this build")
    print(f"{count['pass']} passed, {count['FAIL']} failed, {count['skip']} skipped")
    sys.exit(1 if count["FAIL"] or not count["pass"] else 0)


if __name__ == "__main__":
    main()
