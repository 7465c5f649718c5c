#!/usr/bin/env python3
"""The preload library shows the names of exports.map and no other, needs libc and nothing else, and runs no code of its
own when it is loaded.

usage: check_exports.py LIBRARY EXPORTS_MAP
"""
import re
import subprocess
import sys

NEEDED = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2"}


def tool(*argv):
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def main(library, export_map):
    problems = []
    with open(export_map) as f:
        wanted = set(re.findall(r"^\s+(\w+);", f.read(), re.M))
    if len(wanted) < 50:
        problems.append(f"{export_map}: only {len(wanted)} names")
    shown = {line.split()[-1].split("@")[0] for line in tool("nm", "-D", "--defined-only", library).splitlines()}
    problems += [f"shown, not wanted: {name}" for name in sorted(shown - wanted)]
    problems += [f"wanted, not shown: {name}" for name in sorted(wanted - shown)]
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", tool("readelf", "-d", library)))
    problems += [f"needs {name}" for name in sorted(needed - NEEDED)]
    # libstdc++'s emergency pool is the one constructor that comes with it.
    constructors = [line.split()[-1] for line in tool("nm", library).splitlines() if "_GLOBAL__sub_I" in line]
    problems += [f"constructor: {name}" for name in constructors if "eh_alloc" not in name]
    for problem in problems:
        print(problem)
    print(f"{len(shown)} names shown, {len(needed)} libraries needed")
    return 1 if problems else 0


sys.exit(main(*sys.argv[1:]))
