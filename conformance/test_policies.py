"""What a key policy refuses, in the service's words, and what it gives to another account."""
import base64
import json

import pytest

from harness.expect import expect_error
from harness.server import ACCOUNT, OTHER_ACCOUNT, REGION

ROOT = f"arn:aws:iam::{ACCOUNT}:root"
OTHER_ROOT = f"arn:aws:iam::{OTHER_ACCOUNT}:root"
FOREIGN_SHORT = "AccessDeniedException: User: {} is not authorized to perform: {} on resource: {}"
NOWHERE = ("AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this region, "
           "or you are not allowed to access.")

# Operations on a key, with what they need beside it.
OPERATIONS = {
    "CancelKeyDeletion": {}, "Decrypt": {"CiphertextBlob": "$blob"}, "DescribeKey": {}, "DisableKey": {}, "DisableKeyRotation": {}, "EnableKey": {},
    "EnableKeyRotation": {}, "Encrypt": {"Plaintext": "eA=="}, "GenerateDataKey": {"KeySpec": "AES_256"},
    "GenerateDataKeyWithoutPlaintext": {"KeySpec": "AES_256"}, "GetKeyPolicy": {}, "GetKeyRotationStatus": {}, "GetKeyLastUsage": {}, "ListKeyPolicies": {},
    "ListResourceTags": {}, "PutKeyPolicy": {"Policy": "$default"}, "ScheduleKeyDeletion": {},
    "TagResource": {"Tags": [{"TagKey": "a", "TagValue": "b"}]}, "UntagResource": {"TagKeys": ["a"]}, "UpdateKeyDescription": {"Description": "d"},
}
USE = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]


def statement(action, principal=ROOT, effect="Allow", **more):
    return {"Effect": effect, "Principal": {"AWS": principal}, "Action": action, "Resource": "*", **more}


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class Guarded:
    """A key with a ciphertext, and then a policy."""

    def __init__(self, wire, ledger, *statements):
        metadata = wire.ok("CreateKey")["KeyMetadata"]
        self.id, self.arn = metadata["KeyId"], metadata["Arn"]
        self.default = wire.ok("GetKeyPolicy", KeyId=self.id)["Policy"]
        self.plaintext = base64.b64encode(ledger.fresh_plaintext()).decode()
        self.blob = wire.ok("Encrypt", KeyId=self.id, Plaintext=self.plaintext)["CiphertextBlob"]
        wire.ok("PutKeyPolicy", KeyId=self.id, Policy=document(*statements), BypassPolicyLockoutSafetyCheck=True)

    def input(self, operation):
        return {"KeyId": self.arn} | {k: {"$blob": self.blob, "$default": self.default}.get(str(v), v) for k, v in OPERATIONS[operation].items()}


@pytest.fixture(scope="module")
def denying(wire, ledger):
    """Policies that deny everything, and that allow nothing but to deal with aliases."""
    return (Guarded(wire, ledger, statement("kms:*"), statement([f"kms:{o}" for o in OPERATIONS], effect="Deny")),
            Guarded(wire, ledger, statement("kms:CreateAlias")))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_denied(wire, denying, operation):
    explicit, silent = denying
    refused = f"AccessDeniedException: User: {ROOT} is not authorized to perform: kms:{operation} on resource: "
    expect_error(wire.call(operation, explicit.input(operation)), f"{refused}{explicit.arn} with an explicit deny in a resource-based policy")
    expect_error(wire.call(operation, silent.input(operation)), f"{refused}{silent.arn} because no resource-based policy allows the kms:{operation} action")


def test_denied_without_naming_the_key(wire, denying):
    """In one's own account the refusal says why, in another it does not even say that there is a key."""
    explicit, _ = denying
    expect_error(wire.call("Decrypt", CiphertextBlob=explicit.blob),
                 f"AccessDeniedException: User: {ROOT} is not authorized to perform: kms:Decrypt on resource: {explicit.arn} with an explicit deny in a resource-based policy")


def test_re_encrypt_needs_both_permissions(wire, new_key, ledger):
    free = new_key()["Arn"]
    no_from = Guarded(wire, ledger, statement("kms:*"), statement("kms:ReEncryptFrom", effect="Deny"))
    no_to = Guarded(wire, ledger, statement("kms:*"), statement("kms:ReEncryptTo", effect="Deny"))
    why = "with an explicit deny in a resource-based policy"
    expect_error(wire.call("ReEncrypt", CiphertextBlob=no_from.blob, DestinationKeyId=free),
                 f"AccessDeniedException: User: {ROOT} is not authorized to perform: kms:ReEncryptFrom on resource: {no_from.arn} {why}")
    expect_error(wire.call("ReEncrypt", CiphertextBlob=no_from.blob, SourceKeyId=no_from.id, DestinationKeyId=free),
                 f"AccessDeniedException: User: {ROOT} is not authorized to perform: kms:ReEncryptFrom on resource: {no_from.arn} {why}")
    expect_error(wire.call("ReEncrypt", CiphertextBlob=no_to.blob, DestinationKeyId=no_to.id),
                 f"AccessDeniedException: User: {ROOT} is not authorized to perform: kms:ReEncryptTo on resource: {no_to.arn} {why}")
    wire.ok("ReEncrypt", CiphertextBlob=no_to.blob, DestinationKeyId=free)


@pytest.mark.parametrize("operation,member", [("CreateAlias", "TargetKeyId"), ("UpdateAlias", "TargetKeyId")])
def test_alias_needs_the_key(wire, ledger, new_key, operation, member):
    key = Guarded(wire, ledger, statement("kms:*"), statement(f"kms:{operation}", effect="Deny"))
    name = f"alias/denied/{key.id}"
    if operation == "UpdateAlias":
        wire.ok("CreateAlias", AliasName=name, TargetKeyId=new_key()["KeyId"])
    expect_error(wire.call(operation, {"AliasName": name, member: key.id}),
                 f"AccessDeniedException: User: {ROOT} is not authorized to perform: kms:{operation} on resource: {key.arn} with an explicit deny in a resource-based policy")


def test_conditions(wire, ledger):
    """Conditions on the encryption context and on the alias that was used decide."""
    key = Guarded(wire, ledger, statement("kms:*", Condition={"StringEquals": {"kms:EncryptionContext:stage": "test"}}),
                  statement(["kms:PutKeyPolicy", "kms:GetKeyPolicy", "kms:CreateAlias"]))
    values = {"KeyId": key.id, "Plaintext": key.plaintext}
    assert wire.call("Encrypt", values | {"EncryptionContext": {"stage": "test"}}).status == 200
    for context in ({}, {"stage": "live"}, {"Stage": "live"}):
        assert wire.call("Encrypt", values | {"EncryptionContext": context}).code == "AccessDeniedException"
    alias = f"alias/condition/{key.id}"
    wire.ok("CreateAlias", AliasName=alias, TargetKeyId=key.id)
    wire.ok("PutKeyPolicy", KeyId=key.id, Policy=document(statement("kms:*", Condition={"StringEquals": {"kms:RequestAlias": alias}}), statement("kms:PutKeyPolicy")))
    assert wire.call("Encrypt", values | {"KeyId": alias}).status == 200
    assert wire.call("Encrypt", values).code == "AccessDeniedException"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_foreign_key_is_closed(wire, other, ledger, operation):
    """Without the key policy's word, another account gets the short refusal, whether there is such a key or not."""
    key = Guarded(wire, ledger, statement("kms:*"))
    answer = other.call(operation, key.input(operation))
    expect_error(answer, FOREIGN_SHORT.format(OTHER_ROOT, f"kms:{operation}", key.arn))


def test_foreign_key_opened_by_its_policy(wire, other, ledger):
    key = Guarded(wire, ledger, statement("kms:*"), statement(USE, OTHER_ROOT))
    assert other.ok("Decrypt", CiphertextBlob=key.blob) ["Plaintext"] == key.plaintext
    assert other.ok("Decrypt", CiphertextBlob=key.blob, KeyId=key.arn)["KeyId"] == key.arn
    blob = other.ok("Encrypt", KeyId=key.arn, Plaintext=key.plaintext)["CiphertextBlob"]
    assert wire.ok("Decrypt", CiphertextBlob=blob)["Plaintext"] == key.plaintext
    assert other.ok("DescribeKey", KeyId=key.arn)["KeyMetadata"]["AWSAccountId"] == ACCOUNT
    other.ok("GenerateDataKey", KeyId=key.arn, KeySpec="AES_256")
    own = other.ok("CreateKey")["KeyMetadata"]["Arn"]
    assert other.ok("ReEncrypt", CiphertextBlob=key.blob, DestinationKeyId=own)["SourceKeyId"] == key.arn
    alias = f"alias/shared/{key.id}"
    wire.ok("CreateAlias", AliasName=alias, TargetKeyId=key.id)
    assert other.ok("Encrypt", KeyId=f"arn:aws:kms:{REGION}:{ACCOUNT}:{alias}", Plaintext=key.plaintext)["KeyId"] == key.arn
    # Management of a foreign key stays closed, and so does what the policy does not name.
    for operation in ("DisableKey", "GetKeyPolicy", "TagResource", "ScheduleKeyDeletion", "GetKeyRotationStatus"):
        assert other.call(operation, key.input(operation)).code == "AccessDeniedException"
    wire.ok("PutKeyPolicy", KeyId=key.id, Policy=key.default)
    expect_error(other.call("Decrypt", CiphertextBlob=key.blob), NOWHERE)
    expect_error(other.call("Decrypt", CiphertextBlob=key.blob, KeyId=key.arn), FOREIGN_SHORT.format(OTHER_ROOT, "kms:Decrypt", key.arn))


def test_policy_text_is_kept(wire, new_key):
    key = new_key()["KeyId"]
    text = '{ "Version":"2012-10-17",\n "Id":"mine", "Statement":[{"Sid":"r", "Effect":"Allow","Principal":{"AWS":"%s"},"Action":"kms:*","Resource":"*"}]}' % ROOT
    wire.ok("PutKeyPolicy", KeyId=key, Policy=text, PolicyName="default")
    answer = wire.ok("GetKeyPolicy", KeyId=key)
    assert answer["PolicyName"] == "default" and json.loads(answer["Policy"]) == json.loads(text)
    assert wire.ok("ListKeyPolicies", KeyId=key) == {"PolicyNames": ["default"], "Truncated": False}
