"""The peers' jars by Maven, in `target/peers`, and JVMs that measure as they would run elsewhere."""

import shutil
import subprocess
from pathlib import Path

from memory import ROOT
from servers.java import PLUGIN, java
from servers.processes import Failed

HERE = Path(__file__).parent
FOLDER = ROOT / "target" / "peers"


def fetch(name: str) -> Path:
    """The folder of the jars of `pom-<name>.xml`: fetched once, and again when it changes."""
    pom, folder = HERE / f"pom-{name}.xml", FOLDER / name
    done = folder / "pom.xml"
    if done.exists() and done.read_bytes() == pom.read_bytes():
        return folder
    for command, package in (("mvn", "maven"), (java(), "openjdk-17-jre-headless"), ("kcat", "kcat"), ("curl", "curl")):
        if shutil.which(command) is None:
            raise Failed(f"{command} is not there (Debian: apt install {package})")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    maven = ["mvn", "--batch-mode", "-Dstyle.color=never", "--quiet", "--strict-checksums", "--file", str(pom)]
    maven += [PLUGIN, "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    result = subprocess.run(maven, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise Failed(f"Maven could not fetch the jars of {pom}:\n{result.stdout}{result.stderr}")
    shutil.copy(pom, done)  # last: an interrupted fetch starts over
    return folder


def judge() -> Path:
    """Python with pyspark and Delta's jars."""
    made = subprocess.run([ROOT / "tests/judge/setup.sh"], stdout=subprocess.PIPE, text=True, check=True)
    return Path(made.stdout.strip())


def prepare() -> None:
    """All of it, before anything is measured."""
    for name in ("flume", "spark"):
        fetch(name)
    judge()
