#!/usr/bin/env python3
"""Checks of the source tree that a compiler does not make; each is a test of its own (tests/CMakeLists.txt).

  includes    who may include whom: the table below, anything else is an error
  headers     every .hh compiles alone (cached in .cache/ by content)
  registered  every source file of tests/ is named by a CMakeLists.txt
  length      no source file above 600 lines
  words       no word that marks unfinished work
"""
import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
MAX_LINES = 600

# Layer -> what it may include of the project, as path prefixes. Its own folder is always allowed.
RING_FORMATS = "libtto/device/wqe.hh"  # the shapes that cross the rings: device <-> socket
LAYERS = {
    "libtto/base": [],
    "libtto/stats": ["libtto/base"],
    "libtto/wire": ["libtto/base", "libtto/stats"],
    "libtto/memory": ["libtto/base", "libtto/stats"],
    "libtto/port": ["libtto/base", "libtto/stats", "libtto/memory", "kmod-helper/protocol"],
    "libtto/device": ["libtto/base", "libtto/stats", "libtto/wire", "libtto/memory", "libtto/port/frame_port.hh",
                      "libtto/tcp/segment.hh"],
    "libtto/tcp": ["libtto/base", "libtto/stats", "libtto/wire", "libtto/memory/region_layout.h"],
    "libtto/socket": ["libtto/base", "libtto/stats", "libtto/wire", "libtto/memory", "libtto/tcp", RING_FORMATS],
    "libtto/control": ["libtto/base", "libtto/stats", "libtto/wire", "kmod-helper/protocol"],
    "libtto/stack": ["libtto", "kmod-helper/protocol"],
    "libtto/include": [],
    "preload": ["libtto/include", "tto/", "libtto/base", "libtto/stats", "libtto/socket", "libtto/stack"],
    "kmod-helper": ["libtto/base", "libtto/stats", "libtto/wire", "libtto/memory", "libtto/port"],
    "tools": ["tto/", "libtto/stats", "libtto/memory/region_layout.h", "libtto/base", "libtto/tcp/state.hh",
              "libtto/wire", "libtto/port", "kmod-helper/protocol"],
    "tests": [""],
    "examples": ["tto/"],
}
SOURCE = (".cc", ".hh", ".h", ".c", ".py", ".def")
UNFINISHED = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK", "st" + "ub"]) + r")\b")


def tracked():
    """Files of the project: what git knows and what it would add; without git, what lies there."""
    try:
        out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--deduplicate"], cwd=TOP,
                             capture_output=True, text=True, check=True).stdout.split("\n")
        return [f for f in out if f and (TOP / f).is_file()]
    except (OSError, subprocess.CalledProcessError):
        skip = {"build", ".git", ".cache", "__pycache__"}
        return [str(p.relative_to(TOP)) for p in TOP.rglob("*")
                if p.is_file() and not skip & set(p.relative_to(TOP).parts)]


def read(name):
    return (TOP / name).read_text(errors="replace")


def check_includes(files):
    for name in files:
        layer = next((l for l in sorted(LAYERS, key=len, reverse=True) if name.startswith(l + "/")), None)
        if layer is None or not name.endswith((".cc", ".hh", ".h", ".c", ".def")):
            continue
        for number, line in enumerate(read(name).split("\n"), 1):
            m = re.match(r'\s*#\s*include\s+(?:"([^"]+)"|<((?:tto|libtto|kmod-helper)/[^>]+)>)', line)
            if not m:
                continue
            wanted = m.group(1) or m.group(2)
            if "/" not in wanted or wanted.startswith(layer + "/"):
                continue  # a neighbour in the same folder, or generated beside it
            if not (TOP / wanted).exists() and not wanted.startswith("tto/"):
                continue  # a system or generated header
            if not any(wanted.startswith(ok) for ok in LAYERS[layer]):
                yield f"{name}:{number}: {layer} may not include {wanted}"


def check_registered(files):
    lists = {f: read(f) for f in files if f.endswith("CMakeLists.txt")}
    for name in files:
        if not name.startswith("tests/") or not name.endswith((".cc", ".c")):
            continue
        folder, found = Path(name).parent, False
        while not found and str(folder) != ".":
            text = lists.get(f"{folder}/CMakeLists.txt", "")
            relative = str(Path(name).relative_to(folder))
            found = re.search(r"(^|[\s/(\"])" + re.escape(relative) + r"($|[\s)\"])", text) is not None
            folder = folder.parent
        if not found:
            yield f"{name}: no CMakeLists.txt names it, so nobody builds or runs it"
    system = lists.get("tests/system/CMakeLists.txt", "")
    for name in files:
        if re.fullmatch(r"tests/system/test_\w+\.py", name) and Path(name).stem not in system:
            yield f"{name}: tests/system/CMakeLists.txt does not name it"


def check_length(files):
    for name in files:
        if name.endswith(SOURCE) and name.split("/")[0] in ("libtto", "preload", "kmod-helper", "tools", "tests"):
            lines = read(name).count("\n")
            if lines > MAX_LINES:
                yield f"{name}: {lines} lines (limit {MAX_LINES}): split it by meaning"


def check_words(files):
    for name in files:
        if name.split("/")[0] in ("libtto", "preload", "kmod-helper", "tools", "tests", "docs"):
            for number, line in enumerate(read(name).split("\n"), 1):
                if UNFINISHED.search(line):
                    yield f"{name}:{number}: {line.strip()[:100]}"


def header_key(name, memo):
    """Hash of a header and of everything of ours it includes."""
    if name in memo:
        return memo[name]
    memo[name] = ""  # a cycle contributes once
    text = read(name)
    parts = [text]
    for wanted in re.findall(r'#\s*include\s+["<]([^">]+)[">]', text):
        for base in ("", "libtto/include/", str(Path(name).parent) + "/"):
            if (TOP / (base + wanted)).is_file():
                parts.append(header_key(base + wanted, memo))
                break
    memo[name] = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return memo[name]


def check_headers(files):
    compiler = os.environ.get("CXX", "g++")
    flags = ["-std=c++20", "-fsyntax-only", "-D_GNU_SOURCE", '-DTTO_VERSION="0"', "-I.", "-Ilibtto/include", "-Wall",
             "-Wextra", "-Wno-pragma-once-outside-header"]
    if not compiler.startswith("clang"):
        flags.pop()
    cache_file = TOP / ".cache" / "headers.json"
    try:
        known = set(json.loads(cache_file.read_text()))
    except (OSError, ValueError):
        known = set()
    memo = {}
    keys = {f: f"{compiler} {header_key(f, memo)}" for f in files if f.endswith(".hh")}
    todo = [f for f in keys if keys[f] not in known]

    def compile_one(name):
        run = subprocess.run([compiler, *flags, "-x", "c++", "-include", name, "/dev/null"], cwd=TOP,
                             capture_output=True, text=True)
        return name, run.returncode, run.stderr

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(compile_one, todo))
    good = {keys[n] for n, code, _ in results if code == 0} | (known & set(keys.values()))
    cache_file.parent.mkdir(exist_ok=True)
    fresh = cache_file.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(sorted(good)))
    fresh.rename(cache_file)
    for name, code, errors in results:
        if code != 0:
            yield f"{name}: does not compile alone\n{errors}"


CHECKS = {"includes": check_includes, "headers": check_headers, "registered": check_registered,
          "length": check_length, "words": check_words}


def main():
    wanted = sys.argv[1:] or list(CHECKS)
    unknown = [w for w in wanted if w not in CHECKS]
    if unknown:
        sys.exit(f"usage: check_layers.py [{'|'.join(CHECKS)}]…")
    files = tracked()
    bad = 0
    for check in wanted:
        found = list(CHECKS[check](files))
        for line in found:
            print(f"{check}: {line}")
        bad += len(found)
        print(f"{check}: {len(found)} found in {len(files)} files")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
