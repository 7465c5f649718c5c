"""The unmodified programs that tests, benchmarks and the quickstart run in the lab, and how each is started."""
import hashlib
import os
import tempfile
from pathlib import Path

from lab import LabError

REDIS_PORT, NGINX_PORT, PYTHON_PORT, IPERF_PORT, SOCKPERF_PORT = 6379, 8080, 8000, 5201, 11111


def bracket(address):
    return f"[{address}]" if ":" in address else address


def start_redis(lab, side, **options):
    argv = ["redis-server", "--port", REDIS_PORT, "--bind", side.ip4, side.ip6, "127.0.0.1", "--protected-mode", "no",
            "--save", "", "--appendonly", "no", "--daemonize", "no"]
    return lab.spawn(side, argv, **options).await_listen(REDIS_PORT)


def redis_benchmark(lab, side, server, tests, requests, clients=50, pipeline=1, seconds=120, keyspace=100000, **options):
    """{test: requests per second}"""
    argv = ["redis-benchmark", "-h", server, "-p", REDIS_PORT, "-t", ",".join(tests), "-n", requests, "-c", clients,
            "-P", pipeline, "-d", 64, "-r", keyspace, "--csv"]
    program = lab.run(side, argv, seconds=seconds, **options)
    rows = [line.replace('"', "").split(",") for line in program.output().splitlines() if line.startswith('"')]
    rates = {row[0].lower(): float(row[1]) for row in rows if row[0] != "test"}
    if set(rates) != set(tests):
        raise LabError(f"redis-benchmark printed no figure for {set(tests) - set(rates)}:\n{program.output()}")
    return rates, program


def start_nginx(lab, side, root, workers=1, **options):
    """One process that is master and worker at once, or a master with workers; serves the files of `root`."""
    prefix = Path(tempfile.mkdtemp(prefix="nginx-", dir=lab.work))
    prefix.chmod(0o777)
    master = f"worker_processes {workers}; master_process on;" if workers > 1 else "worker_processes 1; master_process off;"
    (prefix / "nginx.conf").write_text(f"""
{master}
daemon off;
error_log stderr;
pid {prefix}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile off; tcp_nodelay on; keepalive_requests 1000000000;
  client_body_temp_path {prefix}; proxy_temp_path {prefix}; fastcgi_temp_path {prefix};
  uwsgi_temp_path {prefix}; scgi_temp_path {prefix};
  server {{ listen {NGINX_PORT}; listen [::]:{NGINX_PORT}; root {root}; }}
}}
""")
    argv = ["nginx", "-p", prefix, "-c", prefix / "nginx.conf", "-e", "stderr"]
    return lab.spawn(side, argv, **options).await_listen(NGINX_PORT)


def make_files(lab, sizes):
    """Files of unforeseeable content for a web server: {name: sha256}."""
    root = lab.dir / "www"
    root.mkdir(exist_ok=True)
    root.chmod(0o755)
    hashes = {}
    for name, size in sizes.items():
        digest = hashlib.sha256()
        with open(root / name, "wb") as out:
            left = size
            while left:
                block = os.urandom(min(left, 1 << 20))
                digest.update(block)
                out.write(block)
                left -= len(block)
        (root / name).chmod(0o644)
        hashes[name] = digest.hexdigest()
    return root, hashes


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def curl(lab, side, url, into, seconds=120, **options):
    return lab.run(side, ["curl", "-sS", "--fail", "-g", "--max-time", seconds, "-o", into, url], seconds=seconds + 5,
                   **options)


def wrk(lab, side, url, connections, duration, **options):
    """Requests per second; fails on any socket error or status that is not 2xx."""
    program = lab.run(side, ["wrk", "-t1", f"-c{connections}", f"-d{duration}s", "--latency", url],
                      seconds=duration + 30, **options)
    text = program.output()
    if "Socket errors" in text or "Non-2xx" in text or "Requests/sec:" not in text:
        raise LabError(f"wrk saw errors:\n{text}")
    return float(text.split("Requests/sec:")[1].split()[0]), program
