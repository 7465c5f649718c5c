#!/usr/bin/env python3
"""Runs a program with and without the preload library; output and end must be the same, line by line.

usage: differential.py LIBRARY [--also LIBRARY] PROGRAM [ARGUMENT…]
"""
import difflib
import os
import subprocess
import sys


def run(argv, preload):
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    env["TTO_HELPER"] = "/nonexistent/ttod.sock"  # no helper: everything is the kernel's
    if preload:
        env["LD_PRELOAD"] = " ".join(preload)
    done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, text=True)
    return [f"exit {done.returncode}"] + done.stdout.splitlines()


def main(library, *argv):
    also = []
    if argv[0] == "--also":
        also, argv = [argv[1]], argv[2:]
    expected, got = run(argv, also), run(argv, [library] + also)
    if len(expected) < 4:
        print(f"{argv[0]} says too little to judge by: {expected}")
        return 1
    if expected != got:
        print("\n".join(difflib.unified_diff(expected, got, "kernel", "preload", lineterm="")))
        return 1
    print(f"{len(expected)} lines, the same")
    return 0


sys.exit(main(*sys.argv[1:]))
