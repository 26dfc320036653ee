"""The served events: what went in, and so what must come out.

An events file holds one event a line, in the order served. Lines are compared as bytes; an event
is known by the digest of its line, and a line that was served twice must come out twice.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crc32c import crc32c
from murmur2 import partition_of

MISSING = object()


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a plain or gzipped file, without their ends; empty ones are not events."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        for line in file:
            if line := line.rstrip(b"\r\n"):
                yield line


def parse(line: bytes) -> Any:
    """The event, or MISSING if the line is no JSON."""

    def no_constant(text: str) -> None:
        raise ValueError(f"{text} is no JSON")

    try:
        return json.loads(line.decode(), parse_constant=no_constant)
    except (ValueError, RecursionError):  # a UnicodeDecodeError is a ValueError
        return MISSING


def at(event: Any, pointer: str) -> Any:
    """What stands at a JSON pointer (RFC 6901), or MISSING."""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(event, dict) and part in event:
            event = event[part]
        elif isinstance(event, list) and part.isdecimal() and str(int(part)) == part and int(part) < len(event):
            event = event[int(part)]
        else:
            return MISSING
    return event


def text_at(event: Any, pointer: str) -> str | None:
    """The text of a key: a string, a boolean, or a number in its shortest form; else None."""
    match at(event, pointer):
        case str(text):
            return text
        case bool(value):
            return "true" if value else "false"
        case int(number) | float(number):
            return str(number)
        case _:
            return None


class SourceTopics:
    """Which topic of the source each event came from: order is promised within one of these only.

    Wikimedia's stream interleaves the topics of two data centres, differently on each connection.
    `howdah serve-events` does the same: events that name two topics or more in `/meta/topic` keep
    them (one without a name is of the first that is named); else those events go to the second
    topic whose id, or whose line if there is none, has a CRC-32C divisible by four.
    """

    def __init__(self) -> None:
        self.named: list[str | None] = []
        self.divided: list[str] = []

    def add(self, line: bytes, event: Any) -> None:
        name, identity = at(event, "/meta/topic"), at(event, "/meta/id")
        self.named.append(name if isinstance(name, str) else None)
        data = identity.encode() if isinstance(identity, str) else line
        self.divided.append("codfw" if crc32c(data) % 4 == 0 else "eqiad")

    def of_all(self) -> list[str]:
        """The topic of each event, in the order in which they were added."""
        names = list(dict.fromkeys(name for name in self.named if name is not None))
        return self.divided if len(names) < 2 else [name or names[0] for name in self.named]


def digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


class Served:
    """The served events, numbered from 0: where each digest stands, its source topic, its home.

    `home` is the partition of the event's key, None for one without a key. With `distinct`, of
    events with the same text at that pointer only the first must come out: a collector that
    knows events by this id drops the others.
    """

    def __init__(self, path: Path, num_partitions: int, key: str | None, distinct: str | None = None) -> None:
        self.places: defaultdict[bytes, list[int]] = defaultdict(list)
        self.homes: list[int | None] = []
        self.ids: list[str] = []
        topics = SourceTopics()
        homes: dict[str, int] = {}
        known: set[str] = set()
        for line in read_lines(path):
            event = parse(line)
            if distinct is not None and (identity := text_at(event, distinct)) is not None:
                if identity in known:
                    self.places[digest(line)] += []  # served, but not once more
                    continue
                known.add(identity)
            text = text_at(event, key) if key else None
            if text is not None and text not in homes:
                homes[text] = partition_of(text, num_partitions)
            self.places[digest(line)].append(len(self.ids))
            topics.add(line, event)
            self.homes.append(None if text is None else homes[text])
            self.ids.append(text_at(event, "/meta/id") or "without id")
        self.topics = topics.of_all()

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, index: int) -> str:
        return f"event {index + 1} ({self.ids[index]})"
