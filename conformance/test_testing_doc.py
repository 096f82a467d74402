"""The examples of docs/testing.md, as they stand there."""
import os
import pathlib
import re
import subprocess
import sys

import pytest

from harness.server import BINARY, ROOT, Server, plain_environment

TEXT = (ROOT / "docs/testing.md").read_text()
SEED = re.search(r"```yaml\n(keys:.*?)```", TEXT, re.S)[1]


def example(name):
    return re.search(r"<!-- run: %s -->\n```\w+\n(.*?)```" % name, TEXT, re.S)[1]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "seed.yaml").write_text(SEED)
    return tmp_path


@pytest.mark.sqlite("its tests reset the server, which a database refuses that others may share")
def test_go(folder):
    # Inside the module of the tests here, which has the SDK.
    source = ROOT / "conformance" / f"testing_doc_{os.getpid()}_test.go"
    source.write_text(example("go"))
    try:
        with Server(folder, "--seed", "seed.yaml") as server:
            env = {k: v for k, v in (plain_environment() | server.environment).items() if k != "AWS_MAX_ATTEMPTS"}
            run = subprocess.run(["go", "test", "-count=1", "-v", source.name], cwd=source.parent, env=env, capture_output=True, text=True, timeout=400)
    finally:
        source.unlink()
    assert run.returncode == 0 and "--- PASS: TestSurvivesAnInternalError" in run.stdout, run.stdout + run.stderr


@pytest.mark.sqlite("its tests reset the server, which a database refuses that others may share")
def test_pytest_in_ci(folder):
    """The lines for CI, with the example for pytest."""
    (folder / "test_app.py").write_text(example("pytest"))
    programs = pathlib.Path(sys.executable).parent
    (folder / "bin").mkdir()
    (folder / "bin/keywright").symlink_to(BINARY)
    env = {k: v for k, v in plain_environment().items() if k != "AWS_MAX_ATTEMPTS"}
    run = subprocess.run(["sh", "-eu", "-c", example("sh")], cwd=folder, capture_output=True, text=True, timeout=120,
                         env=env | {"PATH": f"{folder / 'bin'}:{programs}:{env['PATH']}"})
    assert run.returncode == 0 and "2 passed" in run.stdout, run.stdout + run.stderr


def test_every_command_is_there():
    """What the table names exists."""
    for line in set(re.findall(r"`keywright (dev [a-z]+(?: [a-z]+)?)", TEXT)):
        words = [w for w in line.split() if w not in ("advance",)]
        run = subprocess.run([str(BINARY), *words, "--help"], capture_output=True, text=True, timeout=10)
        assert run.returncode == 0 and "Usage:" in run.stdout, line
