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

from murmur2 import partition_of

MISSING = object()


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a plain or gzipped file, without their newlines; empty ones are not events."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        for line in file:
            if line := line.removesuffix(b"\n"):
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


def source_topic(event: Any) -> str:
    """The topic at the source, within which order is promised.

    Wikimedia's stream interleaves the topics of two data centres; each event names its own.
    """
    return text_at(event, "/meta/topic") or ""


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
        self.topics: list[str] = []
        self.homes: list[int | None] = []
        self.ids: list[str] = []
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
            self.places[digest(line)].append(len(self.topics))
            self.topics.append(source_topic(event))
            self.homes.append(None if text is None else homes[text])
            self.ids.append(text_at(event, "/meta/id") or "without id")

    def __len__(self) -> int:
        return len(self.topics)

    def name(self, index: int) -> str:
        return f"event {index + 1} ({self.ids[index]})"
