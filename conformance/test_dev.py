"""`keywright dev` as a command: what it prints, keeps, refuses, and how soon it answers."""
import base64
import json
import os
import secrets
import socket
import subprocess
import time

import pytest

from harness.cli import aws
from harness.expect import expect_error
from harness.server import ACCOUNT, BINARY, Server, plain_environment
from harness.wire import Signing, Wire, now


def run(folder, *arguments, timeout=10):
    """Runs a command that is expected to end by itself."""
    return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, timeout=timeout, env=plain_environment(), cwd=folder)


def test_prints_what_to_paste(tmp_path):
    with Server(tmp_path) as server:
        assert server.environment["AWS_ENDPOINT_URL"] == server.url
        assert server.environment["AWS_ACCESS_KEY_ID"] == "AKIAKEYWRIGHTDEVROOT" and server.environment["AWS_SECRET_ACCESS_KEY"]
        assert server.environment["AWS_REGION"] == "us-east-1"
        assert aws(server, "sts", "get-caller-identity")["Account"] == ACCOUNT
        assert server.stop() == 0


@pytest.mark.sqlite("the store is not in the data directory, nor in memory")
def test_in_memory(tmp_path):
    """Without --data nothing is written, and nothing outlives the process."""
    server = Server(tmp_path / "cwd")
    with server:
        key = Wire(server).ok("CreateKey")["KeyMetadata"]["KeyId"]
        Wire(server).ok("Encrypt", KeyId=key, Plaintext="eA==")
    assert sorted(os.listdir(tmp_path / "cwd")) == ["stderr", "stdout"]
    with server:
        expect_error(Wire(server).call("DescribeKey", KeyId=key), "NotFoundException: …")


def test_restart(tmp_path):
    """With --data everything is there again: keys, states, aliases, tags, policies, ciphertexts, markers, session tokens."""
    server = Server(tmp_path, data=tmp_path / "data")
    with server:
        wire = Wire(server)
        keys = [wire.ok("CreateKey", Description=f"key {i}")["KeyMetadata"] for i in range(5)]
        ids = [k["KeyId"] for k in keys]
        wire.ok("DisableKey", KeyId=ids[1])
        plan = wire.ok("ScheduleKeyDeletion", KeyId=ids[2], PendingWindowInDays=9)
        wire.ok("EnableKeyRotation", KeyId=ids[3], RotationPeriodInDays=100)
        wire.ok("CreateAlias", AliasName="alias/kept", TargetKeyId=ids[4])
        wire.ok("TagResource", KeyId=ids[4], Tags=[{"TagKey": "a", "TagValue": "b"}])
        policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"}]})
        wire.ok("PutKeyPolicy", KeyId=ids[4], Policy=policy)
        text = wire.ok("GetKeyPolicy", KeyId=ids[4])["Policy"]
        assert json.loads(text) == json.loads(policy)
        plaintext = base64.b64encode(secrets.token_bytes(32)).decode()
        blob = wire.ok("Encrypt", KeyId="alias/kept", Plaintext=plaintext, EncryptionContext={"a": "b"})["CiphertextBlob"]
        marker = wire.ok("ListKeys", Limit=2)["NextMarker"]
        token = server.boto3("sts").get_session_token()["Credentials"]
        before = [wire.ok("DescribeKey", KeyId=i) for i in ids]
    with server:
        wire = Wire(server)
        assert [wire.ok("DescribeKey", KeyId=i) for i in ids] == before
        assert [b["KeyMetadata"]["KeyState"] for b in before] == ["Enabled", "Disabled", "PendingDeletion", "Enabled", "Enabled"]
        assert before[2]["KeyMetadata"]["DeletionDate"] == plan["DeletionDate"]
        assert wire.ok("GetKeyRotationStatus", KeyId=ids[3])["RotationPeriodInDays"] == 100
        assert wire.ok("ListResourceTags", KeyId=ids[4])["Tags"] == [{"TagKey": "a", "TagValue": "b"}]
        assert wire.ok("GetKeyPolicy", KeyId=ids[4])["Policy"] == text
        assert wire.ok("DescribeKey", KeyId="alias/kept")["KeyMetadata"]["KeyId"] == ids[4]
        assert wire.ok("Decrypt", CiphertextBlob=blob, EncryptionContext={"a": "b"})["Plaintext"] == plaintext
        assert len(wire.ok("ListKeys", Marker=marker)["Keys"]) == 3
        session = Signing(token["AccessKeyId"], token["SecretAccessKey"], token["SessionToken"])
        assert Wire(server, session).call("ListKeys").status == 200
        lines = [json.loads(line) for path in server.audit_files() for line in path.read_text().splitlines()]
        assert sum(r["eventName"] == "CreateKey" and "errorCode" not in r for r in lines) == 5, "records of the time before"


@pytest.mark.sqlite("the store is not in the data directory, nor in memory")
def test_one_process_per_directory(tmp_path):
    with Server(tmp_path, data=tmp_path / "data"):
        second = run(tmp_path, "dev", "--listen", "127.0.0.1:0", "--data", str(tmp_path / "data"))
        assert second.returncode != 0 and second.stderr.strip()
    with Server(tmp_path, data=tmp_path / "data") as again:
        assert Wire(again).call("ListKeys").status == 200


@pytest.mark.parametrize("key_id,secret", [("test", "test"), ("a", "b"), ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")])
def test_arbitrary_credentials(tmp_path, key_id, secret):
    """Test suites bring their own; the signature is checked all the same."""
    with Server(tmp_path, "--root-access-key-id", key_id, "--root-secret-access-key", secret, "--account", "999988887777") as server:
        assert server.boto3("sts", credentials=(key_id, secret)).get_caller_identity()["Account"] == "999988887777"
        wire = Wire(server, Signing(key_id, secret))
        assert wire.call("ListKeys").status == 200
        assert wire.alter(secret=secret + "x").call("ListKeys").code == "InvalidSignatureException"
        assert wire.alter(key_id="other").call("ListKeys").code == "UnrecognizedClientException"


def test_other_secret_at_the_next_start(tmp_path):
    with Server(tmp_path, "--root-secret-access-key", "first", data=tmp_path / "data") as server:
        key = Wire(server).ok("CreateKey")["KeyMetadata"]["KeyId"]
    with Server(tmp_path, "--root-secret-access-key", "second", data=tmp_path / "data") as server:
        wire = Wire(server)
        assert wire.ok("DescribeKey", KeyId=key)
        assert wire.alter(secret="first").call("ListKeys").code == "InvalidSignatureException"


def test_more_accounts(tmp_path):
    more = {f"{i}{i}{i}{i}" * 3: (f"AKIAMORE{i}", f"secret {i}") for i in range(4, 8)}
    flags = [f for account, (key_id, secret) in more.items() for f in ("--account", f"{account}={key_id}:{secret}")]
    with Server(tmp_path, *flags) as server:
        for account, credentials in more.items():
            assert server.boto3("sts", credentials=credentials).get_caller_identity()["Account"] == account


@pytest.mark.parametrize("address", ["0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:4599", "example.com:4599"])
def test_loopback_only(tmp_path, address):
    refused = run(tmp_path, "dev", "--listen", address)
    assert refused.returncode != 0 and "loopback" in refused.stderr and "hint:" in refused.stderr


@pytest.mark.parametrize("arguments", [["--account", "12345"], ["--account", "111122223333="], ["--account", "111122223333=AKIA"], ["--no-such-flag"],
                                       ["--root-access-key-id", ""], ["--root-secret-access-key", ""], ["--quotas", "some"], ["extra"]])
def test_wrong_flags(tmp_path, arguments):
    refused = run(tmp_path, "dev", "--listen", "127.0.0.1:0", *arguments)
    assert refused.returncode != 0 and refused.stderr.strip() and "goroutine" not in refused.stderr


def test_address_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = run(tmp_path, "dev", "--listen", "127.0.0.1:%d" % taken.getsockname()[1])
    assert refused.returncode != 0 and "address already in use" in refused.stderr


@pytest.mark.parametrize("kept", [True, False])
def test_tls(tmp_path, kept):
    """boto3 and the AWS CLI, given the bundle that is printed and nothing else."""
    server = Server(tmp_path, "--tls", data=tmp_path / "data" if kept else None)
    with server:
        assert server.url.startswith("https://") and os.path.exists(server.environment["AWS_CA_BUNDLE"])
        client = server.boto3()
        key = client.create_key()["KeyMetadata"]["KeyId"]
        blob = client.encrypt(KeyId=key, Plaintext=b"over TLS")["CiphertextBlob"]
        assert client.decrypt(CiphertextBlob=blob)["Plaintext"] == b"over TLS"
        assert aws(server, "kms", "describe-key", "--key-id", key)["KeyMetadata"]["KeyId"] == key
        said = aws(server, "kms", "describe-key", "--key-id", key, environment={"AWS_CA_BUNDLE": None}, fails=True)
        assert "SSL" in said or "certificate" in said.lower()
        if kept:
            records = [json.loads(line) for path in server.audit_files() for line in path.read_text().splitlines()]
            assert records[0]["tlsDetails"]["tlsVersion"] == "TLSv1.3" and records[0]["tlsDetails"]["cipherSuite"]
    if kept:
        bundle = server.environment["AWS_CA_BUNDLE"]
        before = open(bundle, "rb").read()
        with server:
            assert open(server.environment["AWS_CA_BUNDLE"], "rb").read() == before, "whoever trusts it need not do so again"
            assert server.boto3().describe_key(KeyId=key)


@pytest.mark.alone("another would answer")
def test_ends_what_it_began(tmp_path):
    """SIGTERM lets a running request finish and ends with 0."""
    with Server(tmp_path, data=tmp_path / "data") as server:
        body = b'{"Description":"slow"}'
        headers = Wire(server).signing.sign(server.address, Wire.headers("CreateKey"), body) | {"Content-Length": str(len(body))}
        host, port = server.address.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as slow:
            head = "POST / HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
            slow.sendall(head.encode() + body[:5])
            time.sleep(0.1)
            server.process.terminate()
            time.sleep(0.1)
            slow.sendall(body[5:])
            answer = slow.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and b'"Description":"slow"' in answer
        assert server.stop() == 0


def first_answer(server):
    """Seconds from the start of the process to its first answer."""
    with server:
        wire = Wire(server)
        assert wire.call("ListKeys", Limit=1).status == 200
        return time.monotonic() - server.began


@pytest.mark.alone("it is about the start of one")
def test_first_answer(tmp_path, capsys):
    """Printed, not asserted: it depends on the machine."""
    empty = [first_answer(Server(tmp_path / str(i), data=tmp_path / str(i) / "data")) for i in range(3)]
    full = Server(tmp_path / "full", data=tmp_path / "full" / "data")
    with full:
        wire = Wire(full)
        for _ in range(2500):
            wire.ok("CreateKey")
    again = [first_answer(full) for _ in range(3)]
    memory = [first_answer(Server(tmp_path / "memory")) for _ in range(3)]
    with capsys.disabled():
        print("\nfirst answer after the start, ms: in memory %.0f, empty directory %.0f, 2,500 keys %.0f" %
              tuple(1000 * min(times) for times in (memory, empty, again)))
