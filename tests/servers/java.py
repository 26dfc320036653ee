"""The servers' jars by Maven, and JVMs that start fast.

A JVM of these servers takes some ten seconds to start on a small machine, most of it for loading
classes. So the first life of each kind of server (see `prepare` in `__main__`) leaves an archive of the
classes it loaded, which cuts the start of all later ones to two or three seconds. An archive that does
not fit is ignored by the JVM.
"""

import os
import shutil
import subprocess
from pathlib import Path

from .processes import Failed

HERE = Path(__file__).parent
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"

# Hadoop reaches into these.
OPENED = ("java.lang", "java.nio", "java.net", "java.util", "java.util.concurrent")


def java():
    home = os.environ.get("JAVA_HOME")
    return f"{home}/bin/java" if home else "java"


def base():
    """Where what is fetched is kept."""
    return Path(os.environ.get("HOWDAH_TEST_SERVERS", HERE.parent.parent / "target" / "test-servers"))


class Jars:
    """The jars of one pom in one version, and the class archives beside them."""

    def __init__(self, name, version):
        self.name, self.version = name, version
        self.folder = base() / f"{name}-{version}"

    def fetch(self):
        """Once; again when the pom changes."""
        pom = HERE / f"pom-{self.name}.xml"
        done = self.folder / "pom.xml"
        if done.exists() and done.read_bytes() == pom.read_bytes():
            return
        for command, package in (("mvn", "maven"), (java(), "openjdk-17-jre-headless")):
            if shutil.which(command) is None:
                raise Failed(f"{command} is not there: the tests' servers need it (Debian: apt install {package})")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        maven = ["mvn", "--batch-mode", "-Dstyle.color=never", "--quiet", "--strict-checksums", "--file", str(pom)]
        maven += [PLUGIN, f"-Dserver.version={self.version}", "-DincludeScope=runtime"]
        maven += [f"-DoutputDirectory={self.folder}"]
        result = subprocess.run(maven, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if result.returncode != 0:
            raise Failed(f"Maven could not fetch the jars of {pom}:\n{result.stdout}{result.stderr}")
        shutil.copy(pom, done)  # last: an interrupted fetch starts over

    def archive(self, kind):
        return self.folder / f"{kind}.jsa"

    def command(self, kind, heap, hosts, behind=(), archiving=False, settings=()):
        """The command of a JVM up to the main class; `behind` are folders of the class path after the jars."""
        archive = self.archive(kind)
        sharing = []
        if archiving:
            sharing = [f"-XX:ArchiveClassesAtExit={archive}.new"]
        elif archive.exists():
            sharing = [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto"]
        opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
        path = os.pathsep.join([f"{self.folder}/*", *map(str, behind)])
        return [
            java(), f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *sharing, "-Xlog:cds=off",
            "-Xlog:cds+dynamic=off", "-Xlog:class+path=off", "-Djava.awt.headless=true",
            "-Djava.net.preferIPv4Stack=true", f"-Djdk.net.hosts.file={hosts}", *opened, *settings, "-cp", path,
        ]  # fmt: skip

    def keep_archives(self, kinds):
        """Takes the archives of JVMs that ended."""
        for kind in kinds:
            new = Path(f"{self.archive(kind)}.new")
            if not new.exists():
                raise Failed(f"no class archive for {kind} of {self.name} {self.version}: {new} was not written")
            new.rename(self.archive(kind))


def hosts_file(path, addresses):
    """A hosts file for the JVMs alone, so that no server ever asks a DNS server."""
    name = os.uname().nodename
    lines = [f"127.0.0.1 localhost {name}"]
    lines += [f"{address} node-{address.replace('.', '-')}" for address in addresses if address != "127.0.0.1"]
    Path(path).write_text("\n".join(lines) + "\n")
    return path


def properties(path, values):
    Path(path).write_text("".join(f"{key}={value}\n" for key, value in values.items()))
