"""CPU seconds of a loader that brings a backlog into a real InfluxDB, started here.

    loader.py HOWDAH [--events 500000] [--rounds 3]

HOWDAH is the release binary. The recorded events, from the embedded bus, become points with two tags and four
fields. A figure is of the whole process, user and system time, from its start until the server has written the last
point. The server shares the machine and is not counted. Ends with exit code 1 if a point is missing at the end, or if
the middle one of the rounds moves fewer than 50,000 points per CPU second.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from cluster import NOBODY, Servers, stages
from influx import LOADER, Points
from memory import Process, make, say, serve

BOUND = 50_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("howdah", type=Path)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    binary = asked.howdah.absolute()
    with tempfile.TemporaryDirectory(prefix="howdah-loader-") as made, Servers("influx") as influx:
        folder = Path(made)
        number = fill(binary, folder, make(folder, asked.events))
        say(f"{influx.about['server']}, {number:,} points")
        rates = [load(binary, folder, influx.about, number, turn) for turn in range(asked.rounds)]
    middle = statistics.median(rates)
    say(f"loader: {middle / 1000:.0f} k points per CPU second in the middle of {asked.rounds}")
    if middle < BOUND:
        sys.exit(f"fewer than {BOUND:,}")


def fill(binary: Path, folder: Path, events: Path) -> int:
    """Brings the events onto the embedded bus; how many there are."""
    with events.open("rb") as lines:
        number = sum(1 for _ in lines)
    server, url = serve(binary, events, 0)
    told = {"HOWDAH_DATA": folder, "WIKIMEDIA_URL": url, "HOWDAH_CONTACT": "bench@example.org"}
    with server, Process(binary, "run", stages(folder)["collect"], **told) as howdah:
        howdah.run_idle(1)
        howdah.end()
    return number


def load(binary: Path, folder: Path, influx: dict, number: int, turn: int) -> float:
    """Points per CPU second of a loader with a name, and so a position, of its own."""
    pipeline, name = folder / f"load{turn}.toml", f"points{turn}"
    head = stages(folder)["collect"].read_text().split("# Events are on disk before they count.")[0]
    pipeline.write_text(head + LOADER.format(name=name, topic="wiki_changes", measurement=name, **influx))
    points = Points(influx)
    before, begun = points.written(), time.monotonic()
    with Process(binary, "run", pipeline, HOWDAH_DATA=folder, WIKIMEDIA_URL=NOBODY) as howdah:
        while points.written() - before < number:
            if howdah.child.poll() is not None or time.monotonic() > begun + 60 + number / 2_000:
                sys.exit(f"{points.written() - before:,} of {number:,} points are written")
            time.sleep(0.1)
        cpu, took, peak = howdah.cpu_seconds(), time.monotonic() - begun, howdah.peak_mb()
        howdah.end()
    if (found := points.count(name)) != number:
        sys.exit(f"{found:,} of {number:,} points are there")
    say(f"  {number / cpu / 1000:.0f} k points per CPU second ({cpu:.2f} CPU s, {took:.1f} s, {peak:.0f} MB)")
    return number / cpu


if __name__ == "__main__":
    main()
