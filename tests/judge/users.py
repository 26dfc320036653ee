"""Judges what the sinks hold of users, worked out anew from the archive. It shares no code with howdah.

    users.py --archive DIR --answers FILE --influx URL --token USER:PASSWORD --bucket DB/POLICY
             --measurement NAME --opensearch URL --index PATTERN

Every archived line is one of the recorded answers, byte for byte. InfluxDB holds a point for the first user with
each address, and no other, at the time that its place in the log says. OpenSearch holds each user of each answer
once, under the name of its place. Exit code 0: holds; 1: violated, with the first 20 violations; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from archive import Archive
from report import Report

TAGS = ("title", "gender", "email")
TEXTS = ("first", "last", "street", "city", "state", "country", "postcode", "latitude", "longitude", "phone")
PAGE = 5_000

Place = tuple[int, int]


def flat(user: dict[str, Any]) -> dict[str, Any]:
    """A user as the sinks should hold it."""
    where = user["location"]
    return {
        "title": user["name"]["title"],
        "gender": user["gender"],
        "email": user["email"],
        "first": user["name"]["first"],
        "last": user["name"]["last"],
        "street": f"{where['street']['number']} {where['street']['name']}",
        "city": where["city"],
        "state": where["state"],
        "country": where["country"],
        "postcode": str(where["postcode"]),
        "latitude": where["coordinates"]["latitude"],
        "longitude": where["coordinates"]["longitude"],
        "phone": user["phone"],
        "age": user["dob"]["age"],
    }


def archived(folder: Path, answers: Path, report: Report) -> tuple[str, dict[Place, dict[str, Any]]]:
    """The topic's identity, and the users by offset and element, in the order of the log."""
    known = set(gzip.decompress(answers.read_bytes()).splitlines())
    users: dict[Place, dict[str, Any]] = {}
    lines, topic = 0, ""
    archive = Archive(folder, report)
    for entry in sorted(archive.entries, key=lambda entry: entry.start):
        topic = entry.topic_id
        text = archive.lines(entry, archive.resolve(entry.final)) if entry.final else []
        offsets = list(entry.offsets())
        if len(offsets) != len(text or []):
            report.violation("wrong_count", f"{entry}: {len(text or [])} lines for {len(offsets)} offsets")
        for offset, line in zip(offsets, text or []):
            lines += 1
            if line not in known:
                report.violation("altered", f"offset {offset} is no answer of the service: {line[:80]!r}")
            for element, user in enumerate(json.loads(line)["results"]):
                users[offset, element] = flat(user)
    report.facts["answers"] = lines
    return topic, users


def ask(url: str, body: bytes | None = None, kind: str = "application/json") -> Any:
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def points(args: argparse.Namespace) -> list[dict[str, Any]]:
    database, policy = args.bucket.split("/")
    user, password = args.token.split(":")
    query = f'SELECT * FROM "{policy}"."{args.measurement}"'
    told = {"u": user, "p": password, "db": database, "epoch": "ns", "q": query}
    said = ask(f"{args.influx}/query?{urllib.parse.urlencode(told)}")
    series = said["results"][0].get("series", [])
    return [dict(zip(one["columns"], row)) for one in series for row in one["values"]]


def check_points(args: argparse.Namespace, users: dict[Place, dict[str, Any]], report: Report) -> None:
    first: dict[str, Place] = {}
    for place, user in users.items():
        first.setdefault(user["email"], place)
    found = points(args)
    for email, times in Counter(point["email"] for point in found).items():
        if times > 1:
            report.violation("repeated", f"{email} is there {times} times")
    held = {point["email"]: point for point in found}
    for email in held.keys() - first.keys():
        report.violation("extra_row", f"{email} was in no answer")
    for email, (offset, element) in first.items():
        point = held.get(email)
        if point is None:
            report.violation("lost", f"{email} (offset {offset}, element {element}) is missing")
            continue
        time = point.pop("time")
        if time % 1_000_000 != offset % 1_000 * 1_000 + element % 1_000:
            report.violation("altered", f"{email}: {time} is not of offset {offset}, element {element}")
        if point != users[offset, element]:
            report.violation("altered", f"{email} is {point}, should be {users[offset, element]}")
    report.facts["points"] = len(found)
    report.facts["repeated"] = len(users) - len(first)


def documents(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    ask(f"{args.opensearch}/{args.index}/_refresh", b"")
    found: dict[str, dict[str, Any]] = {}
    page = ask(
        f"{args.opensearch}/{args.index}/_search?scroll=1m",
        json.dumps({"size": PAGE, "query": {"match_all": {}}, "sort": ["_doc"]}).encode(),
    )
    while page["hits"]["hits"]:
        found |= {hit["_id"]: hit["_source"] for hit in page["hits"]["hits"]}
        page = ask(f"{args.opensearch}/_search/scroll", json.dumps({"scroll": "1m", "scroll_id": page["_scroll_id"]}).encode())
    return found


def check_documents(args: argparse.Namespace, topic: str, users: dict[Place, dict[str, Any]], report: Report) -> None:
    found = documents(args)
    expected = {f"{topic}-0-{offset}-{element}": user for (offset, element), user in users.items()}
    for name in found.keys() - expected.keys():
        report.violation("extra_row", f"{name} is of no user")
    for name, user in expected.items():
        document = found.get(name)
        if document is None:
            report.violation("lost", f"{name} ({user['email']}) is missing")
            continue
        if not isinstance(document.pop("@timestamp", None), int):
            report.violation("altered", f"{name} has no time")
        if document != user:
            report.violation("altered", f"{name} is {document}, should be {user}")
    report.facts["documents"] = len(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("archive", "answers"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("influx", "token", "bucket", "measurement", "opensearch", "index"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    report = Report()
    topic, users = archived(args.archive, args.answers, report)
    if not users:
        report.violation("lost", "there is no user in the archive")
    check_points(args, users, report)
    check_documents(args, topic, users, report)
    return report.conclude("users")


if __name__ == "__main__":
    sys.exit(main())
