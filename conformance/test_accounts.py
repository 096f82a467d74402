"""Accounts and Regions are apart; AWS managed keys appear by themselves and stay as they are."""
import base64
import json

import botocore.exceptions
import pytest

from harness.expect import expect_error
from harness.server import ACCOUNT, OTHER_ACCOUNT, OTHER_KEY_ID, REGION, Server
from harness.wire import Signing, Wire

NOWHERE = ("AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this region, "
           "or you are not allowed to access.")
RESERVED = "NotAuthorizedException"


def test_caller_identity(shared):
    for credentials, account in [((shared.key_id, shared.secret), ACCOUNT), ((OTHER_KEY_ID, shared.other_secret), OTHER_ACCOUNT)]:
        identity = shared.boto3("sts", credentials=credentials).get_caller_identity()
        assert (identity["Account"], identity["UserId"], identity["Arn"]) == (account, account, f"arn:aws:iam::{account}:root")


def test_accounts_do_not_see_each_other(wire, other, ledger):
    mine, theirs = (who.ok("CreateKey")["KeyMetadata"] for who in (wire, other))
    assert (mine["AWSAccountId"], theirs["AWSAccountId"]) == (ACCOUNT, OTHER_ACCOUNT)
    keys = set()
    page = other.ok("ListKeys", Limit=1000)
    keys |= {k["KeyId"] for k in page["Keys"]}
    assert not page["Truncated"] and theirs["KeyId"] in keys and mine["KeyId"] not in keys
    expect_error(other.call("DescribeKey", KeyId=mine["KeyId"]), f"NotFoundException: Key 'arn:aws:kms:{REGION}:{OTHER_ACCOUNT}:key/{mine['KeyId']}' does not exist")
    expect_error(other.call("DescribeKey", KeyId=mine["Arn"]), f"AccessDeniedException: User: arn:aws:iam::{OTHER_ACCOUNT}:root is not authorized to perform: kms:DescribeKey on resource: {mine['Arn']}")
    # The same alias name in both accounts means two keys.
    for who, key in ((wire, mine), (other, theirs)):
        who.ok("CreateAlias", AliasName="alias/both", TargetKeyId=key["KeyId"])
    plaintext = base64.b64encode(ledger.fresh_plaintext()).decode()
    for who, key in ((wire, mine), (other, theirs)):
        assert who.ok("Encrypt", KeyId="alias/both", Plaintext=plaintext)["KeyId"] == key["Arn"]
    # A default policy opens nothing to others, and an alias must stay inside its account.
    blob = wire.ok("Encrypt", KeyId=mine["KeyId"], Plaintext=plaintext)["CiphertextBlob"]
    expect_error(other.call("Decrypt", CiphertextBlob=blob), NOWHERE)
    answer = other.call("CreateAlias", AliasName="alias/foreign", TargetKeyId=mine["Arn"])
    assert answer.status == 400 and answer.code in ("AccessDeniedException", "NotFoundException"), answer.error


def test_regions_do_not_see_each_other(wire, ledger):
    near, far = wire, wire.alter(region="eu-west-1")
    key = near.ok("CreateKey")["KeyMetadata"]
    blob = near.ok("Encrypt", KeyId=key["KeyId"], Plaintext=base64.b64encode(ledger.fresh_plaintext()).decode())["CiphertextBlob"]
    expect_error(far.call("Decrypt", CiphertextBlob=blob), NOWHERE)
    expect_error(far.call("DescribeKey", KeyId=key["KeyId"]), f"NotFoundException: Key 'arn:aws:kms:eu-west-1:{ACCOUNT}:key/{key['KeyId']}' does not exist")
    expect_error(far.call("DescribeKey", KeyId=key["Arn"]), f"NotFoundException: Invalid arn {REGION}")
    expect_error(far.call("Decrypt", CiphertextBlob=blob, KeyId=key["Arn"]), f"NotFoundException: Invalid arn {REGION}")
    there = far.ok("CreateKey")["KeyMetadata"]
    assert there["Arn"].startswith(f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/")
    near.ok("CreateAlias", AliasName="alias/regional", TargetKeyId=key["KeyId"])
    expect_error(far.call("DescribeKey", KeyId="alias/regional"), f"NotFoundException: Alias arn:aws:kms:eu-west-1:{ACCOUNT}:alias/regional is not found.")


@pytest.mark.parametrize("region,partition", [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")])
def test_partitions(wire, tmp_path, region, partition):
    """An account is in one partition. Elsewhere nobody knows its access keys."""
    scope = "Credential should be scoped to a valid region. "
    answer = wire.alter(region=region).call("ListKeys")
    assert (answer.code, answer.message) == ("InvalidSignatureException", scope), answer.error
    with Server(tmp_path, "--partition", partition) as server:
        assert server.environment["AWS_REGION"] == region
        client = Wire(server).alter(region=region)
        check_partition(client, region, partition)
        for elsewhere in {REGION, "cn-north-1", "us-gov-west-1"} - {region}:
            answer = client.alter(region=elsewhere).call("ListKeys")
            assert (answer.code, answer.message) == ("InvalidSignatureException", scope), answer.error
        identity = server.boto3("sts", region=region).get_caller_identity()
        assert identity["Arn"] == f"arn:{partition}:iam::{ACCOUNT}:root"
        iam = server.boto3("iam", region=region)
        assert iam.create_user(UserName="ann")["User"]["Arn"] == f"arn:{partition}:iam::{ACCOUNT}:user/ann"
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            iam.attach_user_policy(UserName="ann", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
        assert caught.value.response["Error"]["Code"] == "InvalidInput"
        iam.attach_user_policy(UserName="ann", PolicyArn=f"arn:{partition}:iam::aws:policy/AdministratorAccess")


def check_partition(client, region, partition):
    key = client.ok("CreateKey")["KeyMetadata"]
    assert key["Arn"] == f"arn:{partition}:kms:{region}:{ACCOUNT}:key/{key['KeyId']}"
    assert json.loads(client.ok("GetKeyPolicy", KeyId=key["Arn"])["Policy"])["Statement"][0]["Principal"] == {"AWS": f"arn:{partition}:iam::{ACCOUNT}:root"}


@pytest.fixture(scope="module")
def managed(wire):
    """The AWS managed key of S3 in a Region where nobody was before: its metadata."""
    return wire.alter(region="eu-north-1"), wire.alter(region="eu-north-1").ok("DescribeKey", KeyId="alias/aws/s3")["KeyMetadata"]


def test_managed_key_appears(managed):
    client, key = managed
    assert (key["KeyManager"], key["KeyState"], key["Enabled"], key["Origin"]) == ("AWS", "Enabled", True, "AWS_KMS")
    assert client.ok("DescribeKey", KeyId="alias/aws/s3")["KeyMetadata"] == key, "the second use finds the same key"
    assert client.ok("DescribeKey", KeyId=f"arn:aws:kms:eu-north-1:{ACCOUNT}:alias/aws/s3")["KeyMetadata"] == key
    assert client.ok("DescribeKey", KeyId="alias/aws/ebs")["KeyMetadata"]["KeyId"] != key["KeyId"]
    aliases = {a["AliasName"]: a.get("TargetKeyId") for a in client.ok("ListAliases")["Aliases"]}
    assert aliases["alias/aws/s3"] == key["KeyId"]
    assert client.ok("GetKeyRotationStatus", KeyId=key["KeyId"])["KeyRotationEnabled"]
    document = json.loads(client.ok("GetKeyPolicy", KeyId=key["KeyId"])["Policy"])
    assert document["Id"].startswith("auto-s3-")
    assert document["Statement"][0]["Condition"]["StringEquals"] == {"kms:CallerAccount": ACCOUNT, "kms:ViaService": "s3.eu-north-1.amazonaws.com"}
    assert client.ok("ListResourceTags", KeyId=key["KeyId"])["Tags"] == []


@pytest.mark.parametrize("operation,values", [
    ("DisableKey", {}), ("EnableKey", {}), ("ScheduleKeyDeletion", {}), ("CancelKeyDeletion", {}), ("EnableKeyRotation", {}), ("DisableKeyRotation", {}),
    ("PutKeyPolicy", {"Policy": '{"Version":"2012-10-17","Statement":[]}'}), ("UpdateKeyDescription", {"Description": "mine"}),
    ("TagResource", {"Tags": [{"TagKey": "a", "TagValue": "b"}]}), ("UntagResource", {"TagKeys": ["a"]}),
    ("Encrypt", {"Plaintext": "eA=="}), ("GenerateDataKey", {"KeySpec": "AES_256"}), ("GenerateDataKeyWithoutPlaintext", {"KeySpec": "AES_256"})])
def test_managed_key_cannot_be_touched(managed, operation, values):
    client, key = managed
    answer = client.call(operation, {"KeyId": key["KeyId"], **values})
    expect_error(answer, f"AccessDeniedException: User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: kms:{operation} on resource: {key['Arn']} "
                 f"because no resource-based policy allows the kms:{operation} action")
    assert client.ok("DescribeKey", KeyId=key["KeyId"])["KeyMetadata"] == key


def test_managed_aliases_cannot_be_touched(managed):
    client, key = managed
    own = client.ok("CreateKey")["KeyMetadata"]["KeyId"]
    expect_error(client.call("DeleteAlias", AliasName="alias/aws/s3"), RESERVED)
    expect_error(client.call("UpdateAlias", AliasName="alias/aws/s3", TargetKeyId=own), RESERVED)
    expect_error(client.call("CreateAlias", AliasName="alias/aws/mine", TargetKeyId=own), RESERVED)
    assert client.call("CreateAlias", AliasName="alias/mine", TargetKeyId=key["KeyId"]).code == "AccessDeniedException"


def test_unknown_access_key_of_a_known_account(shared):
    expect_error(Wire(shared, Signing("AKIAKEYWRIGHTOTHER01", shared.other_secret)).call("ListKeys"),
                 "UnrecognizedClientException: The security token included in the request is invalid.")
