#!/bin/sh
# Makes the judge's environment in target/judge-venv, Spark and its jars included, and prints the path
# of its Python. Does nothing if it is there already and the requirements are the same.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${JUDGE_VENV:-$here/../../target/judge-venv}
python=${PYTHON:-python3}
java=${JAVA_HOME:+$JAVA_HOME/bin/}java

fail() {
    echo "judge: $1" >&2
    exit 1
}

command -v "$python" >/dev/null || fail "$python is not installed (Debian: apt install python3)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" -V) is too old, 3.11 or newer is needed (set PYTHON=)"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python has no venv with pip (Debian: apt install python3-venv)"
command -v "$java" >/dev/null ||
    fail "$java is not there: Spark needs Java 17 (Debian: apt install openjdk-17-jre-headless; or set JAVA_HOME=)"
version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
[ "$version" = 17 ] ||
    fail "$java is version ${version:-unknown}, Spark needs 17 (Debian: apt install openjdk-17-jre-headless; set JAVA_HOME=)"

if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    "$python" -m venv --clear "$venv"
    # pyspark comes as sources only: Python files and jars, nothing to compile.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-binary pyspark \
        -r "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$venv/requirements.txt"  # last: an interrupted run starts over
fi
if ! cmp -s "$here/pom.xml" "$venv/jars/pom.xml"; then
    command -v mvn >/dev/null || fail "mvn is not there: Maven fetches Spark's jars for Delta (Debian: apt install maven)"
    rm -rf "$venv/jars"
    mvn --batch-mode -Dstyle.color=never --quiet --strict-checksums --file "$here/pom.xml" \
        org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
        -DexcludeTransitive=true -DoutputDirectory="$(cd "$venv" && pwd)/jars" >&2 ||
        fail "Maven could not fetch the jars of tests/judge/pom.xml"
    cp "$here/pom.xml" "$venv/jars/pom.xml"  # last, here too
fi
echo "$(cd "$venv" && pwd)/bin/python"
