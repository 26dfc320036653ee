"""What a judge found: violations, each with a name, and facts about what it looked at.

Every violation has one of a few names (`lost`, `repeated`, `swapped` ...), so that a test can say
which fault it planted and a person can see at a glance what kind of harm was done.
"""

from __future__ import annotations

import re
from collections import Counter

HOLDS, VIOLATED, USAGE = 0, 1, 2
SHOWN = 20
COLOUR = re.compile("\x1b\\[[0-9;]*m")

NAMES = {
    "lost": "a served event, or a record of the bus, is not there",
    "repeated": "a line, a row, a file or a position stands twice",
    "swapped": "lines of one source topic are not in the order served",
    "altered": "bytes differ from what was served or from what the chain says",
    "gap": "offsets that no entry covers",
    "overlap": "offsets that two entries or two files cover",
    "missing": "a file that is named is not there",
    "left_over": "a file that nothing names",
    "wrong_count": "a number differs from the count of what it counts",
    "wrong_partition": "a line is not in the partition of its key",
    "bad_entry": "an entry of a chain contradicts its name or itself",
    "missing_row": "a window and key that the events have and the table has not",
    "extra_row": "a row that no event explains",
    "bad_row": "a row whose columns contradict each other",
    "bad_schema": "the table's columns, types or protocol are not those promised",
    "bad_log": "a commit of the table's log contradicts the one before it or itself",
    "wrong_watermark": "a committed watermark is not what the records make it",
    "disagree": "readers of the table see different rows",
    "went_back": "a reader saw an older state after a newer one",
    "not_final": "plain readers see an hour that the log does not say is final",
    "not_swapped": "an hour that is final is not in its file after an ordered end",
    "failed": "a reader could not open the table",
}


class Report:
    """Collects violations; remembers the first few and counts all."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: list[str] = []
        self.facts: dict[str, object] = {}

    def violation(self, name: str, text: str) -> None:
        assert name in NAMES, name
        self.counts[name] += 1
        if len(self.first) < SHOWN:
            one_line = " ".join(COLOUR.sub("", text).split())  # libraries draw pictures
            self.first.append(f"{name}: {one_line}")

    def absorb(self, other: Report) -> None:
        """Takes over the violations of another report."""
        self.counts += other.counts
        self.first = (self.first + other.first)[:SHOWN]

    def conclude(self, subject: str) -> int:
        """Prints the verdict and answers with the exit code."""
        for line in self.first:
            print(line)
        facts = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        if not self.counts:
            print(f"{subject} holds: {facts}")
            return HOLDS
        tally = ", ".join(f"{count} {name}" for name, count in self.counts.most_common())
        print(f"{subject} violated: {tally} (of: {facts})")
        return VIOLATED
