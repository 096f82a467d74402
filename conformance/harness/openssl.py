"""The openssl command, which knows nothing of us."""
import pathlib
import subprocess
import tempfile


class OpenSSL:
    """Runs `openssl` in a folder of its own; what files hold is given by name."""

    def __init__(self, folder=None):
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="openssl-"))

    def file(self, name, octets):
        (self.folder / name).write_bytes(octets)
        return name

    def __call__(self, *arguments, **files):
        """Returns what the command writes; fails where it does."""
        run = self.run(*arguments, **files)
        assert run.returncode == 0, f"openssl {' '.join(arguments)}: {run.stderr.decode(errors='replace')}"
        return run.stdout

    def run(self, *arguments, **files):
        for name, octets in files.items():
            self.file(name, octets)
        return subprocess.run(["openssl", *arguments], capture_output=True, cwd=self.folder, timeout=60)

    def private(self, *arguments):
        """The PKCS#8 octets of a fresh private key: `openssl genpkey ARGUMENTS`."""
        return self("pkcs8", "-topk8", "-nocrypt", "-outform", "DER", "-in", "generated", generated=self("genpkey", *arguments))

    def public(self, private):
        """The SubjectPublicKeyInfo of a private key."""
        return self("pkey", "-inform", "DER", "-in", "private", "-pubout", "-outform", "DER", private=private)

    def sign(self, private, message, options):
        return self("pkeyutl", "-sign", "-keyform", "DER", "-inkey", "private", "-in", "message", *options, private=private, message=message)

    def verifies(self, public, message, signature, options):
        run = self.run("pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "public", "-in", "message", "-sigfile", "signature", *options,
                       public=public, message=message, signature=signature)
        assert b"erified" in run.stdout or b"erification" in run.stdout, run.stderr
        return run.returncode == 0

    def encrypt(self, public, plaintext, options):
        return self("pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", "public", "-in", "plaintext", *options, public=public, plaintext=plaintext)

    def agree(self, private, peer):
        self("pkey", "-pubin", "-inform", "DER", "-in", "peer", "-pubout", "-out", "peer.pem", peer=peer)
        self("pkey", "-inform", "DER", "-in", "private", "-out", "private.pem", private=private)
        return self("pkeyutl", "-derive", "-inkey", "private.pem", "-peerkey", "peer.pem")
