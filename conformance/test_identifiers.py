"""Every operation that takes a key, with every wrong form of key identifier."""
import base64
import uuid

import pytest

from harness.expect import expect_error
from harness.server import ACCOUNT, OTHER_ACCOUNT, REGION

POLICY = '{"Version":"2012-10-17","Statement":[]}'
BLOB = base64.b64encode(b"x").decode()

# Operations that take a key id or key ARN only: member that names the key, the other required members.
KEY_ONLY = {
    "CancelKeyDeletion": ("KeyId", {}), "DisableKey": ("KeyId", {}), "DisableKeyRotation": ("KeyId", {}), "EnableKey": ("KeyId", {}),
    "EnableKeyRotation": ("KeyId", {}), "GetKeyPolicy": ("KeyId", {}), "GetKeyRotationStatus": ("KeyId", {}), "GetKeyLastUsage": ("KeyId", {}), "ListKeyPolicies": ("KeyId", {}),
    "ListResourceTags": ("KeyId", {}), "PutKeyPolicy": ("KeyId", {"Policy": POLICY}), "ScheduleKeyDeletion": ("KeyId", {}),
    "TagResource": ("KeyId", {"Tags": [{"TagKey": "a", "TagValue": "b"}]}), "UntagResource": ("KeyId", {"TagKeys": ["a"]}),
    "UpdateKeyDescription": ("KeyId", {"Description": "d"}), "ListAliases": ("KeyId", {}),
}
# Operations that take an alias as well.
ANY_FORM = {
    "DescribeKey": ("KeyId", {}), "Encrypt": ("KeyId", {"Plaintext": BLOB}), "GenerateDataKey": ("KeyId", {"KeySpec": "AES_256"}),
    "GenerateDataKeyWithoutPlaintext": ("KeyId", {"KeySpec": "AES_256"}), "Decrypt": ("KeyId", {"CiphertextBlob": BLOB}),
    "ReEncrypt": ("SourceKeyId", {"CiphertextBlob": BLOB, "DestinationKeyId": "alias/none"}),
}
# Operations that point an alias at a key.
TARGET = {
    "CreateAlias": ("TargetKeyId", {"AliasName": "alias/identifiers/new"}),
    "UpdateAlias": ("TargetKeyId", {"AliasName": "alias/identifiers/there"}),
}
FOREIGN = {"DescribeKey": "kms:DescribeKey", "Encrypt": "kms:Encrypt", "GenerateDataKey": "kms:GenerateDataKey", "Decrypt": "kms:Decrypt",
           "GenerateDataKeyWithoutPlaintext": "kms:GenerateDataKeyWithoutPlaintext", "ReEncrypt": "kms:ReEncryptFrom"}

UNKNOWN = "1234abcd-12ab-34cd-56ef-1234567890ab"
MRK = "mrk-1234abcd12ab34cd56ef1234567890ab"
ARN = f"arn:aws:kms:{REGION}:{ACCOUNT}"
CALLER = f"arn:aws:iam::{ACCOUNT}:root"
LENGTH = "Value '{v}' at '{m}' failed to satisfy constraint: Member must have length {l}"
PATTERN = r"Value '{v}' at '{m}' failed to satisfy constraint: Member must satisfy regular expression pattern: ^\p{{ASCII}}+$"

# Situations that are the same for every operation: name, identifier, error.
SAME = [
    ("unknown id", UNKNOWN, f"NotFoundException: Key '{ARN}:key/{UNKNOWN}' does not exist"),
    ("unknown id in capitals", UNKNOWN.upper(), f"NotFoundException: Key '{ARN}:key/{UNKNOWN.upper()}' does not exist"),
    ("unknown ARN", f"{ARN}:key/{UNKNOWN}", f"NotFoundException: Key '{ARN}:key/{UNKNOWN}' does not exist"),
    ("unknown multi-Region id", MRK, f"NotFoundException: Key '{ARN}:key/{MRK}' does not exist"),
    ("no id", "foo", "NotFoundException: Invalid keyId 'foo'"),
    ("id without dashes", UNKNOWN.replace("-", ""), f"NotFoundException: Invalid keyId '{UNKNOWN.replace('-', '')}'"),
    ("ARN without an id", f"{ARN}:key/foo", "NotFoundException: Invalid keyId foo"),
    ("ARN of another Region", f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/{UNKNOWN}", "NotFoundException: Invalid arn eu-west-1"),
    ("ARN of another service", f"arn:aws:s3:{REGION}:{ACCOUNT}:key/{UNKNOWN}", "InvalidArnException: …"),
    ("empty", "", "ValidationException: 2 validation errors detected: " + LENGTH.format(v="", m="{m}", l="greater than or equal to 1")
     + "; " + PATTERN.format(v="", m="{m}")),
    ("too long", "a" * 2049, "ValidationException: 1 validation error detected: " + LENGTH.format(v="a" * 2049, m="{m}", l="less than or equal to 2048")),
    ("beyond ASCII", "schlüssel", "ValidationException: 1 validation error detected: " + PATTERN.format(v="schlüssel", m="{m}")),
]
ALIAS = "NotFoundException: Alias {arn}:alias/none is not found."
ANY_ONLY = [
    ("unknown alias", "alias/none", ALIAS.format(arn=ARN)),
    ("unknown alias ARN", f"{ARN}:alias/none", ALIAS.format(arn=ARN)),
    ("unknown AWS alias", "alias/aws/none", f"NotFoundException: Alias {ARN}:alias/aws/none is not found."),
    ("alias ARN of another Region", f"arn:aws:kms:eu-west-1:{ACCOUNT}:alias/none", "NotFoundException: Invalid arn eu-west-1"),
]
ALIAS_REFUSED = "InvalidArnException: Key Aliases are not supported for this operation."
TARGET_REFUSED = "ValidationException: Aliases must refer to keys. Not aliases"


def cases():
    for table, more in [(KEY_ONLY, [("alias", "alias/identifiers/there", ALIAS_REFUSED), ("unknown alias", "alias/none", ALIAS_REFUSED),
                                    ("alias ARN", f"{ARN}:alias/identifiers/there", ALIAS_REFUSED)]),
                        (ANY_FORM, ANY_ONLY),
                        (TARGET, [("alias", "alias/identifiers/there", TARGET_REFUSED), ("alias ARN", f"{ARN}:alias/none", TARGET_REFUSED)])]:
        for operation, (member, others) in table.items():
            path = member[0].lower() + member[1:]
            for name, given, want in SAME + more:
                yield operation, name, {**others, member: given}, want.replace("{m}", path)
            if operation not in ("Decrypt", "ReEncrypt", "ListAliases"):  # which can do without
                yield operation, "missing", others, ("ValidationException: 1 validation error detected: "
                                                     f"Value null at '{path}' failed to satisfy constraint: Member must not be null")
            if operation in FOREIGN:
                foreign = f"arn:aws:kms:{REGION}:{OTHER_ACCOUNT}:key/{UNKNOWN}"
                yield operation, "unknown key of another account", {**others, member: foreign}, (
                    f"AccessDeniedException: User: {CALLER} is not authorized to perform: {FOREIGN[operation]} on resource: {foreign}")


CASES = list(cases())


@pytest.fixture(scope="module", autouse=True)
def alias(wire):
    wire.ok("CreateAlias", AliasName="alias/identifiers/there", TargetKeyId=wire.ok("CreateKey")["KeyMetadata"]["KeyId"])


@pytest.mark.parametrize("operation,name,values,want", CASES, ids=[f"{o} {n}" for o, n, _, _ in CASES])
def test_wrong_identifier(wire, operation, name, values, want):
    expect_error(wire.call(operation, values), want)


@pytest.mark.parametrize("operation", [*KEY_ONLY, *ANY_FORM])
def test_every_right_form(wire, new_key, ledger, operation):
    """Each form that the operation takes reaches the key."""
    key = new_key()
    alias = f"alias/{uuid.uuid4()}"
    wire.ok("CreateAlias", AliasName=alias, TargetKeyId=key["KeyId"])
    forms = [key["KeyId"], key["Arn"]]
    if operation in ANY_FORM:
        forms += [alias, f"{ARN}:{alias}"]
    member, others = (KEY_ONLY | ANY_FORM)[operation]
    for form in forms:
        if operation == "CancelKeyDeletion":
            wire.ok("ScheduleKeyDeletion", KeyId=key["KeyId"])
        values = dict(others)
        if operation == "PutKeyPolicy":
            values["Policy"] = wire.ok("GetKeyPolicy", KeyId=key["KeyId"])["Policy"]
        if "CiphertextBlob" in values:
            values["CiphertextBlob"] = wire.ok("Encrypt", KeyId=form, Plaintext=base64.b64encode(ledger.fresh_plaintext()).decode())["CiphertextBlob"]
        if operation == "ReEncrypt":
            values["DestinationKeyId"] = form
        output = wire.ok(operation, **values, **{member: form})
        if operation == "ScheduleKeyDeletion":
            wire.ok("CancelKeyDeletion", KeyId=key["KeyId"])
        if "KeyId" in output:
            assert output["KeyId"] == key["KeyId" if operation == "GetKeyLastUsage" else "Arn"]
