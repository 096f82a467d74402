"""The AWS CLI as a process of its own, as people use it."""
import json
import pathlib
import subprocess
import sys

from .server import plain_environment

AWS = pathlib.Path(sys.executable).parent / "aws"


def aws(server, *arguments, environment=None, fails=False):
    """Runs `aws ARGUMENTS` with the environment lines that the server printed, but for those given (None: without). Returns its JSON output, None where it prints
    nothing; or, of a command that must fail, what it says on standard error."""
    env = {k: v for k, v in (plain_environment() | server.environment | (environment or {})).items() if v is not None}
    run = subprocess.run([str(AWS), *arguments, "--output", "json"], capture_output=True, text=True, env=env, timeout=60)
    server.ledger.called_by_cli()
    if fails:
        assert run.returncode != 0, f"aws {' '.join(arguments)} succeeded: {run.stdout}"
        return run.stderr.strip()
    assert run.returncode == 0, f"aws {' '.join(arguments)}: {run.stderr}"
    return json.loads(run.stdout) if run.stdout.strip() else None
