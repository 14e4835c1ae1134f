#!/usr/bin/env python3
"""Figures of a cluster of three nodes on this machine.

Changes acknowledged per second with 1, 16 and 128 callers, at the leader and at a follower; from a
write to its being live on all nodes; from a suspension to the last node's refusal; from the end of
the leader to the next acknowledged change, with every acknowledged change looked for afterwards;
and what a request costs at a member, over what it costs at a node that is alone, in turns. Needs
nginx and wrk.
Usage: benches/cluster.py TOLLGATE_BINARY [SECONDS] [ROUNDS]. Loopback only.
"""

import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from side_by_side import KEY, free_port, load, nginx, put, wait_for

ENVIRONMENT = {**os.environ, "TOLLGATE_ADMIN_KEY": KEY}

LUA = """
local number, thread = 0, 0
function setup(t) t:set("id", thread); thread = thread + 1 end
function request()
  number = number + 1
  -- Never what is there already: that would be no change.
  local host = math.floor(number / 500) %% 250 .. "." .. number %% 250
  local body = '{"type":"roundrobin","nodes":{"10.0.' .. host .. ':80":' .. number .. '}}'
  local path = "/admin/upstreams/u" .. id .. "-" .. number %% 500
  return wrk.format("PUT", path, {["X-API-KEY"] = "%s"}, body)
end
"""


class Node:
    """One process; its data directory outlives it."""

    def __init__(self, binary, folder, name):
        self.binary, self.data, self.name = binary, folder / name, name
        self.http, self.process = f"127.0.0.1:{free_port()}", None

    def command(self, *words):
        done = subprocess.run(
            [self.binary, *words], env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def init(self):
        self.place("init")

    def join(self, member):
        token = member.command("cluster", "token", "--server", f"http://{member.admin}")
        self.place("join", "--member", member.cluster, "--token", token)

    def place(self, deed, *words):
        self.cluster = f"127.0.0.1:{free_port()}"
        site = ["--data", self.data, "--node", self.name, "--address", self.cluster]
        self.command("cluster", deed, *site, *words)

    def start(self):
        any_port = "127.0.0.1:0"
        doors = ["--http", self.http, "--admin", any_port, "--metrics", any_port]
        log = open(self.data.with_suffix(".log"), "a")
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
        command = [self.binary, "run", "--announce", "--data", self.data, *doors]
        self.process = subprocess.Popen(command, env=ENVIRONMENT, **pipes)
        self.admin = json.loads(self.process.stdout.readline())["admin"]
        return self

    def ask(self, method, path, body=None, timeout=40):
        connection = http.client.HTTPConnection(self.admin, timeout=timeout)
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"X-API-KEY": KEY})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or "null")

    def members(self):
        return self.ask("GET", "/admin/status")[1]["members"]


def leads(member):
    return member.get("role") == "leader"


def three(binary, folder):
    nodes = [Node(binary, folder, name) for name in ("a", "b", "c")]
    nodes[0].init()
    nodes[0].start()
    for node in nodes[1:]:
        node.join(nodes[0])
        node.start()
    nodes[0].command("cluster", "promote", "b", "c", "--server", f"http://{nodes[0].admin}")
    settle(nodes)
    return nodes


def settle(nodes):
    """Waits until all are there, one of them leads, and nobody is behind."""
    while True:
        members = [member for node in nodes for member in node.members()]
        if all(member.get("lag") == 0 for member in members) and any(map(leads, members)):
            return
        time.sleep(0.05)


def by_role(nodes):
    name = next(member["name"] for member in nodes[0].members() if leads(member))
    leader = next(node for node in nodes if node.name == name)
    return leader, next(node for node in nodes if node.name != name)


def writes(folder, node, role, seconds):
    script = folder / "put.lua"
    script.write_text(LUA % KEY)
    for callers in (1, 16, 128):
        command = ["wrk", "-t1", f"-c{callers}", f"-d{seconds}s", "-s", script]
        done = subprocess.run(
            [*command, f"http://{node.admin}"], capture_output=True, text=True, check=True
        )
        assert "Non-2xx" not in done.stdout, done.stdout
        rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout).group(1)
        print(f"acknowledged changes at the {role}, {callers} callers: {float(rate):.0f}/s")


def live_on_all(node, role, count=300):
    taken = []
    connection = http.client.HTTPConnection(node.admin, timeout=40)
    for number in range(count):
        body = json.dumps({"type": "roundrobin", "nodes": {f"10.0.1.{number % 250}:80": 1}})
        begun = time.monotonic()
        connection.request("PUT", "/admin/upstreams/live?wait=all", body, {"X-API-KEY": KEY})
        answer = connection.getresponse()
        answer.read()
        assert answer.headers["x-tollgate-live"] == "3/3", answer.headers
        taken.append((time.monotonic() - begun) * 1e3)
    taken.sort()
    print(
        f"write to live on all, asked at the {role}: p50 {taken[count // 2]:.1f} ms,"
        f" p99 {taken[count * 99 // 100]:.1f} ms, with the call and the looking"
    )


def failover(nodes, rounds):
    """From SIGKILL of the leader to the next acknowledged change at another node."""
    took, made = [], []
    for turn in range(rounds):
        leader, other = by_role(nodes)
        for number in range(20):
            name = f"f{turn}-{number}"
            status, _ = other.ask("PUT", f"/admin/upstreams/{name}", {"nodes": {"10.0.0.1:80": 1}})
            assert status in (200, 201), status
            made.append(name)
        leader.process.send_signal(signal.SIGKILL)
        begun = time.monotonic()
        while True:
            name = f"after{turn}"
            status, _ = other.ask("PUT", f"/admin/upstreams/{name}", {"nodes": {"10.0.0.1:80": 1}})
            if status in (200, 201):
                break
        took.append(time.monotonic() - begun)
        made.append(name)
        leader.process.wait()
        leader.start()
        settle(nodes)
    for node in nodes:
        lost = [name for name in made if node.ask("GET", f"/admin/upstreams/{name}")[0] != 200]
        assert not lost, f"{node.name} lost {lost}"
    shown = ", ".join(f"{each:.2f}" for each in sorted(took))
    print(f"failover: {shown} s; none of {len(made)} acknowledged changes lost")


def suspension(nodes, role, asked, rounds=30):
    """From the call that suspends an agent to its first refusal at the last node, asked all the
    time. Its requests go nowhere: one that is let through is answered with 502."""
    agent = {"username": "alice", "plugins": {"key-auth": {"key": "alice-key"}}}
    upstream = {"nodes": {f"127.0.0.1:{free_port()}": 1}}
    route = {"uri": "/s", "plugins": {"key-auth": {}}, "upstream": upstream}
    nodes[0].ask("PUT", "/admin/consumers/alice", agent)
    nodes[0].ask("PUT", "/admin/routes/s?wait=all", route)
    path, taken = "/admin/suspensions/agent/alice", []
    for _ in range(rounds):
        callers = [Caller(node) for node in nodes]
        begun = time.monotonic()
        status, answer = asked.ask("PUT", path, {"reason": "measured"})
        assert (status, answer["reach"]) == (200, "cluster"), answer
        taken.append((max(caller.refused() for caller in callers) - begun) * 1e3)
        assert asked.ask("DELETE", path)[0] == 200
        for node in nodes:
            while Caller(node, starts=False).once() == 403:
                time.sleep(0.01)
    taken.sort()
    print(
        f"suspension to the last node's refusal, asked at the {role}: p50"
        f" {taken[rounds // 2]:.1f} ms, most {taken[-1]:.1f} ms"
    )


class Caller:
    """Asks a node for what a suspended agent is refused, again and again."""

    def __init__(self, node, starts=True):
        self.connection = http.client.HTTPConnection(node.http, timeout=10)
        self.thread = threading.Thread(target=self.run)
        self.first = None
        if starts:
            self.thread.start()

    def run(self):
        while self.first is None:
            if self.once() == 403:
                self.first = time.monotonic()

    def once(self):
        self.connection.request("GET", "/s", headers={"apikey": "alice-key"})
        answer = self.connection.getresponse()
        answer.read()
        return answer.status

    def refused(self):
        self.thread.join()
        return self.first


def request_cost(binary, folder, nodes, seconds, rounds):
    """CPU of a request at a member, over that at a node alone."""
    tiny = free_port()
    upstream = nginx(
        folder, "upstream", 1, f"server {{ listen 127.0.0.1:{tiny}; return 200 'hello'; }}"
    )
    alone = Node(binary, folder, "alone").start()
    route = {"uri": "/x", "upstream": {"nodes": {f"127.0.0.1:{tiny}": 1}}}
    try:
        wait_for(tiny)
        for node in (alone, nodes[0]):
            put(node.admin, "routes/plain?wait=all", route)
        ratios = []
        for _ in range(rounds):
            cost = [
                load(f"http://{node.http}/x", seconds, node.process.pid)[1]
                for node in (alone, nodes[0])
            ]
            ratios.append(cost[1] / cost[0])
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"CPU a request, member over alone: {shown}; median {statistics.median(ratios):.2f}")
    finally:
        for process in (alone.process, upstream):
            process.terminate()
            process.wait()


def main():
    binary = Path(sys.argv[1]).resolve()
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nodes = three(binary, folder)
        try:
            leader, follower = by_role(nodes)
            for node, role in ((leader, "leader"), (follower, "follower")):
                writes(folder, node, role, seconds)
                live_on_all(node, role)
                suspension(nodes, role, node)
            request_cost(binary, folder, nodes, seconds, rounds)
            failover(nodes, rounds)
        finally:
            for node in nodes:
                node.process.kill()
                node.process.wait()


if __name__ == "__main__":
    main()
