"""The judge passes a right table and names planted faults."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from expected import Rules
from planted import PlantedArchive, PlantedTable, by_wiki, write_rows
from test_judge import NUM_PARTITIONS, Case, verdict

Rows = list[tuple[int, str, int]]


class TableCase(Case):
    """An archive of three partitions, and a table that took each of them in in two commits."""

    def setUp(self) -> None:
        super().setUp()
        self.planted = PlantedArchive(self.folder / "archive")
        self.planted.write(by_wiki(self.lines, NUM_PARTITIONS))
        self.table = PlantedTable(self.folder / "table")
        for half in (2, 1):
            for partition, records in enumerate(self.planted.offsets):
                self.table.commit(partition, records, len(records) // half)

    def judge(self, *more: object) -> tuple[int, str]:
        return verdict("table", "--events", self.events, "--table", self.table.folder, *more)

    def positions(self, *more: object) -> tuple[int, str]:
        return self.judge("--at-positions", self.planted.folder, *more)

    def commit_path(self, version: int) -> Path:
        return self.table.folder / "_delta_log" / f"{version:020}.json"

    def edit_commit(self, version: int, old: str, new: str) -> None:
        path = self.commit_path(version)
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new))

    def rewrite_rows(self, edit: Callable[[Rows], Rows]) -> None:
        """Commits an hour's file of partition 1 anew, with its rows changed."""
        hour = min(hour for partition, hour in self.table.live if partition == 1)
        own = self.own_rows(self.table.live[1, hour]["path"])
        self.table.put(self.table.swap(1, hour, edit(own)))

    def own_rows(self, path: str) -> Rows:
        read = pq.ParquetFile(self.table.folder / path).read().to_pylist()
        return [(int(row["window_start"].timestamp()), row["wiki"], row["edits"]) for row in read]


class Table(TableCase):
    def test_a_right_table_holds(self) -> None:
        self.assert_holds(self.judge("--strict"))
        self.assert_holds(self.positions())

    def test_a_snapshot_midway_holds_at_its_positions_only(self) -> None:
        for version in (6, 5, 4):
            self.commit_path(version).unlink()
            self.assert_holds(self.positions())
        self.assert_named(self.judge(), "missing_row")

    def test_a_wrong_count(self) -> None:
        self.rewrite_rows(lambda rows: [(rows[0][0], rows[0][1], rows[0][2] + 1), *rows[1:]])
        self.assert_named(self.judge(), "wrong_count")
        self.assert_named(self.positions(), "wrong_count")

    def test_a_missing_row(self) -> None:
        self.rewrite_rows(lambda rows: rows[1:])
        self.assert_named(self.judge(), "missing_row")

    def test_an_extra_row(self) -> None:
        self.rewrite_rows(lambda rows: [*rows, (rows[0][0], "elsewhere", 1)])
        self.assert_named(self.judge(), "extra_row")

    def test_a_row_twice_in_a_file(self) -> None:
        self.rewrite_rows(lambda rows: [*rows, rows[0]])
        self.assert_named(self.judge(), "repeated", "wrong_count")

    def test_a_window_that_is_none(self) -> None:
        self.rewrite_rows(lambda rows: [(rows[0][0] + 1, *rows[0][1:]), *rows[1:]])
        self.assert_named(self.judge(), "bad_row", "missing_row", "extra_row")

    def rewrite_file(self, width: int = 60, more: dict[str, Any] | None = None) -> None:
        """Writes a live file anew; the log keeps telling the truth about its size."""
        add = self.table.live[max(self.table.live)]
        size = write_rows(self.table.folder / add["path"], self.own_rows(add["path"]), width, more)
        self.edit_commit(6, f'"size": {add["size"]}', f'"size": {size}')

    def test_a_window_that_ends_elsewhere(self) -> None:
        self.rewrite_file(width=61)
        self.assert_named(self.judge(), "bad_row")

    def test_a_row_of_another_day(self) -> None:
        self.edit_commit(6, '"2015-09-12"', '"2015-09-13"')
        self.assert_named(self.judge(), "bad_row")

    def test_columns_that_are_too_many_or_of_another_type(self) -> None:
        add = self.table.live[max(self.table.live)]
        num_rows = len(self.own_rows(add["path"]))
        nulls = pa.nulls(num_rows, pa.int64())
        for more in ({"other": nulls}, {"window_start": nulls.cast(pa.timestamp("us"))}):
            write_rows(self.table.folder / add["path"], self.own_rows(add["path"]), more=more)
            code, out = self.judge()
            self.assertEqual(code, 1, out)
            self.assertRegex(out, f"altered: {add['path']}.*(has the columns|timestamp.us., not)")
            write_rows(self.table.folder / add["path"], [(0, "x", 1)] * num_rows)

    def test_an_hour_of_one_partition_counted_twice(self) -> None:
        add = next(add for (partition, _), add in self.table.live.items() if partition == 1)
        twin = add["path"].replace(".parquet", "-twin.parquet")
        shutil.copy(self.table.folder / add["path"], self.table.folder / twin)
        self.table.put([{"add": add | {"path": twin}}])
        self.assert_named(self.judge(), "wrong_count")

    def test_a_live_file_that_is_gone(self) -> None:
        (self.table.folder / self.table.live[max(self.table.live)]["path"]).unlink()
        self.assert_named(self.judge(), "missing", "failed", "missing_row")

    def test_a_live_file_with_other_bytes_than_the_log_says(self) -> None:
        path = self.table.folder / self.table.live[max(self.table.live)]["path"]
        path.write_bytes(path.read_bytes()[:-9] + b"x" + path.read_bytes()[-9:])
        code, out = self.judge()
        self.assertEqual(code, 1, out)
        self.assertIn("altered: ", out)

    def test_a_size_or_a_number_of_rows_that_the_log_has_wrong(self) -> None:
        add = self.table.live[max(self.table.live)]
        size = f'"size": {add["size"]}'
        self.edit_commit(6, size, f'"size": {add["size"] + 1}')
        code, out = self.judge()
        self.assertEqual(code, 1)
        self.assertIn("bytes, the log says", out)
        self.edit_commit(6, f'"size": {add["size"] + 1}', size)
        self.edit_commit(6, '"stats": null', f'"stats": {json.dumps(json.dumps({"numRecords": 1}))}')
        code, out = self.judge()
        self.assertEqual(code, 1)
        self.assertIn("rows, the log says 1", out)

    def test_a_file_that_no_commit_names(self) -> None:
        write_rows(self.table.folder / "_live" / "other.parquet", [(0, "enwiki", 1)])
        self.assert_holds(self.judge())
        self.assert_named(self.judge("--strict"), "left_over")

    def final(self, until: int) -> None:
        self.table.put([{"txn": {"appId": "howdah/wiki_edits_minute/final", "version": until}}])

    def test_an_hour_for_plain_readers_that_is_not_final(self) -> None:
        until = self.table.swapped()
        self.assert_named(self.judge(), "not_final")
        self.final(until)
        self.assert_holds(self.judge("--ended"))
        self.final(until)
        self.assert_named(self.judge(), "went_back")

    def test_a_plain_file_that_the_log_does_not_name(self) -> None:
        self.final(self.table.swapped())
        path = next(self.table.folder.glob("dt=*/*.parquet"))
        shutil.copy(path, path.with_name("99.parquet"))
        self.assert_named(self.judge(), "disagree")

    def test_a_final_hour_that_is_not_in_its_file(self) -> None:
        hour = max(self.table.live)[1]
        tag = {"howdah.hour": datetime.fromtimestamp(hour * 3600, UTC).isoformat()}
        self.final(self.table.swapped(tag, "_live/other.parquet"))
        self.assert_holds(self.judge())
        self.assert_named(self.judge("--ended"), "not_swapped")

    def test_a_file_added_twice(self) -> None:
        self.table.put([{"add": self.table.live[max(self.table.live)]}])
        self.assert_named(self.judge(), "repeated")

    def test_a_file_removed_that_is_not_live(self) -> None:
        self.table.put([{"remove": {"path": "_live/none.parquet", "deletionTimestamp": 1, "dataChange": True}}])
        self.assert_named(self.judge(), "bad_log")

    def test_a_commit_that_skips_a_sequence_number(self) -> None:
        numbers = {"seq": 9, "next": 10**6, "rewind": 5, "watermark": 2 * 10**12}
        self.table.put(self.table.txns(1, numbers))
        self.assert_named(self.judge(), "bad_log")

    def test_numbers_that_are_missing_go_back_or_contradict(self) -> None:
        numbers = {"seq": 3, "next": 10**6, "rewind": 5, "watermark": 2 * 10**12}
        base = self.table.version
        for change, name in (
            ({"next": 5}, "went_back"),
            ({"rewind": 1}, "went_back"),
            ({"watermark": 1}, "went_back"),
            ({"rewind": 10**7}, "bad_log"),
        ):
            self.table.put(self.table.txns(1, numbers | change))
            code, out = self.judge()
            self.assertEqual((code, out.startswith(name)), (1, True), out)
            self.commit_path(self.table.version).unlink()
            self.table.version = base
        for name in ("seq", "next", "rewind", "watermark"):
            self.edit_commit(1, f"/{name}", f"/not_{name}")
            self.assert_named(self.judge(), "bad_log")
            self.edit_commit(1, f"/not_{name}", f"/{name}")

    def test_statistics_that_hide_rows(self) -> None:
        add = self.table.live[max(self.table.live)]
        first = min(row[0] for row in self.own_rows(add["path"]))
        told = "null"
        for shift, holds in ((0, True), (60, False)):
            start = datetime.fromtimestamp(first + shift, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
            stats = json.dumps(json.dumps({"minValues": {"window_start": start}}))
            self.edit_commit(6, f'{add["path"]}", "stats": {told}', f'{add["path"]}", "stats": {stats}')
            told = stats
            self.assertEqual(self.judge()[0] == 0, holds, self.judge()[1])

    def test_a_file_added_and_removed_in_one_commit(self) -> None:
        add = self.table.live[max(self.table.live)]
        self.table.put([{"remove": {"path": add["path"], "deletionTimestamp": 1, "dataChange": True}}, {"add": add}])
        code, out = self.judge()
        self.assertEqual(code, 1)
        self.assertIn("both adds and removes", out)
        self.assertIn("disagree: deltalake", out)

    def test_a_missing_commit(self) -> None:
        self.commit_path(3).unlink()
        code, out = self.judge()
        self.assertEqual(code, 1)
        self.assertIn("bad_log: the versions are not", out)

    def test_a_commit_beyond_a_gap(self) -> None:
        shutil.copy(self.commit_path(0), self.commit_path(9))
        code, out = self.judge()
        self.assertEqual(code, 1)
        self.assertRegex(out, "(deltalake reads version 6, the log ends at 9|failed: deltalake)")

    def test_another_schema(self) -> None:
        self.edit_commit(0, '\\"edits\\", \\"type\\": \\"long\\"', '\\"edits\\", \\"type\\": \\"integer\\"')
        self.assertIn("bad_schema: the columns", self.judge()[1])

    def test_another_protocol_or_partitioning(self) -> None:
        self.edit_commit(0, '"minWriterVersion": 2', '"minWriterVersion": 3')
        self.assert_named(self.judge(), "bad_schema")
        self.edit_commit(0, '"minWriterVersion": 3', '"minWriterVersion": 2')
        self.edit_commit(0, '"partitionColumns": ["dt"]', '"partitionColumns": []')
        self.assertIn("bad_schema: the partition columns are []", self.judge()[1])

    def test_a_table_ahead_of_its_archive(self) -> None:
        last = self.planted.entries(0)[-1]
        (self.planted.chain(0) / f"{last:020}.json").unlink()
        self.assert_named(self.positions(), "gap", "extra_row", "wrong_watermark")

    def test_an_archive_that_holds_a_line_nobody_served(self) -> None:
        self.serve(self.lines[1:])
        self.assert_named(self.positions(), "altered")

    def test_no_table(self) -> None:
        self.assert_named(verdict("table", "--events", self.events, "--table", self.folder), "missing")


class Counted(Case):
    """Which events count, and that late ones are told by the watermark of their commit."""

    def build(self, lines: list[bytes], late: tuple[int, ...] = ()) -> tuple[PlantedArchive, PlantedTable]:
        self.serve(lines)
        archive = PlantedArchive(self.folder / "archive")
        archive.write([lines])
        table = PlantedTable(self.folder / "table")
        for upto in range(40, len(lines) + 1):
            table.commit(0, archive.offsets[0], upto, late)
        return archive, table

    def judge(self, archive: PlantedArchive, table: PlantedTable) -> tuple[int, str]:
        where = ("--events", self.events, "--table", table.folder)
        return verdict("table", *where, "--at-positions", archive.folder, "--lateness", 600)

    def test_a_late_event_is_not_counted(self) -> None:
        # 06:59 is final once the watermark is past 07:10.
        lines = [*self.lines, self.lines[3]]
        self.assertGreater(json.loads(lines[-2])["timestamp"] % 3600, 660)
        late = len(lines) - 1
        archive, table = self.build(lines, late=(5 + late + late // 3,))
        self.assert_holds(self.judge(archive, table))

    def test_a_late_event_that_is_counted_is_one_too_many(self) -> None:
        archive, table = self.build([*self.lines, self.lines[3]])
        self.assert_named(self.judge(archive, table), "wrong_count")

    def test_a_watermark_that_the_records_do_not_make(self) -> None:
        archive, table = self.build(self.lines)
        path = table.folder / "_delta_log" / f"{table.version:020}.json"
        text = path.read_text()
        watermark = json.loads(self.lines[-1])["timestamp"] * 1000 - 10_000
        self.assertIn(str(watermark), text)
        path.write_text(text.replace(str(watermark), str(watermark + 1)))
        self.assert_named(self.judge(archive, table), "wrong_watermark")

    def test_an_idle_partition_takes_over_the_watermark_of_another(self) -> None:
        archive = PlantedArchive(self.folder / "archive")
        archive.write([self.lines[:50], self.lines[50:]])
        table = PlantedTable(self.folder / "table")
        for partition, records in enumerate(archive.offsets):
            table.commit(partition, records, len(records))
        first, last = (json.loads(lines[-1])["timestamp"] * 1000 - 10_000 for lines in (self.lines[:50], self.lines))
        next_ = archive.offsets[0][-1][0] + 1
        numbers = {"seq": 2, "next": next_, "rewind": next_}
        for watermark, holds in ((last, True), (last - 1, False), (first - 1, False)):
            table.put(table.txns(0, numbers | {"watermark": watermark}))
            code, out = self.judge(archive, table)
            self.assertEqual((code == 0, "wrong_watermark" in out), (holds, not holds), out)
            (table.folder / "_delta_log" / f"{table.version:020}.json").unlink()
            table.version -= 1
        # Nobody takes over what nobody has committed yet.
        table.put(table.txns(0, numbers | {"watermark": last + 1}))
        table.put(table.txns(1, {"seq": 2, "next": 10**6, "rewind": 10**6, "watermark": last + 1}))
        self.assertIn(f"version {table.version - 1}, partition 0", self.judge(archive, table)[1])

    def test_what_does_not_count(self) -> None:
        rules = Rules(window=60, lateness=600, delay=10, future=1_500_000_000.0)
        event = {"timestamp": 1442039761, "wiki": "enwiki", "meta": {"domain": "en.wikipedia.org"}}
        for change, expected in (
            ({}, (1442039760, "enwiki")),
            ({"timestamp": 1442039819.99}, (1442039760, "enwiki")),
            ({"timestamp": -1}, (-60, "enwiki")),
            ({"wiki": 7}, (1442039760, "7")),
            ({"wiki": 7.50}, (1442039760, "7.5")),
            ({"wiki": True}, (1442039760, "true")),
            ({"wiki": ""}, (1442039760, "")),
            ({"meta": None}, (1442039760, "enwiki")),
            ({"meta": {"domain": "canary"}}, None),
            ({"timestamp": "1442039761"}, None),
            ({"timestamp": True}, None),
            ({"timestamp": None}, None),
            ({"timestamp": 2**31}, None),
            ({"timestamp": 10**18}, None),
            ({"timestamp": -(10**18)}, None),
            ({"wiki": None}, None),
            ({"wiki": ["enwiki"]}, None),
        ):
            line = json.dumps(event | change).encode()
            self.assertEqual(rules.read(line).key, expected, line)
        for line in (b"", b"[]", b"7", b'{"timestamp":1', b'{"timestamp":NaN,"wiki":"x"}', b"\xff"):
            self.assertEqual(rules.read(line), (None, None), line)
