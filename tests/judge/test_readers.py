"""Readers see the truth midway, and complain of each fault that is planted before their eyes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import time
import unittest
import warnings
from pathlib import Path
from typing import ClassVar
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

import readers
from planted import PlantedArchive, PlantedTable, by_wiki, write_rows
from readings import Tool
from rows import Row
from test_judge import NUM_PARTITIONS, Case, verdict


class Midway(Case):
    """Readers at work while a table is written, and the judgement of what they saw."""

    def test_snapshots_midway_are_the_truth_of_their_moment(self) -> None:
        archive = PlantedArchive(self.folder / "archive")
        archive.write(by_wiki(self.lines, NUM_PARTITIONS))
        done = self.folder / "done"
        samples = self.folder / "samples.jsonl"
        writer = threading.Thread(target=self.write, args=(archive, done))
        writer.start()
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = readers.main(
                [
                    "--tools=deltalake,duckdb",
                    *(f"--table={self.folder / 'table'}", "--seconds=60", "--interval=0.02"),
                    *(f"--until-file={done}", f"--samples={samples}", "--num-samples=30"),
                ]
            )
        writer.join()
        summary = json.loads(out.getvalue())
        self.assertEqual((code, summary["errors"], summary["went_back"]), (0, 0, 0), summary)
        self.assertEqual(summary["samples"], sum(min(30, seen["opens"]) for seen in summary["readers"].values()))
        for seen in summary["readers"].values():
            self.assertGreater(seen["last_version"], seen["first_version"])
        self.assert_holds(self.judge(archive, samples))
        self.plant(samples, archive)

    def plant(self, samples: Path, archive: PlantedArchive) -> None:
        """Samples that are not the truth are found out."""
        taken = [json.loads(line) for line in samples.read_text().splitlines()]
        sample = max(taken, key=lambda sample: len(sample["rows"]))
        sample["rows"][0][3] += 1
        samples.write_text(json.dumps(sample) + "\n")
        self.assert_named(self.judge(archive, samples), "wrong_count")
        del sample["rows"][0]
        samples.write_text(json.dumps(sample) + "\n")
        self.assert_named(self.judge(archive, samples), "missing_row")
        samples.write_text("")
        self.assert_named(self.judge(archive, samples), "missing")

    def judge(self, archive: PlantedArchive, samples: Path) -> tuple[int, str]:
        where = ("--events", self.events, "--archive", archive.folder, "--table", self.folder / "table")
        return verdict("snapshots", *where, "--samples", samples)

    def write(self, archive: PlantedArchive, done: Path) -> None:
        try:
            time.sleep(0.1)  # so that the readers meet a table that is not there yet
            table = PlantedTable(self.folder / "table")
            for tenth in range(1, 11):
                for partition, records in enumerate(archive.offsets):
                    table.commit(partition, records, max(1, len(records) * tenth // 10))
                    time.sleep(0.03)
        finally:
            done.touch()


class Complaints(Case):
    """What `deltalake`, DuckDB and Spark make of a table that is spoilt between two opens."""

    tools: ClassVar[list[Tool]] = []

    @classmethod
    def setUpClass(cls) -> None:
        warnings.simplefilter("ignore", ResourceWarning)  # pyspark leaves its sockets to the collector
        for tool in (tool() for tool in readers.TOOLS.values()):
            tool.start()
            cls.addClassCleanup(tool.close)
            cls.tools.append(tool)

    def setUp(self) -> None:
        super().setUp()
        self.archive = PlantedArchive(self.folder / "archive")
        self.archive.write([self.lines])
        self.table = PlantedTable(self.folder / "table")
        self.commit(50)

    def commit(self, upto: int) -> None:
        self.table.commit(0, self.archive.offsets[0], upto)

    def watch(self) -> list[readers.Reader]:
        """Readers that have opened the table once and found nothing wrong."""
        watching = [readers.Reader(tool, self.table.folder, 10, 0) for tool in self.tools]
        self.assert_seen(watching, errors=0, went_back=0)
        readers.compare(watching, still=True)
        self.assertEqual([reader.seen.complaints for reader in watching], [[]] * len(watching))
        return watching

    def watch_final(self) -> tuple[Path, list[readers.Reader]]:
        """The file of a final hour, and readers that have seen it."""
        self.table.swapped()
        watching = self.watch()
        self.assertEqual([reader.seen.final_hours for reader in watching], [1] * len(watching))
        return next(self.table.folder.glob("dt=*/*.parquet")), watching

    def assert_seen(self, watching: list[readers.Reader], errors: int, went_back: int) -> None:
        """What each has counted after one more open."""
        for reader in watching:
            reader.open()
            with self.subTest(reader.tool.name):
                self.assertEqual((reader.seen.errors, reader.seen.went_back), (errors, went_back), reader.seen)

    def rows_of(self, path: Path) -> list[tuple[int, str, int]]:
        read = pq.ParquetFile(path).read().to_pylist()
        return [(int(row["window_start"].timestamp()), row["wiki"], row["edits"]) for row in read]

    def test_a_table_that_shrinks_went_back_and_one_that_breaks_is_an_error(self) -> None:
        watching = self.watch()
        self.commit(20)
        self.assert_seen(watching, errors=0, went_back=1)
        (self.table.folder / "_delta_log" / f"{self.table.version + 1:020}.json").write_text("{")
        self.assert_seen(watching, errors=1, went_back=1)

    def test_a_live_file_that_is_missing(self) -> None:
        watching = self.watch()
        (self.table.folder / self.table.live[max(self.table.live)]["path"]).unlink()
        self.assert_seen(watching, errors=1, went_back=0)

    def test_a_final_hour_that_is_missing(self) -> None:
        path, watching = self.watch_final()
        path.unlink()
        self.assert_seen(watching, errors=1, went_back=1)

    def test_a_final_hour_with_another_count(self) -> None:
        path, watching = self.watch_final()
        size, ((start, wiki, edits), *rows) = path.stat().st_size, self.rows_of(path)
        self.assertEqual(write_rows(path, [(start, wiki, edits + 1), *rows]), size)
        self.assert_seen(watching, errors=0, went_back=1)

    def test_a_final_hour_with_a_row_that_the_table_has_not(self) -> None:
        path, watching = self.watch_final()
        write_rows(path.with_name("99.parquet"), [(self.rows_of(path)[0][0], "elsewhere", 1)])
        self.assert_seen(watching, errors=1, went_back=1)

    def test_times_that_are_not_in_utc(self) -> None:
        path, watching = self.watch_final()
        rows = self.rows_of(path)
        local = pa.array([start * 1_000_000 for start, _, _ in rows], pa.int64()).cast(pa.timestamp("us"))
        write_rows(path, rows, more={"window_start": local})
        # DuckDB makes the same number of both, so it has nothing to say.
        self.assert_seen([reader for reader in watching if reader.tool.name != "duckdb"], errors=1, went_back=0)

    def test_spark_reads_anew_and_on(self) -> None:
        (spark,) = (tool for tool in self.tools if tool.name == "spark")
        for upto in range(51, 55):
            self.commit(upto)
            self.assertEqual(spark.open(self.table.folder)[0], self.table.version)


class Comparison(unittest.TestCase):
    """Of what readers saw of the final hours in the end."""

    def compared(self, first: dict[int, list[Row]], second: dict[int, list[Row]], still: bool) -> int:
        watching = [readers.Reader(readers.Deltalake(), Path(), 0, 0) for _ in range(2)]
        watching[0].plain, watching[1].plain = first, second
        readers.compare(watching, still)
        return watching[1].seen.errors

    def test_an_hour_that_differs_or_is_not_there(self) -> None:
        one, other = [Row(0, 60, "enwiki", 1, "1970-01-01")], [Row(0, 60, "enwiki", 2, "1970-01-01")]
        for first, second, still, errors in (
            ({0: one}, {0: one}, True, 0),
            ({0: one}, {0: other}, True, 1),
            ({0: one}, {0: other}, False, 1),
            ({0: one}, {}, True, 1),
            ({}, {0: one}, True, 1),
            ({}, {0: one}, False, 0),
        ):
            self.assertEqual(self.compared(first, second, still), errors, (first, second, still))


class Missing(Case):
    """A reader that cannot read is an error, not one reader less."""

    def test_no_java(self) -> None:
        PlantedTable(self.folder / "table")
        for changes in ({"JAVA_HOME": str(self.folder)}, {"JAVA_HOME": "", "PATH": str(self.folder)}):
            with (
                mock.patch.dict(os.environ, changes),
                contextlib.redirect_stdout(io.StringIO()) as out,
            ):
                code = readers.main([f"--table={self.folder / 'table'}", "--tools=spark", "--seconds=0.01"])
            summary = json.loads(out.getvalue())
            self.assertEqual((code, summary["errors"], summary["opens"]), (1, 1, 0), summary)
            self.assertIn("openjdk-17-jre-headless", summary["readers"]["spark"]["complaints"][0])
