#!/usr/bin/env python3
"""Figures of a document of 100,000 routes, on one node and on three, on this machine.

The document comes in by applies of 20,000 routes (some 5 MB each); then changes of one route are
timed, from the call to its answer (live on the node, or on all three), and restarts, from the start
of the process to its announcement that it serves.
Usage: benches/large.py TOLLGATE_BINARY [ROUTES]. Loopback only.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from cluster import Node, settle, three

STEP = 20_000


def upstream(number):
    return {"nodes": {f"10.0.{number}.1:80": 1}}


def route(number):
    place = f"/team-{number % 300}/svc-{number}"
    return {
        "uri": f"{place}/*",
        "methods": ["GET", "POST"],
        "upstream_id": f"u{number % 100}",
        "plugins": {"jwt-auth": {}, "proxy-rewrite": {"regex_uri": [f"^{place}/(.*)", "/$1"]}},
    }


def timed(node, method, path, body):
    """Seconds until the answer, which must be good."""
    begun = time.monotonic()
    status, answer = node.ask(method, path, body, timeout=120)
    assert status in (200, 201), answer
    return time.monotonic() - begun


def memory_mb(node):
    for line in Path(f"/proc/{node.process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def fill(node, routes, who):
    timed(node, "POST", "/admin/apply", {"upstreams": {f"u{n}": upstream(n) for n in range(100)}})
    took = []
    for first in range(0, routes, STEP):
        body = {"routes": {f"r{n}": route(n) for n in range(first, min(first + STEP, routes))}}
        took.append(timed(node, "POST", "/admin/apply?wait=all", body))
    shown = ", ".join(f"{each:.1f}" for each in took)
    print(f"{who}: applies of {STEP} routes, live on all: {shown} s; {memory_mb(node):.0f} MB")


def change(node, routes, who, count=100):
    took = []
    for number in range(count):
        path = f"/admin/routes/r{number * 1_999 % routes}?wait=all"
        took.append(timed(node, "PUT", path, {"uri": f"/x{number}/*", "upstream_id": "u1"}) * 1e3)
    took.sort()
    print(
        f"{who}: one change, live on all: p50 {took[count // 2]:.1f} ms,"
        f" p99 {took[count * 99 // 100]:.1f} ms, most {took[-1]:.1f} ms"
    )


def restart(node, end, rounds=3):
    took = []
    for _ in range(rounds):
        getattr(node.process, end)()
        node.process.wait()
        begun = time.monotonic()
        node.start()
        took.append(time.monotonic() - begun)
    shown = ", ".join(f"{each:.2f}" for each in took)
    print(f"restart after {end}: {shown} s")


def main():
    binary = Path(sys.argv[1]).resolve()
    routes = int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    print(f"load average at the start: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        node = Node(binary, Path(name), "alone").start()
        try:
            fill(node, routes, "one node")
            change(node, routes, "one node")
            restart(node, "terminate")
            restart(node, "kill")
        finally:
            node.process.kill()
            node.process.wait()
    with tempfile.TemporaryDirectory() as name:
        nodes = three(binary, Path(name))
        try:
            fill(nodes[0], routes, "three nodes")
            change(nodes[1], routes, "three nodes")
            restart(nodes[2], "terminate", 1)
            settle(nodes)
        finally:
            for node in nodes:
                node.process.kill()
                node.process.wait()


if __name__ == "__main__":
    main()
