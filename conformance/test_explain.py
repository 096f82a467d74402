"""Explanations for administrators: why somebody may or may not, who can, and what a new policy would change. Made with the AWS CLI's calls, asked through the socket."""
import json
import subprocess

import botocore.exceptions
import pytest

from harness.server import ACCOUNT, BINARY, OTHER_ACCOUNT, OTHER_KEY_ID, Server, plain_environment

USER = f"arn:aws:iam::{ACCOUNT}:user/"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain")
    with Server(folder, "--account", f"{OTHER_ACCOUNT}={OTHER_KEY_ID}:another secret of the tests", data=folder / "data") as s:
        yield s


@pytest.fixture(scope="module")
def ask(server):
    def run(*arguments, fails=False):
        server.settle()
        done = subprocess.run([str(BINARY), *arguments, "--socket", str(server.data / "admin.sock")], capture_output=True, text=True, timeout=30, env=plain_environment())
        server.settle()
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout
    return run


@pytest.fixture(scope="module")
def key(server):
    """A key that leaves everything to its account, and people with and without rights: by a group, by a grant, by another account, denied."""
    kms, iam = server.boto3(), server.boto3("iam")
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    policy = {"Version": "2012-10-17", "Statement": [
        {"Sid": "account", "Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "kms:*", "Resource": "*"},
        {"Sid": "partner", "Effect": "Allow", "Principal": {"AWS": OTHER_ACCOUNT}, "Action": "kms:Decrypt", "Resource": "*"}]}
    kms.put_key_policy(KeyId=arn, PolicyName="default", Policy=json.dumps(policy))
    for name in ("ann", "bob", "cid", "dora"):
        iam.create_user(UserName=name)
    iam.create_group(GroupName="readers")
    read = {"Sid": "Read", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*", "Condition": {"StringEquals": {"kms:EncryptionContext:stage": "prod"}}}
    iam.put_group_policy(GroupName="readers", PolicyName="read", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [read]}))
    iam.add_user_to_group(GroupName="readers", UserName="ann")
    iam.add_user_to_group(GroupName="readers", UserName="dora")
    no = {"Version": "2012-10-17", "Statement": [{"Sid": "Never", "Effect": "Deny", "Action": "kms:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="dora", PolicyName="no", PolicyDocument=json.dumps(no))
    return arn


@pytest.fixture(scope="module")
def grant(server, key):
    return server.boto3().create_grant(KeyId=key, GranteePrincipal=USER + "bob", Operations=["Decrypt"], Constraints={"EncryptionContextSubset": {"volume": "7"}})["GrantId"]


def why(ask, key, who, *context):
    return ask("why", "--principal", who, "--action", "kms:Decrypt", "--key", key, *(word for c in context for word in ("--context", c))).splitlines()


def test_why(ask, key, grant):
    denied = why(ask, key, USER + "ann")
    assert denied[0] == f"denied: {USER}ann may not kms:Decrypt on {key} because no identity-based policy allows it"
    assert "  statement 1 (account), allow: applies, names the account" in denied
    assert "  statement 1 (Read), allow: condition StringEquals kms:EncryptionContext:stage = prod does not hold: the key is absent" in denied
    assert why(ask, key, USER + "ann", "stage=test")[0].startswith("denied")
    allowed = why(ask, key, USER + "ann", "stage=prod")
    assert allowed[0] == f"allowed: {USER}ann may kms:Decrypt on {key}"
    assert f"identity-based policy read of arn:aws:iam::{ACCOUNT}:group/readers: allow" in allowed
    assert "explicit deny in an identity-based policy" in why(ask, key, USER + "dora", "stage=prod")[0]
    assert f"grant {grant}: its constraints do not hold" in why(ask, key, USER + "bob")
    assert why(ask, key, USER + "bob", "volume=7", "other=x")[0].startswith("allowed")
    assert why(ask, key, USER + "cid")[0].startswith("denied")
    assert why(ask, key, f"arn:aws:iam::{OTHER_ACCOUNT}:root")[0].startswith("allowed")


def test_why_says_what_a_call_gets(server, ask, key, grant, tally):
    """The explanation and the call agree, for every user and three encryption contexts."""
    iam = server.boto3("iam")
    asked = 0
    for name in ("ann", "bob", "cid", "dora"):
        made = iam.create_access_key(UserName=name)["AccessKey"]
        kms = server.boto3(credentials=(made["AccessKeyId"], made["SecretAccessKey"]))
        for context in ({}, {"stage": "prod"}, {"volume": "7", "stage": "test"}):
            blob = server.boto3().encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context)["CiphertextBlob"]
            try:
                kms.decrypt(CiphertextBlob=blob, KeyId=key, EncryptionContext=context)
                got = "allowed"
            except botocore.exceptions.ClientError as refused:
                assert refused.response["Error"]["Code"] == "AccessDeniedException"
                assert "statement" not in refused.response["Error"]["Message"], "explanations are not for the refused"
                got = "denied"
            said = why(ask, key, USER + name, *(f"{k}={v}" for k, v in context.items()))[0]
            assert said.startswith(got + ":"), f"{name} {context}: {got}, and the explanation is {said}"
            asked += 1
    tally(asked)


def test_who_can(ask, key, grant):
    lines = ask("who-can", "--action", "kms:Decrypt", "--key", key).splitlines()
    assert lines[0].split() == ["PRINCIPAL", "THROUGH", "CONDITIONS"]
    rows = {line.split()[0]: line for line in lines[1:]}
    assert set(rows) == {f"arn:aws:iam::{ACCOUNT}:root", f"arn:aws:iam::{OTHER_ACCOUNT}:root", USER + "ann", USER + "bob"}
    assert rows[USER + "ann"].endswith("StringEquals kms:EncryptionContext:stage = prod") and "statement 1 (account)" in rows[USER + "ann"]
    assert grant in rows[USER + "bob"] and rows[USER + "bob"].endswith("EncryptionContextSubset = volume=7")
    assert {line.split()[0] for line in ask("who-can", "--action", "kms:DisableKey", "--key", key).splitlines()[1:]} == {f"arn:aws:iam::{ACCOUNT}:root"}


def test_what_a_new_policy_would_change(ask, server, key, grant, tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": USER + "cid"}, "Action": "kms:DescribeKey", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/nightly/job"}, "Action": "kms:Decrypt", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": USER + "cid"}, "Action": ["kms:Encrypt", "kms:CreateGrant", "kms:PutKeyPolicy", "kms:DisableKey"], "Resource": "*",
         "Condition": {"StringEquals": {"kms:EncryptionContext:stage": "prod"}}}]}))
    trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}]}
    server.boto3("iam").create_role(RoleName="nightly", AssumeRolePolicyDocument=json.dumps(trust))
    before = server.boto3().get_key_policy(KeyId=key)["Policy"]
    lines = ask("put-key-policy", "--dry-run", "--key", key, "--policy-file", str(policy)).splitlines()
    assert lines[0].split() == ["PRINCIPAL", "CHANGE", "PERMISSION", "CONDITIONS"]
    rows = {tuple(line.split(maxsplit=3)) for line in lines[1:]}
    assert rows == {
        (USER + "cid", "gains", "kms:DescribeKey", "always"),
        # Not PutKeyPolicy and the like: no call of theirs has an encryption context.
        *((USER + "cid", "gains", f"kms:{a}", "StringEquals kms:EncryptionContext:stage = prod") for a in ("CreateGrant", "Encrypt")),
        (f"arn:aws:iam::{OTHER_ACCOUNT}:root", "loses", "kms:Decrypt", "always"),
        (f"arn:aws:sts::{ACCOUNT}:assumed-role/nightly/job", "gains", "kms:Decrypt", "always")}
    assert server.boto3().get_key_policy(KeyId=key)["Policy"] == before


def test_only_the_owner_reaches_the_socket(server):
    socket = server.data / "admin.sock"
    assert socket.stat().st_mode & 0o777 == 0o600 and server.data.stat().st_mode & 0o077 == 0


def test_administrators_may_open_what_comes_with_a_refusal(server, key):
    """The refusal carries its explanation, sealed. Whoever was refused cannot open it, even with the permission; an administrator can."""
    iam = server.boto3("iam")
    decode = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:DecodeAuthorizationMessage", "Resource": "*"}]}
    clients = {}
    for name in ("eve", "adam"):
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="decode", PolicyDocument=json.dumps(decode))
        made = iam.create_access_key(UserName=name)["AccessKey"]
        clients[name] = made["AccessKeyId"], made["SecretAccessKey"]
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        server.boto3(credentials=clients["eve"]).describe_key(KeyId=key)
    message = caught.value.response["ResponseMetadata"]["HTTPHeaders"]["x-keywright-authorization-message"]
    assert "statement" not in message
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        server.boto3("sts", credentials=clients["eve"]).decode_authorization_message(EncodedMessage=message)
    assert caught.value.response["Error"]["Code"] == "InvalidAuthorizationMessageException"
    said = json.loads(server.boto3("sts", credentials=clients["adam"]).decode_authorization_message(EncodedMessage=message)["DecodedMessage"])
    assert said["allowed"] is False and said["failures"]["items"] == [{"missing": "identity-based policy"}]
    assert said["context"]["principal"]["arn"] == USER + "eve" and said["context"]["action"] == "kms:DescribeKey"
    # A stranger's refusal has none: its length would tell whether the key exists.
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        server.boto3(credentials=(OTHER_KEY_ID, "another secret of the tests")).describe_key(KeyId=key)
    assert "x-keywright-authorization-message" not in caught.value.response["ResponseMetadata"]["HTTPHeaders"]
