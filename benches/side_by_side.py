#!/usr/bin/env python3
"""CPU per request of tollgate and nginx as reverse proxies to the same tiny upstream.

Both run on this machine, in this run, in turns, with keep-alive on both sides. Three contests:
plain (clear text, nothing asked; tollgate's audit file is on), tls (the same behind TLS 1.3), and
full (tollgate with JWT, a limit and the audit file; nginx plain). Needs nginx, wrk and openssl.
Usage: benches/side_by_side.py TOLLGATE_BINARY [ROUNDS] [SECONDS] [CONTEST...]. Loopback only.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

KEY = "a-key-for-this-run-only"
SECRET = "a-secret-of-forty-characters-for-this-run"


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
        f"events {{ worker_connections 16384; }}\n"
        f"http {{ access_log off; keepalive_requests 1000000; {http} }}\n"
    )
    return subprocess.Popen(["nginx", "-p", prefix, "-c", prefix / "nginx.conf"])


def wait_for(port):
    """Returns when something listens."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on {port}")


def certificate(folder):
    """A certificate and key for 127.0.0.1, as PEM files."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "1", "-subj", "/CN=localhost", "-out", cert, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


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


def load(url, seconds, pid, headers=()):
    """Requests served, and CPU microseconds a request of the proxy."""
    before = cpu_seconds(pid)
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s"]
    for header in headers:
        command += ["-H", header]
    text = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(pid) - before
    assert "Non-2xx" not in text, text
    served = int(re.search(r"(\d+) requests in", text).group(1))
    return served, spent * 1e6 / served


def put(admin, path, body):
    """Puts a resource through tollgate's Admin API."""
    request = urllib.request.Request(
        f"http://{admin}/apisix/admin/{path}",
        data=json.dumps(body).encode(),
        headers={"X-API-KEY": KEY},
        method="PUT",
    )
    urllib.request.urlopen(request).read()


def start_tollgate(binary, folder, port, upstream, https=None):
    """A node with two routes: /x asks nothing, /full asks for a token and counts."""
    any_port = "127.0.0.1:0"
    settings = folder / "settings.json"
    members = {}
    if https:
        cert, key = certificate(folder)
        members = {"https": f"127.0.0.1:{https}", "tls": {"cert": str(cert), "key": str(key)}}
    settings.write_text(json.dumps(members))
    command = [binary, "run", "--announce", "--data", folder / "tollgate", "--settings", settings]
    command += ["--http", f"127.0.0.1:{port}", "--admin", any_port, "--metrics", any_port]
    environment = {**os.environ, "TOLLGATE_ADMIN_KEY": KEY}
    log = open(folder / "tollgate.log", "w")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
    node = subprocess.Popen(command, env=environment, **pipes)
    admin = json.loads(node.stdout.readline())["admin"]
    nodes = {"nodes": {f"127.0.0.1:{upstream}": 1}}
    put(admin, "routes/plain", {"uri": "/x", "upstream": nodes})
    put(admin, "routes/full", {"uri": "/full", "upstream": nodes, "plugins": {"jwt-auth": {}}})
    jwt = {"jwt-auth": {"key": "bench", "secret": SECRET}}
    put(admin, "consumers/bench", {"username": "bench", "plugins": jwt})
    put(admin, "limits/all", {"per": "agent", "rate": 10_000_000, "burst": 1_000_000})
    return node


def token():
    """A JWT of the one agent."""

    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"key": "bench", "exp": int(time.time()) + 3_600}
    head = encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    signed = head + b"." + encode(json.dumps(claims).encode())
    return (signed + b"." + encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256))).decode()


def proxy_block(listen, upstream):
    return (
        f"upstream tiny {{ server 127.0.0.1:{upstream}; keepalive 128; keepalive_requests 1000000; }}"
        f" server {{ {listen} location / {{ proxy_pass http://tiny; proxy_http_version 1.1;"
        f' proxy_set_header Connection ""; }} }}'
    )


def main():
    binary = Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    seconds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    contests = sys.argv[4:] or ["plain", "tls", "full"]
    tiny, plain, secure, ours, ours_secure = (free_port() for _ in range(5))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream = nginx(
            folder, "upstream", 1, f"server {{ listen 127.0.0.1:{tiny}; return 200 'hello'; }}"
        )
        node = start_tollgate(binary, folder, ours, tiny, ours_secure)
        tls = f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;"
        listen = f"listen 127.0.0.1:{plain} reuseport; listen 127.0.0.1:{secure} ssl reuseport; {tls}"
        proxy = nginx(folder, "proxy", 2, proxy_block(listen, tiny))
        sides = {
            "plain": (f"http://127.0.0.1:{plain}/x", f"http://127.0.0.1:{ours}/x", ()),
            "tls": (f"https://127.0.0.1:{secure}/x", f"https://127.0.0.1:{ours_secure}/x", ()),
            "full": (
                f"http://127.0.0.1:{plain}/x",
                f"http://127.0.0.1:{ours}/full",
                (f"Authorization: Bearer {token()}",),
            ),
        }
        try:
            for port in (plain, secure, ours_secure):
                wait_for(port)
            for contest in contests:
                contend(contest, rounds, seconds, proxy.pid, node.pid, sides[contest])
        finally:
            for process in (node, proxy, upstream):
                process.terminate()
                process.wait()


def contend(contest, rounds, seconds, nginx_pid, tollgate_pid, sides):
    theirs, ours, headers = sides
    ratios = []
    for turn in range(rounds):
        served, cost = {}, {}
        for who, pid, url in (("nginx", nginx_pid, theirs), ("tollgate", tollgate_pid, ours)):
            served[who], cost[who] = load(url, seconds, pid, headers)
        ratios.append(cost["tollgate"] / cost["nginx"])
        print(
            f"{contest} {turn + 1}: nginx {served['nginx'] / seconds:.0f}/s {cost['nginx']:.1f} us,"
            f" tollgate {served['tollgate'] / seconds:.0f}/s {cost['tollgate']:.1f} us,"
            f" ratio {ratios[-1]:.2f}"
        )
    print(f"{contest}: CPU per request, tollgate over nginx: median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
