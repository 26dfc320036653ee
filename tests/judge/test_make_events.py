"""What is made from the recorded events is what was asked for, and the same each time."""

from __future__ import annotations

import json
import tempfile
import unittest
from collections import Counter
from datetime import datetime
from pathlib import Path

import make_events
from events import MISSING, parse, read_lines


class MakeEvents(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)

    def make(self, *arguments: str, name: str = "events.ndjson") -> list[bytes]:
        path = self.folder / name
        self.assertEqual(make_events.main([str(path), *arguments]), 0)
        return list(read_lines(path))

    def test_without_options_it_is_the_recorded_file(self) -> None:
        self.assertEqual(self.make(), list(read_lines(make_events.RECORDED)))

    def test_the_same_arguments_make_the_same_bytes(self) -> None:
        arguments = ("--copies=2", "--limit=50", "--seed=3", "--odd=5", "--topics=2", "--burst=3")
        self.make(*arguments, name="a.gz")
        self.make(*arguments, name="b.gz")
        self.assertEqual((self.folder / "a.gz").read_bytes(), (self.folder / "b.gz").read_bytes())
        other = self.make(*arguments[:2], "--seed=4")
        self.assertFalse(set(other) & set(read_lines(self.folder / "a.gz")))

    def test_copies_have_ids_of_their_own_and_go_on_in_time(self) -> None:
        events = [json.loads(line) for line in self.make("--copies=3", "--limit=100")]
        self.assertEqual(len({event["meta"]["id"] for event in events}), 300)
        self.assertEqual(len({event["meta"]["offset"] for event in events}), 300)
        times = [event["meta"]["dt"] for event in events]
        self.assertEqual(times, sorted(times))
        self.assertTrue(all(len(time) == 24 for time in times))
        self.assertEqual([event["timestamp"] for event in events], sorted(event["timestamp"] for event in events))

    def test_at_a_rate_so_many_events_come_in_each_second(self) -> None:
        recorded = [json.loads(line) for line in self.make("--limit=90")]
        events = [json.loads(line) for line in self.make("--limit=90", "--copies=2", "--rate=30")]
        seconds = Counter(event["timestamp"] for event in events)
        first = datetime.fromisoformat(recorded[0]["meta"]["dt"])
        # The first second began a little before the first event.
        self.assertEqual(sorted(seconds)[0], int(first.timestamp()))
        self.assertEqual(list(seconds.values())[1:-1], [30] * (len(seconds) - 2))
        self.assertEqual(len({event["meta"]["id"] for event in events}), 180)
        self.assertEqual([event["wiki"] for event in events], [event["wiki"] for event in recorded] * 2)
        for event in events:
            moment = datetime.fromisoformat(event["meta"]["dt"])
            self.assertEqual(int(moment.timestamp()), event["timestamp"])

    def test_every_kind_comes_as_often_as_asked(self) -> None:
        kinds = {"canary": 10, "bare": 11, "times": 13, "broken": 17, "big": 97}
        lines = self.make("--limit=400", *(f"--{kind}={period}" for kind, period in kinds.items()))
        events = [parse(line) for line in lines]
        sound = [event for event in events if event is not MISSING]
        found = Counter(
            canary=sum(event["meta"]["domain"] == "canary" for event in sound),
            bare=sum("wiki" not in event or "timestamp" not in event for event in sound),
            times=sum(event.get("timestamp") in make_events.TIMES for event in sound),
            broken=len(events) - len(sound),
            big=sum(len(line) > 5 << 20 for line in lines),
        )
        for kind, period in kinds.items():
            # Some fall on an event that is of another kind already.
            self.assertAlmostEqual(found[kind], 400 / period, delta=400 / period / 3, msg=kind)

    def test_odd_types_are_still_json_with_an_id(self) -> None:
        lines = self.make("--limit=300", "--odd=2")
        recorded = list(read_lines(make_events.RECORDED))
        self.assertEqual(sum(a != b for a, b in zip(lines, recorded)), 150)
        for line in lines:
            self.assertEqual(len(parse(line)["meta"]["id"]), 36)

    def test_two_source_topics_each_count_their_own_offsets(self) -> None:
        events = [json.loads(line) for line in self.make("--limit=500", "--topics=2")]
        topics = Counter(event["meta"]["topic"] for event in events)
        self.assertEqual(set(topics), {"eqiad.mediawiki.recentchange", "codfw.mediawiki.recentchange"})
        for topic, count in topics.items():
            offsets = [event["meta"]["offset"] for event in events if event["meta"]["topic"] == topic]
            self.assertEqual(offsets, list(range(count)))

    def test_a_burst_shares_one_millisecond(self) -> None:
        events = [json.loads(line) for line in self.make("--limit=100", "--burst=10")]
        self.assertEqual(set(Counter(event["meta"]["dt"] for event in events).values()), {10})


if __name__ == "__main__":
    unittest.main()
