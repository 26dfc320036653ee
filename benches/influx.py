"""The points that are measured, and what InfluxDB has of them."""

import json
import urllib.parse
import urllib.request

# Of the recorded events; to be filled in with what the tests' server says of itself.
LOADER = """
[loader.{name}]
kind = "influxdb"
url = "{url}"
token = "{token}"
bucket = "{bucket}"
topic = "{topic}"
measurement = "{measurement}"
tags = [{{ name = "wiki", pointer = "/wiki" }}, {{ name = "type", pointer = "/type" }}]
fields = [
    {{ name = "title", pointer = "/title" }},
    {{ name = "user", pointer = "/user" }},
    {{ name = "bot", pointer = "/bot", type = "boolean" }},
    {{ name = "id", pointer = "/id", type = "integer" }},
]
"""


class Points:
    """Asks the server as seldom and as cheaply as it can."""

    def __init__(self, about: dict) -> None:
        self._url, self._bucket = about["url"], about["bucket"]
        user, _, password = about["token"].partition(":")
        self._who = {"u": user, "p": password}

    def _get(self, path: str, **asked: str) -> dict:
        query = urllib.parse.urlencode(self._who | asked)
        with urllib.request.urlopen(f"{self._url}{path}?{query}", timeout=120) as answer:
            return json.load(answer)

    def written(self) -> int:
        """Those written since the server was started, as it counts them itself."""
        figures = self._get("/debug/vars")
        return sum(part["values"]["pointsWrittenOK"] for key, part in figures.items() if key.startswith("httpd"))

    def count(self, measurement: str) -> int:
        """Those that can be read."""
        database, _, policy = self._bucket.partition("/")
        query = f'SELECT COUNT("id") FROM "{database}"."{policy}"."{measurement}"'
        (result,) = self._get("/query", db=database, q=query)["results"]
        return result["series"][0]["values"][0][1] if "series" in result else 0

    def drop(self, measurement: str) -> None:
        """Has it forgotten."""
        query = urllib.parse.urlencode(self._who | {"db": self._bucket.partition("/")[0]})
        body = urllib.parse.urlencode({"q": f'DROP MEASUREMENT "{measurement}"'})
        urllib.request.urlopen(f"{self._url}/query?{query}", body.encode(), timeout=120).close()
