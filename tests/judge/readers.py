"""Reads a table over and over while it is written, as a user's tools would.

    readers.py --table DIR --seconds 60 --interval 0.1 --until-file DONE --samples FILE

`deltalake` and DuckDB take turns. No open may fail once the table has existed; a reader that saw
a version, or a sum of edits, never sees a smaller one afterwards. A random sample of the snapshots
goes to a file, for `judge.py snapshots` to prove them. Ends with one line of JSON; exit code 1 if
anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import readings
from deltalog import Log
from report import HOLDS, VIOLATED, Report
from rows import Row
from snapshots import positions_of

SHOWN = 20


@dataclass
class Seen:
    """What one reader saw."""

    opens: int = 0
    first_version: int | None = None
    last_version: int = -1
    last_edits: int = 0
    slowest_ms: int = 0


@dataclass
class Summary:
    """The last line."""

    opens: int = 0
    errors: int = 0
    went_back: int = 0
    samples: int = 0
    complaints: list[str] = field(default_factory=list)
    readers: dict[str, Seen] = field(default_factory=lambda: {"deltalake": Seen(), "duckdb": Seen()})


class Watch:
    """Opens the table and keeps a sample of what it saw."""

    def __init__(self, table: Path, num_samples: int, seed: int) -> None:
        self.table = table
        self.num_samples = num_samples
        self.random = random.Random(seed)
        self.connection = readings.duckdb_connection()
        self.summary = Summary()
        self.samples: list[dict[str, Any]] = []

    def exists(self) -> bool:
        return (self.table / "_delta_log" / f"{0:020}.json").exists()

    def newest(self) -> int:
        return max(int(path.stem) for path in (self.table / "_delta_log").glob("[0-9]" * 20 + ".json"))

    def open(self, reader: str) -> None:
        summary, seen = self.summary, self.summary.readers[reader]
        summary.opens += 1
        seen.opens += 1
        began, low = time.monotonic(), self.newest()
        try:
            if reader == "deltalake":
                low, rows = readings.by_deltalake(self.table)
                high = low
            else:
                rows = readings.by_duckdb(self.connection, self.table)
                high = self.newest()
        except Exception as why:  # whatever it is, a user would have seen it
            summary.errors += 1
            self.complain(f"{reader}, version {low} or later: {type(why).__name__}: {why}")
            return
        seen.slowest_ms = max(seen.slowest_ms, int((time.monotonic() - began) * 1000))
        self.moved(reader, seen, high, sum(row.edits for row in rows))
        self.sample(reader, low, high, rows)

    def moved(self, reader: str, seen: Seen, version: int, edits: int) -> None:
        if version < seen.last_version or edits < seen.last_edits:
            self.summary.went_back += 1
            before = f"version {seen.last_version} with {seen.last_edits} edits"
            self.complain(f"{reader}: version {version} with {edits} edits after {before}")
        if seen.first_version is None:
            seen.first_version = version
        seen.last_version, seen.last_edits = version, edits

    def sample(self, reader: str, low: int, high: int, rows: list[Row]) -> None:
        """Keeps each open with the same chance, whatever their number (Vitter's algorithm R)."""
        at = self.summary.opens - 1
        if at >= self.num_samples and (at := self.random.randrange(self.summary.opens)) >= self.num_samples:
            return
        log = Log(self.table, Report())
        positions = {version: positions_of(log.state(version).next()) for version in range(low, high + 1)}
        self.samples[at : at + 1] = [{"reader": reader, "positions": positions, "rows": rows}]

    def complain(self, text: str) -> None:
        if len(self.summary.complaints) < SHOWN:
            self.summary.complaints.append(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="for so long at most")
    parser.add_argument("--interval", type=float, default=0.1, help="seconds between two opens of either reader")
    parser.add_argument("--until-file", type=Path, help="until this file exists")
    parser.add_argument("--samples", type=Path, help="where the sampled snapshots go, as JSON lines")
    parser.add_argument("--num-samples", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    watch = Watch(args.table, args.num_samples, args.seed)
    end = due = time.monotonic()
    end += args.seconds
    while due < end and not (args.until_file and args.until_file.exists()):
        if watch.exists():
            watch.open("duckdb" if watch.summary.opens % 2 else "deltalake")
        due = max(due + args.interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    if args.samples:
        args.samples.write_text("".join(json.dumps(sample) + "\n" for sample in watch.samples))
    watch.summary.samples = len(watch.samples)
    print(json.dumps(asdict(watch.summary)))
    return VIOLATED if watch.summary.errors or watch.summary.went_back else HOLDS


if __name__ == "__main__":
    sys.exit(main())
