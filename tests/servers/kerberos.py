"""Kerberos: a realm of a test's own, by MIT krb5's programs, in a folder and on a loopback port.

Nothing of the system's own Kerberos is read or written: whoever belongs to the realm is told of it by
`KRB5_CONFIG` in his environment, a JVM by `java.security.krb5.conf`.
"""

import os
import shutil
import subprocess

from .processes import Daemon, Failed, answers

REALM = "HOWDAH.TEST"
ADDRESS = "127.0.0.1"
MASTER_PASSWORD = "secret-of-a-test"
DAY = 24 * 3600

# Seconds by which clocks may differ. A service takes a ticket for so long after its end, and a request
# that it only gets to read so long after it was made is refused: a busy machine needs some.
CLOCK_SKEW = 5

# Debian keeps these where a user's own path does not lead.
ELSEWHERE = ("/usr/sbin", "/sbin")
PACKAGES = {"krb5kdc": "krb5-kdc", "kdb5_util": "krb5-kdc", "kadmin.local": "krb5-admin-server"}

CLIENTS = """[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    qualify_shortname = ""
    clockskew = {skew}
    # Always TCP, so that a KDC that is gone is known as gone at once.
    udp_preference_limit = 1
    kdc_timeout = 3000
    max_retries = 1
[realms]
    {realm} = {{
        kdc = {address}:{port}
    }}
[domain_realm]
    {address} = {realm}
"""

SERVER = """[kdcdefaults]
    kdc_listen = ""
    kdc_tcp_listen = {address}:{port}
[realms]
    {realm} = {{
        database_name = {folder}/principals
        key_stash_file = {folder}/stash
        max_life = {life}s
    }}
[logging]
    default = STDERR
"""


def program(name):
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *ELSEWHERE]))
    if found is None:
        raise Failed(f"{name} is not there: a guarded cluster needs it (Debian: apt install {PACKAGES[name]})")
    return found


class Realm:
    """A realm in a new folder, whose KDC is the daemon "kdc"; it has no principals before `enrol`."""

    def __init__(self, folder, port, logs):
        self.folder, self.config = folder, folder / "krb5.conf"
        folder.mkdir()
        parts = {"realm": REALM, "address": ADDRESS, "port": port, "folder": folder, "skew": CLOCK_SKEW, "life": DAY}
        self.config.write_text(CLIENTS.format(**parts))
        (folder / "kdc.conf").write_text(SERVER.format(**parts))
        variables = [f"KRB5_CONFIG={self.config}", f"KRB5_KDC_PROFILE={folder}/kdc.conf"]

        def command(name, *arguments):
            return ["env", *variables, program(name), *arguments]

        self._command = command
        # In the foreground, as a child.
        self.daemon = Daemon("kdc", lambda: command("krb5kdc", "-n"), logs, lambda _: answers(ADDRESS, port))

    @staticmethod
    def principal(name):
        return f"{name}@{REALM}"

    def keytab(self, name):
        """Where the keys of `howdah`, or of `nn/127.0.0.1`, are."""
        return self.folder / f"{name.split('/')[0]}.keytab"

    def enrol(self, names, lives):
        """Makes the database, with principals by their names; `lives` are the seconds of some one's tickets."""
        self._run(["kdb5_util", "create", "-s", "-r", REALM, "-P", MASTER_PASSWORD])
        orders = [f'addprinc -randkey -maxlife "{lives.get(name, DAY)} seconds" {name}' for name in names]
        orders += [f"ktadd -k {self.keytab(name)} {name}" for name in names]
        said = self._run(["kadmin.local", "-r", REALM], "\n".join(orders))
        missing = [name for name in names if not self.keytab(name).exists()]
        if missing:
            raise Failed(f"no keytab for {', '.join(missing)}:\n{said}")

    def _run(self, command, text=""):
        result = subprocess.run(self._command(*command), input=text, capture_output=True, text=True)
        if result.returncode != 0:
            raise Failed(f"{' '.join(command)}:\n{result.stdout}{result.stderr}")
        return result.stdout + result.stderr

    def login(self, name):
        """The variables of a process of Hadoop's that is to be this principal, or nobody."""
        variables = [f"KRB5_CONFIG={self.config}", f"KRB5CCNAME=FILE:{self.folder}/no-tickets"]
        if name is not None:
            variables += [f"KRB5PRINCIPAL={self.principal(name)}", f"KRB5KEYTAB={self.keytab(name)}"]
        return variables
