#!/usr/bin/env python3
"""Memory of a node that does nothing: just started, and holding idle connections.

Usage: benches/idle.py TOLLGATE_BINARY [CONNECTIONS]. Prints the resident set in MB. Each
connection carries one request first. Loopback only.
"""

import asyncio
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side import free_port, nginx, start_tollgate


def resident_mb(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


async def hold(port, count, pid):
    """Opens the connections, asks once on each, and reads the memory while they idle."""
    open_ones = []
    for start in range(0, count, 100):
        opened = [asyncio.open_connection("127.0.0.1", port) for _ in range(min(100, count - start))]
        open_ones += await asyncio.gather(*opened)
    for reader, writer in open_ones:
        writer.write(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b"hello")
    # Long enough for the node to find them idle.
    await asyncio.sleep(8)
    print(f"{count} idle connections: {resident_mb(pid):.1f} MB")
    for _, writer in open_ones:
        writer.close()


def main():
    binary = Path(sys.argv[1]).resolve()
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    tiny, ours = free_port(), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        upstream = nginx(
            folder, "upstream", 1, f"server {{ listen 127.0.0.1:{tiny}; return 200 'hello'; }}"
        )
        node = start_tollgate(binary, folder, ours, tiny)
        try:
            print(f"just started: {resident_mb(node.pid):.1f} MB")
            asyncio.run(hold(ours, count, node.pid))
        finally:
            for process in (node, upstream):
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
