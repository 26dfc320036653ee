"""The windows of pipelines/wikimedia.toml as a person would write them for Bytewax, to be timed beside ours.

    windows_bytewax.py EVENTS.ndjson

Counts events per minute of `/timestamp` and `/wiki`, without canary events, and prints how many rows and edits
there are, and the CPU seconds it took. A minute waits for stragglers as long as our hours do. Needs
requirements.txt.
"""

import sys
import time
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
    clock = w.EventClock(lambda second: datetime.fromtimestamp(second, UTC), timedelta(minutes=10, seconds=10))
    minutes = w.TumblingWindower(length=timedelta(minutes=1), align_to=datetime(1970, 1, 1, tzinfo=UTC))
    count = w.fold_window("count", keyed, clock, minutes, lambda: 0, lambda number, _: number + 1, lambda a, b: a + b)
    op.output("rows", count.down, TestingSink(counts))
    before = time.process_time()
    run_main(flow)
    cpu, edits = time.process_time() - before, sum(number for _, (_, number) in counts)
    print(f"Bytewax from a file {edits / cpu / 1000:.0f} k records per CPU second ({cpu:.2f} CPU s)")
    print(f"  {len(counts)} rows, {edits} edits")


main()
