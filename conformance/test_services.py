"""A registered service that calls on behalf of users: the object store of docs/services.md, and everybody who would like to be it."""
import json
import os
import subprocess

import botocore.exceptions
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from harness.server import ACCOUNT, BINARY, OTHER_ACCOUNT, REGION, plain_environment

SERVICE, VIA = "objects.example.com", f"objects.{REGION}.example.com"
BEHALF = "X-Keywright-On-Behalf-Of"


def keywright(shared, *arguments, fails=False):
    shared.settle()
    run = subprocess.run([str(BINARY), *arguments, "--socket", str(shared.data / "admin.sock")], capture_output=True, text=True, timeout=30,
                         env=plain_environment())
    shared.settle()
    assert (run.returncode != 0) == fails, run.stdout + run.stderr
    return run.stderr if fails else run.stdout


def with_headers(client, headers):
    """Has a client send headers, signed. They may be changed in between."""
    def add(request, **_):
        for name, value in headers.items():
            request.headers[name] = value
    client.meta.events.register("before-sign.kms", add)
    return client


class Objects:
    """An object store in which each object has a data key of its own."""

    def __init__(self, client):
        self.headers, self.kept = {}, {}
        self.kms = with_headers(client, self.headers)

    def put(self, user, name, octets):
        self.headers[BEHALF] = user
        made = self.kms.generate_data_key(KeyId="alias/objects", KeySpec="AES_256", EncryptionContext={"object": name})
        nonce = os.urandom(12)
        self.kept[name] = made["CiphertextBlob"], nonce, AESGCM(made["Plaintext"]).encrypt(nonce, octets, None)

    def get(self, user, name):
        self.headers[BEHALF] = user
        wrapped, nonce, sealed = self.kept[name]
        opened = self.kms.decrypt(CiphertextBlob=wrapped, EncryptionContext={"object": name})
        return AESGCM(opened["Plaintext"]).decrypt(nonce, sealed, None)


@pytest.fixture(scope="module")
def service(shared):
    """The service's credentials."""
    said = keywright(shared, "service", "register", "--account", ACCOUNT, "--principal", SERVICE, "--for", ACCOUNT)
    lines = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    return lines["Access key id"].strip(), shared.ledger.credential(lines["Secret access key"].strip())


@pytest.fixture(scope="module")
def people(shared):
    """ARN and credentials of users in both accounts."""
    found = {}
    for account, credentials in ((ACCOUNT, None), (OTHER_ACCOUNT, ("AKIAKEYWRIGHTOTHER00", shared.other_secret))):
        iam = shared.boto3("iam", credentials=credentials)
        name = "shopper" if account == ACCOUNT else "stranger"
        arn = iam.create_user(UserName=name)["User"]["Arn"]
        made = iam.create_access_key(UserName=name)["AccessKey"]
        found[name] = arn, (made["AccessKeyId"], shared.ledger.credential(made["SecretAccessKey"]))
    return found


@pytest.fixture(scope="module")
def key(kms):
    policy = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Sid": "owner", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"},
        {"Sid": "Through the object store", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["kms:GenerateDataKey", "kms:Decrypt", "kms:CreateGrant"],
         "Resource": "*", "Condition": {"StringEquals": {"kms:ViaService": VIA, "kms:CallerAccount": ACCOUNT}}},
        {"Sid": "The store itself", "Effect": "Allow", "Principal": {"Service": SERVICE}, "Action": "kms:DescribeKey", "Resource": "*",
         "Condition": {"ArnLike": {"aws:SourceArn": f"arn:aws:objects:{REGION}:{ACCOUNT}:bucket/*"}, "StringEquals": {"aws:SourceAccount": ACCOUNT}}},
    ]})
    made = kms.create_key(Policy=policy)["KeyMetadata"]
    kms.create_alias(AliasName="alias/objects", TargetKeyId=made["KeyId"])
    return made["Arn"]


@pytest.fixture(scope="module")
def store(shared, service, key):
    return Objects(shared.boto3(credentials=service))


def refused(call, **arguments):
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    assert error["Code"] == "AccessDeniedException", error
    return error["Message"]


def test_the_worked_example(store, people, kms, shared, ledger):
    shopper, credentials = people["shopper"]
    octets = ledger.fresh_plaintext(1000)
    store.put(shopper, "bucket/list", octets)
    assert store.get(shopper, "bucket/list") == octets
    # The user alone may do nothing with the key.
    own = shared.boto3(credentials=credentials)
    wrapped = store.kept["bucket/list"][0]
    context = {"object": "bucket/list"}
    refused(own.decrypt, CiphertextBlob=wrapped, EncryptionContext=context)
    assert "is not authorized to perform: kms:GenerateDataKey" in refused(own.generate_data_key, KeyId="alias/objects", KeySpec="AES_256")
    # Nor may the service.
    alone = shared.boto3(credentials=(store.kms._request_signer._credentials.access_key, store.kms._request_signer._credentials.secret_key))
    refused(alone.decrypt, CiphertextBlob=wrapped, EncryptionContext=context)


def test_nobody_else_can_send_the_headers(people, shared, key, kms):
    for name in ("shopper", "stranger"):
        own = with_headers(shared.boto3(credentials=people[name][1]), {BEHALF: people["shopper"][0]})
        assert refused(own.decrypt, CiphertextBlob=b"x") == "Only a registered service may send the header x-keywright-on-behalf-of."
    for header in ("X-Keywright-Source-Arn", "x-keywright-source-account", "X-KEYWRIGHT-Via-Service"):
        root = with_headers(shared.boto3(), {header: ACCOUNT})
        assert refused(root.describe_key, KeyId=key) == f"Only a registered service may send the header {header.lower()}."


def test_headers_must_be_signed(shared, service, people, key):
    client = shared.boto3(credentials=service)
    client.meta.events.register("before-send.kms", lambda request, **_: request.headers.__setitem__(BEHALF, people["shopper"][0]))
    assert refused(client.describe_key, KeyId=key) == "The header x-keywright-on-behalf-of must be signed."


@pytest.mark.parametrize("value", [
    "stranger", f"arn:aws:iam::{ACCOUNT}:user/nobody", f"arn:aws:iam::{ACCOUNT}:role/none", SERVICE, "*", ACCOUNT + ":root", "arn:aws:iam::999999999999:root",
])
def test_only_for_principals_of_its_accounts(shared, service, people, key, value):
    headers = {BEHALF: people[value][0] if value in people else value}
    refused(with_headers(shared.boto3(credentials=service), headers).describe_key, KeyId=key)


def session_headers(arn, credentials):
    return {BEHALF: arn, "X-Keywright-Access-Key-Id": credentials["AccessKeyId"], "X-Keywright-Session-Token": credentials["SessionToken"]}


def test_sessions_keep_their_limits(shared, service, people, key, kms):
    """A service can do no more on behalf of a session than the session itself, and needs its token."""
    iam, (shopper, credentials) = shared.boto3("iam"), people["shopper"]
    iam.create_role(RoleName="counter", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}]}))
    iam.put_user_policy(UserName="shopper", PolicyName="counter", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}))
    sts = shared.boto3("sts", credentials=credentials)
    decrypt_only = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*"}]})
    limited = sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/counter", RoleSessionName="till", Policy=decrypt_only)
    free = sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/counter", RoleSessionName="till")
    for made in (limited, free):
        shared.ledger.credential(made["Credentials"]["SecretAccessKey"])
        shared.ledger.credential(made["Credentials"]["SessionToken"])
    till = limited["AssumedRoleUser"]["Arn"]
    headers = {}
    behalf = with_headers(shared.boto3(credentials=service), headers)
    wanted = {"KeyId": key, "KeySpec": "AES_256"}
    headers.update(session_headers(till, free["Credentials"]))
    wrapped = behalf.generate_data_key(**wanted)["CiphertextBlob"]
    headers.update(session_headers(till, limited["Credentials"]))
    behalf.decrypt(CiphertextBlob=wrapped)
    assert "because no session policy allows the kms:GenerateDataKey action" in refused(behalf.generate_data_key, **wanted)
    # Without the token, with another's, or as somebody else.
    for wrong in ({BEHALF: till}, session_headers(shopper, free["Credentials"]), session_headers(till, free["Credentials"] | {"AccessKeyId": "ASIAOTHEROTHEROTHER0"}),
                  session_headers(till, free["Credentials"] | {"SessionToken": "x"})):
        headers.clear()
        headers.update(wrong)
        refused(behalf.decrypt, CiphertextBlob=wrapped)
    for part in ("X-Keywright-Access-Key-Id", "X-Keywright-Session-Token", BEHALF):
        headers.clear()
        headers.update({k: v for k, v in session_headers(till, free["Credentials"]).items() if k != part})
        refused(behalf.decrypt, CiphertextBlob=wrapped)
    # A user's temporary credentials.
    own = sts.get_session_token()["Credentials"]
    shared.ledger.credential(own["SecretAccessKey"])
    shared.ledger.credential(own["SessionToken"])
    headers.clear()
    headers.update(session_headers(shopper, own))
    behalf.decrypt(CiphertextBlob=wrapped)
    text = "".join(file.read_text() for file in shared.audit_files())
    assert own["AccessKeyId"] in text and own["SessionToken"] not in text and free["Credentials"]["SessionToken"] not in text


@pytest.mark.parametrize("headers", [
    {"X-Keywright-Source-Account": "1"}, {"X-Keywright-Source-Account": "not-an-account"}, {"X-Keywright-Unknown": "x"}, {"X-Keywright-Source-Arn": "a" * 3000},
])
def test_malformed_headers(shared, service, key, headers):
    refused(with_headers(shared.boto3(credentials=service), headers).describe_key, KeyId=key)


def test_the_service_for_itself(shared, service, key):
    bucket = f"arn:aws:objects:{REGION}:{ACCOUNT}:bucket/photos"
    good = {"X-Keywright-Source-Arn": bucket, "X-Keywright-Source-Account": ACCOUNT}
    assert with_headers(shared.boto3(credentials=service), good).describe_key(KeyId=key)["KeyMetadata"]["Arn"] == key
    for wrong in ({}, good | {"X-Keywright-Source-Account": OTHER_ACCOUNT}, good | {"X-Keywright-Source-Arn": bucket.replace("bucket/", "queue/")}):
        refused(with_headers(shared.boto3(credentials=service), wrong).describe_key, KeyId=key)
    refused(with_headers(shared.boto3(credentials=service), good).disable_key, KeyId=key)


def test_a_service_may_call_kms_only(shared, service):
    for client, call in ((shared.boto3("iam", credentials=service), "list_users"), (shared.boto3("sts", credentials=service), "get_session_token")):
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            getattr(client, call)()
        assert caught.value.response["Error"]["Code"] == "AccessDenied"


def test_the_record_names_user_and_service(store, people, shared):
    store.put(people["shopper"][0], "bucket/recorded", b"x")
    records = [json.loads(line) for file in shared.audit_files() for line in file.read_text().splitlines()]
    mine = [r for r in records if (r.get("requestParameters") or {}).get("encryptionContext") == {"object": "bucket/recorded"}]
    assert len(mine) == 1
    identity = mine[0]["userIdentity"]
    assert identity["type"] == "IAMUser" and identity["userName"] == "shopper" and identity["invokedBy"] == SERVICE


def test_a_removed_service_is_unknown(shared, people):
    said = keywright(shared, "service", "register", "--account", ACCOUNT, "--principal", "queue.example.com", "--for", ACCOUNT)
    lines = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    credentials = lines["Access key id"].strip(), shared.ledger.credential(lines["Secret access key"].strip())
    assert "queue.example.com" in keywright(shared, "service", "list")
    shared.boto3("sts", credentials=credentials).get_caller_identity()
    keywright(shared, "service", "remove", "--account", ACCOUNT, "--principal", "queue.example.com")
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        shared.boto3("sts", credentials=credentials).get_caller_identity()
    assert caught.value.response["Error"]["Code"] == "InvalidClientTokenId"
