"""How long a howdah that cannot get on, or has all it can do, takes to answer who looks at it.

    status.py HOWDAH [--seconds 20] [--hdfs]

HOWDAH is the release binary. Asked again and again, 20 ms after each answer, for `/api/v1/actors` and `/metrics`,
over one connection: while a source gives all it has at once; while the disk that everything lies on is full (a
small tmpfs: needs the right to mount one); and, with `--hdfs`, while the NameNode hangs and segments are due. Ends
with exit code 1 if an answer took longer than 100 ms.
"""

import argparse
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cluster import Servers
from memory import PIPELINE, Process, make, say, serve

BOUND_MS = 100
PAGES = ("/api/v1/actors", "/metrics")
PORT = 20707


def ask(connection: http.client.HTTPConnection, page: str) -> tuple[float, str]:
    """The milliseconds until the answer was there, and it."""
    begun = time.monotonic()
    connection.request("GET", page)
    answer = connection.getresponse()
    body = answer.read().decode()
    took = (time.monotonic() - begun) * 1000
    if answer.status != 200:
        sys.exit(f"{page}: {answer.status}\n{body}")
    return took, body


def look(what: str, seconds: float, is_so: Callable[[str], bool] = lambda _: True) -> bool:
    """Asks for so long, once `is_so` of the metrics, and says how it was."""
    until = time.monotonic() + 120
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=30)
        try:
            if is_so(ask(connection, "/metrics")[1]):
                break
        except OSError:
            pass
        if time.monotonic() > until:
            sys.exit(f"{what}: waited in vain for it")
        time.sleep(0.1)
    took = {page: [] for page in PAGES}
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for page, times in took.items():
            times.append(ask(connection, page)[0])
            time.sleep(0.02)
    for page, times in took.items():
        times.sort()
        middle, most = times[len(times) // 2], times[len(times) * 99 // 100]
        say(f"{what}: {page} {len(times)} times: median {middle:.1f} ms, 99 of 100 within {most:.1f} ms, all {times[-1]:.1f} ms")
    return max(times[-1] for times in took.values()) <= BOUND_MS


def environment(data: Path, source: str, **more: object) -> dict:
    listen = {"HOWDAH_LISTEN": f"127.0.0.1:{PORT}"}
    return {"HOWDAH_DATA": data, "WIKIMEDIA_URL": source, "HOWDAH_CONTACT": "bench@example.org", **listen, **more}


def is_waiting(stage: str) -> Callable[[str], bool]:
    start = f'howdah_actor_state{{pipeline="wikimedia",replica="0",stage="{stage}",state="waiting"}} 1'
    return lambda metrics: start in metrics


def saturated(binary: Path, folder: Path, events: Path, seconds: float) -> bool:
    server, url = serve(binary, events, 0)
    with server, Process(binary, "run", PIPELINE, **environment(folder / "data", url)):
        return look("saturated", seconds)


def full(binary: Path, folder: Path, events: Path, seconds: float) -> bool:
    disk = folder / "small"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "howdah-bench", disk], check=True)
    try:
        server, url = serve(binary, events, 0)
        with server, Process(binary, "run", PIPELINE, **environment(disk, url)):
            return look("disk full", seconds, lambda _: os.statvfs(disk).f_bavail * 4096 < 1 << 20)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def hung(binary: Path, folder: Path, events: Path, seconds: float) -> bool:
    with Servers("hdfs") as hdfs:
        server, url = serve(binary, events, 100)
        told = environment(folder / "hung", url, HDFS_URL=hdfs.about["url"], HADOOP_CONF_DIR=hdfs.about["conf"])
        with server, Process(binary, "run", PIPELINE, **told):
            look("HDFS well", 5)
            hdfs.order("pause", which="nn-1")
            good = look("HDFS hung", seconds)
            hdfs.order("resume", which="nn-1")
            return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("howdah", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--hdfs", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="howdah-status-") as made:
        folder = Path(made)
        events = make(folder, 1_000_000)
        ways = [saturated, full, hung] if asked.hdfs else [saturated, full]
        good = [way(asked.howdah.absolute(), folder, events, asked.seconds) for way in ways]
    if not all(good):
        sys.exit(f"an answer took longer than {BOUND_MS} ms")


if __name__ == "__main__":
    main()
