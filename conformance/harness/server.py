"""A Keywright process on a free loopback port."""
import os
import pathlib
import re
import shlex
import signal
import subprocess
import time

import boto3
import botocore.config

from .ledger import Ledger

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("KEYWRIGHT_BINARY", ROOT / "bin/keywright")).absolute()

ACCOUNT = "111122223333"
OTHER_ACCOUNT = "444455556666"
OTHER_KEY_ID = "AKIAKEYWRIGHTOTHER00"
REGION = "us-east-1"

READY = re.compile(r"ready on (https?://[0-9.:\[\]a-z]+)")
EXPORT = re.compile(r"^\s*export (.*)$", re.M)


def plain_environment():
    """The environment without anything that would steer a client or a server elsewhere."""
    drop = ("AWS_", "KEYWRIGHT_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(drop) and k.lower() not in ("http_proxy", "https_proxy")}
    return env | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_EC2_METADATA_DISABLED": "true",
                  "AWS_MAX_ATTEMPTS": "1", "AWS_PAGER": "", "NO_PROXY": "*"}


class Server:
    """Starts `keywright dev` with the arguments given and waits until it says that it is ready."""

    started = []  # every server of the run, each with what it was told and its own ledger

    def __init__(self, folder, *arguments, data=None, ledger=None, environment=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.arguments, self.data, self.ledger = list(arguments), data, ledger or Ledger()
        self.process, self.url, self.environment = None, None, {}
        self.added = environment or {}  # to the environment of the process
        self.log, self.printed = self.folder / "stderr", self.folder / "stdout"

    def command(self):
        data = ["--data", str(self.data)] if self.data else []
        return [str(BINARY), "dev", "--listen", "127.0.0.1:0", *data, *self.arguments]

    def start(self, timeout=20):
        self.began = time.monotonic()
        with open(self.log, "ab") as log, open(self.printed, "wb") as printed:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=printed, stderr=log,
                                            env=plain_environment() | self.added, cwd=self.folder)
        log_from = self.log.stat().st_size if self.log.exists() else 0
        while True:
            text = self.printed.read_text(errors="replace") + self.log.read_text(errors="replace")[log_from:]
            if found := READY.search(text):
                self.url = found[1]
                self.environment = dict(word.split("=", 1) for line in EXPORT.findall(text) for word in shlex.split(line))
                self.note()
                return self
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{text}")
            if time.monotonic() - self.began > timeout:
                self.kill()
                raise RuntimeError(f"the server was not ready after {timeout} s:\n{text}")
            time.sleep(0.001)

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
        """Ends this one process and returns its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            os.kill(self.process.pid, sig)
        code = self.process.wait(timeout)
        self.process = None
        return code

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
        return [p for p in self.folder.rglob("*") if p.is_file() and (p.suffix in (".jsonl", ".log") or p == self.log)]

    def audit_files(self):
        return sorted((pathlib.Path(self.data) / "audit").glob("*.jsonl"))
