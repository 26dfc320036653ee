"""CPU seconds and peak memory of each stage of `pipelines/wikimedia.toml` on a real Kafka and HDFS, started here.

    cluster.py HOWDAH [--events 2000000]

HOWDAH is the release binary. One after the other, each in a process of its own: collecting from a source that
gives all it has at once, while Kafka stands still, and ingesting that from the spool once it goes on (these two
in one process); archiving from Kafka to HDFS; counting one table; then all of these and the second table in one
process. A figure is of the whole process, user and system time, until it has nothing more to do. The servers
share the machine and are not counted. The events' own times are those of a stream of 30 a second. Needs 8 GB of
disk in $TMPDIR for each million. Ends with exit code 1 if a record is missing at the end.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from memory import PER_COPY, PIPELINE, ROOT, TICK, Process, make, say, serve

NOBODY = "http://127.0.0.1:9/"
# Events a second by their own time, of which Wikimedia has some tens.
RATE = 30


class Servers:
    """A cluster of `tests/servers`, ended with the block."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-B", "-m", "servers", *arguments]
        self.child = subprocess.Popen(
            command, cwd=ROOT / "tests", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = json.loads(self.child.stdout.readline())
        if "failed" in self.about:
            sys.exit(self.about["failed"])

    def __enter__(self) -> "Servers":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stdin.close()
        self.child.wait()

    def order(self, order: str, **more: object) -> object:
        """Has something done, and returns what there is to say of it; see `tests/servers/__main__.py`."""
        print(json.dumps({"do": order, **more}), file=self.child.stdin, flush=True)
        answer = json.loads(self.child.stdout.readline())
        if "failed" in answer:
            sys.exit(answer["failed"])
        return answer["ok"]


def threads(pid: int) -> str:
    """Which threads have worked most: `kafka-reader 3.1 s, …`."""
    seconds = {}
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        fields = rest.split()
        seconds[name] = seconds.get(name, 0) + (int(fields[11]) + int(fields[12])) / TICK
    most = sorted(seconds.items(), key=lambda item: -item[1])[:7]
    return ", ".join(f"{name} {spent:.1f} s" for name, spent in most)


def stages(folder: Path) -> dict[str, Path]:
    """The shipped pipeline in pieces: what collects, what archives, what counts one table."""
    whole = PIPELINE.read_text()
    head, rest = whole.split("# Events are on disk before they count.", 1)
    collect, rest = ("# Events are on disk before they count." + rest).split("# The events as they came", 1)
    archive, rest = rest.split("# A Delta table with the columns", 1)
    table, _ = rest.split("# A second table over the same topic", 1)
    parts = {"collect": collect, "archive": "# The events" + archive, "table": "# A Delta table" + table}
    files = {name: folder / f"{name}.toml" for name in parts}
    # The spool is to hold all of it.
    parts["collect"] = parts["collect"].replace('max_bytes = "2GiB"', 'max_bytes = "64GiB"')
    for name, text in parts.items():
        files[name].write_text(head + text)
    return files


def whole(folder: Path) -> Path:
    """The shipped pipeline under names of its own."""
    file = folder / "whole.toml"
    text = PIPELINE.read_text().replace('name = "wikimedia"', 'name = "whole"')
    file.write_text(text.replace("wiki_changes", "whole_changes").replace("/user/bigdata", "/whole"))
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("howdah", type=Path)
    parser.add_argument("--events", type=int, default=2_000_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="howdah-cluster-") as made, Servers("kafka") as kafka:
        with Servers("hdfs") as hdfs:
            measure(asked.howdah.absolute(), Path(made), asked.events, kafka, hdfs)


def measure(binary: Path, folder: Path, number: int, kafka: Servers, hdfs: Servers) -> None:
    events = make(folder, number, RATE)
    number = -(-number // PER_COPY) * PER_COPY
    size = events.stat().st_size / number
    say(f"{kafka.about['server']}, {hdfs.about['server']}, {number:,} events of {size:.0f} bytes")
    environment = {
        "HOWDAH_CONTACT": "bench@example.org",
        "KAFKA_BROKERS": kafka.about["brokers"],
        "HDFS_URL": hdfs.about["url"],
        "HADOOP_CONF_DIR": hdfs.about["conf"],
    }
    pieces = stages(folder)
    environment["HOWDAH_DATA"] = folder / "pieces"
    collect(binary, pieces.pop("collect"), environment, events, number, kafka)
    for name, pipeline in pieces.items():
        begun = time.monotonic()
        with Process(binary, "run", pipeline, **environment, WIKIMEDIA_URL=NOBODY) as howdah:
            tell(name, howdah, howdah.run_idle(1), number, begun)
            howdah.end()
        if name == "archive":
            verify(binary, pipeline, environment, number)
    environment["HOWDAH_DATA"], pipeline = folder / "whole", whole(folder)
    server, url = serve(binary, events, 0)
    begun = time.monotonic()
    with server, Process(binary, "run", pipeline, **environment, WIKIMEDIA_URL=url) as howdah:
        tell("all at once", howdah, howdah.run_idle(1), number, begun)
        howdah.end()
    verify(binary, pipeline, environment, number)


def collect(binary: Path, pipeline: Path, environment: dict, events: Path, number: int, kafka: Servers) -> None:
    """The collector and then the ingester, each alone."""
    server, url = serve(binary, events, 0)
    # Until howdah has made its topics, nothing comes.
    server.child.send_signal(signal.SIGSTOP)
    with server, Process(binary, "run", pipeline, **environment, WIKIMEDIA_URL=url) as howdah:
        before = howdah.run_idle(0)
        kafka.order("pause", which="1")
        server.child.send_signal(signal.SIGCONT)
        begun = time.monotonic()
        collected = howdah.run_idle(1)
        tell("collect", howdah, collected - before, number, begun)
        kafka.order("resume", which="1")
        begun = time.monotonic()
        tell("ingest", howdah, howdah.run_idle(collected + 1) - collected, number, begun)
        howdah.end()


def tell(name: str, howdah: Process, cpu: float, number: int, begun: float) -> None:
    """`begun` is when, and the wait for its idleness is no part of the time that it took."""
    rate, each = number / (time.monotonic() - begun - 10) / 1000, cpu / number * 1e6
    busiest = threads(howdah.child.pid)
    say(f"{name}: {each:.1f} CPU s per million, {howdah.peak_mb():.0f} MB, about {rate:.0f} k a second ({busiest})")


def verify(binary: Path, pipeline: Path, environment: dict, number: int) -> None:
    shown = subprocess.run(
        [binary, "archive", "verify", pipeline],
        env={**os.environ, **{key: str(value) for key, value in environment.items()}},
        text=True,
        capture_output=True,
    )
    records = int(re.search(r"([\d,]+) lines", shown.stdout)[1].replace(",", "")) if shown.returncode == 0 else 0
    if records != number:
        sys.exit(f"{records:,} of {number:,} records are in the archive\n{shown.stdout}{shown.stderr}")


if __name__ == "__main__":
    main()
