"""What it costs to be looked at: CPU seconds of the shipped pipeline with `/metrics` scraped each second, against the
same without an API, in turn.

    metrics_cost.py HOWDAH [--pairs 9] [--events 400000]

HOWDAH is the release binary. A figure is of the whole process, user and system time, until it has nothing more to
do. Ends with exit code 1 if being looked at costs more than a twentieth in the middle pair.
"""

import argparse
import statistics
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path

from memory import PIPELINE, Process, make, say, serve

BOUND = 0.05
LISTEN = "127.0.0.1:20707"


def scrape(stop: threading.Event, pages: list[int]) -> None:
    while not stop.wait(1):
        try:
            with urllib.request.urlopen(f"http://{LISTEN}/metrics", timeout=5) as answer:
                pages.append(len(answer.read()))
        except OSError:
            pass


def seconds(binary: Path, events: Path, looked_at: bool) -> float:
    pages: list[int] = []
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="howdah-cost-") as data:
        server, url = serve(binary, events, 0)
        told = {"HOWDAH_DATA": data, "WIKIMEDIA_URL": url, "HOWDAH_CONTACT": "bench@example.org"}
        listen = {"HOWDAH_LISTEN": LISTEN} if looked_at else {}
        with server, Process(binary, "run", PIPELINE, **told, **listen) as howdah:
            scraper = threading.Thread(target=scrape, args=(stop, pages))
            if looked_at:
                scraper.start()
            cpu = howdah.run_idle(1)
            stop.set()
            howdah.end()
    if looked_at:
        scraper.join()
        if len(pages) < 10:
            sys.exit(f"only {len(pages)} pages of metrics were read")
    return cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("howdah", type=Path)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--events", type=int, default=400_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="howdah-cost-events-") as folder:
        events = make(Path(folder), asked.events)
        more = []
        for pair in range(asked.pairs):
            # Who is first changes, so that neither has the warmer machine.
            order = (True, False) if pair % 2 else (False, True)
            cpu = {looked_at: seconds(asked.howdah.absolute(), events, looked_at) for looked_at in order}
            more.append(cpu[True] / cpu[False] - 1)
            say(f"pair {pair + 1}: without {cpu[False]:.2f} s, scraped each second {cpu[True]:.2f} s ({more[-1]:+.1%})")
    middle = statistics.median(more)
    say(f"{asked.pairs} pairs: being looked at costs {middle:+.1%} of the CPU seconds in the middle pair")
    if middle > BOUND:
        sys.exit(f"more than {BOUND:.0%}")


if __name__ == "__main__":
    main()
