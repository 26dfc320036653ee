"""A Delta table's log, read without any library.

`_delta_log/<version, 20 digits>.json` holds one commit: one action a line. `add` and `remove`
change which files are live, `txn` sets a number for an application id, `metaData` and `protocol`
say what the table is. A version's state is what the commits from 0 up to it leave behind.

howdah keeps four numbers for each partition, as application ids
`howdah/<table>/<topic identity>/<partition>/<seq | next | rewind | watermark>`. The watermark
(milliseconds) is not there before an event was counted. `howdah/<table>/final` is the time
(milliseconds) before which every hour is final.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from report import Report

COMMIT = re.compile(r"(\d{20})\.json")
FINAL = re.compile(r"howdah/[^/]+/final")
NUMBERS = ("seq", "next", "rewind", "watermark")


class Lane(NamedTuple):
    """A partition of a topic with this identity, as it feeds the table."""

    topic_id: str
    partition: int


class Step(NamedTuple):
    """A commit that moved a lane, and the watermark that judged its records."""

    version: int
    next: int
    judge: int | None
    watermark: int | None


@dataclass
class State:
    """What a version of the table consists of."""

    version: int = -1
    live: dict[str, dict[str, Any]] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    numbers: dict[Lane, dict[str, int]] = field(default_factory=dict)
    final: int | None = None
    protocol: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    def next(self) -> dict[Lane, int]:
        """Up to which offset each partition is in the table."""
        return {lane: numbers["next"] for lane, numbers in self.numbers.items() if "next" in numbers}


class Log:
    """The commits of a table, from 0, checked against each other while they are read.

    howdah deletes old ones. A folder into which somebody has linked each of them as it came makes up
    for that.
    """

    def __init__(self, table: Path, report: Report, kept: Path | None = None) -> None:
        self.table = table
        self.report = report
        paths: dict[int, Path] = {}
        for folder in (table / "_delta_log", kept):  # what was kept counts: in the log may lie a left-over
            for path in folder.glob("*.json") if folder else ():
                if match := COMMIT.fullmatch(path.name):
                    paths[int(match[1])] = path
        versions = sorted(paths)
        if not versions:
            report.violation("missing", f"{table} has no commit")
        if versions != list(range(len(versions))):
            report.violation("bad_log", f"the versions are not 0 to {len(versions) - 1}: {versions[:5]} ...")
        self.commits = [(version, self._actions(paths[version])) for version in versions]
        self.history: dict[Lane, list[Step]] = {}
        self.newest = self.state(check=True)

    def state(self, version: int | None = None, check: bool = False) -> State:
        """The state at a version; the newest without one."""
        state = State()
        for number, actions in self.commits:
            if version is not None and number > version:
                break
            self._commit(state, number, actions, check)
        return state

    def _actions(self, path: Path) -> list[dict[str, Any]]:
        try:
            actions = [json.loads(line) for line in path.read_bytes().splitlines() if line]
        except ValueError as why:
            self.report.violation("bad_log", f"{path.name}: {why}")
            return []
        if strange := [action for action in actions if not isinstance(action, dict)]:
            self.report.violation("bad_log", f"{path.name}: {strange[0]!r} is no action")
        return [action for action in actions if isinstance(action, dict)]

    def _commit(self, state: State, version: int, actions: list[dict[str, Any]], check: bool) -> None:
        state.version = version
        removed: set[str] = set()
        before = {lane: dict(numbers) for lane, numbers in state.numbers.items()}
        for action in actions:
            match action:
                case {"remove": {"path": path}}:
                    if state.live.pop(unquote(path), None) is None and check:
                        self.report.violation("bad_log", f"version {version} removes {path}, which is not live")
                    removed.add(unquote(path))
                case {"txn": {"appId": app, "version": number}} if FINAL.fullmatch(app):
                    if check and state.final is not None and number <= state.final:
                        self.report.violation("went_back", f"version {version}: final {number} follows {state.final}")
                    state.final = number
                case {"txn": {"appId": app, "version": number}}:
                    if (known := lane_of(app)) is not None:
                        state.numbers.setdefault(known[0], {})[known[1]] = number
                case {"protocol": protocol}:
                    state.protocol = protocol
                case {"metaData": metadata}:
                    state.metadata = metadata
        for add in (action["add"] for action in actions if "add" in action):  # order within a commit is none
            path = unquote(add["path"])
            if path in removed and check:
                self.report.violation("bad_log", f"version {version} both adds and removes {path}")
            if path in state.live and check:
                self.report.violation("repeated", f"version {version} adds {path}, which is live")
            state.live[path] = add
        state.removed |= removed
        if check:
            for lane, numbers in state.numbers.items():
                self._moved(version, lane, before.get(lane, {}), numbers)

    def _moved(self, version: int, lane: Lane, before: dict[str, int], after: dict[str, int]) -> None:
        """A commit that touches a partition raises its `seq` by one and takes nothing back."""
        if before == after:
            return
        where = f"version {version}, partition {lane.partition} of {lane.topic_id}"
        missing = [name for name in ("seq", "next", "rewind") if name not in after]
        if not missing and after["rewind"] < after["next"] and "watermark" not in after:
            missing = ["watermark"]
        if missing:
            self.report.violation("bad_log", f"{where}: no {', '.join(missing)}")
            return
        if "seq" in before and after["seq"] != before["seq"] + 1:
            self.report.violation("bad_log", f"{where}: seq {after['seq']} follows {before['seq']}")
        for name in ("next", "rewind", "watermark"):
            if name in before and after[name] < before[name]:
                self.report.violation("went_back", f"{where}: {name} {after[name]} follows {before[name]}")
        if after["rewind"] > after["next"]:
            self.report.violation("bad_log", f"{where}: rewind {after['rewind']} is above next {after['next']}")
        step = Step(version, after["next"], before.get("watermark"), after.get("watermark"))
        self.history.setdefault(lane, []).append(step)


def lane_of(app: str) -> tuple[Lane, str] | None:
    """The partition and the number that an application id stands for, if it is one of howdah's."""
    parts = app.split("/")
    if len(parts) < 5 or parts[0] != "howdah" or parts[-1] not in NUMBERS or not parts[-2].isdecimal():
        return None
    return Lane(parts[-3], int(parts[-2])), parts[-1]
