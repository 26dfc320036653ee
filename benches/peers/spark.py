"""The Spark job, as it is started."""

from pathlib import Path

from . import jars

JOB = Path(__file__).with_name("spark_job.py")


def job(brokers: str, topic: str, table: str, state: str) -> list:
    python = jars.judge()
    delta, kafka = python.parents[1] / "jars", jars.fetch("spark")
    # Scala, Hadoop and the logger are in Spark already.
    own = [jar for jar in sorted(kafka.glob("*.jar")) if jar.name.startswith(("spark-", "kafka-", "commons-pool2"))]
    needed = ",".join(map(str, [*sorted(delta.glob("*.jar")), *own]))
    return [python, "-B", JOB, needed, brokers, topic, table, state]
