"""A server that looks for work that is due only when it starts, so that keys stay Creating and Updating."""
import re
import subprocess
import urllib.parse

from .server import BINARY, MAX_STALENESS, Server, plain_environment

CONFIG = """listen: 127.0.0.1:0
data: {data}
schedule: 24h
seals: [{{kind: key-file, file: seal.key}}]
audit: {{durability: written}}
quotas: {{enforce: unlimited}}
"""
STORE = """node: {node}
store: {{dsn: "{dsn}", passwordFile: password, maxStaleness: {bound}}}
"""


class SlowServer(Server):
    """Runs `keywright server` on an installation of its own. Started again, it does what was due."""

    def __init__(self, folder, account, ledger=None):
        super().__init__(folder, ledger=ledger)
        for i in range(self.nodes):
            text = CONFIG.format(data=f"data{i or ''}")
            if self.store:
                url = urllib.parse.urlsplit(self.store)
                (self.folder / "password").write_text(url.password + "\n")
                dsn = url._replace(netloc=f"{url.username}@{url.hostname}:{url.port}").geturl()
                text += STORE.format(node=f"node{i}", dsn=dsn, bound=f"{MAX_STALENESS if self.nodes > 1 else 1}s")
            self.config(i).write_text(text)
        made = subprocess.run([str(BINARY), "init", "--config", str(self.config(0)), "--account", account],
                              capture_output=True, text=True, check=True, env=plain_environment(), cwd=self.folder)
        self._id, self._secret = (re.search(what + r":\s*(\S+)", made.stdout)[1] for what in ("Access key id", "Secret access key"))
        self.ledger.credential(self._secret)

    def config(self, i):
        return self.folder / f"keywright{i or ''}.yaml"

    def command(self, i):
        return [str(BINARY), "server", "--config", str(self.config(i))]

    def start(self, timeout=20):
        super().start(timeout)
        self.environment |= {"AWS_ACCESS_KEY_ID": self._id, "AWS_SECRET_ACCESS_KEY": self._secret}
        return self
