"""The control endpoint of `keywright dev`: what an application's tests do with it, through boto3 with its own retries."""
import base64
import datetime
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

import boto3
import botocore.config
import botocore.exceptions
import pytest

from harness.server import ACCOUNT, BINARY, POSTGRES, REGION, Server, plain_environment
from harness.wire import Wire

SEED = """
keys:
  - id: 1234abcd-12ab-34cd-56ef-1234567890ab
    aliases: [alias/app]
    material: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
    tags: {team: payments}
"""
# "fixture", encrypted by another installation under the key of the seed.
FIXTURE = base64.b64decode("S1cBAAAAABnfZpDlEjSrzRKrNM1W7xI0VniQq+/xkNvrwu4Yv+1utH9tYAUG8sT7KnWok6086U7W1X+gUolsAr55c2MT2n8u7dwdAAIIvMqJzppizqFJJOJWMR+ZQ/VEOagV81TxwLP+zcEFn/JA")


class Control:
    """Asks the endpoint of a server."""

    def __init__(self, server):
        self.url = server.environment["KEYWRIGHT_CONTROL"]
        self.token, _, self.address = self.url.removeprefix("http://").partition("@")

    def ask(self, method, path, body=None, headers=None):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data=data, method=method, headers={"X-Keywright-Dev": self.token} | (headers or {}))
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def advance(self, text):
        return self.ask("POST", "/v1/clock", {"advance": text})

    def fault(self, **members):
        return self.ask("POST", "/v1/faults", members)["id"]


ONE = pytest.mark.alone("clock and faults are those of the one server that is asked to change them")


@pytest.fixture(scope="function" if POSTGRES else "module")  # what is in a database is not reset
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "seed.yaml").write_text(SEED)
    with Server(folder, "--seed", "seed.yaml", data=folder / "data") as running:
        yield running


@pytest.fixture
def control(server):
    control = Control(server)
    if not POSTGRES:
        control.ask("POST", "/v1/reset")
    return control


def retrying(server, attempts, mode="standard", **config):
    """boto3 as applications use it: with retries."""
    return boto3.session.Session().client(
        "kms", region_name=REGION, endpoint_url=server.url, aws_access_key_id=server.key_id, aws_secret_access_key=server.secret,
        config=botocore.config.Config(retries={"total_max_attempts": attempts, "mode": mode}, **config))


def records(server, name):
    lines = [json.loads(line) for path in server.audit_files() for line in path.read_text().splitlines()]
    return [r for r in lines if r["eventName"] == name]


@pytest.mark.parametrize("code,status", [("ThrottlingException", 400), ("KMSInternalException", 500), ("DependencyTimeoutException", 500)])
@ONE
def test_retries_see_the_fault(server, control, code, status):
    """One attempt fails with the service's error; with retries the same call succeeds. Every attempt has its record."""
    control.fault(operation="Encrypt", error=code, times=1)
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        retrying(server, 1).encrypt(KeyId="alias/app", Plaintext=b"x")
    error = failed.value.response
    assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    found = [r for r in records(server, "Encrypt") if r["requestID"] == error["ResponseMetadata"]["RequestId"]]
    assert len(found) == 1 and found[0]["errorCode"] == code and found[0]["userIdentity"]["accountId"] == ACCOUNT
    before = len(records(server, "Encrypt"))
    control.fault(operation="Encrypt", error=code, times=2)
    answer = retrying(server, 3).encrypt(KeyId="alias/app", Plaintext=b"x")
    assert answer["ResponseMetadata"]["RetryAttempts"] == 2
    assert len(records(server, "Encrypt")) == before + 3


@ONE
def test_state_that_is_not(server, control):
    """An error that no SDK retries, for one key only."""
    kms = server.boto3()
    other = kms.create_key()["KeyMetadata"]["KeyId"]
    control.fault(key="alias/app", error="KMSInvalidStateException", message="it is pending import")
    with pytest.raises(kms.exceptions.KMSInvalidStateException, match="it is pending import"):
        kms.decrypt(CiphertextBlob=FIXTURE)
    kms.encrypt(KeyId=other, Plaintext=b"x")


@ONE
def test_broken_connections(server, control):
    """A lost answer is what idempotence is for: the call was done."""
    kms = retrying(server, 1)
    control.fault(operation="CreateKey", connection="reset", times=1)
    with pytest.raises((botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError)):
        kms.create_key()
    assert len(kms.list_keys()["Keys"]) == 1
    control.fault(operation="CreateKey", connection="lose", times=1)
    with pytest.raises((botocore.exceptions.HTTPClientError, botocore.exceptions.ConnectionError)):
        kms.create_key()
    assert len(kms.list_keys()["Keys"]) == 2
    control.fault(operation="CreateKey", connection="lose", times=1)
    retrying(server, 2).create_key()
    assert len(kms.list_keys()["Keys"]) == 4, "the call that lost its answer, and its second try"


@ONE
def test_slow_answers(server, control):
    control.fault(operation="Decrypt", latency="1500ms", times=1)
    with pytest.raises(botocore.exceptions.ReadTimeoutError):
        retrying(server, 1, read_timeout=0.5).decrypt(CiphertextBlob=FIXTURE)
    assert retrying(server, 1).decrypt(CiphertextBlob=FIXTURE)["Plaintext"] == b"fixture"


@ONE
def test_throttle_and_recover(server, control):
    """Above the rate there are ThrottlingExceptions only, and default retries get everything through."""
    control.fault(operation="GenerateRandom", error="ThrottlingException", rate=10)
    plain, codes = retrying(server, 1), []
    for _ in range(30):
        try:
            plain.generate_random(NumberOfBytes=1)
        except botocore.exceptions.ClientError as e:
            codes.append(e.response["Error"]["Code"])
    assert set(codes) == {"ThrottlingException"} and 5 <= len(codes) <= 20
    patient = retrying(server, 8)
    for _ in range(20):
        patient.generate_random(NumberOfBytes=1)


@ONE
def test_rotation_after_a_year(server, control):
    kms = server.boto3()
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    blob = kms.encrypt(KeyId=key, Plaintext=b"of the first year")["CiphertextBlob"]
    kms.enable_key_rotation(KeyId=key)
    control.advance("364d")
    assert kms.list_key_rotations(KeyId=key)["Rotations"] == []
    control.advance("1d")
    rotations = kms.list_key_rotations(KeyId=key)["Rotations"]
    assert [r["RotationType"] for r in rotations] == ["AUTOMATIC"]
    assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == b"of the first year"
    control.advance("730d")
    assert len(kms.list_key_rotations(KeyId=key)["Rotations"]) == 3
    assert kms.get_key_rotation_status(KeyId=key)["NextRotationDate"] > datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1400)


@ONE
def test_deletion(server, control):
    kms = server.boto3()
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    control.advance("6d")
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion"
    control.advance("25h")
    with pytest.raises(kms.exceptions.NotFoundException):
        kms.describe_key(KeyId=key)


@ONE
def test_expiry_of_imported_material(server, control):
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding
    kms = server.boto3()
    key = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
    offer = kms.get_parameters_for_import(KeyId=key, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")
    wrapped = serialization.load_der_public_key(offer["PublicKey"]).encrypt(
        os.urandom(32), padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
    kms.import_key_material(KeyId=key, ImportToken=offer["ImportToken"], EncryptedKeyMaterial=wrapped,
                            ValidTo=datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2))
    kms.encrypt(KeyId=key, Plaintext=b"x")
    control.advance("2d1h")
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingImport"
    with pytest.raises(kms.exceptions.KMSInvalidStateException):
        kms.encrypt(KeyId=key, Plaintext=b"x")
    assert records(server, "DeleteExpiredKeyMaterial")


@ONE
def test_sessions_end(server, control):
    """Temporary credentials end by the moved clock; signatures go on."""
    session = server.boto3("sts").get_session_token(DurationSeconds=900)["Credentials"]
    temporary = (session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
    server.boto3(credentials=temporary).list_keys()
    control.advance("16m")
    with pytest.raises(botocore.exceptions.ClientError, match="ExpiredTokenException"):
        server.boto3(credentials=temporary).list_keys()
    server.boto3().list_keys()


@ONE
def test_clock_that_stands(server, control):
    control.ask("POST", "/v1/clock", {"set": "2031-05-01T12:00:00Z", "freeze": True})
    created = server.boto3().create_key()["KeyMetadata"]["CreationDate"]
    assert created == datetime.datetime(2031, 5, 1, 12, tzinfo=datetime.timezone.utc)


@pytest.mark.sqlite("a reset refuses a database, which others may share")
@ONE
def test_seed_and_reset(server, control, capsys):
    """Everything goes but what the server began with; the fixture decrypts again, and the root user's credentials hold."""
    kms, iam = server.boto3(), server.boto3("iam")
    began = []
    for _ in range(5):
        assert kms.decrypt(CiphertextBlob=FIXTURE)["Plaintext"] == b"fixture"
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.create_alias(AliasName="alias/mine", TargetKeyId=key)
        kms.create_grant(KeyId=key, GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:root", Operations=["Decrypt"])
        kms.disable_key(KeyId="1234abcd-12ab-34cd-56ef-1234567890ab")
        iam.create_user(UserName="ann")
        credentials = iam.create_access_key(UserName="ann")["AccessKey"]
        control.fault(operation="Sign", error="KMSInternalException")
        control.advance("10d")
        began.append(time.monotonic())
        control.ask("POST", "/v1/reset")
        began[-1] = time.monotonic() - began[-1]
        assert [k["KeyId"] for k in kms.list_keys()["Keys"]] == ["1234abcd-12ab-34cd-56ef-1234567890ab"]
        assert [a["AliasName"] for a in kms.list_aliases()["Aliases"]] == ["alias/app"]
        assert iam.list_users()["Users"] == []
        assert control.ask("GET", "/v1/faults")["faults"] == [] and not control.ask("GET", "/v1/clock")["frozen"]
        with pytest.raises(botocore.exceptions.ClientError, match="UnrecognizedClientException"):
            server.boto3(credentials=(credentials["AccessKeyId"], credentials["SecretAccessKey"])).list_keys()
    with capsys.disabled():
        print(f"\na reset of a server on disk, ms: {1000 * min(began):.1f} to {1000 * max(began):.1f}")


@pytest.mark.sqlite("a reset refuses a database, which others may share")
@ONE
def test_records_of_the_endpoint(server, control):
    """What the endpoint does to a server has its records, which stay."""
    before = {name: len(records(server, name)) for name in ("ResetServer", "SetClock", "SeedKey")}
    control.advance("10d")
    control.ask("POST", "/v1/reset")
    added = {name: records(server, name)[n:] for name, n in before.items()}
    assert {name: len(found) for name, found in added.items()} == {"ResetServer": 1, "SetClock": 1, "SeedKey": 1}
    assert added["SeedKey"][0]["serviceEventDetails"]["aliases"] == [{"aliasName": "alias/app"}]
    assert added["ResetServer"][0]["eventType"] == "AwsServiceEvent" and added["ResetServer"][0]["recipientAccountId"] == ACCOUNT
    moved, reset = (datetime.datetime.fromisoformat(added[name][0]["eventTime"]) for name in ("SetClock", "ResetServer"))
    assert reset - moved >= datetime.timedelta(days=10), "each before it is done, by the clock of then"
    assert datetime.datetime.fromisoformat(added["SetClock"][0]["serviceEventDetails"]["time"]) <= reset


@pytest.mark.sqlite("a reset refuses a database, which others may share")
@ONE
def test_reset_under_load(server, control):
    """Resets while others call: nobody sees a half of it."""
    import threading
    stop, odd = threading.Event(), []

    def caller():
        kms = retrying(server, 1)
        while not stop.is_set():
            try:
                kms.decrypt(CiphertextBlob=kms.encrypt(KeyId="alias/app", Plaintext=b"x")["CiphertextBlob"])
                kms.create_key()
            except botocore.exceptions.BotoCoreError as e:
                odd.append(repr(e))
            except botocore.exceptions.ClientError as e:
                odd.append(str(e))

    threads = [threading.Thread(target=caller) for _ in range(3)]
    for t in threads:
        t.start()
    for _ in range(20):
        control.ask("POST", "/v1/reset")
        time.sleep(0.02)
    stop.set()
    for t in threads:
        t.join()
    assert odd == [], "the seeded key and the root user are there at all times"


def test_restart_keeps_the_seed(tmp_path):
    (tmp_path / "seed.yaml").write_text(SEED)
    server = Server(tmp_path, "--seed", "seed.yaml", data=tmp_path / "data")
    for _ in range(2):
        with server:
            assert server.boto3().decrypt(CiphertextBlob=FIXTURE)["Plaintext"] == b"fixture"


def run(folder, *arguments, **environment):
    return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, timeout=30, cwd=folder, env=plain_environment() | environment)


@pytest.mark.parametrize("text,said", [("keys: [{id: x}]", 'keys[0] "x"'), ("keyz: []", "keyz not found"), ("keys: [{id: 1234abcd-12ab-34cd-56ef-1234567890ab, material: c2hvcnQ=}]", "material number 1"),
                                       ("keys: [{id: 1234abcd-12ab-34cd-56ef-1234567890ab, rotationPeriodInDays: c2hvcnQ=}]", "of another kind")])
def test_bad_seed(tmp_path, text, said):
    (tmp_path / "seed.yaml").write_text(text)
    refused = run(tmp_path, "dev", "--listen", "127.0.0.1:0", "--seed", "seed.yaml")
    assert refused.returncode == 1 and said in refused.stderr and "c2hvcnQ=" not in refused.stderr


@ONE
def test_commands(server, control, tmp_path):
    """What people type."""
    there = {"KEYWRIGHT_CONTROL": control.url}

    def ok(*arguments):
        done = run(tmp_path, "dev", *arguments, **there)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "from the real time" in ok("clock")
    assert "8760h0m" in ok("clock", "advance", "365d")
    assert ok("clock", "set", "2031-05-01T12:00:00Z").startswith("2031-05-01T12:00:00Z")
    assert ok("clock", "freeze").rstrip().endswith("stopped")
    assert "stopped" not in ok("clock", "run")
    fault = ok("fault", "add", "--operation", "Sign", "--error", "KMSInternalException", "--times", "3").strip()
    throttle = ok("throttle", "--operation", "Verify", "--rate", "5").strip()
    listed = ok("fault", "list")
    assert "KMSInternalException" in listed and "ThrottlingException above 5/s" in listed
    ok("fault", "remove", fault)
    assert "KMSInternalException" not in ok("fault", "list") and throttle in ok("fault", "list")
    (tmp_path / "more.yaml").write_text("keys: [{id: 2234abcd-12ab-34cd-56ef-1234567890ab}]")
    assert ok("seed", "more.yaml") == "Seeded 1 keys\n"
    assert len(server.boto3().list_keys()["Keys"]) == 2
    if POSTGRES:
        refused = run(tmp_path, "dev", "reset", **there)
        assert refused.returncode == 1 and "database" in refused.stderr
    else:
        ok("reset")
    assert len(server.boto3().list_keys()["Keys"]) == (2 if POSTGRES else 1)
    for wrong in (["clock", "advance", "soon"], ["clock", "set", "soon"], ["fault", "add"], ["throttle", "--rate", "0"], ["seed", "none.yaml"], ["fault"], ["clock", "bogus"]):
        assert run(tmp_path, "dev", *wrong, **there).returncode == 1, wrong
    lost = run(tmp_path, "dev", "clock", "--control", "http://127.0.0.1:1")
    assert lost.returncode == 1 and "hint: keywright dev prints the URL" in lost.stderr
    strange = run(tmp_path, "dev", "reset", "--control", f"http://{control.address}")
    assert strange.returncode == 1 and "with its token" in strange.stderr
    nowhere = run(tmp_path, "dev", "reset")
    assert nowhere.returncode == 1 and "hint: keywright dev prints the URL" in nowhere.stderr
    # The API itself is no control endpoint.
    assert "no control endpoint" in run(tmp_path, "dev", "reset", "--control", server.url).stderr


@pytest.mark.parametrize("headers", [{"X-Keywright-Dev": ""}, {"X-Keywright-Dev": "1"}, {"Origin": "https://example.com"}, {"Host": "example.com"}, {"Host": "localhost.example.com"},
                                     {"Sec-Fetch-Site": "cross-site"}])
@ONE
def test_no_web_pages(server, control, headers):
    made = server.boto3().create_key()["KeyMetadata"]["KeyId"]
    for method in ("POST", "OPTIONS"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            control.ask(method, "/v1/reset", headers=headers)
        assert refused.value.code == 403 and "Access-Control-Allow-Origin" not in refused.value.headers
    assert server.boto3().describe_key(KeyId=made), "it is as it was"


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:1", "example.com:1"])
def test_control_on_loopback_only(tmp_path, address):
    refused = run(tmp_path, "dev", "--listen", "127.0.0.1:0", "--control", address)
    assert refused.returncode == 1 and "hint: use a loopback address" in refused.stderr


def test_no_control(tmp_path):
    with Server(tmp_path, "--control", "none") as server:
        assert "KEYWRIGHT_CONTROL" not in server.environment
        assert len(listening(server.process.pid)) == 1


def listening(pid):
    """The TCP addresses on which a process listens, as the kernel has them."""
    inodes = {os.readlink(f)[8:-1] for f in pathlib.Path(f"/proc/{pid}/fd").iterdir() if os.path.islink(f) and os.readlink(f).startswith("socket:[")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                found.add(fields[1])
    return found


def ask_socket(path, method, target):
    """The status of an answer by the administrators' socket."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(path))
        s.sendall(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nX-Keywright-Dev: 1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode())
        return int(s.recv(4096).split()[1])


def test_server_answers_none_of_it(tmp_path):
    """`keywright server` listens where its configuration says and nowhere else, takes no word of control, and its doors know nothing of it."""
    (tmp_path / "server.yaml").write_text("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\ndata: data\nseals: [{kind: key-file, file: seal.key}]\n")
    made = run(tmp_path, "init", "--config", "server.yaml", "--account", ACCOUNT)
    assert made.returncode == 0, made.stderr
    assert run(tmp_path, "server", "--config", "server.yaml", "--control", "127.0.0.1:0").returncode == 1
    assert run(tmp_path, "server", "--config", "server.yaml", "--seed", "seed.yaml").returncode == 1
    process = subprocess.Popen([str(BINARY), "server", "--config", "server.yaml"], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
                               env=plain_environment() | {"KEYWRIGHT_CONTROL": "http://127.0.0.1:4598"})
    try:
        health = process.stdout.readline().split()[-1]
        api = process.stdout.readline().split()[-1]
        assert len(listening(process.pid)) == 2, "the API and the health probes"
        doors = {api, health.removesuffix("/readyz")}
        for door in doors:
            for method, path in (("GET", "/v1/clock"), ("POST", "/v1/clock"), ("POST", "/v1/seed"), ("POST", "/v1/faults"), ("GET", "/v1/faults"), ("POST", "/v1/reset")):
                with pytest.raises(urllib.error.HTTPError) as refused:
                    urllib.request.urlopen(urllib.request.Request(door + path, data=b"{}" if method == "POST" else None, method=method, headers={"X-Keywright-Dev": "1"}), timeout=10)
                assert refused.value.code in (400, 403, 404, 405), (door, path, refused.value.code)
            assert "no control endpoint" in run(tmp_path, "dev", "reset", "--control", door).stderr
        for method, path in (("GET", "/v1/clock"), ("POST", "/v1/reset")):
            assert ask_socket(tmp_path / "data/admin.sock", method, path) in (400, 404, 405)
    finally:
        process.terminate()
        assert process.wait(20) == 0
