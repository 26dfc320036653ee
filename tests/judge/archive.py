"""An archive as it lies in its folder: data files, and the chain that says what they are.

    <prefix><partition>-<start>-<next>-<8 hex>.jsonl[.gz|.zst] a segment, wherever in the folder
    _chain/<topic>/<topic identity>/<partition>/<start>.json   its entry
    _staging/                                                  what is being written

Offsets have 20 digits. An entry covers [start, next): each offset has a line in the segment, in
order, or lies in one of the entry's holes. The first entry starts at 0, each further one at the
`next` of the one before. Files and folders whose name begins with `_` or `.` are not data.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crc32c import crc32c
from report import Report

SEGMENT = re.compile(r"(?P<prefix>.*?)(?P<partition>\d+)-(?P<start>\d{20})-(?P<next>\d{20})-[0-9a-f]{8}\.jsonl(\.gz|\.zst)?")
WHYS = {"marker", "retention", "start", "null", "dead_letter"}


@dataclass
class Entry:
    """One element of a chain, and the bytes it stands for."""

    topic: str
    topic_id: str
    partition: int
    path: Path
    start: int
    next: int
    count: int
    bytes: int
    crc32c: int
    holes: list[tuple[int, int, str]]
    staging: str | None
    final: str | None
    times: str | None
    data: Path | None = field(default=None)

    def __str__(self) -> str:
        return f"{self.topic} partition {self.partition} [{self.start}, {self.next})"

    def offsets(self) -> Iterator[int]:
        """The offsets that have a line, in order."""
        at = self.start
        for start, end, _ in self.holes:
            yield from range(at, start)
            at = end
        yield from range(at, self.next)


class Archive:
    """What lies in an archive's folder. What cannot be read at all is reported at once."""

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder = folder
        self.report = report
        self.data_files = sorted(data_files(folder))
        self.entries: list[Entry] = []
        for path in sorted((folder / "_chain").glob("*/*/*/" + "[0-9]" * 20 + ".json")):
            try:
                self.entries.append(read_entry(path))
            except (ValueError, KeyError, TypeError, OSError) as why:
                report.violation("bad_entry", f"{path.relative_to(folder)}: {why!r}")

    def chains(self, topic: str) -> dict[tuple[str, int], list[Entry]]:
        """The entries of a topic by topic identity and partition, in order of their start."""
        chains: dict[tuple[str, int], list[Entry]] = {}
        for entry in self.entries:
            if entry.topic == topic:
                chains.setdefault((entry.topic_id, entry.partition), []).append(entry)
        return chains

    def chain(self, topic_id: str, partition: int) -> list[Entry]:
        """The entries of one partition of the topic with this identity."""
        return [entry for entry in self.entries if (entry.topic_id, entry.partition) == (topic_id, partition)]

    def resolve(self, named: str) -> Path:
        """The file that an entry names: by a path within the archive or within the store."""
        parts = [part for part in named.split("/") if part]
        own = self.folder.resolve().parts
        for shared in range(len(parts) - 1 if named.startswith("/") else 0, 0, -1):
            if own[-shared:] == tuple(parts[:shared]):
                return self.folder.joinpath(*parts[shared:])
        return self.folder.joinpath(*parts)

    def lines(self, entry: Entry, path: Path) -> list[bytes] | None:
        """The lines of a segment, once its bytes are proven to be those of the entry."""
        where = f"{path.relative_to(self.folder)} ({entry})"
        try:
            content = path.read_bytes()
            if (entry.final or path.name).endswith(".gz"):
                content = gzip.decompress(content)
            elif (entry.final or path.name).endswith(".zst"):
                content = unzstd(content)
        except (OSError, EOFError, ValueError, zlib.error) as why:
            self.report.violation("altered", f"{where} cannot be unpacked: {why}")
            return None
        if len(content) != entry.bytes:
            self.report.violation("altered", f"{where} has {len(content)} bytes, its entry says {entry.bytes}")
        elif (found := crc32c(content)) != entry.crc32c:
            self.report.violation("altered", f"{where} has crc32c {found:08x}, its entry says {entry.crc32c:08x}")
        lines = content.split(b"\n")
        if lines[-1] != b"":
            self.report.violation("altered", f"{where} does not end with a newline")
            return lines
        return lines[:-1]


def data_files(folder: Path) -> Iterator[Path]:
    """The files that a Hadoop reader takes for data."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] not in "_."]
        yield from (Path(parent, name) for name in names if name[0] not in "_.")


def read_entry(path: Path) -> Entry:
    """Parses an entry.

    Raises ValueError, KeyError or TypeError if it is not what an entry is.
    """
    raw: dict[str, Any] = json.loads(path.read_bytes())
    topic, topic_id, partition = path.parts[-4:-1]
    entry = Entry(
        topic=topic,
        topic_id=topic_id,
        partition=int(partition),
        path=path,
        start=raw["start"],
        next=raw["next"],
        count=raw["count"],
        bytes=raw["bytes"],
        crc32c=int(raw["crc32c"], 16) if isinstance(raw["crc32c"], str) else raw["crc32c"],
        holes=[(hole["from"], hole["to"], hole["why"]) for hole in raw["holes"]],
        staging=raw.get("staging") or None,
        final=raw.get("final") or None,
        times=raw.get("times") or None,
    )
    if int(path.stem) != entry.start:
        raise ValueError(f"its name says start {int(path.stem)}, it says {entry.start}")
    return entry


def unzstd(content: bytes) -> bytes:
    import pyarrow as pa  # here, so that other archives need Python alone

    return pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
