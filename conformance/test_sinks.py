"""A server with audit sinks that is killed under load: every record arrives, over and over if need be, and in order."""
import hashlib
import hmac
import http.server
import json
import re
import subprocess
import threading
import time

import pytest

from harness.server import ACCOUNT, BINARY, Server, plain_environment

KEY = b"a secret that only the webhook and the server know"


class Configured(Server):
    """A `keywright server` of a configuration file."""

    own = True

    def command(self, _):
        return [str(BINARY), "server", "--config", str(self.folder / "server.yaml")]

    @property
    def records(self):
        return [json.loads(line)["eventID"] for path in sorted((self.folder / "data/audit").glob("*.jsonl")) for line in path.read_text().strip("\0").splitlines()]


class Hook(http.server.BaseHTTPRequestHandler):
    """Takes signed batches."""
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        at, mac = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", self.headers["X-Keywright-Signature"]).groups()
        if not hmac.compare_digest(mac, hmac.new(KEY, at.encode() + b"." + body, hashlib.sha256).hexdigest()) or abs(int(at) - time.time()) > 60:
            self.send_error(403)
            return
        self.server.got += [r["eventID"] for r in json.loads(body)["Records"]]
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hook():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.got = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_kills_lose_nothing(tmp_path, hook, ledger, tally):
    (tmp_path / "hook.secret").write_bytes(KEY)
    (tmp_path / "server.yaml").write_text(f"""
listen: 127.0.0.1:0
data: data
seals:
  - {{kind: key-file, name: main, file: unseal.key}}
audit:
  sinks:
    - {{kind: file, name: copy, path: copy.jsonl, batch: 20}}
    - {{kind: webhook, name: hook, url: "http://127.0.0.1:{hook.server_port}/in", secret: {{file: hook.secret}}, batch: 20}}
""")
    made = subprocess.run([str(BINARY), "init", "--config", str(tmp_path / "server.yaml"), "--account", ACCOUNT], capture_output=True, text=True, check=True, env=plain_environment())
    credentials = re.search(r"Access key id: +(\S+)", made.stdout)[1], ledger.credential(re.search(r"Secret access key: +(\S+)", made.stdout)[1])
    server, answered = Configured(tmp_path), 0
    with server:
        for end in (server.kill, server.kill, server.kill, server.stop):
            stop, kms, before = threading.Event(), server.boto3(credentials=credentials), answered

            def load():
                nonlocal answered
                while not stop.is_set():
                    try:
                        kms.list_keys()
                        answered += 1
                    except Exception:  # the server is being killed
                        return
            threads = [threading.Thread(target=load) for _ in range(3)]
            for t in threads:
                t.start()
            deadline = time.monotonic() + 20
            while answered < before + 60 and time.monotonic() < deadline:
                time.sleep(0.01)
            end()
            stop.set()
            for t in threads:
                t.join()
            if end != server.stop:
                server.start()
        server.start()
        wanted = server.records
        assert len(set(wanted)) == len(wanted) >= answered > 200
        deadline = time.monotonic() + 20
        while set(wanted) - set(hook.got) and time.monotonic() < deadline:
            time.sleep(0.01)
    copy = [json.loads(line)["eventID"] for line in (tmp_path / "copy.jsonl").read_text().splitlines()]
    for got in (copy, hook.got):
        once = list(dict.fromkeys(got))
        assert once == wanted, f"{len(set(wanted) - set(got))} of {len(wanted)} records never arrived"
    assert KEY.decode() not in server.log.read_text() + json.dumps(wanted)
    tally(2 * len(wanted))
