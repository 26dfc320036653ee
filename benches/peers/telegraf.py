"""Telegraf, as its manual has it: from Kafka to InfluxDB."""

import os
import shutil
import subprocess
from pathlib import Path

from servers.processes import Failed

from . import jars

VERSION = "1.37.2"
# What the work needs, and no more: a program with every plugin is larger, not slower.
PLUGINS = "custom,inputs.kafka_consumer,outputs.influxdb_v2,parsers.json_v2"

CONFIG = """\
[agent]
  flush_interval = "1s"
  metric_batch_size = 5000
  metric_buffer_limit = 50000
  omit_hostname = true

[[inputs.kafka_consumer]]
  brokers = ["{brokers}"]
  topics = ["{topic}"]
  # Else it speaks a protocol that Kafka 4 does not know any more.
  kafka_version = "3.6.0"
  consumer_group = "telegraf-{topic}-{measurement}"
  offset = "oldest"
  # Else it waits for each thousand to be written.
  max_undelivered_messages = 20000
  consumer_fetch_default = "8MB"
  data_format = "json_v2"
  [[inputs.kafka_consumer.json_v2]]
    measurement_name = "{measurement}"
    [[inputs.kafka_consumer.json_v2.tag]]
      path = "wiki"
    [[inputs.kafka_consumer.json_v2.tag]]
      path = "type"
    [[inputs.kafka_consumer.json_v2.field]]
      path = "title"
      type = "string"
    [[inputs.kafka_consumer.json_v2.field]]
      path = "user"
      type = "string"
    [[inputs.kafka_consumer.json_v2.field]]
      path = "bot"
      type = "bool"
    [[inputs.kafka_consumer.json_v2.field]]
      path = "id"
      type = "int"

[[outputs.influxdb_v2]]
  urls = ["{url}"]
  token = "{token}"
  organization = "none"
  bucket = "{bucket}"
"""


def fetch() -> Path:
    """The program, built once from its Go module."""
    program = jars.FOLDER / f"telegraf-{VERSION}" / "telegraf"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise Failed("go is not there: Telegraf is built with it (Debian: apt install golang-go)")
    command = ["go", "install", "-tags", PLUGINS, f"github.com/influxdata/telegraf/cmd/telegraf@v{VERSION}"]
    told = os.environ | {"GOBIN": str(program.parent), "GOFLAGS": "-mod=mod"}
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=told, cwd="/")
    if result.returncode != 0:
        raise Failed(f"go could not build Telegraf:\n{result.stdout}{result.stderr}")
    return program


def agent(folder: Path, brokers: str, topic: str, measurement: str, influx: dict) -> list:
    """Its command, with its configuration in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "telegraf.conf"
    config.write_text(CONFIG.format(brokers=brokers, topic=topic, measurement=measurement, **influx))
    return [fetch(), "--config", config]
