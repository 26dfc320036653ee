"""Reads an archive and a table where they lie, on HDFS, as their users do: Spark, and Python's deltalake.

    on_hdfs.py hdfs://host:port ARCHIVE TABLE

HADOOP_CONF_DIR has the cluster's settings. Prints what each of them saw, as JSON.
"""

from __future__ import annotations

import json
import os
import sys

import deltalake
from pyspark.sql import SparkSession

from spark import SETTINGS


def by_spark(url: str, archive: str, table: str) -> dict[str, object]:
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = SparkSession.builder.master("local[1]").appName("howdah-judge")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    try:
        # Folders that begin with _ or . are passed over without being told.
        lines = session.read.option("recursiveFileLookup", "true").text(url + archive).count()
        live = session.read.format("delta").load(url + table).agg({"edits": "sum"}).first()[0]
        plain = session.read.parquet(url + table).agg({"edits": "sum"}).first()[0]
        return {"version": session.version, "lines": lines, "edits": live, "plain": plain}
    finally:
        session.stop()


def by_deltalake(url: str, table: str) -> dict[str, object]:
    found = deltalake.DeltaTable(url + table)
    return {"version": deltalake.__version__, "edits": sum(found.to_pyarrow_table()["edits"].to_pylist())}


def main(url: str, archive: str, table: str) -> None:
    print(json.dumps({"spark": by_spark(url, archive, table), "deltalake": by_deltalake(url, table)}), flush=True)
    # Arrow's threads, which may still read ahead, abort the interpreter if it ends around them. What was read is told.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
