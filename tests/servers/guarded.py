"""HDFS guarded by Kerberos: who may do what depends on who he can prove to be.

Calls are proven by tickets of a realm's own KDC, data transfers by the block tokens that the NameNode
gives out, and the daemons' own pages speak HTTPS.
"""

import ssl

from .hdfs import ADDRESS, Hdfs, site
from .kerberos import DAY, Realm
from .processes import Failed
from .secrets import Authority, openssl

OWNER, INTRUDER = "howdah", "intruder"
# Is the owner's; the intruder may not write there.
HOME = "/user/bigdata"
PASSWORD = "secret-of-a-test"

# The daemons are principals by their kind and host; "nn" is the superuser.
PRINCIPALS = {kind: f"{kind}/{ADDRESS}" for kind in ("nn", "dn", "jn", "HTTP")} | {OWNER: OWNER, INTRUDER: INTRUDER}
GROUPS = {"nn": "supergroup", "dn": "", "jn": "", "HTTP": "", "dr.who": "", OWNER: OWNER, INTRUDER: INTRUDER}
LONG = {"nn": "namenode", "dn": "datanode", "jn": "journalnode"}


class GuardedHdfs(Hdfs):
    """As `Hdfs`, with the daemon "kdc" too."""

    scheme, superuser = "https", "nn"

    def __init__(self, *sizes, ticket_life=DAY, **more):
        """`ticket_life` is how many seconds the owner's tickets are good for."""
        self._ticket_life = ticket_life
        super().__init__(*sizes, **more)
        self.daemons = {"kdc": self.realm.daemon, **self.daemons}

    def _prepare(self):
        self.realm = Realm(self.folder / "kerberos", self._ports.take(), self.folder)
        authority = Authority(self.folder / "secrets")
        server = authority.certify("server")
        self._store = server["pem"].with_suffix(".p12")
        both = ("-in", str(server["pem"]), "-out", str(self._store))
        openssl("pkcs12", "-export", *both, "-passout", f"pass:{PASSWORD}")
        self.context = ssl.create_default_context(cafile=str(authority.ca))

    def _configure(self, name):
        conf = super()._configure(name)
        # Java trusts the certificates of the keys in a store too, so one store is enough for both sides.
        store = {"location": self._store, "password": PASSWORD, "type": "pkcs12"}
        keys = {f"ssl.server.keystore.{key}": value for key, value in store.items()}
        site(conf / "ssl-server.xml", keys | {"ssl.server.keystore.keypassword": PASSWORD})
        site(conf / "ssl-client.xml", {f"ssl.client.truststore.{key}": value for key, value in store.items()})
        return conf

    def _core(self):
        return {
            "hadoop.security.authentication": "kerberos",
            "hadoop.security.authorization": "true",
            # Nobody here is a user of this machine's, whose groups could be looked up.
            "hadoop.user.group.static.mapping.overrides": ";".join(f"{user}={group}" for user, group in GROUPS.items()),
        }

    def _guards(self, kind):
        guards = {
            "dfs.block.access.token.enable": "true",
            "dfs.data.transfer.protection": "authentication",
            "dfs.http.policy": "HTTPS_ONLY",
            "dfs.web.authentication.kerberos.principal": self._principal("HTTP"),
        }
        for daemon, long in LONG.items():
            guards[f"dfs.{long}.kerberos.principal"] = self._principal(daemon)
            guards[f"dfs.{long}.kerberos.internal.spnego.principal"] = self._principal("HTTP")
        if kind in LONG:
            guards[f"dfs.{LONG[kind]}.keytab.file"] = self._keytab(kind)
            guards["dfs.web.authentication.kerberos.keytab"] = self._keytab("HTTP")
        return guards

    def _principal(self, name):
        return self.realm.principal(PRINCIPALS[name])

    def _keytab(self, name):
        return self.realm.keytab(PRINCIPALS[name])

    def _options(self):
        return [f"-Djava.security.krb5.conf={self.realm.config}"]

    def _identity(self, user):
        """One of the principals by the first part of its name, or "nobody", who has no ticket."""
        user = user or OWNER
        if user != "nobody" and user not in PRINCIPALS:
            raise Failed(f"no user {user!r}, there are: {', '.join(PRINCIPALS)}, nobody")
        return ["env", *self.realm.login(PRINCIPALS.get(user))]

    def start(self):
        self.realm.enrol(PRINCIPALS.values(), {OWNER: self._ticket_life})
        self.realm.daemon.start()
        super().start()

    def _furnish(self):
        self.run("fs", ["-mkdir", "-p", HOME])
        self.run("fs", ["-chown", f"{OWNER}:{OWNER}", HOME])

    def describe(self):
        about = super().describe() | {"krb5_conf": str(self.realm.config), "home": HOME}
        about |= {"principal": self._principal(OWNER), "keytab": str(self._keytab(OWNER))}
        return about | {"intruder_principal": self._principal(INTRUDER), "intruder_keytab": str(self._keytab(INTRUDER))}
