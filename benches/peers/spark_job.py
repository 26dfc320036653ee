"""Edits per minute and wiki, from Kafka to a Delta table, as a person would write it for Spark's streaming.

    spark_job.py JARS BROKERS TOPIC TABLE STATE

Takes what the topic holds, in one batch: without `maxOffsetsPerTrigger`, since each further batch would commit
its state and its files once more. Then ends. Prints, as a line of JSON, when it had started and how many records
it read.
"""

import json
import sys
import time

from pyspark.sql import SparkSession, functions as f

SCHEMA = "timestamp LONG, wiki STRING, meta STRUCT<domain: STRING>"
SETTINGS = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": "-XX:+UseParallelGC -Djava.net.preferIPv4Stack=true",
    "spark.log.level": "ERROR",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


def main(jars: str, brokers: str, topic: str, table: str, state: str) -> None:
    builder = SparkSession.builder.master("local[2]").appName("edits").config("spark.jars", jars)
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    started = time.monotonic()
    records = spark.readStream.format("kafka").option("kafka.bootstrap.servers", brokers).option("subscribe", topic)
    records = records.option("startingOffsets", "earliest").option("kafka.isolation.level", "read_committed").load()
    events = records.select(f.from_json(f.col("value").cast("string"), SCHEMA).alias("event")).select("event.*")
    events = events.where("meta.domain <> 'canary'").withColumn("time", f.timestamp_seconds("timestamp"))
    windows = events.withWatermark("time", "10 minutes").groupBy(f.window("time", "1 minute"), "wiki").count()
    rows = windows.selectExpr("window.start window_start", "window.end window_end", "wiki", "count edits")
    writing = rows.writeStream.format("delta").outputMode("append").option("checkpointLocation", state)
    query = writing.trigger(availableNow=True).start(table)
    query.awaitTermination()
    records = sum(progress["numInputRows"] for progress in query.recentProgress)
    gateway = spark.sparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()  # its end of the line, at which the JVM ends
    gateway.proc.wait()
    print(json.dumps({"started": started, "records": records}))


if __name__ == "__main__":
    main(*sys.argv[1:])
