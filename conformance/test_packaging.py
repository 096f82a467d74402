"""What is in packaging/, and the steps of docs/upgrade.md with a real server."""
import os
import pathlib
import re
import signal
import socket
import sqlite3
import subprocess

import pytest

from harness.server import ACCOUNT, BINARY, ROOT, Server, plain_environment

PACKAGING = ROOT / "packaging"


def run(folder, *arguments):
    return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, timeout=30, cwd=folder, env=plain_environment())


class Installed(Server):
    """`keywright server` on the example configuration, moved into a folder."""

    own = True

    def __init__(self, folder):
        super().__init__(folder)
        text = (PACKAGING / "keywright.yaml").read_text()
        text = text.replace("/var/lib/keywright", str(folder / "data")).replace("/etc/keywright/seal", str(folder)).replace("127.0.0.1:4599", "127.0.0.1:0")
        (folder / "keywright.yaml").write_text(text)

    def command(self, _):
        return [str(BINARY), "server", "--config", "keywright.yaml"]

    def init(self):
        made = run(self.folder, "init", "--config", "keywright.yaml", "--account", ACCOUNT)
        assert made.returncode == 0, made.stderr
        self.credentials = tuple(re.search(label + r": +(\S+)", made.stdout)[1] for label in ("Access key id", "Secret access key"))
        return self


@pytest.fixture
def installed(tmp_path):
    return Installed(tmp_path).init()


def test_example_configuration_serves(installed):
    with installed:
        kms = installed.boto3(credentials=installed.credentials)
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        assert kms.decrypt(CiphertextBlob=kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"])["Plaintext"] == b"x"
    assert (installed.folder / "data/audit").is_dir()


def test_tells_systemd(installed):
    """READY=1 when requests are answered, STOPPING=1 when it was told to stop; as a file and as an abstract socket."""
    for name in (str(installed.folder / "notify"), f"@keywright-test-{os.getpid()}"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(name.replace("@", "\0", 1) if name[0] == "@" else name)
            systemd.settimeout(20)
            installed.added = {"NOTIFY_SOCKET": name}
            with installed:
                assert systemd.recv(100) == b"READY=1"
                installed.boto3(credentials=installed.credentials).list_keys()
                os.kill(installed.process.pid, signal.SIGTERM)
                assert systemd.recv(100) == b"STOPPING=1"
                assert installed.stop() == 0
    installed.added = {"NOTIFY_SOCKET": str(installed.folder / "nobody")}
    with installed:  # it starts all the same
        installed.boto3(credentials=installed.credentials).list_keys()


def test_unit(tmp_path):
    unit = tmp_path / "keywright.service"
    unit.write_text((PACKAGING / "keywright.service").read_text().replace("/usr/bin/keywright", str(BINARY)))
    checked = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0 and checked.stderr == "", checked.stderr
    rated = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=15", str(unit)], capture_output=True, text=True, timeout=60)
    assert rated.returncode == 0, rated.stdout[-500:]
    assert re.search(r"exposure level for keywright.service: 1\.\d", rated.stdout)


def test_unit_and_directories_agree():
    unit, files = (PACKAGING / "keywright.service").read_text(), (PACKAGING / "tmpfiles.conf").read_text()
    config = (PACKAGING / "keywright.yaml").read_text()
    made = {line.split()[1] for line in files.splitlines() if line.startswith("d ")}
    assert {"/var/lib/keywright", "/etc/keywright", "/etc/keywright/seal"} <= made
    assert re.search(r"^data: (\S+)", config, re.M)[1] in made
    assert str(pathlib.PurePath(re.search(r"file: (\S+)", config)[1]).parent) in made
    assert "StateDirectory=keywright\n" in unit and "Type=notify\n" in unit and "User=keywright\n" in unit
    assert "u keywright " in (PACKAGING / "sysusers.conf").read_text()
    stop, drain = re.search(r"TimeoutStopSec=(\d+)s", unit)[1], re.search(r"drain: (\d+)s", config)[1]
    assert int(stop) > int(drain), "or a slow request is killed by systemd"
    assert "TimeoutStartSec=infinity\n" in unit, "or a start that has much to check is killed, and begins the same anew"


def test_dockerfile():
    """There is no engine here to build it with: its form is looked at."""
    stages, stage = [], None
    text = (PACKAGING / "Dockerfile").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.startswith("FROM "):
            stages.append(stage := [])
        if line and not line.startswith("#"):
            stage.append(line)
    assert len(stages) == 2
    build, final = stages
    wanted = re.search(r"^go (\S+)", (ROOT / "go.mod").read_text(), re.M)[1]
    image = re.match(r"FROM golang:([0-9.]+)", build[0])[1]
    assert [int(n) for n in image.split(".")] >= [int(n) for n in wanted.split(".")]
    assert any("CGO_ENABLED=0" in line and "./cmd/keywright" in line for line in build)
    assert final[0] == "FROM scratch" and not any(line.startswith("RUN") for line in final)
    user = next(line.split()[1] for line in final if line.startswith("USER"))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert not any(line.startswith(("ENV", "ARG")) for line in final)
    for source in re.findall(r"^COPY (?!--)(.*) \S+$", "\n".join(build), re.M):
        assert all((ROOT / name).exists() for name in source.split()), source


def test_configuration_is_checked_before_an_upgrade(installed):
    """As docs/upgrade.md says: with a server that serves, and touching nothing."""
    with installed:
        asked = run(installed.folder, "status", "--config", "keywright.yaml")
        assert asked.returncode == 0 and "Version" in asked.stdout, asked.stderr
        (installed.folder / "other.yaml").write_text((installed.folder / "keywright.yaml").read_text() + "\nbogus: 1\n")
        refused = run(installed.folder, "status", "--config", "other.yaml")
        assert refused.returncode == 1 and "reading the configuration" in refused.stderr and "bogus" in refused.stderr


def test_binary_is_static():
    """As the image needs it."""
    kind = subprocess.run(["readelf", "--program-headers", str(BINARY)], capture_output=True, text=True, check=True)
    assert "LOAD" in kind.stdout and "INTERP" not in kind.stdout


def test_upgrade_and_rollback(installed):
    """The steps of docs/upgrade.md: a backup, a store that a newer program has touched, the refusal, and the way back."""
    folder = installed.folder
    with installed:
        kms = installed.boto3(credentials=installed.credentials)
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        blob = kms.encrypt(KeyId=key, Plaintext=b"before")["CiphertextBlob"]
    saved = run(folder, "backup", "--config", "keywright.yaml", "--to", "data/before-upgrade.db")
    assert saved.returncode == 0 and "verified 1 keys" in saved.stdout, saved.stderr
    with installed:  # the newer program
        late = installed.boto3(credentials=installed.credentials).create_key()["KeyMetadata"]["KeyId"]
    store = sqlite3.connect(folder / "data/keywright.db")
    with store:
        store.execute("INSERT INTO goose_db_version (version_id, is_applied) VALUES (1000, 1)")
    store.close()
    for command in (["server"], ["seal", "status"], ["backup", "--to", "x.db"], ["account", "list"]):
        refused = run(folder, *command, "--config", "keywright.yaml")
        assert refused.returncode == 1, command
        assert "the schema has version 1000 and this program knows" in refused.stderr and "use a newer Keywright" in refused.stderr
        assert "hint: install the newer version again, or go back with a backup" in refused.stderr
    for name in ("keywright.db", "keywright.db-wal", "keywright.db-shm"):
        if (folder / "data" / name).exists():
            (folder / "data" / name).rename(folder / "data" / name.replace("keywright", "upgraded"))
    restored = run(folder, "restore", "--config", "keywright.yaml", "--from", "data/before-upgrade.db")
    assert restored.returncode == 0, restored.stderr
    with installed:
        kms = installed.boto3(credentials=installed.credentials)
        assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"before"
        with pytest.raises(kms.exceptions.NotFoundException):
            kms.describe_key(KeyId=late)
