"""A server that looks for work that is due only when it starts, so that keys stay Creating and Updating."""
import re
import subprocess

from .server import BINARY, Server, plain_environment

CONFIG = """listen: 127.0.0.1:0
data: data
schedule: 24h
seals: [{kind: key-file, file: seal.key}]
audit: {durability: written}
quotas: {enforce: unlimited}
"""


class SlowServer(Server):
    """Runs `keywright server` on an installation of its own. Started again, it does what was due."""

    def __init__(self, folder, account, ledger=None):
        super().__init__(folder, ledger=ledger)
        self.config = self.folder / "keywright.yaml"
        self.config.write_text(CONFIG)
        made = subprocess.run([str(BINARY), "init", "--config", str(self.config), "--account", account],
                              capture_output=True, text=True, check=True, env=plain_environment(), cwd=self.folder)
        self._id, self._secret = (re.search(what + r":\s*(\S+)", made.stdout)[1] for what in ("Access key id", "Secret access key"))
        self.ledger.credential(self._secret)

    def command(self):
        return [str(BINARY), "server", "--config", str(self.config)]

    def start(self, timeout=20):
        super().start(timeout)
        self.environment |= {"AWS_ACCESS_KEY_ID": self._id, "AWS_SECRET_ACCESS_KEY": self._secret}
        return self
