"""A Keywright process on a free loopback port, or several that share a database, behind what spreads requests over them."""
import os
import pathlib
import re
import shlex
import secrets
import signal
import subprocess
import sys
import time
import urllib.parse

import boto3
import botocore.config

from .ledger import Ledger

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("KEYWRIGHT_BINARY", ROOT / "bin/keywright")).absolute()

ACCOUNT = "111122223333"
OTHER_ACCOUNT = "444455556666"
OTHER_KEY_ID = "AKIAKEYWRIGHTOTHER00"
REGION = "us-east-1"

# KEYWRIGHT_STORE=postgres has every server keep its keys in a database of its own on the PostgreSQL of KEYWRIGHT_POSTGRES
# (scripts/postgres run …), and KEYWRIGHT_NODES=3 has three servers share it.
POSTGRES = os.environ.get("KEYWRIGHT_STORE") == "postgres"
NODES = int(os.environ.get("KEYWRIGHT_NODES", "1"))
MAX_STALENESS = 0.04  # seconds, of several servers on a database: whoever stands before them waits for so long after every change

READY = re.compile(r"ready on (https?://[0-9.:\[\]a-z]+)")
EXPORT = re.compile(r"^\s*export (.*)$", re.M)


def plain_environment():
    """The environment without anything that would steer a client or a server elsewhere."""
    drop = ("AWS_", "KEYWRIGHT_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(drop) and k.lower() not in ("http_proxy", "https_proxy")}
    return env | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true",
                  "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": "", "NO_PROXY": "*"}


def new_database():
    """Makes an empty database and returns its URL."""
    url = os.environ.get("KEYWRIGHT_POSTGRES") or sys.exit("KEYWRIGHT_POSTGRES is not set: scripts/postgres run sets it")
    name = "conformance_" + secrets.token_hex(8)
    subprocess.run(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", f"CREATE DATABASE {name}", url], check=True, stdout=subprocess.DEVNULL)
    return urllib.parse.urlsplit(url)._replace(path="/" + name).geturl()


class Server:
    """Starts `keywright dev` with the arguments given, or several of them, and waits until all say that they are ready."""

    started = []  # every server of the run, each with what it was told and its own ledger
    databases = {}  # by data directory
    own = False  # whether the configuration is its own: then it is one server, with the store in its directory

    def __init__(self, folder, *arguments, data=None, ledger=None, environment=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.arguments, self.data, self.ledger = list(arguments), data, ledger or Ledger()
        self.processes, self.front, self.url, self.environment = [], None, None, {}
        self.added = environment or {}  # to the environment of the process
        self.nodes = 1 if self.own or "--tls" in self.arguments else NODES  # with --tls each would have a CA of its own
        self.logs = [self.folder / f"stderr{i or ''}" for i in range(self.nodes)]
        self.log, self.printed = self.logs[0], self.folder / "stdout"
        self.store = None
        if POSTGRES and not self.own:  # the same one for the same directory
            self.store = Server.databases.get(data) or new_database()
            if data:
                Server.databases[data] = self.store
            self.ledger.credential(urllib.parse.urlsplit(self.store).password)

    @property
    def process(self):
        return self.processes[0] if self.processes else None

    def home(self, i):
        """The data directory of one of the servers."""
        return pathlib.Path(f"{self.data}{i or ''}")

    def command(self, i):
        data = ["--data", str(self.home(i))] if self.data else []
        store = ["--store", self.store, "--node", f"node{i}"] if self.store else []
        if self.nodes > 1:
            store += ["--max-staleness", f"{MAX_STALENESS}s"]
        return [str(BINARY), "dev", "--listen", "127.0.0.1:0", *data, *store, *self.arguments]

    def start(self, timeout=20):
        self.began = time.monotonic()
        texts = [self.launch(i, timeout) for i in range(self.nodes)]
        self.url = READY.search(texts[0])[1]
        self.environment = dict(word.split("=", 1) for line in EXPORT.findall(texts[0]) for word in shlex.split(line))
        if self.nodes > 1:
            self.spread([READY.search(text)[1].split("//")[1] for text in texts])
        self.note()
        return self

    def launch(self, i, timeout):
        """Starts one of the servers and returns what it said until it was ready."""
        log, printed = self.logs[i], self.folder / f"stdout{i or ''}"
        log_from = log.stat().st_size if log.exists() else 0
        with open(log, "ab") as errors, open(printed, "wb") as output:
            process = subprocess.Popen(self.command(i), stdin=subprocess.DEVNULL, stdout=output, stderr=errors,
                                       env=plain_environment() | self.added, cwd=self.folder)
        self.processes.append(process)
        while True:
            text = printed.read_text(errors="replace") + log.read_text(errors="replace")[log_from:]
            if READY.search(text):
                return text
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}:\n{text}")
            if time.monotonic() - self.began > timeout:
                self.kill()
                raise RuntimeError(f"the server was not ready after {timeout} s:\n{text}")
            time.sleep(0.001)

    def spread(self, addresses):
        """Puts one address before all servers."""
        self.front = subprocess.Popen([sys.executable, str(pathlib.Path(__file__).with_name("spread.py")), str(MAX_STALENESS), *addresses],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.url = "http://" + self.front.stdout.readline().strip()
        self.environment["AWS_ENDPOINT_URL"] = self.url

    def settle(self):
        """Waits until all servers know what was changed otherwise than through their one address."""
        if self.nodes > 1:
            time.sleep(MAX_STALENESS)

    def note(self):
        """Remembers that it ran, and the credentials that it was started with, which its clients sign with."""
        if self not in Server.started:
            Server.started.append(self)
        told = [self.environment.get("AWS_SECRET_ACCESS_KEY", "")]
        for flag, value in zip(self.arguments, self.arguments[1:]):
            if flag in ("--root-secret-access-key", "--account"):
                told.append(value.rpartition(":")[2])
        for secret in told:
            if len(secret) >= 12 and "=" not in secret:
                self.ledger.credential(secret)

    def stop(self, sig=signal.SIGTERM, timeout=20):
        """Ends its processes and returns the exit code of the first one that has another than 0."""
        if self.front is not None:
            self.front.kill()
            self.front.wait()
            self.front = None
        if not self.processes:
            return None
        for process in self.processes:
            if process.poll() is None:
                os.kill(process.pid, sig)
        codes = [process.wait(timeout) for process in self.processes]
        self.processes = []
        return next((code for code in codes if code), 0)

    def kill(self):
        return self.stop(signal.SIGKILL)

    def restart(self):
        self.stop()
        return self.start()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    @property
    def address(self):
        return self.url.split("//")[1]

    @property
    def key_id(self):
        return self.environment["AWS_ACCESS_KEY_ID"]

    @property
    def secret(self):
        return self.environment["AWS_SECRET_ACCESS_KEY"]

    def boto3(self, service="kms", credentials=None, region=REGION, **config):
        """A boto3 client that does not retry and leaves its request ids in the ledger."""
        key_id, secret, *token = credentials or (self.key_id, self.secret)
        client = boto3.session.Session().client(
            service, region_name=region, endpoint_url=self.url, aws_access_key_id=key_id, aws_secret_access_key=secret,
            aws_session_token=token[0] if token else None, verify=self.environment.get("AWS_CA_BUNDLE"),
            config=botocore.config.Config(retries={"total_max_attempts": 1}, parameter_validation=False,
                                          max_pool_connections=16, **config))
        client.meta.events.register("before-parameter-build", lambda params, **_: self.ledger.crossed(params))

        def answered(parsed, model, **_):
            self.ledger.called(parsed["ResponseMetadata"]["RequestId"], model.name)
            self.ledger.crossed(parsed)
        client.meta.events.register("after-call", answered)
        return client

    def files(self):
        """What it wrote and nobody was to see a secret in: audit logs, what its sinks wrote, and its log. Standard output is where
        keywright dev prints the credentials that it made."""
        return [p for p in self.folder.rglob("*") if p.is_file() and (p.suffix in (".jsonl", ".log") or p in self.logs)]

    def audit_files(self):
        return [p for i in range(self.nodes) for p in sorted((self.home(i) / "audit").glob("*.jsonl"))]
