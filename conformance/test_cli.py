"""The AWS CLI, unchanged, through every operation once: whole answers, as the service gives them."""
import base64
import datetime
import json

import pytest

from harness.cli import aws
from harness.server import ACCOUNT, REGION

ROOT = f"arn:aws:iam::{ACCOUNT}:root"


def moment(value):
    """Version 1 of the CLI prints times as the service sends them, seconds since 1970."""
    return datetime.datetime.fromtimestamp(value, datetime.timezone.utc)


@pytest.fixture(scope="module")
def cli(shared, request):
    def run(*arguments, **options):
        request.config.checks[request.path.name] += 1
        return aws(shared, *arguments, **options)
    return run


@pytest.fixture(scope="module")
def key(cli):
    """The key of the walk: its metadata as create-key printed them."""
    return cli("kms", "create-key", "--description", "walk", "--tags", "TagKey=stage,TagValue=test")["KeyMetadata"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


def test_create_and_describe_key(cli, key):
    now = datetime.datetime.now(datetime.timezone.utc)
    assert abs((now - moment(key["CreationDate"])).total_seconds()) < 60
    assert len(key["CurrentKeyMaterialId"]) == 64 and int(key["CurrentKeyMaterialId"], 16) >= 0
    assert key == {
        "AWSAccountId": ACCOUNT, "KeyId": key["KeyId"], "Arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{key['KeyId']}", "CreationDate": key["CreationDate"],
        "Enabled": True, "Description": "walk", "KeyUsage": "ENCRYPT_DECRYPT", "KeyState": "Enabled", "Origin": "AWS_KMS", "KeyManager": "CUSTOMER",
        "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT", "KeySpec": "SYMMETRIC_DEFAULT", "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"], "MultiRegion": False,
        "CurrentKeyMaterialId": key["CurrentKeyMaterialId"]}
    assert cli("kms", "describe-key", "--key-id", key["Arn"]) == {"KeyMetadata": key}


def test_encrypt_decrypt_and_re_encrypt(cli, key, folder, ledger):
    plaintext = ledger.fresh_plaintext(100)
    (folder / "plain").write_bytes(plaintext)
    sealed = cli("kms", "encrypt", "--key-id", key["KeyId"], "--plaintext", f"fileb://{folder}/plain", "--encryption-context", "stage=test")
    assert sealed == {"CiphertextBlob": sealed["CiphertextBlob"], "KeyId": key["Arn"], "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
    (folder / "blob").write_bytes(ledger.ciphertext(base64.b64decode(sealed["CiphertextBlob"])))
    opened = {"KeyId": key["Arn"], "Plaintext": base64.b64encode(plaintext).decode(), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
              "KeyMaterialId": key["CurrentKeyMaterialId"]}
    assert cli("kms", "decrypt", "--ciphertext-blob", f"fileb://{folder}/blob", "--encryption-context", "stage=test") == opened
    assert cli("kms", "decrypt", "--key-id", key["KeyId"], "--ciphertext-blob", f"fileb://{folder}/blob", "--encryption-context", "stage=test") == opened
    said = cli("kms", "decrypt", "--ciphertext-blob", f"fileb://{folder}/blob", fails=True)
    assert said.endswith("An error occurred (InvalidCiphertextException) when calling the Decrypt operation:") or \
        said.endswith("An error occurred (InvalidCiphertextException) when calling the Decrypt operation: None")

    other = cli("kms", "create-key")["KeyMetadata"]
    moved = cli("kms", "re-encrypt", "--ciphertext-blob", f"fileb://{folder}/blob", "--source-encryption-context", "stage=test",
                "--destination-key-id", other["KeyId"], "--destination-encryption-context", "stage=live")
    assert moved == {"CiphertextBlob": moved["CiphertextBlob"], "SourceKeyId": key["Arn"], "KeyId": other["Arn"],
                     "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT", "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
                     "SourceKeyMaterialId": key["CurrentKeyMaterialId"], "DestinationKeyMaterialId": other["CurrentKeyMaterialId"]}
    (folder / "moved").write_bytes(ledger.ciphertext(base64.b64decode(moved["CiphertextBlob"])))
    again = cli("kms", "decrypt", "--ciphertext-blob", f"fileb://{folder}/moved", "--encryption-context", '{"stage":"live"}')
    assert again["Plaintext"] == opened["Plaintext"] and again["KeyId"] == other["Arn"]


def test_data_keys_and_random(cli, key, ledger):
    made = cli("kms", "generate-data-key", "--key-id", key["KeyId"], "--key-spec", "AES_256")
    assert made == {"CiphertextBlob": made["CiphertextBlob"], "Plaintext": made["Plaintext"], "KeyId": key["Arn"],
                    "KeyMaterialId": key["CurrentKeyMaterialId"]}
    assert len(ledger.plaintext(base64.b64decode(made["Plaintext"]))) == 32
    bare = cli("kms", "generate-data-key-without-plaintext", "--key-id", key["KeyId"], "--number-of-bytes", "40")
    assert bare == {"CiphertextBlob": bare["CiphertextBlob"], "KeyId": key["Arn"], "KeyMaterialId": key["CurrentKeyMaterialId"]}
    random = cli("kms", "generate-random", "--number-of-bytes", "64")
    assert list(random) == ["Plaintext"] and len(ledger.plaintext(base64.b64decode(random["Plaintext"]))) == 64
    said = cli("kms", "generate-data-key", "--key-id", key["KeyId"], "--key-spec", "AES_256", "--dry-run", fails=True)
    assert "(DryRunOperationException) when calling the GenerateDataKey operation: The request would have succeeded, but the DryRun option is set." in said


def test_rotation(cli, key):
    status = ("kms", "get-key-rotation-status", "--key-id", key["KeyId"])
    assert cli(*status) == {"KeyRotationEnabled": False, "KeyId": key["Arn"]}
    assert cli("kms", "enable-key-rotation", "--key-id", key["KeyId"]) is None
    on = cli(*status)
    assert on == {"KeyRotationEnabled": True, "KeyId": key["Arn"], "RotationPeriodInDays": 365, "NextRotationDate": on["NextRotationDate"]}
    ahead = moment(on["NextRotationDate"]) - datetime.datetime.now(datetime.timezone.utc)
    assert 364 < ahead.total_seconds() / 86400 <= 365
    assert cli("kms", "enable-key-rotation", "--key-id", key["KeyId"], "--rotation-period-in-days", "90") is None
    assert cli(*status)["RotationPeriodInDays"] == 90
    assert cli("kms", "disable-key-rotation", "--key-id", key["KeyId"]) is None
    assert cli(*status) == {"KeyRotationEnabled": False, "KeyId": key["Arn"]}


def test_aliases(cli, key):
    name, arn = "alias/cli/walk", f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/cli/walk"
    assert cli("kms", "create-alias", "--alias-name", name, "--target-key-id", key["KeyId"]) is None
    listed = cli("kms", "list-aliases", "--key-id", key["KeyId"])
    entry = listed["Aliases"][0]
    assert listed["Aliases"] == [{"AliasName": name, "AliasArn": arn, "TargetKeyId": key["KeyId"],
                                  "CreationDate": entry["CreationDate"], "LastUpdatedDate": entry["CreationDate"]}]
    assert cli("kms", "describe-key", "--key-id", name)["KeyMetadata"] == key
    said = cli("kms", "create-alias", "--alias-name", name, "--target-key-id", key["KeyId"], fails=True)
    assert said.endswith(f"An error occurred (AlreadyExistsException) when calling the CreateAlias operation: An alias with the name {arn} already exists")
    other = cli("kms", "create-key")["KeyMetadata"]
    assert cli("kms", "update-alias", "--alias-name", name, "--target-key-id", other["Arn"]) is None
    assert cli("kms", "describe-key", "--key-id", arn)["KeyMetadata"]["KeyId"] == other["KeyId"]
    assert cli("kms", "delete-alias", "--alias-name", name) is None
    assert f"NotFoundException) when calling the DescribeKey operation: Alias {arn} is not found." in cli("kms", "describe-key", "--key-id", name, fails=True)


def test_tags_and_description(cli, key):
    # The CLI walks the pages of lists by itself and leaves Truncated out.
    assert cli("kms", "list-resource-tags", "--key-id", key["KeyId"]) == {"Tags": [{"TagKey": "stage", "TagValue": "test"}]}
    assert cli("kms", "tag-resource", "--key-id", key["KeyId"], "--tags", "TagKey=stage,TagValue=live", "TagKey=owner,TagValue=me") is None
    assert sorted(t["TagValue"] for t in cli("kms", "list-resource-tags", "--key-id", key["KeyId"])["Tags"]) == ["live", "me"]
    assert cli("kms", "untag-resource", "--key-id", key["KeyId"], "--tag-keys", "owner", "never") is None
    assert cli("kms", "list-resource-tags", "--key-id", key["KeyId"])["Tags"] == [{"TagKey": "stage", "TagValue": "live"}]
    assert cli("kms", "update-key-description", "--key-id", key["KeyId"], "--description", "walk") is None


def test_policy(cli, key, folder):
    got = cli("kms", "get-key-policy", "--key-id", key["KeyId"], "--policy-name", "default")
    assert got["PolicyName"] == "default" and json.loads(got["Policy"]) == {
        "Version": "2012-10-17", "Id": "key-default-1",
        "Statement": [{"Sid": "Enable IAM User Permissions", "Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}]}
    (folder / "policy.json").write_text(got["Policy"])
    assert cli("kms", "put-key-policy", "--key-id", key["KeyId"], "--policy-name", "default", "--policy", f"file://{folder}/policy.json") is None
    assert cli("kms", "list-key-policies", "--key-id", key["KeyId"]) == {"PolicyNames": ["default"]}


def test_states(cli, key):
    assert cli("kms", "disable-key", "--key-id", key["KeyId"]) is None
    said = cli("kms", "encrypt", "--key-id", key["KeyId"], "--plaintext", "eA==", fails=True)
    assert said.endswith(f"An error occurred (DisabledException) when calling the Encrypt operation: {key['Arn']} is disabled.")
    assert cli("kms", "enable-key", "--key-id", key["KeyId"]) is None
    plan = cli("kms", "schedule-key-deletion", "--key-id", key["KeyId"], "--pending-window-in-days", "7")
    assert plan == {"KeyId": key["Arn"], "DeletionDate": plan["DeletionDate"], "KeyState": "PendingDeletion", "PendingWindowInDays": 7}
    ahead = moment(plan["DeletionDate"]) - datetime.datetime.now(datetime.timezone.utc)
    assert 6.9 < ahead.total_seconds() / 86400 <= 7
    assert cli("kms", "cancel-key-deletion", "--key-id", key["KeyId"]) == {"KeyId": key["Arn"]}
    assert cli("kms", "describe-key", "--key-id", key["KeyId"])["KeyMetadata"]["KeyState"] == "Disabled"


def test_lists(cli, key):
    # One page each: how pages hang together is in test_pagination.py.
    keys = cli("kms", "list-keys", "--no-paginate", "--limit", "1000")
    assert set(keys) <= {"Keys", "Truncated", "NextMarker"} and {"KeyId": key["KeyId"], "KeyArn": key["Arn"]} in keys["Keys"]
    assert set(cli("kms", "list-aliases", "--no-paginate")) <= {"Aliases", "Truncated", "NextMarker"}


def test_sts(cli, shared, ledger):
    assert cli("sts", "get-caller-identity") == {"UserId": ACCOUNT, "Account": ACCOUNT, "Arn": ROOT}
    made = cli("sts", "get-session-token", "--duration-seconds", "900")["Credentials"]
    assert set(made) == {"AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"}
    assert made["AccessKeyId"].startswith("ASIA")
    ledger.credential(made["SecretAccessKey"]), ledger.credential(made["SessionToken"])
    session = {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"], "AWS_SESSION_TOKEN": made["SessionToken"]}
    assert cli("sts", "get-caller-identity", environment=session)["Arn"] == ROOT
    assert cli("kms", "generate-random", "--number-of-bytes", "1", environment=session)["Plaintext"]
    said = cli("kms", "list-keys", environment={"AWS_SECRET_ACCESS_KEY": "wrong"}, fails=True)
    assert "(InvalidSignatureException) when calling the ListKeys operation: The request signature we calculated does not match" in said
