"""The windows of pipelines/wikimedia.toml as a person would write them for Spark, to be timed beside ours.

    windows_spark.py EVENTS.ndjson

Counts events per minute of `/timestamp` and `/wiki`, without canary events, in one batch on one thread, and
prints how many rows and edits there are, and the CPU seconds that Spark took from its start to its end. (The
batch is less work than a stream: Spark's streaming would keep state and checkpoints, too.)
"""

import resource
import sys

from pyspark.sql import SparkSession, functions as f

SCHEMA = "timestamp LONG, wiki STRING, meta STRUCT<domain: STRING>"


def main() -> None:
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", False)
    spark = builder.config("spark.sql.session.timeZone", "UTC").config("spark.log.level", "ERROR").getOrCreate()
    events = spark.read.schema(SCHEMA).json(sys.argv[1]).where("meta.domain <> 'canary'")
    minute = f.window(f.timestamp_seconds("timestamp"), "1 minute")
    rows = events.groupBy(minute, "wiki").count()
    num_rows, edits = rows.agg(f.count("*"), f.sum("count")).first()
    gateway = spark.sparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()  # its end of the line, at which the JVM ends
    gateway.proc.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    print(f"Spark from a file {edits / cpu / 1000:.0f} k records per CPU second ({cpu:.2f} CPU s, its start included)")
    print(f"  {num_rows} rows, {edits} edits")


main()
