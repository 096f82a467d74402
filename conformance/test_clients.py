"""Every operation once from the official SDKs of other languages, each against a server of its own. The one for Go is in goclient."""
import os
import pathlib
import re
import subprocess
import time

import boto3
import pytest

from harness.server import REGION, ROOT, Server, plain_environment

CLIENTS = os.environ.get("KEYWRIGHT_CLIENTS", "js java rust").split()
OPERATIONS = (pathlib.Path(__file__).parent / "clients/operations.txt").read_text().split()


def test_the_list_of_operations():
    """What the clients must have called is what the model has."""
    model = boto3.session.Session().client("kms", region_name=REGION).meta.service_model
    assert OPERATIONS == sorted(model.operation_names)


@pytest.mark.parametrize("name", CLIENTS)
def test_every_operation(tmp_path, request, tally, name):
    with Server(tmp_path) as server:
        environment = plain_environment() | server.environment
        began = time.monotonic()
        run = subprocess.run([str(ROOT / "scripts/client"), "run", name], capture_output=True, text=True, env=environment, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    count = re.search(r"^(\d+) operations$", run.stdout, re.M)
    assert count and int(count[1]) == len(OPERATIONS), run.stdout
    request.config.clients.append(f"{name:8} {count[0]} in {time.monotonic() - began:.1f} s")
    tally(len(OPERATIONS))
