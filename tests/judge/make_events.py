"""Makes a larger or nastier events file from the recorded one, the same for the same arguments.

    make_events.py OUT.ndjson[.gz] --copies 40 --canary 50 --bare 37 --odd 41 --seed 7

The recorded events are repeated, each copy later than the one before by the time that the first
one spans, with new ids; with `--rate` they keep their order and come so many to a second instead.
Then every K-th event is made into one of the kinds below; an event gets at most one kind. Only
`/timestamp` becomes odd, never `/meta/dt`, by which a server orders. The output is in the order
served; nothing in it is random, the seed goes into ids and phases.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from events import read_lines

RECORDED = Path(__file__).parents[2] / "data" / "recentchange-2015-09-12.ndjson.gz"
NAMESPACE = uuid.UUID("5f0c3c0e-3f53-5d0b-9a63-1d2f6b8e7a10")

Event = dict[str, Any]

# What can stand where a time in seconds, or a wiki's name, is expected.
ODD = [
    ("timestamp", "1442039761"),
    ("timestamp", None),
    ("timestamp", True),
    ("timestamp", [1442039761]),
    ("timestamp", 10**18),
    ("timestamp", 1442039761.25),
    ("wiki", 7),
    ("wiki", False),
    ("wiki", None),
    ("wiki", ["enwiki"]),
    ("wiki", {"name": "enwiki"}),
    ("wiki", ""),
    ("wiki", 'quote " tab \t newline \n and \U0001f418'),
    ("title", 0),
    ("length", "none"),
]
# The first second of 1970, one before it, and the last and the first that (do not) fit 31 bits.
TIMES = [0, -1, 2**31 - 1, 2**31]


def canary(event: Event, _nth: int) -> None:
    event["meta"]["domain"] = "canary"


def bare(event: Event, nth: int) -> None:
    del event["wiki" if nth % 2 else "timestamp"]


def odd(event: Event, nth: int) -> None:
    field, value = ODD[nth % len(ODD)]
    event[field] = value


def times(event: Event, nth: int) -> None:
    event["timestamp"] = TIMES[nth % len(TIMES)]


def big(event: Event, _nth: int, num_bytes: int = 5 << 20) -> None:
    event["comment"] = (event["comment"] + " ") * (num_bytes // (len(event["comment"].encode()) + 1) + 1)


def broken(_event: Event, _nth: int) -> None:
    """Its line is cut short where it is written."""


KINDS: dict[str, Callable[[Event, int], None]] = {
    "canary": canary,
    "bare": bare,
    "odd": odd,
    "times": times,
    "big": big,
    "broken": broken,
}


def copies(recorded: list[bytes], number: int, seed: int, rate: int = 0) -> Iterator[Event]:
    """The recorded events over and over, in order of their time, each with an id of its own."""
    first, last = (datetime.fromisoformat(json.loads(line)["meta"]["dt"]) for line in (recorded[0], recorded[-1]))
    minutes = int((last - first).total_seconds() // 60) + 1
    for copy in range(number):
        shift = timedelta(minutes=minutes * copy)
        for nth, line in enumerate(recorded):
            event = json.loads(line)
            if copy or seed or rate:
                meta = event["meta"]
                if rate:
                    moved = first + timedelta(seconds=(copy * len(recorded) + nth) / rate)
                else:
                    moved = datetime.fromisoformat(meta["dt"]) + shift
                meta["dt"] = moved.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moved.microsecond // 1000:03}Z"
                meta["id"] = str(uuid.uuid5(NAMESPACE, f"{seed}/{copy}/{nth}"))
                meta["offset"] += copy * len(recorded)
                event["id"] += copy * len(recorded)
                event["timestamp"] = int(moved.timestamp()) if rate else event["timestamp"] + int(shift.total_seconds())
            yield event


def kind_of(nth: int, periods: dict[str, int], seed: int) -> str | None:
    """The kind of the nth event: each has a phase of its own, so that kinds do not fall together."""
    for place, (kind, period) in enumerate(periods.items()):
        if period and nth % period == (seed + 3 * place + 2) % period:
            return kind
    return None


def make(events: Iterator[Event], periods: dict[str, int], seed: int, topics: int, burst: int) -> Iterator[bytes]:
    """The lines of the file."""
    offsets = [0] * topics
    numbers = dict.fromkeys(periods, 0)
    moment = ""
    for nth, event in enumerate(events):
        meta = event["meta"]
        if topics > 1:
            # Wikimedia's two data centres, one with less than half of the events.
            topic = 0 if uuid.UUID(meta["id"]).int % 5 < 3 else 1
            meta["topic"] = ("eqiad", "codfw")[topic] + ".mediawiki.recentchange"
            meta["offset"] = offsets[topic]
            offsets[topic] += 1
        if burst > 1:
            moment = moment if nth % burst else meta["dt"]
            meta["dt"] = moment
        kind = kind_of(nth, periods, seed)
        if kind:
            KINDS[kind](event, numbers[kind])
            numbers[kind] += 1
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
        yield line[: len(line) * 2 // 3].decode(errors="ignore").encode() if kind == "broken" else line


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recorded", type=Path, default=RECORDED, help="the events to start from")
    parser.add_argument("--limit", type=int, help="take only so many of the recorded events")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="of the recorded events take each K-th")
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--rate", type=int, default=0, help="so many events a second, from the first one's time on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--topics", type=int, choices=[1, 2], default=1, help="source topics, in meta.topic")
    parser.add_argument("--burst", type=int, default=1, help="so many events in a row share one millisecond")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0, metavar="K", help=f"every K-th event is {kind}")
    args = parser.parse_args(arguments)

    recorded = list(read_lines(args.recorded))[: args.limit : args.every]
    periods = {kind: getattr(args, kind) for kind in KINDS}
    lines = make(copies(recorded, args.copies, args.seed, args.rate), periods, args.seed, args.topics, args.burst)
    with args.out.open("wb") as file:
        if args.out.name.endswith(".gz"):
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                packed.writelines(line + b"\n" for line in lines)
        else:
            file.writelines(line + b"\n" for line in lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
