"""Fixtures that all tests share, and the closing table of how many checks ran."""
import collections
import os
import secrets as random_secrets

import pytest

from harness.ledger import Ledger
from harness.server import BINARY, NODES, OTHER_ACCOUNT, OTHER_KEY_ID, POSTGRES, Server
from harness.wire import Signing, Wire

ROOT_KEY_ID = "AKIAKEYWRIGHTCONF000"


def pytest_configure(config):
    config.checks = collections.Counter()  # by file: checks beyond one per test
    config.tables = []  # lists of lines to print at the end
    config.clients = ["official SDKs of other languages"]  # one line for each that ran


def pytest_collection_modifyitems(config, items):
    """Leaves out what a shared database, or more than one server, cannot have: `sqlite(why)` and `alone(why)` mark it, and why is the
    reason that the run prints. Without KEYWRIGHT_STORE and KEYWRIGHT_NODES nothing is left out."""
    for item in items:
        for applies, name in ((POSTGRES, "sqlite"), (NODES > 1, "alone")):
            for mark in item.iter_markers(name):
                (why,) = mark.args  # no mark without its reason
                if applies:
                    item.add_marker(pytest.mark.skip(reason=why))


def pytest_sessionfinish(session, exitstatus):
    """A run in which nothing passed shows nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == 0 and not reporter.stats.get("passed"):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.fixture(scope="session")
def ledger():
    return Ledger()


@pytest.fixture(scope="session")
def shared(tmp_path_factory, ledger):
    """The one server of the session: on disk, with two accounts. test_zz_afterwards.py stops it and looks at what it left."""
    if not BINARY.exists():
        pytest.exit(f"no server to test: {BINARY} is missing; run make build, or set KEYWRIGHT_BINARY", 2)
    folder = tmp_path_factory.mktemp("shared")
    root, other = (ledger.credential(random_secrets.token_hex(20)) for _ in range(2))
    server = Server(folder, "--root-access-key-id", ROOT_KEY_ID, "--root-secret-access-key", root,
                    "--account", f"{OTHER_ACCOUNT}={OTHER_KEY_ID}:{other}", data=folder / "data", ledger=ledger)
    server.other_secret = other
    with server:
        yield server


@pytest.fixture(scope="session")
def wire(shared):
    """Calls as the root user of the first account."""
    return Wire(shared)


@pytest.fixture(scope="session")
def other(shared):
    """Calls as the root user of the second account."""
    return Wire(shared, Signing(OTHER_KEY_ID, shared.other_secret))


@pytest.fixture(scope="session")
def kms(shared):
    return shared.boto3()


@pytest.fixture
def new_key(wire):
    """Makes keys: returns their metadata."""
    return lambda **values: wire.ok("CreateKey", **values)["KeyMetadata"]


@pytest.fixture
def tally(request):
    """Counts checks beyond one per test: tally(n)."""
    def count(n):
        request.config.checks[request.node.path.name] += n - 1
    return count


def pytest_terminal_summary(terminalreporter, config):
    for lines in [config.clients, *config.tables] if len(config.clients) > 1 else config.tables:
        terminalreporter.section(lines[0])
        for line in lines[1:]:
            terminalreporter.write_line(line)
    checks = config.checks
    ran, failed = collections.Counter(), collections.Counter()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            name = os.path.basename(report.location[0])
            ran[name] += 1
            failed[name] += outcome == "failed"
    terminalreporter.section("checks against a running server")
    for name in sorted(ran):
        terminalreporter.write_line(f"{name:32} {ran[name] + checks[name]:6} checks {failed[name]:4} failed tests")
    total = sum(ran.values()) + sum(checks[n] for n in ran)
    terminalreporter.write_line(f"{'in all':32} {total:6} checks {sum(failed.values()):4} failed tests")
