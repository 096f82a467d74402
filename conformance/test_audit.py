"""The audit records of a few calls, member for member. test_zz_afterwards.py counts those of the whole run."""
import base64
import json
import re

import pytest

from harness.server import ACCOUNT, OTHER_ACCOUNT, REGION
from harness.wire import UUID4

ROOT = f"arn:aws:iam::{ACCOUNT}:root"


@pytest.fixture
def record_of(shared):
    """The record of an answer: it is in the log before the answer leaves."""
    def find(answer):
        wanted = answer.headers["x-amzn-requestid"]
        found = [line for path in shared.audit_files() for line in path.read_text().splitlines() if f'"{wanted}"' in line]
        assert len(found) == 1, f"{len(found)} records of {wanted}"
        return json.loads(found[0])
    return find


def check_frame(record, answer, operation, source="kms.amazonaws.com"):
    """What every record of a signed call has."""
    assert record["eventVersion"] == "1.11" and record["eventSource"] == source and record["eventName"] == operation
    assert record["userIdentity"] == {"type": "Root", "principalId": ACCOUNT, "arn": ROOT, "accountId": ACCOUNT, "accessKeyId": record["userIdentity"]["accessKeyId"]}
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["eventTime"])
    assert record["awsRegion"] == REGION and record["sourceIPAddress"] == "127.0.0.1" and "userAgent" in record
    assert record["requestID"] == answer.headers["x-amzn-requestid"] and UUID4.match(record["eventID"]) and record["eventID"] != record["requestID"]
    assert record["eventType"] == "AwsApiCall" and record["managementEvent"] is True and record["eventCategory"] == "Management"
    assert record["recipientAccountId"] == ACCOUNT
    known = ["eventVersion", "userIdentity", "eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress", "userAgent", "errorCode", "errorMessage",
             "requestParameters", "responseElements", "additionalEventData", "requestID", "eventID", "readOnly", "resources", "eventType", "managementEvent",
             "recipientAccountId", "sharedEventID", "eventCategory", "tlsDetails"]
    assert [m for m in known if m in record] == list(record), "members out of order, or unknown ones"


def resources(*arns):
    return [{"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": arn} for arn in arns]


@pytest.fixture
def key(new_key):
    return new_key()


@pytest.fixture
def call(wire, record_of):
    """Calls and returns the record, after looking at its frame."""
    def run(operation, status=200, **values):
        answer = wire.call(operation, values)
        assert answer.status == status, answer.error
        record = record_of(answer)
        check_frame(record, answer, operation)
        if status == 200:
            assert "errorCode" not in record and "errorMessage" not in record
        return record
    return run


def test_encrypt_and_decrypt(call, wire, key, ledger):
    plaintext = base64.b64encode(ledger.fresh_plaintext()).decode()
    record = call("Encrypt", KeyId=key["KeyId"], Plaintext=plaintext, EncryptionContext={"stage": "test"})
    assert record["requestParameters"] == {"keyId": key["KeyId"], "encryptionAlgorithm": "SYMMETRIC_DEFAULT", "encryptionContext": {"stage": "test"}}
    assert record["responseElements"] is None and record["readOnly"] is True
    assert record["resources"] == resources(key["Arn"])
    assert record["additionalEventData"] == {"keyMaterialId": key["CurrentKeyMaterialId"]}
    blob = wire.ok("Encrypt", KeyId=key["KeyId"], Plaintext=plaintext)["CiphertextBlob"]
    record = call("Decrypt", CiphertextBlob=blob)
    assert record["requestParameters"] == {"encryptionAlgorithm": "SYMMETRIC_DEFAULT"} and record["resources"] == resources(key["Arn"])
    assert record["additionalEventData"] == {"keyMaterialId": key["CurrentKeyMaterialId"]}
    record = call("Decrypt", CiphertextBlob=blob, KeyId=key["Arn"])
    assert record["requestParameters"] == {"encryptionAlgorithm": "SYMMETRIC_DEFAULT", "keyId": key["Arn"]}


def test_re_encrypt(call, wire, key, new_key, ledger):
    to = new_key()
    blob = wire.ok("Encrypt", KeyId=key["KeyId"], Plaintext=base64.b64encode(ledger.fresh_plaintext()).decode())["CiphertextBlob"]
    record = call("ReEncrypt", CiphertextBlob=blob, DestinationKeyId=to["KeyId"], DestinationEncryptionContext={"a": "b"})
    assert record["requestParameters"] == {"sourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT", "destinationKeyId": to["KeyId"],
                                           "destinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT", "destinationEncryptionContext": {"a": "b"}}
    assert record["resources"] == resources(key["Arn"], to["Arn"]) and record["readOnly"] is True
    assert record["additionalEventData"] == {"destinationKeyMaterialId": to["CurrentKeyMaterialId"], "sourceKeyMaterialId": key["CurrentKeyMaterialId"]}


def test_data_keys_and_random(call, key):
    record = call("GenerateDataKeyWithoutPlaintext", KeyId=key["KeyId"], KeySpec="AES_256")
    assert record["requestParameters"] == {"keyId": key["KeyId"], "keySpec": "AES_256"} and record["responseElements"] is None and record["readOnly"] is True
    record = call("GenerateDataKeyWithoutPlaintext", KeyId=key["KeyId"], NumberOfBytes=20)
    assert record["requestParameters"] == {"keyId": key["KeyId"], "numberOfBytes": 20}
    record = call("GenerateRandom", NumberOfBytes=5)
    assert record["requestParameters"] is None and record["responseElements"] is None and record.get("resources", []) == [] and record["readOnly"] is True


def test_encapsulation(call, new_key, wire):
    key = new_key(KeySpec="ML_KEM_768", KeyUsage="ENCAPSULATE_DECAPSULATE")
    for operation, more in (("Encapsulate", {}), ("Decapsulate", {"SharedSecretCiphertextBlob": wire.ok("Encapsulate", KeyId=key["KeyId"], EncapsulationAlgorithm="ML_KEM")["SharedSecretCiphertextBlob"]})):
        record = call(operation, KeyId=key["KeyId"], EncapsulationAlgorithm="ML_KEM", **more)
        assert record["requestParameters"] == {"keyId": key["KeyId"], "encapsulationAlgorithm": "ML_KEM"} and record["responseElements"] is None
        assert record["readOnly"] is True and record["resources"] == resources(key["Arn"])


def test_create_key(call):
    record = call("CreateKey", Description="audited", Tags=[{"TagKey": "a", "TagValue": "b"}])
    given = record["requestParameters"]
    assert given == {"description": "audited", "keyUsage": "ENCRYPT_DECRYPT", "origin": "AWS_KMS", "keySpec": "SYMMETRIC_DEFAULT",
                     "customerMasterKeySpec": "SYMMETRIC_DEFAULT", "bypassPolicyLockoutSafetyCheck": False, "tags": [{"tagKey": "a", "tagValue": "b"}]}
    made = record["responseElements"]["keyMetadata"]
    assert made["aWSAccountId"] == ACCOUNT and made["keyState"] == "Enabled" and made["description"] == "audited" and made["enabled"] is True
    assert re.fullmatch(r"[A-Z][a-z]{2} \d{1,2}, 20\d\d, \d{1,2}:\d\d:\d\d [AP]M", made["creationDate"])
    assert record["readOnly"] is False and record["resources"] == resources(made["arn"])


@pytest.mark.parametrize("operation,values,given", [
    ("DisableKey", {}, {}), ("EnableKey", {}, {}), ("EnableKeyRotation", {}, {}), ("EnableKeyRotation", {"RotationPeriodInDays": 100}, {"rotationPeriodInDays": 100}),
    ("DisableKeyRotation", {}, {}), ("UpdateKeyDescription", {"Description": "d"}, {"description": "d"}),
    ("TagResource", {"Tags": [{"TagKey": "a", "TagValue": "b"}]}, {"tags": [{"tagKey": "a", "tagValue": "b"}]}), ("UntagResource", {"TagKeys": ["a"]}, {"tagKeys": ["a"]})])
def test_changes(call, key, operation, values, given):
    record = call(operation, KeyId=key["KeyId"], **values)
    assert record["requestParameters"] == {"keyId": key["KeyId"], **given}
    assert record["responseElements"] == {"keyId": key["Arn"]}
    assert record["readOnly"] is False and record["resources"] == resources(key["Arn"])


@pytest.mark.parametrize("operation,values,given", [
    ("DescribeKey", {}, {}), ("GetKeyPolicy", {}, {"policyName": "default"}), ("GetKeyRotationStatus", {}, {}), ("GetKeyLastUsage", {}, {}), ("ListKeyPolicies", {}, {}), ("ListResourceTags", {"Limit": 5}, {"limit": 5})])
def test_reads(call, key, operation, values, given):
    record = call(operation, KeyId=key["Arn"], **values)
    assert record["requestParameters"] == {"keyId": key["Arn"], **given}
    assert record["responseElements"] is None and record["readOnly"] is True and record["resources"] == resources(key["Arn"])


def test_lists(call):
    for operation in ("ListKeys", "ListAliases"):
        assert call(operation)["requestParameters"] is None
        record = call(operation, Limit=3)
        assert record["requestParameters"] == {"limit": 3} and record["responseElements"] is None and record.get("resources", []) == []


def test_policy_alias_and_deletion(call, wire, key, new_key):
    policy = wire.ok("GetKeyPolicy", KeyId=key["KeyId"])["Policy"]
    record = call("PutKeyPolicy", KeyId=key["KeyId"], Policy=policy)
    assert record["requestParameters"] == {"keyId": key["KeyId"], "policyName": "default", "policy": policy, "bypassPolicyLockoutSafetyCheck": False}
    name = f"alias/audit/{key['KeyId']}"
    alias, other = f"arn:aws:kms:{REGION}:{ACCOUNT}:{name}", new_key()
    for operation, target in (("CreateAlias", key), ("UpdateAlias", other)):
        record = call(operation, AliasName=name, TargetKeyId=target["KeyId"])
        assert record["requestParameters"] == {"aliasName": name, "targetKeyId": target["KeyId"]} and record["responseElements"] == {"keyId": target["Arn"]}
        assert {r["ARN"] for r in record["resources"]} >= {alias, target["Arn"]} and {r["type"] for r in record["resources"]} == {"AWS::KMS::Key"}
    record = call("DeleteAlias", AliasName=name)
    assert record["requestParameters"] == {"aliasName": name} and record["responseElements"] == {"keyId": other["Arn"]}
    record = call("ScheduleKeyDeletion", KeyId=key["KeyId"])
    assert record["requestParameters"] == {"keyId": key["KeyId"], "pendingWindowInDays": 30}
    assert set(record["responseElements"]) == {"keyId", "keyState", "deletionDate", "pendingWindowInDays"} and record["responseElements"]["keyState"] == "PendingDeletion"
    assert call("CancelKeyDeletion", KeyId=key["KeyId"])["responseElements"] == {"keyId": key["Arn"]}


def test_denied(call, wire, key, new_key):
    policy = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}, {"Effect": "Deny", "Principal": "*", "Action": "kms:Encrypt", "Resource": "*"}]})
    wire.ok("PutKeyPolicy", KeyId=key["KeyId"], Policy=policy)
    record = call("Encrypt", 400, KeyId=key["KeyId"], Plaintext="eA==")
    assert record["errorCode"] == "AccessDenied"
    assert record["errorMessage"] == f"User: {ROOT} is not authorized to perform: kms:Encrypt on resource: {key['Arn']} with an explicit deny in a resource-based policy"
    assert record["requestParameters"] is None and record["responseElements"] is None and "resources" not in record and record["readOnly"] is True


def test_failed(call, key):
    record = call("DescribeKey", 400, KeyId="foo")
    assert (record["errorCode"], record["errorMessage"]) == ("NotFoundException", "Invalid keyId 'foo'")
    assert record["requestParameters"] == {"keyId": "foo"} and record["responseElements"] is None
    record = call("Decrypt", 400, CiphertextBlob="eA==")
    assert record["errorCode"] == "InvalidCiphertextException" and "errorMessage" not in record
    record = call("Encrypt", 400, KeyId=key["KeyId"], Plaintext="eA==", DryRun=True)
    assert record["errorCode"] == "DryRunOperationException" and record["requestParameters"]["dryRun"] is True
    record = call("Encrypt", 400, KeyId=key["KeyId"])
    assert record["errorCode"] == "ValidationException"
    record = call("GetPublicKey", 400, KeyId=key["KeyId"])
    assert record["errorCode"] == "UnsupportedOperationException"


def test_unauthenticated(wire, record_of):
    answer = wire.alter(secret="wrong").call("ListKeys")
    record = record_of(answer)
    assert record["errorCode"] == "InvalidSignatureException" and record["userIdentity"].get("arn") is None and record.get("responseElements") is None
    answer = wire.send(wire.headers("ListKeys"), b"{}")
    assert record_of(answer)["errorCode"] == "MissingAuthenticationTokenException"


def test_users_cannot_write_records(wire, shared, record_of, tally):
    """What a client sends cannot end a record or start another."""
    for agent in ('"}\\n{"eventName":"Forged"}', "tab\there", "quote\" and \\ backslash", "ünï"):
        headers = wire.signing.sign(shared.address, wire.headers("ListKeys"), b"{}")
        answer = wire.send(headers | {"User-Agent": agent.encode()}, b"{}", operation="ListKeys")
        assert answer.status == 200 and record_of(answer)["eventName"] == "ListKeys"
    answer = wire.call("UpdateKeyDescription", KeyId='x"}\n{"eventName":"Forged"', Description="\n")
    assert record_of(answer)["errorCode"] == "NotFoundException"
    headers = wire.signing.sign(shared.address, {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": 'TrentService.A"}\\u000a{'}, b"{}")
    assert record_of(wire.send(headers, b"{}"))["errorCode"] == "UnknownOperationException"
    tally(6)


def test_other_account(wire, other, record_of, key, ledger):
    policy = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": [ROOT, f"arn:aws:iam::{OTHER_ACCOUNT}:root"]}, "Action": "kms:*", "Resource": "*"}]})
    wire.ok("PutKeyPolicy", KeyId=key["KeyId"], Policy=policy)
    answer = other.call("DescribeKey", KeyId=key["Arn"])
    shared_folder = [json.loads(line) for path in other.server.audit_files() for line in path.read_text().splitlines() if answer.headers["x-amzn-requestid"] in line]
    assert {r["recipientAccountId"] for r in shared_folder} == {ACCOUNT, OTHER_ACCOUNT}
    assert len({r["sharedEventID"] for r in shared_folder}) == 1 and len({r["eventID"] for r in shared_folder}) == 2
    owners = next(r for r in shared_folder if r["recipientAccountId"] == ACCOUNT)
    assert owners["userIdentity"] == {"type": "AWSAccount", "principalId": OTHER_ACCOUNT, "accountId": OTHER_ACCOUNT}
    denied = record_of(other.call("DisableKey", KeyId=key["Arn"]))
    assert denied["recipientAccountId"] == OTHER_ACCOUNT and denied["errorCode"] == "AccessDenied"
