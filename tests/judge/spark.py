"""Spark as a reader of the table, as its users have it: `spark.read.parquet(folder)` and
`spark.read.format("delta").load(folder)`.

The JVM is a process of its own, small and quiet, that listens on the loopback interface only. It
ends when its standard input does, so it outlives neither `close` nor the death of this program.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pyspark import SparkContext
from pyspark.sql import DataFrame, SparkSession

from planted import PlantedTable
from readings import plain_files
from rows import COLUMNS, Row

HERE = Path(__file__).resolve().parent
# Where setup.sh puts the jars of pom.xml.
JARS = Path(sys.prefix) / "jars"
# A user's settings of Spark or Hadoop must not decide what is judged.
FOREIGN = ("SPARK_", "PYSPARK_", "HADOOP_", "YARN_")
# A session remembers the table that it has opened and reads on from there; a new one begins with
# the log. Both kinds of users are there, and the second one costs four times as much.
ANEW_EVERY = 4
# After so many seconds an end that was asked for is made.
END = 20.0

TYPES = dict(zip(COLUMNS, ("timestamp", "timestamp", "string", "bigint", "string"), strict=True))
# Java options: one compiler and one collector thread are enough, and the other cores are for howdah.
JAVA = (
    "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData "
    f"-Djava.net.preferIPv4Stack=true -Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
)
SETTINGS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.extraClassPath": str(JARS / "*"),
    "spark.driver.extraJavaOptions": JAVA,
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "512m",  # the least that Spark takes
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.shuffle.partitions": "1",
    "spark.databricks.delta.snapshotPartitions": "1",
    # Without this `dt=2015-09-12` is taken for a date; in the table it is a string.
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
}


class Spark:
    """A session of its own."""

    name = "spark"
    version = "not started"
    # An open takes one to three seconds of a core, and howdah is what is to be kept busy.
    pause = 2.0

    def __init__(self) -> None:
        self.num_opens = 0

    def start(self) -> None:
        java = Path(home, "bin/java") if (home := os.environ.get("JAVA_HOME")) else Path("java")
        if not shutil.which(java):
            raise FileNotFoundError(f"{java}: Spark needs Java 17 (Debian: apt install openjdk-17-jre-headless)")
        if not any(JARS.glob("*.jar")):
            raise FileNotFoundError(f"{JARS} holds no jar: tests/judge/setup.sh puts them there")
        for name in [name for name in os.environ if name.startswith(FOREIGN)]:
            del os.environ[name]
        os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
        builder = SparkSession.builder.master("local[1]").appName("howdah-judge")
        for name, value in SETTINGS.items():
            builder = builder.config(name, value)
        self.session = builder.getOrCreate()
        self.gateway = self.session.sparkContext._gateway
        delta = self.gateway.jvm.io.delta.package.VERSION()
        self.version = f"{self.session.version}, Delta {delta}"
        self.warm()

    def warm(self) -> None:
        """Reads a small table that is not judged.

        Until it has done everything once a JVM is so slow that files and log entries are gone before
        it comes to them, since howdah keeps them for seconds in a test, not for a day.
        """
        with tempfile.TemporaryDirectory() as folder:
            table = PlantedTable(Path(folder, "table"))
            table.put(table.swap(0, 0, [(0, "enwiki", 1)]))
            table.swapped()
            expected = [Row(0, 60_000_000, "enwiki", 1, "1970-01-01")]
            for _ in range(2):  # from the beginning, and on from there
                seen = self.plain(table.folder), self.open(table.folder)
                if seen != (expected, (table.version, expected)):
                    raise AssertionError(f"Spark reads {seen} where {expected} stands")

    def open(self, table: Path) -> tuple[int | None, list[Row]]:
        if self.num_opens % ANEW_EVERY == 0:
            self.gateway.jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
        self.num_opens += 1
        rows = micros(self.session.read.format("delta").load(str(table)))
        return version_of(rows), collected(rows)

    def plain(self, table: Path) -> list[Row]:
        if not plain_files(table):
            return []
        return collected(micros(self.session.read.parquet(str(table))))

    def close(self) -> None:
        """Ends the JVM, and does not come back before that."""
        process: subprocess.Popen[bytes] = self.gateway.proc
        try:
            self.session.stop()
            self.gateway.shutdown()
        finally:
            # Else the next session of this program would look for this JVM.
            SparkContext._gateway = SparkContext._jvm = None
            process.stdin.close()
            try:
                process.wait(END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def micros(read: DataFrame) -> DataFrame:
    """The columns of a row, times as microseconds; raises if a column has another type."""
    if (types := dict(read.dtypes)) != TYPES:
        raise TypeError(f"Spark sees the columns {types}, not {TYPES}")
    return read.selectExpr("unix_micros(window_start)", "unix_micros(window_end)", *COLUMNS[2:])


def collected(read: DataFrame) -> list[Row]:
    return sorted(Row(*row) for row in read.collect())


def version_of(read: DataFrame) -> int:
    """The version of the table that the plan of this read has settled on."""
    index = read._jdf.queryExecution().optimizedPlan().collectLeaves().head().relation().location()
    return index.preparedScan().version()
