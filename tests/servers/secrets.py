"""Certificates of a test's own authority, by the openssl command. Good for a month and for loopback."""

import subprocess

from .processes import Failed

DAYS = "30"


def openssl(*arguments):
    result = subprocess.run(["openssl", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode != 0:
        raise Failed(f"openssl {' '.join(arguments)}:\n{result.stderr}")


def key(path):
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(path))


class Authority:
    """Makes `ca.pem` in a folder, and certificates that it vouches for."""

    def __init__(self, folder, name="howdah tests"):
        self.folder = folder
        folder.mkdir()
        key(folder / "ca.key")
        openssl(
            "req", "-x509", "-new", "-key", str(folder / "ca.key"), "-subj", f"/CN={name}", "-days", DAYS,
            "-out", str(self.ca),
        )  # fmt: skip

    @property
    def ca(self):
        return self.folder / "ca.pem"

    def certify(self, name):
        """Makes `<name>.key`, `<name>.crt` and, with both, `<name>.pem`."""
        paths = {kind: self.folder / f"{name}.{kind}" for kind in ("key", "csr", "crt", "ext", "pem")}
        key(paths["key"])
        paths["ext"].write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl("req", "-new", "-key", str(paths["key"]), "-subj", f"/CN={name}", "-out", str(paths["csr"]))
        openssl(
            "x509", "-req", "-in", str(paths["csr"]), "-CA", str(self.ca), "-CAkey", str(self.folder / "ca.key"),
            "-CAcreateserial", "-days", DAYS, "-extfile", str(paths["ext"]), "-out", str(paths["crt"]),
        )  # fmt: skip
        paths["pem"].write_text(paths["key"].read_text() + paths["crt"].read_text())
        return paths
