"""Two people and a key, with the AWS CLI alone: one may administer the key, the other may use it, and neither may do the other's work."""
import base64
import json

import pytest

from harness.cli import aws
from harness.server import ACCOUNT, REGION

MANAGER, USER, GUEST = "myKeyManager", "myKeyUser", "myGuest"

ADMINISTER = ["kms:Create*", "kms:Describe*", "kms:Enable*", "kms:List*", "kms:Put*", "kms:Update*", "kms:Revoke*", "kms:Disable*", "kms:Get*", "kms:Delete*",
              "kms:TagResource", "kms:UntagResource", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"]
USE = ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"]


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Id": "course", "Statement": list(statements)})


def statement(sid, who, actions, **more):
    return {"Sid": sid, "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:{who}"}, "Action": actions, "Resource": "*"} | more


@pytest.fixture(scope="module")
def root(shared, request):
    def run(*arguments, **options):
        request.config.checks[request.path.name] += 1
        return aws(shared, *arguments, **options)
    return run


@pytest.fixture(scope="module")
def people(shared, root, request):
    """The users, each with an access key: a function that runs the AWS CLI as one of them."""
    keys = {}
    for name in (MANAGER, USER, GUEST):
        user = root("iam", "create-user", "--user-name", name)["User"]
        assert user["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/{name}" and user["UserId"].startswith("AIDA")
        made = root("iam", "create-access-key", "--user-name", name)["AccessKey"]
        shared.ledger.credential(made["SecretAccessKey"])
        keys[name] = {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}

    def run(name, *arguments, **options):
        request.config.checks[request.path.name] += 1
        return aws(shared, *arguments, environment=keys[name], **options)
    return run


@pytest.fixture(scope="module")
def key(root, people):
    """The key, whose policy lets one administer it, the other use it, and leaves the rest to the account."""
    text = policy(statement("Enable IAM User Permissions", "root", "kms:*"), statement("Allow access for Key Administrators", f"user/{MANAGER}", ADMINISTER),
                  statement("Allow use of the key", f"user/{USER}", USE),
                  statement("Allow attachment of persistent resources", f"user/{USER}", ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"],
                            Condition={"Bool": {"kms:GrantIsForAWSResource": "true"}}))
    return root("kms", "create-key", "--description", "course", "--policy", text)["KeyMetadata"]


@pytest.fixture(scope="module")
def blob(people, key, tmp_path_factory, ledger):
    """A file with what the user encrypted, and its plaintext."""
    folder = tmp_path_factory.mktemp("course")
    plaintext = ledger.fresh_plaintext(48)
    (folder / "plain").write_bytes(plaintext)
    sealed = people(USER, "kms", "encrypt", "--key-id", key["KeyId"], "--plaintext", f"fileb://{folder}/plain")
    (folder / "blob").write_bytes(ledger.ciphertext(base64.b64decode(sealed["CiphertextBlob"])))
    return folder / "blob", plaintext


def refusal(name, operation, action, resource, why):
    return (f"An error occurred (AccessDeniedException) when calling the {operation} operation: User: arn:aws:iam::{ACCOUNT}:user/{name} is not authorized to perform: "
            f"{action} on resource: {resource} {why}")


def not_in_identity(name, operation, resource):
    return refusal(name, operation, f"kms:{operation}", resource, f"because no identity-based policy allows the kms:{operation} action")


def test_who_they_are(people):
    for name in (MANAGER, USER):
        identity = people(name, "sts", "get-caller-identity")
        assert identity["Account"] == ACCOUNT and identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/{name}" and identity["UserId"].startswith("AIDA")


def test_the_user_uses_the_key(people, key, blob):
    path, plaintext = blob
    opened = people(USER, "kms", "decrypt", "--ciphertext-blob", f"fileb://{path}")
    assert base64.b64decode(opened["Plaintext"]) == plaintext and opened["KeyId"] == key["Arn"]
    assert people(USER, "kms", "describe-key", "--key-id", key["KeyId"])["KeyMetadata"]["Description"] == "course"
    data_key = people(USER, "kms", "generate-data-key", "--key-id", key["KeyId"], "--key-spec", "AES_256")
    assert len(base64.b64decode(data_key["Plaintext"])) == 32
    moved = people(USER, "kms", "re-encrypt", "--ciphertext-blob", f"fileb://{path}", "--destination-key-id", key["KeyId"])
    assert moved["SourceKeyId"] == key["Arn"] == moved["KeyId"]


def test_the_manager_administers_the_key(people, key):
    arn, k = key["Arn"], key["KeyId"]
    people(MANAGER, "kms", "disable-key", "--key-id", k)
    assert people(MANAGER, "kms", "describe-key", "--key-id", k)["KeyMetadata"]["KeyState"] == "Disabled"
    people(MANAGER, "kms", "enable-key", "--key-id", k)
    people(MANAGER, "kms", "enable-key-rotation", "--key-id", k)
    assert people(MANAGER, "kms", "get-key-rotation-status", "--key-id", k)["KeyRotationEnabled"] is True
    people(MANAGER, "kms", "tag-resource", "--key-id", k, "--tags", "TagKey=course,TagValue=one")
    people(MANAGER, "kms", "update-key-description", "--key-id", k, "--description", "course")
    text = people(MANAGER, "kms", "get-key-policy", "--key-id", k, "--policy-name", "default")["Policy"]
    people(MANAGER, "kms", "put-key-policy", "--key-id", k, "--policy-name", "default", "--policy", text)
    assert people(MANAGER, "kms", "schedule-key-deletion", "--key-id", k, "--pending-window-in-days", "7")["KeyId"] == arn
    people(MANAGER, "kms", "cancel-key-deletion", "--key-id", k)
    people(MANAGER, "kms", "enable-key", "--key-id", k)


@pytest.mark.parametrize("operation,arguments", [
    ("Encrypt", ["encrypt", "--plaintext", "c2VjcmV0"]), ("GenerateDataKey", ["generate-data-key", "--key-spec", "AES_128"]),
    ("GenerateDataKeyWithoutPlaintext", ["generate-data-key-without-plaintext", "--key-spec", "AES_256"]),
])
def test_the_manager_does_not_use_it(people, key, operation, arguments):
    said = people(MANAGER, "kms", *arguments, "--key-id", key["KeyId"], fails=True)
    assert said == not_in_identity(MANAGER, operation, key["Arn"])


def test_the_manager_does_not_decrypt(people, key, blob):
    said = people(MANAGER, "kms", "decrypt", "--key-id", key["KeyId"], "--ciphertext-blob", f"fileb://{blob[0]}", fails=True)
    assert said == not_in_identity(MANAGER, "Decrypt", key["Arn"])


@pytest.mark.parametrize("operation,arguments", [
    ("DisableKey", ["disable-key"]), ("EnableKeyRotation", ["enable-key-rotation"]), ("GetKeyPolicy", ["get-key-policy", "--policy-name", "default"]),
    ("ScheduleKeyDeletion", ["schedule-key-deletion"]), ("TagResource", ["tag-resource", "--tags", "TagKey=a,TagValue=b"]),
    ("UpdateKeyDescription", ["update-key-description", "--description", "mine"]),
    ("PutKeyPolicy", ["put-key-policy", "--policy-name", "default", "--policy", policy(statement("all", f"user/{USER}", "kms:*"))]),
    # The policy lets the user make grants only through a service.
    ("CreateGrant", ["create-grant", "--grantee-principal", f"arn:aws:iam::{ACCOUNT}:user/{GUEST}", "--operations", "Decrypt"]),
])
def test_the_user_does_not_administer_it(people, key, operation, arguments):
    said = people(USER, "kms", *arguments, "--key-id", key["KeyId"], fails=True)
    assert said == not_in_identity(USER, operation, key["Arn"])


def test_the_guest_does_nothing_until_the_account_says_so(people, root, key, blob):
    """The key's policy leaves the rest to the account, so an identity policy of the account is enough, from the very next call on."""
    said = people(GUEST, "kms", "describe-key", "--key-id", key["KeyId"], fails=True)
    assert said == not_in_identity(GUEST, "DescribeKey", key["Arn"])
    said = people(GUEST, "kms", "create-key", fails=True)
    assert said == not_in_identity(GUEST, "CreateKey", "*")
    read = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["kms:DescribeKey", "kms:Decrypt"], "Resource": key["Arn"]}]})
    root("iam", "put-user-policy", "--user-name", GUEST, "--policy-name", "read", "--policy-document", read)
    assert people(GUEST, "kms", "describe-key", "--key-id", key["KeyId"])["KeyMetadata"]["KeyId"] == key["KeyId"]
    assert base64.b64decode(people(GUEST, "kms", "decrypt", "--ciphertext-blob", f"fileb://{blob[0]}")["Plaintext"]) == blob[1]
    root("iam", "delete-user-policy", "--user-name", GUEST, "--policy-name", "read")
    assert people(GUEST, "kms", "describe-key", "--key-id", key["KeyId"], fails=True) == not_in_identity(GUEST, "DescribeKey", key["Arn"])


def test_a_key_that_leaves_nothing_to_the_account(people, root, key):
    """Without the account in its policy, identity policies have no effect on a key, not even the root user's word."""
    text = policy(statement("admin", f"user/{MANAGER}", "kms:*"))
    own = people(MANAGER, "kms", "create-key", "--policy", text, fails=True)
    assert own == not_in_identity(MANAGER, "CreateKey", "*")
    made = root("kms", "create-key", "--policy", text, "--bypass-policy-lockout-safety-check")["KeyMetadata"]
    everything = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]})
    root("iam", "put-user-policy", "--user-name", USER, "--policy-name", "all", "--policy-document", everything)
    why = "because no resource-based policy allows the kms:DescribeKey action"
    assert people(USER, "kms", "describe-key", "--key-id", made["Arn"], fails=True) == refusal(USER, "DescribeKey", "kms:DescribeKey", made["Arn"], why)
    said = root("kms", "describe-key", "--key-id", made["Arn"], fails=True)
    assert said == (f"An error occurred (AccessDeniedException) when calling the DescribeKey operation: User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: "
                    f"kms:DescribeKey on resource: {made['Arn']} {why}")
    assert people(MANAGER, "kms", "describe-key", "--key-id", made["Arn"])["KeyMetadata"]["Arn"] == f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{made['KeyId']}"
    root("iam", "delete-user-policy", "--user-name", USER, "--policy-name", "all")


def test_a_user_made_again_is_somebody_else(people, root, key):
    """A key policy knows its principals by unique id: a namesake gets nothing, and the policy shows who is gone."""
    root("iam", "create-user", "--user-name", "leaver")
    old = root("iam", "get-user", "--user-name", "leaver")["User"]["UserId"]
    text = policy(statement("root", "root", "kms:*"), statement("leaver", "user/leaver", "kms:DescribeKey"))
    made = root("kms", "create-key", "--policy", text)["KeyMetadata"]["Arn"]

    def policy_text():
        return root("kms", "get-key-policy", "--key-id", made, "--policy-name", "default")["Policy"]
    assert f"arn:aws:iam::{ACCOUNT}:user/leaver" in policy_text()
    root("iam", "delete-user", "--user-name", "leaver")
    assert old in policy_text() and "user/leaver" not in policy_text()
    new = root("iam", "create-user", "--user-name", "leaver")["User"]["UserId"]
    assert new != old and old in policy_text() and "user/leaver" not in policy_text()
    said = root("kms", "put-key-policy", "--key-id", made, "--policy-name", "default", "--policy", policy(statement("x", "user/nobody", "kms:*")), fails=True)
    assert "MalformedPolicyDocumentException" in said and "one or more invalid principals" in said
