"""The windows of pipelines/wikimedia.toml as a person would write them for Bytewax, to be timed beside ours.

    windows_bytewax.py EVENTS.ndjson

Counts events per minute of `/timestamp` and `/wiki`, without canary events, and prints how many rows and edits
there are. Needs `pip install bytewax orjson`.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from bytewax import operators as op
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing as w
from bytewax.testing import TestingSink, run_main


def main() -> None:
    counts: list[tuple[str, tuple[int, int]]] = []
    flow = Dataflow("wiki_edits_minute")
    lines = op.input("lines", flow, FileSource(Path(sys.argv[1]), batch_size=1000))
    events = op.map("parse", lines, orjson.loads)
    events = op.filter("no canaries", events, lambda event: event["meta"]["domain"] != "canary")
    keyed = op.map("key", events, lambda event: (event["wiki"], event["timestamp"]))
    clock = w.EventClock(lambda second: datetime.fromtimestamp(second, UTC), timedelta(seconds=10))
    minutes = w.TumblingWindower(length=timedelta(minutes=1), align_to=datetime(1970, 1, 1, tzinfo=UTC))
    count = w.fold_window("count", keyed, clock, minutes, lambda: 0, lambda number, _: number + 1, lambda a, b: a + b)
    op.output("rows", count.down, TestingSink(counts))
    run_main(flow)
    print(f"{len(counts)} rows, {sum(number for _, (_, number) in counts)} edits")


main()
