"""Judges an archive: every served event once, byte for byte, in order, in the right partition.

Two halves. *Structure*: the chains are contiguous from 0, segments are what their entries say,
and there is nothing else. *Content*: the lines of all segments together are the served events.
"""

from __future__ import annotations

from itertools import chain, repeat
from pathlib import Path

from archive import SEGMENT, WHYS, Archive, Entry
from events import Served, digest
from report import Report


class Lines:
    """Compares lines, fed in order of partition and offset, with the served events."""

    def __init__(self, served: Served, ordered: bool, report: Report) -> None:
        self.served = served
        self.ordered = ordered
        self.report = report
        self.num_lines = 0
        self.taken = bytearray(len(served))
        self.used: dict[bytes, int] = {}
        self.last: dict[tuple[int, str], int] = {}
        self.keyless: int | None = None

    def take(self, line: bytes, partition: int, offset: int) -> None:
        self.num_lines += 1
        where = f"partition {partition} offset {offset}"
        mark = digest(line)
        places = self.served.places.get(mark)
        if places is None:
            self.report.violation("altered", f"{where}: no served event is this line: {line[:80]!r}")
            return
        nth = self.used.get(mark, 0)
        self.used[mark] = nth + 1
        if nth >= len(places):
            name = self.served.name(places[0]) if places else "an event whose id is known"
            self.report.violation("repeated", f"{where}: {name}, served {len(places)} times, is here once more")
            return
        index = places[nth]
        self.taken[index] = 1
        self._partition(index, partition, where)
        self._order(index, partition, where)

    def letter(self, payload: bytes) -> None:
        """Accounts for an event that is kept as a dead letter."""
        mark = digest(payload)
        nth = self.used.get(mark, 0)
        if nth < len(self.served.places.get(mark, ())):
            self.used[mark] = nth + 1
            self.taken[self.served.places[mark][nth]] = 1

    def finish(self, prefix: bool) -> None:
        """Names what was served and did not come.

        Of a run that was stopped midway (`prefix`), only what is missing before something that
        came is lost; without order nothing can be said.
        """
        for index, taken in enumerate(self.taken):
            if taken or (prefix and not self._passed(index)):
                continue
            self.report.violation("lost", f"{self.served.name(index)} is not in the archive")

    def _passed(self, index: int) -> bool:
        home = self.served.homes[index]
        home = self.keyless if home is None else home
        return self.ordered and home is not None and self.last.get((home, self.served.topics[index]), -1) > index

    def _partition(self, index: int, partition: int, where: str) -> None:
        home = self.served.homes[index]
        if home is None:
            if self.keyless is None:
                self.keyless = partition
            home = self.keyless
        if partition != home:
            name = self.served.name(index)
            self.report.violation("wrong_partition", f"{where}: {name} belongs into partition {home}")

    def _order(self, index: int, partition: int, where: str) -> None:
        lane = (partition, self.served.topics[index])
        last = self.last.get(lane, -1)
        if self.ordered and index < last:
            before = self.served.name(last)
            self.report.violation("swapped", f"{where}: {self.served.name(index)} stands behind {before}")
        self.last[lane] = max(index, last)


def check_archive(archive: Archive, topic: str, num_partitions: int, lines: Lines, prefix: bool) -> None:
    """Judges the structure and feeds every line to `lines`."""
    report = archive.report
    finals: dict[Path, Entry] = {}
    chains = archive.chains(topic)
    if not chains and not prefix:
        report.violation("missing", f"there is no chain of topic {topic}")
    for (_, partition), entries in sorted(chains.items()):
        if partition >= num_partitions:
            report.violation("wrong_partition", f"{entries[0].path} is of partition {partition} of {num_partitions}")
        check_chain(entries, report)
        for entry in entries:
            check_segment(archive, entry, finals, lines, unfinished=prefix and entry is entries[-1])
    others = {archive.resolve(entry.final) for entry in archive.entries if entry.topic != topic and entry.final}
    check_left_overs(archive, finals, others, prefix)
    report.facts["chains"] = len(chains)
    report.facts["segments"] = len(finals)
    report.facts["lines"] = lines.num_lines
    report.facts["served"] = len(lines.served)


def check_chain(entries: list[Entry], report: Report) -> None:
    """Each entry starts where the one before ended, and agrees with itself."""
    at = 0
    for entry in entries:
        if entry.start > at:
            report.violation("gap", f"{entry}: no entry covers [{at}, {entry.start})")
        elif entry.start < at:
            report.violation("overlap", f"{entry}: an entry before it goes up to {at}")
        if entry.next <= entry.start:
            report.violation("bad_entry", f"{entry} does not move on")
        at = max(at, entry.next)
        check_holes(entry, report)


def check_holes(entry: Entry, report: Report) -> None:
    at, width = entry.start, 0
    for start, end, why in entry.holes:
        if not at <= start < end <= entry.next or why not in WHYS:
            report.violation("bad_entry", f"{entry}: hole [{start}, {end}) {why} is out of place")
        if why == "retention":
            report.violation("lost", f"{entry}: the bus forgot [{start}, {end}) before it was read")
        at, width = end, width + end - start
    if entry.count != (room := entry.next - entry.start - width):
        report.violation("wrong_count", f"{entry} says {entry.count} lines, its bounds and holes say {room}")


def check_segment(archive: Archive, entry: Entry, finals: dict[Path, Entry], lines: Lines, unfinished: bool) -> None:
    """The entry's file is there, is its own, and holds what the entry says."""
    report = archive.report
    check_times(archive, entry)
    if entry.final is None:
        if entry.count:
            report.violation("bad_entry", f"{entry} has {entry.count} lines and names no file")
        return
    path = archive.resolve(entry.final)
    if path in finals:
        report.violation("repeated", f"{entry} names the file of {finals[path]}")
        return
    if not path.is_file() and unfinished and entry.staging:
        path = archive.resolve(entry.staging)  # published, not yet renamed
    if not path.is_file():
        if entry.count:
            report.violation("missing", f"{entry.final} ({entry}) is not there")
        return
    finals[path] = entry
    check_name(entry, report)
    found = archive.lines(entry, path)
    if found is None:
        return
    if len(found) != entry.count:
        report.violation("wrong_count", f"{path.name} has {len(found)} lines, {entry} says {entry.count}")
    for offset, line in zip(chain(entry.offsets(), repeat(entry.next)), found):  # lines too many are judged too
        lines.take(line, entry.partition, offset)


def check_name(entry: Entry, report: Report) -> None:
    name = (entry.final or "").rsplit("/", 1)[-1]
    told = f"{entry.partition}-{entry.start:020}-{entry.next:020}-"
    if told not in name or not SEGMENT.fullmatch(name):
        report.violation("bad_entry", f"{entry} has the final name {name}")


def check_times(archive: Archive, entry: Entry) -> None:
    if entry.times and not (entry.path.parent / entry.times).is_file() and not archive.resolve(entry.times).is_file():
        archive.report.violation("missing", f"the bus times {entry.times} of {entry} are not there")


def check_left_overs(archive: Archive, finals: dict[Path, Entry], others: set[Path], prefix: bool) -> None:
    """No data file without an entry; nothing in staging once a run has ended."""
    report = archive.report
    for path in archive.data_files:
        if path in finals or path in others:
            continue
        name = path.relative_to(archive.folder)
        report.violation("left_over", f"{name} is a data file that no entry names")
        if (match := SEGMENT.fullmatch(path.name)) is None:
            continue
        partition, start, end = (int(match[part]) for part in ("partition", "start", "next"))
        for entry in finals.values():
            if entry.partition == partition and entry.start < end and start < entry.next:
                report.violation("overlap", f"{name} covers offsets of {entry}")
    staging = archive.folder / "_staging"
    for path in sorted(staging.rglob("*")) if not prefix else ():
        if path.is_file():
            report.violation("left_over", f"{path.relative_to(archive.folder)} is still in staging")
