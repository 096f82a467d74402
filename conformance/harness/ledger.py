"""What a run did, to be compared afterwards with the audit log and with everything that is on disk."""
import base64
import os
import pathlib
import subprocess
import tempfile
import threading


# Members of requests and answers whose values are for nobody else.
SECRET_MEMBERS = {"SecretAccessKey", "SessionToken", "Password", "OldPassword", "NewPassword", "WebIdentityToken", "GrantToken", "GrantTokens", "ImportToken",
                  "EncryptedKeyMaterial", "Plaintext", "SharedSecret", "PrivateKeyPlaintext", "EncodedMessage", "CiphertextForRecipient", "Signature", "Mac"}


class Ledger:
    """Remembers request ids and secret octets. Safe for use by several threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self.calls = []  # (request id, operation)
        self.cli_calls = 0
        self.plaintexts, self.ciphertexts, self.credentials = set(), set(), set()
        self.tokens = set()  # and passwords: what no record may have

    def called(self, request_id, operation):
        with self._lock:
            self.calls.append((request_id, operation))

    def called_by_cli(self):
        with self._lock:
            self.cli_calls += 1

    def plaintext(self, octets):
        with self._lock:
            self.plaintexts.add(bytes(octets))
        return octets

    def ciphertext(self, octets):
        with self._lock:
            self.ciphertexts.add(bytes(octets))
        return octets

    def credential(self, text):
        with self._lock:
            self.credentials.add(text.encode())
        return text

    def crossed(self, values):
        """Notes what is secret among the values of a request or an answer, of any service."""
        for name, value in values.items() if isinstance(values, dict) else []:
            if isinstance(value, dict):
                self.crossed(value)
            for one in value if isinstance(value, list) else [value]:
                if name in SECRET_MEMBERS and isinstance(one, (str, bytes)) and len(set(one)) >= 9:  # not what is found by chance
                    with self._lock:
                        self.tokens.add(one.encode() if isinstance(one, str) else bytes(one))
                elif isinstance(one, dict) and isinstance(value, list):
                    self.crossed(one)

    def answered(self, output):
        """Notes what is secret in an output of KMS."""
        if "Plaintext" in output:
            self.plaintext(base64.b64decode(output["Plaintext"]))
        if "CiphertextBlob" in output:
            self.ciphertext(base64.b64decode(output["CiphertextBlob"]))

    def fresh_plaintext(self, size=32):
        """Random octets: short or guessable plaintexts would be found by chance."""
        return self.plaintext(os.urandom(size))


def forms(octets):
    """The texts in which octets could have been written down: hexadecimal, Base64 from each of the three offsets."""
    found = {octets.hex(), octets.hex().upper()}
    for pad in range(3):
        text = base64.b64encode(b"\0" * pad + octets).decode().rstrip("=")
        core = text[(0, 2, 3)[pad]:-1]  # its ends depend on what stood beside it
        found |= {core, core.replace("+", "-").replace("/", "_")}
    return {f for f in found if len(f) >= 14}


def search(paths, needles):
    """Returns (file, needle) for every needle found in a file: raw, hexadecimal or Base64. Needles are octets."""
    hits = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        by_text = {form: needle for needle in needles for form in forms(needle)}
        by_hex = {needle.hex(): needle for needle in needles}
        (folder / "texts").write_text("\n".join(by_text) + "\n")
        (folder / "hex").write_text("\n".join(by_hex) + "\n")
        for path in paths:
            octets = pathlib.Path(path).read_bytes()
            # As hexadecimal the octets have no line ends, which grep could not look for.
            (folder / "dump").write_text(octets.hex() + "\n")
            for patterns, subject, table in [("texts", path, by_text), ("hex", folder / "dump", by_hex)]:
                run = subprocess.run(["grep", "-a", "-o", "-F", "-f", str(folder / patterns), str(subject)],
                                     capture_output=True, text=True, errors="replace", env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
                if run.returncode > 1:
                    raise RuntimeError(run.stderr)
                hits += [(str(path), table[line]) for line in set(run.stdout.split("\n")) if line in table]
    return hits


def strings(path):
    """What `strings -n 6` shows of a file."""
    return subprocess.run(["strings", "-n", "6", "-a", str(path)], check=True, capture_output=True, text=True,
                          errors="replace").stdout
