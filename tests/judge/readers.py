"""Reads a table over and over while it is written, as a user's tools would.

    readers.py --table DIR --seconds 60 --interval 0.1 --until-file DONE --samples FILE

`deltalake` and DuckDB take turns, each in a thread of its own, so that a slow open of one does not
hold up the other. No open may fail once the table has existed; a reader that saw a version, or a
sum of edits, never sees a smaller one afterwards. Before each open the folder is read as plain
Parquet too (by pyarrow or DuckDB): an hour that is seen there is never seen otherwise again, and
the table opened afterwards says the same of it. A random sample of the snapshots goes to a file,
for `judge.py snapshots` to prove them. Ends with one line of JSON; exit code 1 if anything was
wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import readings
from deltalog import Log
from report import HOLDS, VIOLATED, Report
from rows import MICROS, Row
from snapshots import positions_of

SHOWN = 20


@dataclass
class Seen:
    """What one reader saw."""

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


@dataclass
class Sample:
    """A snapshot, and the versions between which it must lie."""

    low: int
    high: int
    rows: list[Row]


class Reader:
    """Opens the table and keeps a sample of what it saw."""

    def __init__(self, name: str, table: Path, num_samples: int, seed: int) -> None:
        self.name = name
        self.table = table
        self.num_samples = num_samples
        self.random = random.Random(f"{name}/{seed}")
        self.connection = readings.duckdb_connection()
        self.seen = Seen()
        self.samples: list[Sample] = []
        self.plain: dict[int, list[Row]] = {}

    def newest(self) -> int:
        return max(int(path.stem) for path in (self.table / "_delta_log").glob("[0-9]" * 20 + ".json"))

    def open(self) -> None:
        seen = self.seen
        seen.opens += 1
        began, low = time.monotonic(), self.newest()
        try:
            self.read_plain()
            if self.name == "deltalake":
                high, rows = readings.by_deltalake(self.table)
                low = high
            else:  # does not say which version it read
                rows = readings.by_duckdb(self.connection, self.table)
                high = self.newest()
        except Exception as why:  # whatever it is, a user would have seen it
            seen.errors += 1
            seen.complain(f"version {low} or later: {type(why).__name__}: {why}")
            return
        seen.slowest_ms = max(seen.slowest_ms, int((time.monotonic() - began) * 1000))
        self.moved(high, sum(row.edits for row in rows))
        self.agree(rows)
        self.sample(Sample(low, high, rows))

    def read_plain(self) -> None:
        """The final hours as plain readers see them."""
        if self.name == "deltalake":
            rows = readings.plain_by_pyarrow(self.table)
        else:
            rows = readings.plain_by_duckdb(self.connection, self.table)
        found = by_hour(rows)
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


def keep_opening(reader: Reader, first: float, interval: float, over: Callable[[], bool]) -> None:
    """Opens the table at each tick; after a slow open the ticks missed are left out."""
    due = first
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        if over():
            return
        if any((reader.table / "_delta_log").glob("[0-9]" * 20 + ".json")):
            reader.open()
        due = max(due + interval, time.monotonic())


def write_samples(path: Path, log: Log, watching: list[Reader]) -> None:
    """Each with the positions of the versions that it may be: a log does not change afterwards."""
    with path.open("w") as file:
        for reader in watching:
            for sample in reader.samples:
                versions = range(sample.low, sample.high + 1)
                positions = {version: positions_of(log.state(version).next()) for version in versions}
                file.write(json.dumps({"reader": reader.name, "positions": positions, "rows": sample.rows}) + "\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="for so long at most")
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between two opens of either reader")
    parser.add_argument("--until-file", type=Path, help="until this file exists")
    parser.add_argument("--samples", type=Path, help="where the sampled snapshots go, as JSON lines")
    parser.add_argument("--log", type=Path, help="a folder with the commits that are deleted from the table's log")
    parser.add_argument("--num-samples", type=int, default=50, help="snapshots to keep of each reader")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    watching = [Reader(name, args.table, args.num_samples, args.seed) for name in ("deltalake", "duckdb")]
    began = time.monotonic()

    def over() -> bool:
        return time.monotonic() - began > args.seconds or bool(args.until_file and args.until_file.exists())

    threads = [
        threading.Thread(target=keep_opening, args=(reader, began + args.interval * turn, args.interval * 2, over))
        for turn, reader in enumerate(watching)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
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
        "readers": {reader.name: asdict(reader.seen) for reader in watching},
    }
    print(json.dumps(summary))
    return VIOLATED if summary["errors"] or summary["went_back"] else HOLDS


if __name__ == "__main__":
    sys.exit(main())
