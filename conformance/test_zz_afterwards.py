"""After all others: the audit log of the run against what was called, and the disk against every secret of the run."""
import base64
import collections
import copy
import json
import secrets

import pytest

from harness.ledger import forms, search, strings
from harness.records import OPERATIONS, faults, strays
from harness.server import NODES, POSTGRES, Server
from harness.wire import Wire

UNHEARD = {"DependencyTimeoutException", "ServiceUnavailableException"}


@pytest.fixture(scope="module")
def afterwards(shared, ledger):
    """Some more secrets, and then the server is stopped. Returns the files that it left."""
    wire = Wire(shared)
    key = wire.ok("CreateKey", Description="a description that strings finds")["KeyMetadata"]["KeyId"]
    for size in (16, 32, 100, 4096):
        plaintext = ledger.fresh_plaintext(size)
        blob = wire.ok("Encrypt", KeyId=key, Plaintext=base64.b64encode(plaintext).decode(), EncryptionContext={"a": "b"})["CiphertextBlob"]
        wire.ok("Decrypt", CiphertextBlob=blob, EncryptionContext={"a": "b"})
        wire.ok("GenerateDataKey", KeyId=key, NumberOfBytes=min(size, 1024))
        wire.ok("GenerateRandom", NumberOfBytes=min(size, 1024))
        # Refused calls carry plaintexts, too.
        wire.call("Encrypt", KeyId="foo", Plaintext=base64.b64encode(plaintext).decode())
        wire.post("Encrypt", b'{"KeyId":"%s","Plaintext":"%s"' % (key.encode(), base64.b64encode(plaintext)))
        wire.post("Encrypt", b'{"KeyId":"%s","Plaintext":"%s!"}' % (key.encode(), base64.b64encode(plaintext)))
        wire.call("Encrypt", KeyId=key, Plaintext=base64.b64encode(plaintext * 300).decode())
    assert shared.stop() == 0
    return [p for i in range(shared.nodes) for p in shared.home(i).rglob("*") if p.is_file()] + shared.logs


def test_one_record_per_call(shared, afterwards, ledger, tally):
    records = [json.loads(line) for path in shared.audit_files() for line in path.read_text().splitlines()]
    # What stands before several servers makes calls again that one of them could not answer in time.
    calls = [r for r in records if r["eventType"] == "AwsApiCall" and not (NODES > 1 and r.get("errorCode") in UNHEARD)]
    count = collections.Counter(r["requestID"] for r in calls)
    for request_id, operation in ledger.calls:
        assert request_id, f"an answer of {operation} had no request id"
    missing = [(i, o) for i, o in ledger.calls if not count[i]]
    assert not missing, f"{len(missing)} calls have no record, such as {missing[:5]}"
    # A form that is too large is not read, so nobody knows the Action in it.
    unread = {r["requestID"] for r in calls if r.get("errorCode") == "RequestEntityTooLargeException"}
    names = {r["requestID"]: r["eventName"] for r in calls}
    wrong = [(o, names[i]) for i, o in ledger.calls if o and names[i] != o and o in names.values() and not (i in unread and names[i] == "")]
    assert not wrong, wrong[:5]
    # Two records with one request id: only where the key's owner has one as well.
    owners = {r["requestID"] for r in calls if "sharedEventID" in r}
    assert all(n == 1 or n == 2 and i in owners for i, n in count.items())
    assert len({r["eventID"] for r in records}) == len(records)
    by_cli = {r["requestID"] for r in calls if "aws-cli" in r["userAgent"]}
    known = {i for i, _ in ledger.calls}
    assert set(count) == known | by_cli, "records of calls that nobody made"
    assert len(by_cli - known) == ledger.cli_calls
    tally(len(known) + len(by_cli))


def test_every_record_has_the_documented_form(shared, afterwards, request, tally):
    """Every record of the run, of every operation that it called."""
    records = [json.loads(line) for path in shared.audit_files() for line in path.read_text().splitlines()]
    wrong = collections.defaultdict(list)
    for record in records:
        for fault in faults(record):
            wrong[record["eventName"], fault].append(record)
    assert not wrong, [(name, fault, len(found), found[0]) for (name, fault), found in wrong.items()][:5]
    assert strays(records) == []
    called = {r["eventName"] for r in records if r["eventSource"] == "kms.amazonaws.com" and "errorCode" not in r}
    if request.session.testscollected > 500:  # the whole suite, not a part of it
        elsewhere = {"ReplicateKey", "UpdatePrimaryRegion"}  # have records in two Regions: test_lookup.py looks at those
        assert set(OPERATIONS) - elsewhere <= called, f"never called: {set(OPERATIONS) - called}"
    tally(len(records))


def test_no_secret_in_the_audit_log(shared, afterwards, ledger, tally, request):
    needles = {n for n in ledger.plaintexts | ledger.ciphertexts | ledger.tokens if len(n) >= 12} | ledger.credentials
    if request.session.testscollected > 500:  # the whole suite, not a part of it
        assert len(ledger.plaintexts) > 100 and len(ledger.ciphertexts) > 100 and len(ledger.credentials) >= 4 and len(ledger.tokens) > 20
    assert search(shared.audit_files(), needles) == []
    tally(len(needles))


def spoiled(record):
    """Copies of a record with what a record of the operation cannot have, or without what it must, by what was done to them."""
    def spoil(what, how):
        other = copy.deepcopy(record)
        how(other)
        if other != record:
            mutants[what] = other
    mutants, name = {}, "newSecretName"
    spoil("a parameter", lambda r: r.update(requestParameters=(r["requestParameters"] or {}) | {name: "x"}))
    spoil("an answer's member", lambda r: r.update(responseElements=(r["responseElements"] or {}) | {name: "x"}))
    spoil("additional data", lambda r: r.update(additionalEventData=(r.get("additionalEventData") or {}) | {name: "x"}))
    for member in ("requestParameters", "responseElements"):
        spoil(f"a member in {member}", lambda r: [v.update({name: "x"}) for k, v in (r[member] or {}).items() if isinstance(v, dict) and "ontext" not in k])
    spoil("no resources", lambda r: r.get("resources") and r.pop("resources"))
    spoil("resources twice", lambda r: r.get("resources") and r["resources"].extend(r["resources"] * 2))
    spoil("a resource of another account", lambda r: r.get("resources") and r["resources"][0].update(accountId="000000000000"))
    spoil("no additional data", lambda r: r.pop("additionalEventData", None))
    spoil("no answer", lambda r: r.update(responseElements=None))
    spoil("details", lambda r: r.update(serviceEventDetails={name: "x"}))
    spoil("TLS", lambda r: r.update(tlsDetails={"tlsVersion": "TLSv1.3", "cipherSuite": "x", "clientProvidedHostHeader": "x"}))
    spoil("read or write", lambda r: r.update(readOnly=not r["readOnly"]))
    return mutants


def test_the_schema_finds(shared, afterwards, tally):
    """One record of each operation that succeeded, spoiled in every way: the schema finds each."""
    firsts, missed, tried = {}, [], 0
    for path in shared.audit_files():
        for record in map(json.loads, path.read_text().splitlines()):
            if record["eventType"] == "AwsApiCall" and "errorCode" not in record and "invokedBy" not in record["userIdentity"]:
                firsts.setdefault((record["eventSource"], record["eventName"]), record)
    assert len(firsts) > 10
    for record in firsts.values():
        for what, mutant in spoiled(record).items():
            tried += 1
            if not faults(mutant):
                missed.append((record["eventName"], what))
    assert not missed, missed
    tally(tried)


def test_every_record_of_every_server(shared, afterwards, tally):
    """The servers that tests had for themselves, with settings of their own: their records have the documented form as well."""
    wrong, seen = collections.Counter(), 0
    for server in Server.started:
        for path in (p for p in server.files() if p.suffix == ".jsonl" and p.parent.name == "audit"):
            records = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
            records = [r for r in records if "eventSource" in r]
            tls = any("tlsDetails" in r for r in records)
            wrong.update((str(path), r["eventName"], fault) for r in records for fault in faults(r, tls))
            wrong.update((str(path), found[0]["eventName"], "a stray copy") for found in strays(records))
            seen += len(records)
    assert not wrong, wrong.most_common(5)
    tally(seen)


def test_no_secret_of_any_server(shared, afterwards, request, tally):
    """Neither in the records nor in the log of any server that this run started is a secret of that server."""
    # The whole suite, but for what scripts/conformance runs beside it; that; or a part of either.
    collected = request.session.testscollected
    assert len(Server.started) >= (13 if collected > 500 else 30 if collected > 80 else 1)
    checked = 0
    for server in Server.started:
        ledger = server.ledger
        needles = {n for n in ledger.plaintexts | ledger.ciphertexts | ledger.tokens if len(n) >= 12} | ledger.credentials
        assert search(server.files(), needles) == [], server.arguments
        checked += len(needles)
    tally(checked)


@pytest.mark.sqlite("the store is not in the data directory")
def test_no_secret_on_disk(shared, afterwards, ledger, tally):
    """Not in the database, its journal, the log or any other file: raw, hexadecimal, Base64, or as strings(1) shows it."""
    needles = {n for n in ledger.plaintexts if len(n) >= 12} | ledger.credentials
    names = {p.name for p in afterwards}
    assert {"keywright.db", "seal.key", "stderr"} <= names, names
    assert search(afterwards, needles) == []
    for path in afterwards:
        text = strings(path)
        for credential in ledger.credentials:
            assert credential.decode() not in text, path
    tally(2 * len(needles) * len(afterwards))


@pytest.mark.sqlite("the store is not in the data directory")
def test_the_seal_key_is_in_one_place(shared, afterwards):
    """Nothing outside can know key material; but what opens it is in its file and nowhere else, and only its owner can read it."""
    path = shared.data / "seal.key"
    assert path.stat().st_mode & 0o077 == 0
    text = path.read_bytes().strip()
    octets = {text, bytes.fromhex(text.decode())} if len(text) == 64 else {text, base64.b64decode(text)}
    hits = search([p for p in afterwards if p != path], octets)
    assert hits == []
    for file in afterwards:
        if file != shared.log:
            assert file.stat().st_mode & 0o077 == 0, f"{file.name} is open to others"


def test_the_search_finds(shared, afterwards, tmp_path):
    """The search itself finds what is there, in each form and at each offset."""
    secret = secrets.token_bytes(32)
    for i in range(4):
        (tmp_path / "raw").write_bytes(b"\n" * i + b"x" + secret + b"\0rest")
        (tmp_path / "hex").write_text("x" * i + secret.hex())
        (tmp_path / "HEX").write_text(secret.hex().upper() + "\n" * i)
        (tmp_path / "base64").write_text(base64.b64encode(b"p" * i + secret + b"s").decode())
        (tmp_path / "urlsafe").write_text(base64.urlsafe_b64encode(b"p" * i + secret).decode())
        found = search(sorted(tmp_path.iterdir()), {secret, b"not in any of these files"})
        assert {p.rsplit("/", 1)[1] for p, _ in found} == {"raw", "hex", "HEX", "base64", "urlsafe"}
        assert {n for _, n in found} == {secret}
    if not POSTGRES:
        assert search([p for p in afterwards if p.name == "keywright.db"], {b"description that strings finds"}), "the store keeps what is no secret readable"
    assert len(forms(secret)) >= 5
