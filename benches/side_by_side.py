#!/usr/bin/env python3
"""CPU per request of tollgate and nginx as plain reverse proxies to the same tiny upstream.

Both run on this machine, in this run, in turns, with keep-alive on both sides. Needs nginx and
wrk. Usage: benches/side_by_side.py TOLLGATE_BINARY [ROUNDS] [SECONDS]. Loopback only.
"""

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

KEY = "a-key-for-this-run-only"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nginx(folder, name, workers, http):
    """Starts an nginx whose `http` block is given."""
    prefix = folder / name
    prefix.mkdir()
    (prefix / "nginx.conf").write_text(
        f"worker_processes {workers}; daemon off; pid {prefix}/pid; error_log {prefix}/error.log;\n"
        f"events {{ worker_connections 4096; }}\n"
        f"http {{ access_log off; keepalive_requests 1000000; {http} }}\n"
    )
    return subprocess.Popen(["nginx", "-p", prefix, "-c", prefix / "nginx.conf"])


def cpu_seconds(pid):
    """CPU time of a process and its children so far."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        pids += [int(child) for child in (task / "children").read_text().split()]
    ticks = 0
    for each in pids:
        fields = Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def load(url, seconds, pid):
    """Requests served, and CPU microseconds a request of the proxy."""
    before = cpu_seconds(pid)
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(pid) - before
    assert "Non-2xx" not in text, text
    served = int(re.search(r"(\d+) requests in", text).group(1))
    return served, spent * 1e6 / served


def start_tollgate(binary, folder, port, upstream):
    any_port = "127.0.0.1:0"
    command = [binary, "run", "--announce", "--data", folder / "tollgate"]
    command += ["--http", f"127.0.0.1:{port}", "--admin", any_port, "--metrics", any_port]
    environment = {**os.environ, "TOLLGATE_ADMIN_KEY": KEY}
    log = open(folder / "tollgate.log", "w")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
    node = subprocess.Popen(command, env=environment, **pipes)
    admin = json.loads(node.stdout.readline())["admin"]
    route = {"uri": "/*", "upstream": {"nodes": {f"127.0.0.1:{upstream}": 1}}}
    request = urllib.request.Request(
        f"http://{admin}/apisix/admin/routes/all",
        data=json.dumps(route).encode(),
        headers={"X-API-KEY": KEY},
        method="PUT",
    )
    urllib.request.urlopen(request).read()
    return node


def main():
    binary = Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    tiny, plain, ours = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream = nginx(
            folder, "upstream", 1, f"server {{ listen 127.0.0.1:{tiny}; return 200 'hello'; }}"
        )
        proxy = nginx(
            folder,
            "proxy",
            2,
            f"upstream tiny {{ server 127.0.0.1:{tiny}; keepalive 128; keepalive_requests 1000000; }}"
            f"server {{ listen 127.0.0.1:{plain} reuseport; location / {{ proxy_pass http://tiny;"
            f' proxy_http_version 1.1; proxy_set_header Connection ""; }} }}',
        )
        node = start_tollgate(binary, folder, ours, tiny)
        try:
            contest(rounds, seconds, (proxy.pid, plain), (node.pid, ours))
        finally:
            for process in (node, proxy, upstream):
                process.terminate()
                process.wait()


def contest(rounds, seconds, nginx_at, tollgate_at):
    ratios = []
    for turn in range(rounds):
        served, cost = {}, {}
        for who, (pid, port) in {"nginx": nginx_at, "tollgate": tollgate_at}.items():
            served[who], cost[who] = load(f"http://127.0.0.1:{port}/x", seconds, pid)
        ratios.append(cost["tollgate"] / cost["nginx"])
        print(
            f"round {turn + 1}: nginx {served['nginx'] / seconds:.0f}/s {cost['nginx']:.1f} us,"
            f" tollgate {served['tollgate'] / seconds:.0f}/s {cost['tollgate']:.1f} us,"
            f" ratio {ratios[-1]:.2f}"
        )
    print(f"CPU per request, tollgate over nginx: median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
