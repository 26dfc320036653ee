"""Three ways to read the table, which share nothing: the Python `deltalake` package (delta-rs),
DuckDB's `delta_scan` (delta-kernel), and the log read by ourselves with the files read by pyarrow.
Spark is a fourth, in `spark.py`.

Two more read the folder as plain Parquet, and so see the final hours only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import deltalake
import duckdb
import duckdb_extension_delta
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from deltalog import State
from rows import COLUMNS, Row

MICROS = pa.timestamp("us", tz="UTC")


class Tool(Protocol):
    """A program that reads the table in both ways: as a Delta table and as plain Parquet."""

    name: str
    # Of the program and of what else decides how it reads; known once it has started.
    version: str
    # The least number of seconds between two opens.
    pause: float

    def start(self) -> None: ...

    def open(self, table: Path) -> tuple[int | None, list[Row]]:
        """The rows of the newest version and, if the tool tells, which version that is."""
        ...

    def plain(self, table: Path) -> list[Row]:
        """The rows of the final hours."""
        ...

    def close(self) -> None: ...


class Deltalake:
    """The `deltalake` package, and pyarrow for the plain files."""

    name = "deltalake"
    version = f"{deltalake.__version__}, pyarrow {pa.__version__}"
    pause = 0.0

    def start(self) -> None:
        pass

    def open(self, table: Path) -> tuple[int | None, list[Row]]:
        return by_deltalake(table)

    def plain(self, table: Path) -> list[Row]:
        return plain_by_pyarrow(table)

    def close(self) -> None:
        pass


class Duckdb:
    """DuckDB, for both."""

    name = "duckdb"
    version = duckdb.__version__
    pause = 0.0

    def start(self) -> None:
        self.connection = duckdb_connection()

    def open(self, table: Path) -> tuple[int | None, list[Row]]:
        return None, by_duckdb(self.connection, table)

    def plain(self, table: Path) -> list[Row]:
        return plain_by_duckdb(self.connection, table)

    def close(self) -> None:
        self.connection.close()


def duckdb_connection() -> duckdb.DuckDBPyConnection:
    """DuckDB with its delta extension, from the PyPI package of the same version: no download."""
    connection = duckdb.connect(
        config={
            "allow_unsigned_extensions": "true",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
    )
    folder = Path(duckdb_extension_delta.__file__).parent / "extensions"
    file = folder / f"v{duckdb.__version__}" / "delta.duckdb_extension"
    connection.execute(f"load '{file}'")
    return connection


def by_deltalake(table: Path, version: int | None = None) -> tuple[int, list[Row]]:
    """The version read and its rows."""
    opened = deltalake.DeltaTable(str(table), version=version)
    return opened.version(), rows_of(opened.to_pyarrow_table())


def by_duckdb(connection: duckdb.DuckDBPyConnection, table: Path, version: int | None = None) -> list[Row]:
    """The rows of a version, or of the newest one."""
    chosen = "" if version is None else f", version => {version}"
    query = f"select epoch_us(window_start), epoch_us(window_end), wiki, edits, dt from delta_scan(?{chosen})"
    return sorted(Row(*row) for row in connection.execute(query, [str(table)]).fetchall())


def plain_by_pyarrow(table: Path) -> list[Row]:
    """What a data set over the folder shows; it passes by what begins with `_`, as Hadoop's readers do."""
    partitioning = ds.partitioning(pa.schema([("dt", pa.string())]), flavor="hive")
    if not plain_files(table):
        return []
    return rows_of(ds.dataset(table, format="parquet", partitioning=partitioning).to_table())


def plain_by_duckdb(connection: duckdb.DuckDBPyConnection, table: Path) -> list[Row]:
    """What DuckDB reads from the day folders."""
    if not plain_files(table):
        return []
    query = (
        "select epoch_us(window_start), epoch_us(window_end), wiki, edits, dt "
        "from read_parquet(?, hive_partitioning => true, hive_types => {'dt': varchar})"
    )
    return sorted(Row(*row) for row in connection.execute(query, [str(table / "dt=*" / "*.parquet")]).fetchall())


def plain_files(table: Path) -> list[Path]:
    return sorted(table.glob("dt=*/*.parquet"))


def by_hand(table: Path, state: State) -> tuple[dict[str, list[Row]], list[str]]:
    """The rows of each live file, and complaints about files."""
    files: dict[str, list[Row]] = {}
    complaints = []
    for path, add in state.live.items():
        try:
            # One file, not a data set: folders named dt=... would add a column of their own.
            read = pq.ParquetFile(table / path).read()
        except (OSError, pa.ArrowException) as why:
            complaints.append(f"{path}: {why}")
            continue
        if read.schema.names != list(COLUMNS[:4]):
            complaints.append(f"{path} has the columns {read.schema.names}")
            continue
        if (size := (table / path).stat().st_size) != add["size"]:
            complaints.append(f"{path} has {size} bytes, the log says {add['size']}")
        dt = add["partitionValues"].get("dt")
        try:
            files[path] = rows_of(read.append_column("dt", pa.array([dt] * read.num_rows, pa.string())))
        except TypeError as why:
            complaints.append(f"{path}: {why}")
    return files, complaints


def rows_of(read: pa.Table) -> list[Row]:
    """Sorted rows; raises if a column is missing or no number of microseconds in UTC."""
    for column in COLUMNS[:2]:
        if read.schema.field(column).type != MICROS:
            raise TypeError(f"{column} is {read.schema.field(column).type}, not {MICROS}")
    columns: list[list[Any]] = [
        (read[column].cast(pa.int64()) if column in COLUMNS[:2] else read[column]).to_pylist() for column in COLUMNS
    ]
    return sorted(Row(*row) for row in zip(*columns, strict=True))
