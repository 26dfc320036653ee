"""The judge passes what is right and names each fault that is planted, one at a time."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import judge
from crc32c import crc32c
from events import read_lines
from make_events import RECORDED
from murmur2 import murmur2
from planted import TOPIC, TOPIC_ID, PlantedArchive, by_wiki

NUM_PARTITIONS = 3


def verdict(*arguments: object) -> tuple[int, str]:
    """The exit code and what was printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = judge.main([str(argument) for argument in arguments])
    return code, out.getvalue()


class Case(unittest.TestCase):
    """A folder of its own and a hundred events over two hours in it."""

    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)
        self.lines = list(read_lines(RECORDED))[::22]
        self.events = self.folder / "events.ndjson"
        self.serve(self.lines)

    def serve(self, lines: list[bytes]) -> None:
        self.events.write_bytes(b"".join(line + b"\n" for line in lines))

    def assert_named(self, verdict: tuple[int, str], *names: str) -> None:
        """Exactly these violations, by name, and the exit code that goes with them."""
        code, out = verdict
        self.assertEqual(code, 1, out)
        last = out.splitlines()[-1]
        tally = last[last.index("violated: ") + 10 : last.index(" (of")]
        self.assertEqual({part.split()[1] for part in tally.split(", ")}, set(names), out)

    def assert_holds(self, verdict: tuple[int, str]) -> None:
        self.assertEqual(verdict[0], 0, verdict[1])


class ArchiveCase(Case):
    def archive(self, partitions: list[list[bytes]], packed: bool = False) -> None:
        folder = self.folder / "archive"
        shutil.rmtree(folder, ignore_errors=True)
        PlantedArchive(folder, packed).write(partitions)

    def judge(self, *more: object, key: str = "/wiki") -> tuple[int, str]:
        where = ("--events", self.events, "--archive", self.folder / "archive")
        return verdict("archive", *where, "--topic", TOPIC, "--partitions", NUM_PARTITIONS, "--key", key, *more)


class ArchiveContent(ArchiveCase):
    """Faults in what the lines are; the structure is right."""

    def test_a_right_archive_holds_plain_or_packed(self) -> None:
        for packed in (False, True):
            self.archive(by_wiki(self.lines, NUM_PARTITIONS), packed)
            self.assert_holds(self.judge())

    def test_without_a_key_all_lines_are_in_one_partition(self) -> None:
        self.archive([[], self.lines, []])
        self.assert_holds(self.judge(key="none"))
        self.archive([[], self.lines[:50], self.lines[50:]])
        self.assert_named(self.judge(key="none"), "wrong_partition")

    def test_a_lost_line(self) -> None:
        self.archive(by_wiki(self.lines[:40] + self.lines[41:], NUM_PARTITIONS))
        self.assert_named(self.judge(), "lost")
        self.assert_named(self.judge("--allow-prefix"), "lost")

    def test_the_rest_of_a_run_stopped_midway_is_not_lost(self) -> None:
        self.archive(by_wiki(self.lines[:40], NUM_PARTITIONS))
        self.assert_named(self.judge(), "lost")
        self.assert_holds(self.judge("--allow-prefix"))

    def test_a_repeated_line(self) -> None:
        self.archive(by_wiki(self.lines[:40] + self.lines[39:], NUM_PARTITIONS))
        self.assert_named(self.judge(), "repeated")
        self.assert_named(self.judge("--allow-prefix"), "repeated")

    def test_a_line_served_twice_must_come_twice_unless_its_id_is_known(self) -> None:
        twice = [*self.lines, self.lines[5]]
        self.serve(twice)
        self.archive(by_wiki(twice, NUM_PARTITIONS))
        self.assert_holds(self.judge())
        self.assert_named(self.judge("--distinct", "/meta/id"), "repeated")
        self.archive(by_wiki(self.lines, NUM_PARTITIONS))
        self.assert_named(self.judge(), "lost")
        self.assert_holds(self.judge("--distinct", "/meta/id"))

    def test_swapped_lines(self) -> None:
        lines = self.in_two_topics()
        partitions = by_wiki(lines, NUM_PARTITIONS)
        fullest = max(partitions, key=len)
        fullest[2], fullest[4] = fullest[4], fullest[2]
        self.archive(partitions)
        self.assert_named(self.judge(), "swapped")
        self.assert_holds(self.judge("--order", "none"))

    def in_two_topics(self) -> list[bytes]:
        """Serves the events with the first in codfw, all others in eqiad."""
        lines = [self.lines[0].replace(b"eqiad", b"codfw"), *self.lines[1:]]
        self.serve(lines)
        return lines

    def test_every_line_behind_one_that_came_too_early_is_swapped(self) -> None:
        lines = self.in_two_topics()
        partitions = by_wiki(lines, NUM_PARTITIONS)
        fullest = max(partitions, key=len)
        place = fullest.index(lines[-1])
        self.assertGreater(place, 8)
        fullest.insert(place - 8, fullest.pop(place))
        before = sum(b"eqiad" in line for line in fullest[place - 7 : place + 1])
        self.archive(partitions)
        _, out = judged = self.judge()
        self.assert_named(judged, "swapped")
        self.assertIn(f"{before} swapped", out)

    def test_source_topics_may_interleave_anyhow(self) -> None:
        lines = [line.replace(b"eqiad", b"codfw") if nth % 2 else line for nth, line in enumerate(self.lines)]
        self.serve(lines)
        self.archive(by_wiki(lines[::2] + lines[1::2], NUM_PARTITIONS))
        self.assert_holds(self.judge())

    def test_events_that_name_one_topic_are_of_two_by_the_checksum_of_their_id(self) -> None:
        def second(line: bytes) -> bool:
            return crc32c(json.loads(line)["meta"]["id"].encode()) % 4 == 0

        lines = sorted(self.lines, key=second)
        self.assertNotEqual(lines, self.lines)
        self.archive(by_wiki(lines, NUM_PARTITIONS))
        self.assert_holds(self.judge())
        self.archive(by_wiki(sorted(self.lines), NUM_PARTITIONS))
        self.assert_named(self.judge(), "swapped")

    def test_a_wrong_partition(self) -> None:
        partitions = by_wiki(self.lines, NUM_PARTITIONS)
        source = max(partitions, key=len)
        target = partitions[(partitions.index(source) + 1) % NUM_PARTITIONS]
        target.append(source.pop())
        self.archive(partitions)
        self.assert_named(self.judge(), "wrong_partition")

    def test_a_line_that_nobody_served(self) -> None:
        self.archive(by_wiki([*self.lines, b'{"wiki":"enwiki"}'], NUM_PARTITIONS))
        self.assert_named(self.judge(), "altered")

    def test_a_dead_letter_is_not_lost(self) -> None:
        self.archive(by_wiki(self.lines[1:], NUM_PARTITIONS))
        letters = self.folder / "letters"
        letters.mkdir()
        (letters / "0").write_bytes(self.lines[0])
        self.assert_named(self.judge(), "lost")
        self.assert_holds(self.judge("--letters", letters))


class ArchiveStructure(ArchiveCase):
    """Faults in files and entries; what was written was right."""

    def setUp(self) -> None:
        super().setUp()
        self.planted = PlantedArchive(self.folder / "archive")
        partitions = by_wiki(self.lines, NUM_PARTITIONS)
        self.planted.write(partitions)
        self.fullest = partitions.index(max(partitions, key=len))
        self.starts = self.planted.entries(self.fullest)

    def edit(self, nth: int, **changes: object) -> None:
        """Changes the nth entry of the fullest partition."""
        start = self.starts[nth]
        self.planted.put(self.fullest, start, self.planted.get(self.fullest, start) | changes)

    def test_a_left_over_in_staging(self) -> None:
        path = self.planted.folder / "_staging" / TOPIC / TOPIC_ID / "0" / "x"
        path.parent.mkdir(parents=True)
        path.write_bytes(self.lines[0])
        self.assert_named(self.judge(), "left_over")
        self.assert_holds(self.judge("--allow-prefix"))

    def test_a_data_file_without_an_entry(self) -> None:
        for name in ("events-0-other.jsonl", f"2015/events-0-{9000:020}-{9001:020}-0123abcd.jsonl"):
            path = self.planted.folder / name
            path.write_bytes(b"")
            self.assert_named(self.judge(), "left_over")
            path.unlink()
        for name in ("_other", ".other"):
            (self.planted.folder / name).write_bytes(b"")
        self.assert_holds(self.judge())

    def test_a_flipped_byte(self) -> None:
        path = self.planted.final(self.fullest, 1)
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        path.write_bytes(content)
        _, out = judged = self.judge()
        self.assert_named(judged, "altered", "lost")
        self.assertIn(path.name, out)

    def test_a_flipped_byte_in_a_packed_segment(self) -> None:
        shutil.rmtree(self.planted.folder)
        packed = PlantedArchive(self.planted.folder, packed=True)
        packed.write(by_wiki(self.lines, NUM_PARTITIONS))
        path = packed.final(self.fullest, 1)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        self.assert_named(self.judge(), "altered", "lost")

    def test_a_line_cut_out_of_a_segment(self) -> None:
        path = self.planted.final(self.fullest, 1)
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
        self.assert_named(self.judge(), "altered", "wrong_count", "lost")

    def test_a_missing_segment(self) -> None:
        path = self.planted.final(self.fullest, 1)
        path.unlink()
        _, out = judged = self.judge()
        self.assert_named(judged, "missing", "lost")
        self.assertIn(path.name, out)

    def test_a_doubled_segment(self) -> None:
        path = self.planted.final(self.fullest, 1)
        twin = path.with_name(path.name.replace(path.stem[-8:], "0123abcd"))
        shutil.copy(path, twin)
        _, out = judged = self.judge()
        self.assert_named(judged, "left_over", "overlap")
        self.assertIn(twin.name, out)

    def test_an_entry_with_a_wrong_checksum(self) -> None:
        entry = self.planted.get(self.fullest, self.starts[1])
        self.edit(1, crc32c=entry["crc32c"] ^ 1)
        self.assert_named(self.judge(), "altered")

    def test_an_entry_with_a_wrong_length_or_count(self) -> None:
        entry = self.planted.get(self.fullest, self.starts[1])
        self.edit(1, bytes=entry["bytes"] + 1)
        self.assert_named(self.judge(), "altered")
        self.edit(1, bytes=entry["bytes"], count=entry["count"] + 1)
        self.assert_named(self.judge(), "wrong_count")

    def test_a_missing_entry(self) -> None:
        (self.planted.chain(self.fullest) / f"{self.starts[1]:020}.json").unlink()
        self.assert_named(self.judge(), "gap", "left_over", "lost")

    def test_two_entries_over_the_same_offsets(self) -> None:
        self.edit(0, next=self.starts[1] + 1)
        self.assert_named(self.judge(), "overlap", "bad_entry", "wrong_count")

    def test_an_entry_that_does_not_move_on(self) -> None:
        shutil.rmtree(self.planted.chain(0))
        self.planted.entry(0, 0, 0, [], [])
        judged = self.judge("--letters", self.dead(0))
        self.assert_named(judged, "bad_entry", "left_over")

    def dead(self, partition: int) -> Path:
        """A folder with the events of a partition as dead letters."""
        folder = self.folder / "letters"
        folder.mkdir()
        for offset, line in self.planted.offsets[partition]:
            (folder / str(offset)).write_bytes(line)
        return folder

    def test_an_entry_with_lines_and_no_file(self) -> None:
        self.edit(1, final=None)
        self.assert_named(self.judge(), "bad_entry", "left_over", "lost")

    def test_an_entry_with_a_hole_out_of_place_or_without_a_known_reason(self) -> None:
        start = self.starts[1]
        holes = self.planted.get(self.fullest, start)["holes"]
        for hole in ({"from": start, "to": start}, {"from": 0, "to": 1}, {"from": start, "to": start + 1, "why": "?"}):
            self.edit(1, holes=[{"why": "marker"} | hole, *holes])
            code, out = self.judge()
            self.assertEqual(code, 1)
            self.assertIn("is out of place", out)

    def test_a_partition_that_the_topic_has_not(self) -> None:
        self.planted.entry(NUM_PARTITIONS, 0, 1, [], [{"from": 0, "to": 1, "why": "start"}])
        self.assert_named(self.judge(), "wrong_partition")

    def test_a_last_line_without_its_newline(self) -> None:
        entry = self.planted.get(self.fullest, self.starts[1])
        path = self.planted.folder / entry["final"]
        content = path.read_bytes()[:-1]
        path.write_bytes(content)
        self.edit(1, bytes=len(content), crc32c=crc32c(content))
        self.assert_named(self.judge(), "altered")

    def test_two_entries_with_one_file(self) -> None:
        self.edit(1, final=self.planted.get(self.fullest, self.starts[0])["final"])
        self.assert_named(self.judge(), "repeated", "left_over", "lost")

    def test_a_hole_that_hides_a_line(self) -> None:
        holes = self.planted.get(self.fullest, self.starts[1])["holes"]
        last = self.starts[2] - 1
        self.edit(1, holes=[*holes, {"from": last, "to": last + 1, "why": "marker"}])
        self.assert_named(self.judge(), "wrong_count")

    def test_what_the_bus_forgot_is_lost(self) -> None:
        holes = self.planted.get(self.fullest, 0)["holes"]
        self.edit(0, holes=[holes[0] | {"why": "retention"}, *holes[1:]])
        self.assert_named(self.judge(), "lost")

    def test_an_entry_that_is_no_json_or_names_another_start(self) -> None:
        self.edit(1, start=self.starts[1] + 1)
        self.assert_named(self.judge(), "bad_entry", "gap", "left_over", "lost")
        (self.planted.chain(self.fullest) / f"{self.starts[1]:020}.json").write_text("{")
        self.assert_named(self.judge(), "bad_entry", "gap", "left_over", "lost")

    def test_missing_bus_times(self) -> None:
        next(self.planted.chain(0).glob("*.times")).unlink()
        self.assert_named(self.judge(), "missing")

    def test_a_last_segment_not_yet_renamed_is_read_from_staging(self) -> None:
        entry = self.planted.get(self.fullest, self.starts[-1])
        staging = self.planted.folder / entry["staging"]
        staging.parent.mkdir(parents=True)
        (self.planted.folder / entry["final"]).rename(staging)
        self.assert_named(self.judge(), "missing", "lost", "left_over")
        self.assert_holds(self.judge("--allow-prefix"))

    def test_finals_named_by_their_path_in_the_store(self) -> None:
        for nth, start in enumerate(self.starts):
            final = self.planted.get(self.fullest, start)["final"]
            self.edit(nth, final=f"/{self.folder.name}/archive/{final}")
        self.assert_holds(self.judge())


class Primitives(unittest.TestCase):
    """Values from elsewhere."""

    def test_crc32c_is_that_of_rfc_3720(self) -> None:
        for data, expected in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (b"123456789", 0xE3069283)):
            self.assertEqual(crc32c(data), expected)

    def test_murmur2_is_that_of_kafka(self) -> None:
        # The values of Kafka's own UtilsTest.
        expected = {
            "21": -973932308,
            "foobar": -790332482,
            "a-little-bit-long-string": -985981536,
            "a-little-bit-longer-string": -1486304829,
            "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
            "abc": 479470107,
        }
        for text, value in expected.items():
            self.assertEqual(murmur2(text.encode()), value & 0xFFFFFFFF, text)

    def test_wrong_usage_exits_with_2(self) -> None:
        for arguments in ([], ["archive"], ["table", "--events", "/nowhere", "--table", "/nowhere"]):
            with self.assertRaises(SystemExit) as caught, contextlib.redirect_stderr(io.StringIO()):
                judge.main(arguments)
            self.assertEqual(caught.exception.code, 2)


if __name__ == "__main__":
    unittest.main()
