"""The errors of every operation that are about something else than the key's identifier and state."""
import base64
import json

import pytest

from harness.expect import expect_error
from harness.server import ACCOUNT, OTHER_ACCOUNT, REGION

ROOT = f"arn:aws:iam::{ACCOUNT}:root"


def b64(octets):
    return base64.b64encode(octets).decode()


def one(violation):
    return f"ValidationException: 1 validation error detected: {violation}"


def several(*violations):
    return f"ValidationException: {len(violations)} validation errors detected: {'; '.join(violations)}"


def at(path, constraint, value=None):
    shown = "Value" if value is None else f"Value '{value}'"
    return f"{shown} at '{path}' failed to satisfy constraint: Member must {constraint}"


def null(path):
    return f"Value null at '{path}' failed to satisfy constraint: Member must not be null"


def at_least(n):
    return f"have length greater than or equal to {n}"


def at_most(n):
    return f"have length less than or equal to {n}"


ALGORITHMS = "satisfy enum value set: [RSAES_OAEP_SHA_1, RSAES_OAEP_SHA_256, SM2PKE, SYMMETRIC_DEFAULT]"
DATA_KEYS = ("satisfy enum value set: [RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521, ECC_SECG_P256K1, "
             "ECC_NIST_EDWARDS25519, SYMMETRIC_DEFAULT, HMAC_224, HMAC_256, HMAC_384, HMAC_512, SM2, ML_DSA_44, ML_DSA_65, ML_DSA_87]")
ALIAS_PATTERN = "satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"
MARKER_PATTERN = r"satisfy regular expression pattern: [\u0020-\u00FF]*"
TAG_KEYS = ("Value '[{}]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: "
            "[Member must have length less than or equal to 128, Member must have length greater than or equal to 1]")
ONE_SIZE = "ValidationException: Please specify either number of bytes or key spec."
PREFIX = ('ValidationException: Alias must start with the prefix "alias/". '
          "Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html")
USAGE = "ValidationException: You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."
INCORRECT = "IncorrectKeyException: The key ID in the request does not identify a CMK that can perform this operation."
NOWHERE = ("AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this region, "
           "or you are not allowed to access.")
LOCKOUT = "MalformedPolicyDocumentException: The new key policy will not allow you to update the key policy in the future."
PRINCIPALS = "MalformedPolicyDocumentException: Policy contains a statement with one or more invalid principals."


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(principal=ROOT, action="kms:*", effect="Allow"):
    return {"Effect": effect, "Principal": {"AWS": principal}, "Action": action, "Resource": "*"}


def tags(*pairs):
    return [{"TagKey": k, "TagValue": v} for k, v in pairs]


# Operation, situation, input, error. "$id", "$arn" and "$other" stand for keys, "$alias" for an alias of the first, "$blob" for a
# ciphertext of the first, made with the encryption context {"a": "1"}.
CASES = [
    # What the model forbids. Sensitive members and blobs are never echoed.
    ("Encrypt", "plaintext missing", {"KeyId": "$id"}, one("Value at 'plaintext' failed to satisfy constraint: Member must not be null")),
    ("Encrypt", "plaintext empty", {"KeyId": "$id", "Plaintext": ""}, one(at("plaintext", at_least(1)))),
    ("Encrypt", "plaintext too long", {"KeyId": "$id", "Plaintext": b64(b"s" * 4097)}, one(at("plaintext", at_most(4096)))),
    ("Encrypt", "everything missing", {}, several(null("keyId"), "Value at 'plaintext' failed to satisfy constraint: Member must not be null")),
    ("Encrypt", "algorithm", {"KeyId": "$id", "Plaintext": b64(b"x"), "EncryptionAlgorithm": "ROT13"}, one(at("encryptionAlgorithm", ALGORITHMS, "ROT13"))),
    ("Encrypt", "empty algorithm", {"KeyId": "$id", "Plaintext": b64(b"x"), "EncryptionAlgorithm": ""}, one(at("encryptionAlgorithm", ALGORITHMS, ""))),
    ("Encrypt", "three at once", {"KeyId": "a" * 2049, "Plaintext": "", "EncryptionAlgorithm": "ROT13"},
     several(at("keyId", at_most(2048), "a" * 2049), at("plaintext", at_least(1)), at("encryptionAlgorithm", ALGORITHMS, "ROT13"))),
    ("Encrypt", "validation before the look-up", {"KeyId": "foo", "Plaintext": ""}, one(at("plaintext", at_least(1)))),
    ("Decrypt", "ciphertext missing", {}, one(null("ciphertextBlob"))),
    ("Decrypt", "ciphertext missing, key named", {"KeyId": "$id"}, one(null("ciphertextBlob"))),
    ("Decrypt", "ciphertext empty", {"CiphertextBlob": ""}, one(at("ciphertextBlob", at_least(1)))),
    ("Decrypt", "ciphertext too long", {"CiphertextBlob": b64(b"x" * 6145)}, one(at("ciphertextBlob", at_most(6144)))),
    ("Decrypt", "algorithm", {"CiphertextBlob": "$blob", "EncryptionAlgorithm": "x"}, one(at("encryptionAlgorithm", ALGORITHMS, "x"))),
    ("ReEncrypt", "everything missing", {}, several(null("ciphertextBlob"), null("destinationKeyId"))),
    ("ReEncrypt", "destination missing", {"CiphertextBlob": "$blob"}, one(null("destinationKeyId"))),
    ("ReEncrypt", "ciphertext too long", {"CiphertextBlob": b64(b"x" * 6145), "DestinationKeyId": "$id"}, one(at("ciphertextBlob", at_most(6144)))),
    ("ReEncrypt", "source algorithm", {"CiphertextBlob": "$blob", "DestinationKeyId": "$id", "SourceEncryptionAlgorithm": "x"}, one(at("sourceEncryptionAlgorithm", ALGORITHMS, "x"))),
    ("ReEncrypt", "destination algorithm", {"CiphertextBlob": "$blob", "DestinationKeyId": "$id", "DestinationEncryptionAlgorithm": "x"}, one(at("destinationEncryptionAlgorithm", ALGORITHMS, "x"))),
    ("ReEncrypt", "destination empty", {"CiphertextBlob": "$blob", "DestinationKeyId": ""},
     several(at("destinationKeyId", at_least(1), ""), at("destinationKeyId", r"satisfy regular expression pattern: ^\p{ASCII}+$", ""))),
    ("GenerateDataKey", "spec", {"KeyId": "$id", "KeySpec": "AES_512"}, one(at("keySpec", DATA_KEYS, "AES_512"))),
    ("GenerateDataKey", "no bytes", {"KeyId": "$id", "NumberOfBytes": 0}, one(at("numberOfBytes", "have value greater than or equal to 1", 0))),
    ("GenerateDataKey", "too many bytes", {"KeyId": "$id", "NumberOfBytes": 1025}, one(at("numberOfBytes", "have value less than or equal to 1024", 1025))),
    ("GenerateDataKey", "negative", {"KeyId": "$id", "NumberOfBytes": -7}, one(at("numberOfBytes", "have value greater than or equal to 1", -7))),
    ("GenerateDataKeyWithoutPlaintext", "spec", {"KeyId": "$id", "KeySpec": "AES_512"}, one(at("keySpec", DATA_KEYS, "AES_512"))),
    ("GenerateDataKeyWithoutPlaintext", "too many bytes", {"KeyId": "$id", "NumberOfBytes": 1025}, one(at("numberOfBytes", "have value less than or equal to 1024", 1025))),
    ("GenerateRandom", "none", {"NumberOfBytes": 0}, one(at("numberOfBytes", "have value greater than or equal to 1", 0))),
    ("GenerateRandom", "too many", {"NumberOfBytes": 1025}, one(at("numberOfBytes", "have value less than or equal to 1024", 1025))),
    ("GenerateRandom", "key store", {"NumberOfBytes": 1, "CustomKeyStoreId": "a" * 65}, one(at("customKeyStoreId", at_most(64), "a" * 65))),
    ("CreateAlias", "everything missing", {}, several(null("aliasName"), null("targetKeyId"))),
    ("CreateAlias", "empty name", {"AliasName": "", "TargetKeyId": "$id"}, several(at("aliasName", at_least(1), ""), at("aliasName", ALIAS_PATTERN, ""))),
    ("CreateAlias", "long name", {"AliasName": "alias/" + "a" * 251, "TargetKeyId": "$id"}, one(at("aliasName", at_most(256), "alias/" + "a" * 251))),
    ("CreateAlias", "characters", {"AliasName": "alias/ä b", "TargetKeyId": "$id"}, one(at("aliasName", ALIAS_PATTERN, "alias/ä b"))),
    ("UpdateAlias", "everything missing", {}, several(null("aliasName"), null("targetKeyId"))),
    ("DeleteAlias", "name missing", {}, one(null("aliasName"))),
    ("DeleteAlias", "long name", {"AliasName": "a" * 257}, one(at("aliasName", at_most(256), "a" * 257))),
    ("EnableKeyRotation", "short period", {"KeyId": "$id", "RotationPeriodInDays": 89}, one(at("rotationPeriodInDays", "have value greater than or equal to 90", 89))),
    ("EnableKeyRotation", "long period", {"KeyId": "$id", "RotationPeriodInDays": 2561}, one(at("rotationPeriodInDays", "have value less than or equal to 2560", 2561))),
    ("ScheduleKeyDeletion", "no window", {"KeyId": "$id", "PendingWindowInDays": 0}, one(at("pendingWindowInDays", "have value greater than or equal to 1", 0))),
    ("ScheduleKeyDeletion", "endless window", {"KeyId": "$id", "PendingWindowInDays": 366}, one(at("pendingWindowInDays", "have value less than or equal to 365", 366))),
    ("ScheduleKeyDeletion", "short window", {"KeyId": "$id", "PendingWindowInDays": 6}, "ValidationException: …"),
    ("ScheduleKeyDeletion", "long window", {"KeyId": "$id", "PendingWindowInDays": 31}, "ValidationException: …"),
    ("UpdateKeyDescription", "missing", {"KeyId": "$id"}, one(null("description"))),
    ("UpdateKeyDescription", "long", {"KeyId": "$id", "Description": "d" * 8193}, one(at("description", at_most(8192), "d" * 8193))),
    ("CreateKey", "long description", {"Description": "d" * 8193}, one(at("description", at_most(8192), "d" * 8193))),
    ("CreateKey", "spec", {"KeySpec": "AES_1"}, "ValidationException: 1 validation error detected: Value 'AES_1' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [RSA_2048, …"),
    ("CreateKey", "usage", {"KeyUsage": "WRAP"}, "ValidationException: 1 validation error detected: Value 'WRAP' at 'keyUsage' failed to satisfy constraint: Member must satisfy enum value set: [ENCRYPT_DECRYPT, SIGN_VERIFY, GENERATE_VERIFY_MAC, …"),
    ("CreateKey", "origin", {"Origin": "MOON"}, "ValidationException: 1 validation error detected: Value 'MOON' at 'origin' failed to satisfy constraint: Member must satisfy enum value set: [AWS_KMS, …"),
    ("CreateKey", "empty policy", {"Policy": ""}, several(at("policy", at_least(1), ""), at("policy", r"satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+", ""))),
    ("CreateKey", "tag without key", {"Tags": [{"TagValue": "v"}]}, one(null("tags.1.member.tagKey"))),
    ("CreateKey", "second tag without value", {"Tags": [{"TagKey": "a", "TagValue": ""}, {"TagKey": "b"}]}, one(null("tags.2.member.tagValue"))),
    ("CreateKey", "long tag value", {"Tags": tags(("a", "v" * 257))}, one(at("tags.1.member.tagValue", at_most(256), "v" * 257))),
    ("CreateKey", "long tag key", {"Tags": tags(("a", ""), ("k" * 129, "v"))}, one(at("tags.2.member.tagKey", at_most(128), "k" * 129))),
    ("CreateKey", "two bad tags", {"Tags": tags(("", ""), ("a", "v" * 257))}, several(at("tags.1.member.tagKey", at_least(1), ""), at("tags.2.member.tagValue", at_most(256), "v" * 257))),
    ("TagResource", "tags missing", {"KeyId": "$id"}, one(null("tags"))),
    ("TagResource", "long tag value", {"KeyId": "$id", "Tags": tags(("a", "v" * 257))}, one(at("tags.1.member.tagValue", at_most(256), "v" * 257))),
    ("UntagResource", "keys missing", {"KeyId": "$id"}, one(null("tagKeys"))),
    ("UntagResource", "empty key", {"KeyId": "$id", "TagKeys": ["a", ""]}, one(TAG_KEYS.format("a, "))),
    ("UntagResource", "long key", {"KeyId": "$id", "TagKeys": ["k" * 129]}, one(TAG_KEYS.format("k" * 129))),
    ("PutKeyPolicy", "policy missing", {"KeyId": "$id"}, one(null("policy"))),
    ("PutKeyPolicy", "policy name", {"KeyId": "$id", "Policy": "{}", "PolicyName": "no name"}, one(at("policyName", r"satisfy regular expression pattern: [\w]+", "no name"))),
    ("PutKeyPolicy", "characters", {"KeyId": "$id", "Policy": "{€}"}, one(at("policy", r"satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u00FF]+", "{€}"))),
    ("GetKeyPolicy", "policy name", {"KeyId": "$id", "PolicyName": "n" * 129}, one(at("policyName", at_most(128), "n" * 129))),
    *[(operation, "limit of zero", {**key, "Limit": 0}, one(at("limit", "have value greater than or equal to 1", 0)))
      for operation, key in [("ListKeys", {}), ("ListAliases", {}), ("ListResourceTags", {"KeyId": "$id"}), ("ListKeyPolicies", {"KeyId": "$id"})]],
    *[(operation, "large limit", {**key, "Limit": 1001}, one(at("limit", "have value less than or equal to 1000", 1001)))
      for operation, key in [("ListKeys", {}), ("ListAliases", {}), ("ListResourceTags", {"KeyId": "$id"}), ("ListKeyPolicies", {"KeyId": "$id"})]],
    *[(operation, "empty marker", {**key, "Marker": ""}, one(at("marker", at_least(1), "")))
      for operation, key in [("ListKeys", {}), ("ListAliases", {}), ("ListResourceTags", {"KeyId": "$id"}), ("ListKeyPolicies", {"KeyId": "$id"})]],
    *[(operation, "characters of the marker", {**key, "Marker": "€"}, one(at("marker", MARKER_PATTERN, "€")))
      for operation, key in [("ListKeys", {}), ("ListAliases", {}), ("ListResourceTags", {"KeyId": "$id"}), ("ListKeyPolicies", {"KeyId": "$id"})]],
    *[(operation, "invalid marker", {**key, "Marker": "bWFya2Vy"}, "InvalidMarkerException…")
      for operation, key in [("ListKeys", {}), ("ListAliases", {}), ("ListResourceTags", {"KeyId": "$id"}), ("ListKeyPolicies", {"KeyId": "$id"})]],

    # Rules between members.
    ("GenerateDataKey", "no size", {"KeyId": "$id"}, ONE_SIZE),
    ("GenerateDataKey", "two sizes", {"KeyId": "$id", "KeySpec": "AES_256", "NumberOfBytes": 32}, ONE_SIZE),
    ("GenerateDataKey", "size before state", {"KeyId": "$disabled"}, ONE_SIZE),
    ("GenerateDataKey", "key before size", {"KeyId": "foo"}, "NotFoundException: Invalid keyId 'foo'"),
    ("GenerateDataKeyWithoutPlaintext", "no size", {"KeyId": "$id"}, ONE_SIZE),
    ("GenerateDataKeyWithoutPlaintext", "two sizes", {"KeyId": "$id", "KeySpec": "AES_128", "NumberOfBytes": 16}, ONE_SIZE),
    ("GenerateRandom", "no size", {}, "ValidationException: NumberOfBytes is required."),
    ("CreateKey", "usage and spec", {"KeyUsage": "SIGN_VERIFY"}, "ValidationException: KeyUsage SIGN_VERIFY is not compatible with KeySpec SYMMETRIC_DEFAULT"),
    ("CreateKey", "usage and spec named", {"KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "KEY_AGREEMENT"}, "ValidationException: KeyUsage KEY_AGREEMENT is not compatible with KeySpec SYMMETRIC_DEFAULT"),
    ("CreateKey", "RSA without usage", {"KeySpec": "RSA_2048"}, USAGE),
    ("CreateKey", "HMAC without usage", {"KeySpec": "HMAC_256"}, USAGE),
    ("CreateKey", "old member, no usage", {"CustomerMasterKeySpec": "ECC_NIST_P256"}, USAGE),
    ("CreateKey", "RSA for MACs", {"KeySpec": "RSA_2048", "KeyUsage": "GENERATE_VERIFY_MAC"}, "ValidationException: KeyUsage GENERATE_VERIFY_MAC is not compatible with KeySpec RSA_2048"),
    ("CreateKey", "ML-KEM imported", {"KeySpec": "ML_KEM_768", "KeyUsage": "ENCAPSULATE_DECAPSULATE", "Origin": "EXTERNAL"}, "UnsupportedOperationException: …"),
    ("CreateKey", "both specs", {"KeySpec": "SYMMETRIC_DEFAULT", "CustomerMasterKeySpec": "SYMMETRIC_DEFAULT"},
     "ValidationException: You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated."),
    ("CreateKey", "key store", {"CustomKeyStoreId": "cks-1234567890abcdef0", "Origin": "AWS_CLOUDHSM"}, "CustomKeyStoreNotFoundException…"),
    ("GenerateRandom", "key store", {"NumberOfBytes": 1, "CustomKeyStoreId": "cks-1234567890abcdef0"}, "CustomKeyStoreNotFoundException…"),

    # Kinds of keys that are not built yet say so.

    # Algorithms and grants.
    ("Encrypt", "other algorithm", {"KeyId": "$id", "Plaintext": b64(b"x"), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"},
     "InvalidKeyUsageException: Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT."),
    ("Encrypt", "state before algorithm", {"KeyId": "$disabled", "Plaintext": b64(b"x"), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, "DisabledException: $disabledArn is disabled."),
    ("Decrypt", "other algorithm", {"KeyId": "$id", "CiphertextBlob": "$blob", "EncryptionAlgorithm": "RSAES_OAEP_SHA_1", "EncryptionContext": {"a": "1"}},
     "InvalidKeyUsageException: Algorithm RSAES_OAEP_SHA_1 is incompatible with key spec SYMMETRIC_DEFAULT."),
    ("ReEncrypt", "other destination algorithm", {"CiphertextBlob": "$blob", "SourceEncryptionContext": {"a": "1"}, "DestinationKeyId": "$other", "DestinationEncryptionAlgorithm": "SM2PKE"},
     "InvalidKeyUsageException: Algorithm SM2PKE is incompatible with key spec SYMMETRIC_DEFAULT."),
    ("Encrypt", "grant token", {"KeyId": "$id", "Plaintext": b64(b"x"), "GrantTokens": ["x"]}, "InvalidGrantTokenException…"),
    ("DescribeKey", "grant token", {"KeyId": "$id", "GrantTokens": ["x"]}, "InvalidGrantTokenException…"),

    # Ciphertexts. Whatever is wrong with one looks the same.
    ("Decrypt", "no ciphertext", {"CiphertextBlob": b64(b"not one of ours at all, really not")}, "InvalidCiphertextException"),
    ("Decrypt", "no ciphertext, key named", {"KeyId": "$id", "CiphertextBlob": b64(b"x")}, "InvalidCiphertextException"),
    ("Decrypt", "context missing", {"CiphertextBlob": "$blob"}, "InvalidCiphertextException"),
    ("Decrypt", "context differs", {"CiphertextBlob": "$blob", "EncryptionContext": {"a": "2"}}, "InvalidCiphertextException"),
    ("Decrypt", "context differs in case", {"CiphertextBlob": "$blob", "EncryptionContext": {"A": "1"}}, "InvalidCiphertextException"),
    ("Decrypt", "more context", {"CiphertextBlob": "$blob", "EncryptionContext": {"a": "1", "b": "2"}}, "InvalidCiphertextException"),
    ("Decrypt", "other key", {"KeyId": "$other", "CiphertextBlob": "$blob", "EncryptionContext": {"a": "1"}}, INCORRECT),
    ("Decrypt", "other key, disabled", {"KeyId": "$disabled", "CiphertextBlob": "$blob", "EncryptionContext": {"a": "1"}}, INCORRECT),
    ("ReEncrypt", "no ciphertext", {"CiphertextBlob": b64(b"x"), "DestinationKeyId": "$id"}, "InvalidCiphertextException"),
    ("ReEncrypt", "source context missing", {"CiphertextBlob": "$blob", "DestinationKeyId": "$other"}, "InvalidCiphertextException"),
    ("ReEncrypt", "other source key", {"SourceKeyId": "$other", "CiphertextBlob": "$blob", "SourceEncryptionContext": {"a": "1"}, "DestinationKeyId": "$id"}, INCORRECT),
    ("ReEncrypt", "unknown destination", {"CiphertextBlob": "$blob", "SourceEncryptionContext": {"a": "1"}, "DestinationKeyId": "foo"}, "NotFoundException: Invalid keyId 'foo'"),
    ("Encrypt", "large context", {"KeyId": "$id", "Plaintext": b64(b"x"), "EncryptionContext": {"k": "v" * 8192}}, "ValidationException: …"),

    # Aliases.
    ("CreateAlias", "no prefix", {"AliasName": "app", "TargetKeyId": "$id"}, PREFIX),
    ("CreateAlias", "prefix of another case", {"AliasName": "Alias/app", "TargetKeyId": "$id"}, PREFIX),
    ("CreateAlias", "colon", {"AliasName": "alias/a:b", "TargetKeyId": "$id"}, "ValidationException: alias/a:b contains invalid characters for an alias"),
    ("CreateAlias", "reserved", {"AliasName": "alias/aws/s3", "TargetKeyId": "$id"}, "NotAuthorizedException"),
    ("CreateAlias", "there already", {"AliasName": "$alias", "TargetKeyId": "$other"}, f"AlreadyExistsException: An alias with the name arn:aws:kms:{REGION}:{ACCOUNT}:$alias already exists"),
    ("UpdateAlias", "unknown", {"AliasName": "alias/none", "TargetKeyId": "$id"}, f"NotFoundException: Alias arn:aws:kms:{REGION}:{ACCOUNT}:alias/none is not found."),
    ("UpdateAlias", "reserved", {"AliasName": "alias/aws/s3", "TargetKeyId": "$id"}, "NotAuthorizedException"),
    ("DeleteAlias", "unknown", {"AliasName": "alias/none"}, f"NotFoundException: Alias arn:aws:kms:{REGION}:{ACCOUNT}:alias/none is not found."),
    ("DeleteAlias", "reserved", {"AliasName": "alias/aws/s3"}, "NotAuthorizedException"),

    # Tags.
    ("CreateKey", "tag twice", {"Tags": tags(("a", "1"), ("a", "2"))}, "TagException: Duplicate tag keys"),
    ("CreateKey", "reserved tag", {"Tags": tags(("AWS:a", "1"))}, "TagException: Tags beginning with aws: are reserved"),
    ("CreateKey", "51 tags", {"Tags": tags(*((f"k{i}", "") for i in range(51)))}, "TagException: Too many tags"),
    ("TagResource", "tag twice", {"KeyId": "$id", "Tags": tags(("a", "1"), ("a", "2"))}, "TagException: Duplicate tag keys"),
    ("TagResource", "reserved tag", {"KeyId": "$id", "Tags": tags(("aws:a", "1"))}, "TagException: Tags beginning with aws: are reserved"),
    ("TagResource", "51 tags", {"KeyId": "$id", "Tags": tags(*((f"k{i}", "") for i in range(51)))}, "TagException: Too many tags"),
    ("UntagResource", "reserved tag", {"KeyId": "$id", "TagKeys": ["aWs:a"]}, "TagException: Tags beginning with aws: are reserved"),

    # Policies.
    ("GetKeyPolicy", "other name", {"KeyId": "$id", "PolicyName": "other"}, "NotFoundException: No such policy exists"),
    ("PutKeyPolicy", "other name", {"KeyId": "$id", "PolicyName": "other", "Policy": policy(allow())}, "NotFoundException: No such policy exists"),
    *[(operation, situation, {**key, "Policy": text}, want) for operation, key in [("PutKeyPolicy", {"KeyId": "$id"}), ("CreateKey", {})]
      for situation, text, want in [
        ("locks out", policy(allow(action="kms:Encrypt")), LOCKOUT),
        ("locks out by a denial", policy(allow(), allow(action="kms:PutKeyPolicy", effect="Deny")), LOCKOUT),
        ("lets only others in", policy(allow(f"arn:aws:iam::{OTHER_ACCOUNT}:root")), LOCKOUT),
        ("unknown account", policy(allow(), allow("arn:aws:iam::999999999999:root")), PRINCIPALS),
        ("unknown user", policy(allow(), allow(f"arn:aws:iam::{ACCOUNT}:user/nobody")), PRINCIPALS),
        ("no JSON", "{", "MalformedPolicyDocumentException: …"),
        ("no statement", policy(), "MalformedPolicyDocumentException: …"),
        ("effect", policy(allow(effect="Perhaps")), "MalformedPolicyDocumentException: …"),
        ("no principal", policy({"Effect": "Allow", "Action": "kms:*", "Resource": "*"}), "MalformedPolicyDocumentException: …"),
        ("no action", policy({"Effect": "Allow", "Principal": {"AWS": ROOT}, "Resource": "*"}), "MalformedPolicyDocumentException: …"),
        ("unknown element", policy({**allow(), "Colour": "red"}), "MalformedPolicyDocumentException: …"),
        ("larger than 32 KiB", policy(allow(), {**allow(), "Sid": "a" * 33000}), "LimitExceededException: …"),
      ]],
]


@pytest.fixture(scope="module")
def names(wire, ledger):
    """What the placeholders of the table stand for."""
    key, other, disabled = (wire.ok("CreateKey")["KeyMetadata"] for _ in range(3))
    wire.ok("DisableKey", KeyId=disabled["KeyId"])
    wire.ok("CreateAlias", AliasName="alias/errors", TargetKeyId=key["KeyId"])
    blob = wire.ok("Encrypt", KeyId=key["KeyId"], Plaintext=b64(ledger.fresh_plaintext()), EncryptionContext={"a": "1"})["CiphertextBlob"]
    return {"$disabledArn": disabled["Arn"], "$disabled": disabled["KeyId"], "$id": key["KeyId"], "$arn": key["Arn"],
            "$other": other["KeyId"], "$alias": "alias/errors", "$blob": blob}


def fill(value, names):
    if isinstance(value, dict):
        return {k: fill(v, names) for k, v in value.items()}
    if isinstance(value, str):
        for name, meaning in names.items():
            value = value.replace(name, meaning)
    return value


@pytest.mark.parametrize("operation,situation,values,want", CASES, ids=[f"{o} {s}" for o, s, _, _ in CASES])
def test_error(wire, names, operation, situation, values, want):
    expect_error(wire.call(operation, fill(values, names)), fill(want, names))


def test_nothing_was_changed(wire, names):
    """The refused calls left the keys as they were."""
    assert wire.ok("ListResourceTags", KeyId=names["$id"])["Tags"] == []
    assert wire.ok("ListAliases", KeyId=names["$id"])["Aliases"][0]["AliasName"] == "alias/errors"
    assert json.loads(wire.ok("GetKeyPolicy", KeyId=names["$id"])["Policy"])["Id"] == "key-default-1"
    metadata = wire.ok("DescribeKey", KeyId=names["$id"])["KeyMetadata"]
    assert metadata["KeyState"] == "Enabled" and metadata["Description"] == ""


def test_every_changed_octet_of_a_ciphertext(wire, names, tally):
    """It is refused, and neither says which octet it was nor decrypts."""
    blob = base64.b64decode(names["$blob"])
    for i in range(len(blob)):
        changed = bytearray(blob)
        changed[i] ^= 1 << i % 8
        answer = wire.call("Decrypt", KeyId=names["$id"], CiphertextBlob=b64(bytes(changed)), EncryptionContext={"a": "1"})
        assert answer.error in ("InvalidCiphertextException", INCORRECT), f"octet {i}: {answer.error}"
        answer = wire.call("Decrypt", CiphertextBlob=b64(bytes(changed)), EncryptionContext={"a": "1"})
        assert answer.error in ("InvalidCiphertextException", NOWHERE), f"octet {i}: {answer.error}"
    for size in range(1, len(blob)):
        assert wire.call("Decrypt", KeyId=names["$id"], CiphertextBlob=b64(blob[:size])).error == "InvalidCiphertextException"
    tally(3 * len(blob))


def test_aliases_per_key(wire, new_key, tally):
    """A key can have fifty aliases, whether they are made for it or moved to it; one of them goes on pointing at it."""
    key = new_key()["KeyId"]
    for i in range(50):
        wire.ok("CreateAlias", AliasName=f"alias/many/{key}/{i:02}", TargetKeyId=key)
    refused = "LimitExceededException: Aliases per key quota for this account in this region is 50, current usage is 50."
    other = new_key()["KeyId"]
    wire.ok("CreateAlias", AliasName=f"alias/many/{key}/moved", TargetKeyId=other)
    expect_error(wire.call("CreateAlias", AliasName=f"alias/many/{key}/50", TargetKeyId=key), refused)
    expect_error(wire.call("UpdateAlias", AliasName=f"alias/many/{key}/moved", TargetKeyId=key), refused)
    wire.ok("UpdateAlias", AliasName=f"alias/many/{key}/00", TargetKeyId=key)
    listed = wire.ok("ListAliases", KeyId=key)
    assert [a["AliasName"] for a in listed["Aliases"]] == [f"alias/many/{key}/{i:02}" for i in range(50)]
    tally(54)
