"""Reads a table over and over while it is written, as a user's tools would.

    readers.py --table DIR --seconds 60 --interval 0.1 --until-file DONE --samples FILE

`deltalake`, DuckDB and Spark, each in a thread of its own, so that a slow open of one does not hold up
the others. No open may fail once the table has existed; a reader that saw a version, or a sum of
edits, never sees a smaller one afterwards. Before each open the folder is read as plain
Parquet too (by pyarrow, DuckDB or Spark): an hour that is seen there is never seen otherwise again,
and the table opened afterwards says the same of it. When all is over each opens it a last time, and
what they saw of the final hours is the same. A random sample of the snapshots goes to a file, for
`judge.py snapshots` to prove them. Ends with one line of JSON; exit code 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deltalog import Log
from readings import Deltalake, Duckdb, Tool
from report import HOLDS, VIOLATED, Report
from rows import MICROS, Row
from snapshots import positions_of
from spark import Spark

SHOWN = 20
TOOLS: dict[str, type[Tool]] = {tool.name: tool for tool in (Deltalake, Duckdb, Spark)}
# How often is looked whether all is over.
LOOK = 0.02


@dataclass
class Seen:
    """What one reader saw."""

    version: str = ""
    opens: int = 0
    errors: int = 0
    went_back: int = 0
    first_version: int | None = None
    last_version: int = -1
    last_edits: int = 0
    final_hours: int = 0
    slowest_ms: int = 0
    complaints: list[str] = field(default_factory=list)

    def complain(self, text: str) -> None:
        if len(self.complaints) < SHOWN:
            self.complaints.append(text)

    def failed(self, where: str, why: Exception) -> None:
        """Complains of an exception; the frames of a Java stack say nothing to a user."""
        self.errors += 1
        said = [line for line in str(why).splitlines() if not line.lstrip().startswith(("at ", "... "))]
        self.complain(f"{where}: {type(why).__name__}: " + "\n".join(said))


@dataclass
class Sample:
    """A snapshot, and the versions between which it must lie."""

    low: int
    high: int
    rows: list[Row]


class Reader:
    """Opens the table and keeps a sample of what it saw."""

    def __init__(self, tool: Tool, table: Path, num_samples: int, seed: int) -> None:
        self.tool = tool
        self.table = table
        self.num_samples = num_samples
        self.random = random.Random(f"{tool.name}/{seed}")
        self.started = threading.Event()
        self.seen = Seen()
        self.samples: list[Sample] = []
        self.plain: dict[int, list[Row]] = {}

    def watch(self, interval: float, over: threading.Event) -> None:
        """Opens the table from the start of the tool to its end."""
        try:
            try:
                self.tool.start()
                self.seen.version = self.tool.version
            finally:
                self.started.set()
            try:
                self.keep_opening(interval, over)
            finally:
                self.tool.close()
        except Exception as why:  # a tool that cannot be had is no tool that saw nothing wrong
            self.seen.failed(self.tool.name, why)

    def keep_opening(self, interval: float, over: threading.Event) -> None:
        """Opens the table at each tick, and once when all is over; after a slow open the ticks missed are left out."""
        due = time.monotonic()
        while not over.wait(max(0.0, due - time.monotonic())):
            if self.exists():
                self.open()
            due = max(due + interval, time.monotonic())
        if self.exists():
            self.open()

    def exists(self) -> bool:
        return any((self.table / "_delta_log").glob("[0-9]" * 20 + ".json"))

    def newest(self) -> int:
        return max(int(path.stem) for path in (self.table / "_delta_log").glob("[0-9]" * 20 + ".json"))

    def open(self) -> None:
        seen = self.seen
        seen.opens += 1
        began, low = time.monotonic(), self.newest()
        try:
            self.read_plain()
            version, rows = self.tool.open(self.table)
            if version is None:  # the tool does not say which one it read
                high = self.newest()
            else:
                low = high = version
        except Exception as why:  # whatever it is, a user would have seen it
            seen.failed(f"version {low} or later", why)
            return
        seen.slowest_ms = max(seen.slowest_ms, int((time.monotonic() - began) * 1000))
        self.moved(high, sum(row.edits for row in rows))
        self.agree(rows)
        self.sample(Sample(low, high, rows))

    def read_plain(self) -> None:
        """The final hours as plain readers see them."""
        found = by_hour(self.tool.plain(self.table))
        for hour, before in self.plain.items():
            if found.get(hour) != before:
                self.seen.went_back += 1
                self.seen.complain(f"plain: hour {hour} has {found.get(hour)}, and had {before}")
        self.plain |= found
        self.seen.final_hours = len(self.plain)

    def agree(self, rows: list[Row]) -> None:
        """What was final before the table was opened is so in it, one row a window and wiki."""
        found = by_hour(rows)
        for hour, plain in self.plain.items():
            summed: Counter[tuple[int, str]] = Counter()
            for row in found.get(hour, []):
                summed[row.start, row.wiki] += row.edits
            if summed != {(row.start, row.wiki): row.edits for row in plain}:
                self.seen.errors += 1
                self.seen.complain(f"hour {hour} is {plain} in plain files, and {found.get(hour)} in the table")

    def moved(self, version: int, edits: int) -> None:
        seen = self.seen
        if version < seen.last_version or edits < seen.last_edits:
            seen.went_back += 1
            before = f"version {seen.last_version} with {seen.last_edits} edits"
            seen.complain(f"version {version} with {edits} edits after {before}")
        if seen.first_version is None:
            seen.first_version = version
        seen.last_version, seen.last_edits = version, edits

    def sample(self, sample: Sample) -> None:
        """Keeps each open with the same chance, whatever their number (Vitter's algorithm R)."""
        at = self.seen.opens - 1
        if at < self.num_samples or (at := self.random.randrange(self.seen.opens)) < self.num_samples:
            self.samples[at : at + 1] = [sample]


def by_hour(rows: list[Row]) -> dict[int, list[Row]]:
    hours: dict[int, list[Row]] = {}
    for row in rows:
        hours.setdefault(row.start // (3600 * MICROS), []).append(row)
    return hours


def compare(watching: list[Reader], still: bool) -> None:
    """All saw the same of each final hour. While the table is not still, one may have seen an hour more."""
    first = watching[0]
    for other in watching[1:]:
        for hour in sorted(first.plain.keys() | other.plain.keys()):
            one, two = first.plain.get(hour), other.plain.get(hour)
            if one != two and (still or (one and two)):
                other.seen.errors += 1
                other.seen.complain(f"plain: hour {hour} has {two}, and for {first.tool.name} {one}")


def write_samples(path: Path, log: Log, watching: list[Reader]) -> None:
    """Each with the positions of the versions that it may be: a log does not change afterwards."""
    with path.open("w") as file:
        for reader in watching:
            for sample in reader.samples:
                versions = range(sample.low, sample.high + 1)
                positions = {version: positions_of(log.state(version).next()) for version in versions}
                file.write(json.dumps({"reader": reader.tool.name, "positions": positions, "rows": sample.rows}) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="for so long at most")
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between two opens of one reader")
    parser.add_argument("--tools", default=",".join(TOOLS), help="who reads, of %(default)s")
    parser.add_argument("--ready-file", type=Path, help="is made when all can read; until then no table need be there")
    parser.add_argument("--until-file", type=Path, help="until this file exists; the table does not change then")
    parser.add_argument("--samples", type=Path, help="where the sampled snapshots go, as JSON lines")
    parser.add_argument("--log", type=Path, help="a folder with the commits that are deleted from the table's log")
    parser.add_argument("--num-samples", type=int, default=50, help="snapshots to keep of each reader")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    watching = [Reader(TOOLS[name](), args.table, args.num_samples, args.seed) for name in args.tools.split(",")]
    over = threading.Event()
    threads = []
    for reader in watching:
        interval = max(args.interval, reader.tool.pause)
        threads.append(threading.Thread(target=reader.watch, args=(interval, over)))
        threads[-1].start()
    for reader in watching:
        reader.started.wait()
    if args.ready_file:
        args.ready_file.touch()
    began, still = time.monotonic(), False
    while not still and time.monotonic() - began < args.seconds:
        time.sleep(LOOK)
        still = bool(args.until_file and args.until_file.exists())
    over.set()
    for thread in threads:
        thread.join()
    compare(watching, still)
    seconds = time.monotonic() - began
    if args.samples:
        write_samples(args.samples, Log(args.table, Report(), args.log), watching)
    seen = [reader.seen for reader in watching]
    summary = {
        "opens": sum(one.opens for one in seen),
        "opens_per_second": round(sum(one.opens for one in seen) / seconds, 1),
        "errors": sum(one.errors for one in seen),
        "went_back": sum(one.went_back for one in seen),
        "samples": sum(len(reader.samples) for reader in watching),
        "readers": {reader.tool.name: asdict(reader.seen) for reader in watching},
    }
    print(json.dumps(summary))
    return VIOLATED if summary["errors"] or summary["went_back"] else HOLDS


if __name__ == "__main__":
    sys.exit(main())
