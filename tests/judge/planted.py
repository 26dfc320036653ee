"""Small archives and tables made by hand, right in every respect, for the judge's own tests.

Written from the formats' description alone, by other means than the judge reads them with where
there are any, so that a test that plants one fault knows it is the only one.
"""

from __future__ import annotations

import gzip
import json
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crc32c import crc32c
from murmur2 import partition_of

TOPIC = "wiki_changes"
TOPIC_ID = "6a2f41a3c54c4ce8a2f4d0f1b2c3d4e5"
LINES_PER_SEGMENT = 7
LINES_PER_TRANSACTION = 3


def by_wiki(lines: Iterable[bytes], num_partitions: int) -> list[list[bytes]]:
    """Lines in their partitions, by the key `/wiki`."""
    partitions: list[list[bytes]] = [[] for _ in range(num_partitions)]
    for line in lines:
        partitions[partition_of(json.loads(line)["wiki"], num_partitions)].append(line)
    return partitions


@dataclass
class PlantedArchive:
    """An archive whose bus put a marker behind every third record, and forgot nothing."""

    folder: Path
    packed: bool = False
    # The offset of each line and the line, by partition, as they were written.
    offsets: list[list[tuple[int, bytes]]] = field(default_factory=list)

    def write(self, partitions: list[list[bytes]]) -> None:
        for partition, lines in enumerate(partitions):
            self.offsets.append([])
            next_ = 0
            for at in range(0, len(lines), LINES_PER_SEGMENT):
                next_ = self.segment(partition, next_, lines[at : at + LINES_PER_SEGMENT])

    def segment(self, partition: int, start: int, lines: list[bytes]) -> int:
        holes, offset = [], start
        if start == 0:
            holes.append({"from": 0, "to": 5, "why": "start"})
            offset = 5
        for line in lines:
            if len(self.offsets[partition]) % LINES_PER_TRANSACTION == LINES_PER_TRANSACTION - 1:
                holes.append({"from": offset, "to": offset + 1, "why": "marker"})
                offset += 1
            self.offsets[partition].append((offset, line))
            offset += 1
        self.entry(partition, start, offset, lines, holes)
        return offset

    def entry(self, partition: int, start: int, next_: int, lines: list[bytes], holes: list[dict[str, Any]]) -> None:
        content = b"".join(line + b"\n" for line in lines)
        attempt = uuid.uuid5(uuid.NAMESPACE_OID, f"{partition}/{start}")
        suffix = ".jsonl.gz" if self.packed else ".jsonl"
        name = f"events-{partition}-{start:020}-{next_:020}-{attempt.hex[:8]}{suffix}"
        (self.folder / "2015").mkdir(parents=True, exist_ok=True)
        (self.folder / "2015" / name).write_bytes(gzip.compress(content, mtime=0) if self.packed else content)
        entry: dict[str, Any] = {
            "start": start,
            "next": next_,
            "count": len(lines),
            "bytes": len(content),
            "crc32c": crc32c(content),
            "holes": holes,
            "staging": f"_staging/{TOPIC}/{TOPIC_ID}/{partition}/{start:020}-{attempt}",
            "final": f"2015/{name}",
            "epoch": 1,
            "times": f"{start:020}-{attempt}.times",
        }
        self.chain(partition).mkdir(parents=True, exist_ok=True)
        (self.chain(partition) / entry["times"]).write_bytes(b"times")
        self.put(partition, start, entry)

    def chain(self, partition: int) -> Path:
        return self.folder / "_chain" / TOPIC / TOPIC_ID / str(partition)

    def entries(self, partition: int) -> list[int]:
        """The starts of a partition's entries."""
        return sorted(int(path.stem) for path in self.chain(partition).glob("*.json"))

    def get(self, partition: int, start: int) -> dict[str, Any]:
        return json.loads((self.chain(partition) / f"{start:020}.json").read_bytes())

    def put(self, partition: int, start: int, entry: dict[str, Any]) -> None:
        (self.chain(partition) / f"{start:020}.json").write_text(json.dumps(entry))

    def final(self, partition: int, nth: int) -> Path:
        """The data file of the nth entry."""
        return self.folder / self.get(partition, self.entries(partition)[nth])["final"]


class PlantedTable:
    """A table of edits per minute and wiki, with one live file per partition and hour."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = -1
        self.live: dict[tuple[int, int], dict[str, Any]] = {}
        self.seqs: Counter[int] = Counter()
        (folder / "_delta_log").mkdir(parents=True)
        (folder / "_live").mkdir()
        types = ["timestamp", "timestamp", "string", "long", "string"]
        names = ["window_start", "window_end", "wiki", "edits", "dt"]
        fields = [{"name": n, "type": t, "nullable": True, "metadata": {}} for n, t in zip(names, types, strict=True)]
        metadata = {
            "id": str(uuid.UUID(int=7)),
            "format": {"provider": "parquet", "options": {}},
            "schemaString": json.dumps({"type": "struct", "fields": fields}),
            "partitionColumns": ["dt"],
            "configuration": {},
            "createdTime": 0,
        }
        self.put([{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}, {"metaData": metadata}])

    def commit(self, partition: int, records: list[tuple[int, bytes]], upto: int, late: Iterable[int] = ()) -> None:
        """Brings a partition to its first `upto` records; offsets in `late` are not counted."""
        counts: Counter[tuple[int, str]] = Counter()
        times = []
        for offset, line in records[:upto]:
            event = json.loads(line)
            times.append(event["timestamp"])
            if offset not in late:
                counts[event["timestamp"] // 60 * 60, event["wiki"]] += 1
        actions = []
        for hour in sorted({start // 3600 for start, _ in counts}):
            rows = [(start, wiki, edits) for (start, wiki), edits in sorted(counts.items()) if start // 3600 == hour]
            actions += self.swap(partition, hour, rows)
        next_ = records[upto - 1][0] + 1
        numbers = {
            "seq": self.seqs[partition] + 1,
            "next": next_,
            "rewind": records[0][0],
            "watermark": max(times) * 1000 - 10_000,
        }
        self.seqs[partition] += 1
        self.put(actions + self.txns(partition, numbers))

    def swap(self, partition: int, hour: int, rows: list[tuple[int, str, int]]) -> list[dict[str, Any]]:
        """The actions that put these rows in the place of the hour's live file."""
        actions = []
        if old := self.live.get((partition, hour)):
            actions.append({"remove": {"path": old["path"], "deletionTimestamp": 1, "dataChange": True}})
        day = datetime.fromtimestamp(hour * 3600, UTC).date().isoformat()
        path = f"_live/{TOPIC_ID}-{partition}-{hour}-{self.version + 1}.parquet"
        size = write_rows(self.folder / path, rows)
        add = {"path": path, "stats": None, "partitionValues": {"dt": day}, "size": size}
        add |= {"modificationTime": 1, "dataChange": True}
        self.live[partition, hour] = add
        return [*actions, {"add": add}]

    def swapped(self, tags: dict[str, str] | None = None, to: str | None = None) -> int:
        """Gives the newest live file another path and tags; answers with the end of its hour in ms."""
        (_, hour), add = max(self.live.items())
        path = to or f"dt={add['partitionValues']['dt']}/{hour % 24:02}.parquet"
        (self.folder / path).parent.mkdir(exist_ok=True)
        shutil.copy(self.folder / add["path"], self.folder / path)
        moved = add | {"path": path, "tags": tags}
        self.put([{"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": False}}, {"add": moved}])
        return (hour + 1) * 3_600_000

    def txns(self, partition: int, numbers: dict[str, int]) -> list[dict[str, Any]]:
        app = f"howdah/wiki_edits_minute/{TOPIC_ID}/{partition}"
        return [{"txn": {"appId": f"{app}/{name}", "version": number}} for name, number in numbers.items()]

    def put(self, actions: list[dict[str, Any]]) -> None:
        self.version += 1
        path = self.folder / "_delta_log" / f"{self.version:020}.json"
        staged = path.with_name(".staged")
        staged.write_text("".join(json.dumps(action) + "\n" for action in actions))
        staged.rename(path)


def write_rows(
    path: Path, rows: list[tuple[int, str, int]], width: int = 60, more: dict[str, Any] | None = None
) -> int:
    """Writes (window start in seconds, wiki, edits) as a file of the table; answers with its size.

    `more` adds columns or puts others in the place of right ones.
    """
    micros = pa.timestamp("us", tz="UTC")
    columns = {
        "window_start": pa.array([start * 1_000_000 for start, _, _ in rows], pa.int64()).cast(micros),
        "window_end": pa.array([(start + width) * 1_000_000 for start, _, _ in rows], pa.int64()).cast(micros),
        "wiki": pa.array([wiki for _, wiki, _ in rows], pa.string()),
        "edits": pa.array([edits for _, _, edits in rows], pa.int64()),
    }
    pq.write_table(pa.table(columns | (more or {})), path)
    return path.stat().st_size
