"""Grants with boto3 and the AWS CLI: made, used, listed, passed on, retired and revoked, by the people they are for."""
import botocore.exceptions
import pytest

from harness.cli import aws
from harness.server import ACCOUNT, OTHER_ACCOUNT

GRANTEE, RETIRER, STRANGER = "myGrantee", "myRetirer", "myStranger"


def arn(name):
    return f"arn:aws:iam::{ACCOUNT}:user/{name}"


def code_of(call, **arguments):
    """The error code of a call; empty if it succeeds."""
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
    return ""


@pytest.fixture(scope="module")
def people(shared):
    """Users without any policy: boto3 clients by name."""
    iam, clients = shared.boto3("iam"), {}
    for name in (GRANTEE, RETIRER, STRANGER):
        iam.create_user(UserName=name)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        shared.ledger.credential(made["SecretAccessKey"])
        clients[name] = shared.boto3(credentials=(made["AccessKeyId"], made["SecretAccessKey"]))
    return clients


@pytest.fixture
def key(kms):
    return kms.create_key()["KeyMetadata"]


def test_a_grant_holds_at_once_and_no_longer_than_it_is_there(kms, people, key):
    own, stranger = people[GRANTEE], people[STRANGER]
    assert code_of(own.encrypt, KeyId=key["Arn"], Plaintext=b"x") == "AccessDeniedException"
    grant = kms.create_grant(KeyId=key["KeyId"], GranteePrincipal=arn(GRANTEE), Operations=["Encrypt", "Decrypt", "DescribeKey"])
    assert len(grant["GrantId"]) == 64 and grant["GrantToken"]
    blob = own.encrypt(KeyId=key["Arn"], Plaintext=b"granted")["CiphertextBlob"]
    assert own.decrypt(CiphertextBlob=blob)["Plaintext"] == b"granted"
    assert own.describe_key(KeyId=key["KeyId"], GrantTokens=[grant["GrantToken"]])["KeyMetadata"]["Arn"] == key["Arn"]
    assert code_of(own.generate_data_key, KeyId=key["Arn"], KeySpec="AES_256") == "AccessDeniedException"
    assert code_of(stranger.encrypt, KeyId=key["Arn"], Plaintext=b"x", GrantTokens=[grant["GrantToken"]]) == "AccessDeniedException"
    kms.revoke_grant(KeyId=key["KeyId"], GrantId=grant["GrantId"])
    assert code_of(own.encrypt, KeyId=key["Arn"], Plaintext=b"x") == "AccessDeniedException"


def test_constraints_bind_to_an_encryption_context(kms, people, key):
    own = people[GRANTEE]
    kms.create_grant(KeyId=key["KeyId"], GranteePrincipal=arn(GRANTEE), Operations=["Encrypt", "Decrypt"],
                     Constraints={"EncryptionContextSubset": {"volume": "1"}})
    blob = own.encrypt(KeyId=key["Arn"], Plaintext=b"x", EncryptionContext={"volume": "1", "more": "x"})["CiphertextBlob"]
    assert own.decrypt(CiphertextBlob=blob, EncryptionContext={"volume": "1", "more": "x"})["Plaintext"] == b"x"
    for context in ({}, {"volume": "2"}, {"Volume": "1"}):
        assert code_of(own.encrypt, KeyId=key["Arn"], Plaintext=b"x", EncryptionContext=context) == "AccessDeniedException"


def test_lists_have_pages_and_no_tokens(kms, shared, key):
    made = {kms.create_grant(KeyId=key["KeyId"], GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:root", Operations=["Encrypt"],
                             RetiringPrincipal=f"arn:aws:iam::{ACCOUNT}:root")["GrantId"] for _ in range(7)}
    pages = list(kms.get_paginator("list_grants").paginate(KeyId=key["KeyId"], PaginationConfig={"PageSize": 3}))
    listed = [g for page in pages for g in page["Grants"]]
    assert len(pages) == 3 and {g["GrantId"] for g in listed} == made
    for grant in listed:
        assert grant["KeyId"] == key["Arn"] and grant["IssuingAccount"] == f"arn:aws:iam::{ACCOUNT}:root" and "GrantToken" not in grant
    retirable = [g["GrantId"] for page in kms.get_paginator("list_retirable_grants").paginate(
        RetiringPrincipal=f"arn:aws:iam::{ACCOUNT}:root", PaginationConfig={"PageSize": 2}) for g in page["Grants"]]
    assert made <= set(retirable) and len(retirable) == len(set(retirable))
    shown = aws(shared, "kms", "list-grants", "--key-id", key["KeyId"], "--grantee-principal", f"arn:aws:iam::{ACCOUNT}:root")["Grants"]
    assert {g["GrantId"] for g in shown} == made


def test_the_same_name_and_parameters_are_the_same_grant(kms, people, key):
    request = {"KeyId": key["KeyId"], "GranteePrincipal": arn(GRANTEE), "Operations": ["Encrypt"], "Name": "once"}
    one, two = kms.create_grant(**request), kms.create_grant(**request)
    other = kms.create_grant(**request | {"Operations": ["Decrypt"]})
    assert one["GrantId"] == two["GrantId"] != other["GrantId"] and one["GrantToken"] != two["GrantToken"]


def test_who_may_retire(kms, people, key):
    def grant(*more):
        return kms.create_grant(KeyId=key["KeyId"], GranteePrincipal=arn(GRANTEE), RetiringPrincipal=arn(RETIRER), Operations=["Encrypt", *more])
    first = grant()
    for name in (GRANTEE, STRANGER):
        assert code_of(people[name].retire_grant, GrantToken=first["GrantToken"]) == "AccessDeniedException"
    people[RETIRER].retire_grant(GrantToken=first["GrantToken"])
    assert code_of(kms.retire_grant, KeyId=key["Arn"], GrantId=first["GrantId"]) == "NotFoundException"
    people[GRANTEE].retire_grant(KeyId=key["Arn"], GrantId=grant("RetireGrant")["GrantId"])
    second = grant()["GrantId"]
    assert code_of(kms.retire_grant, KeyId=key["Arn"], GrantId=second, DryRun=True) == "DryRunOperationException"
    kms.retire_grant(KeyId=key["Arn"], GrantId=second)
    assert kms.list_grants(KeyId=key["KeyId"])["Grants"] == []


def test_a_grant_makes_no_wider_one(kms, people, key):
    own = people[GRANTEE]
    kms.create_grant(KeyId=key["KeyId"], GranteePrincipal=arn(GRANTEE), Operations=["Encrypt", "CreateGrant"],
                     Constraints={"EncryptionContextSubset": {"volume": "1"}})
    child = {"KeyId": key["Arn"], "GranteePrincipal": arn(STRANGER), "Operations": ["Encrypt"], "Constraints": {"EncryptionContextEquals": {"volume": "1"}}}
    for wider in ({"Operations": ["Encrypt", "Decrypt"]}, {"Constraints": {}}, {"Constraints": {"EncryptionContextEquals": {"volume": "2"}}}):
        assert code_of(own.create_grant, **child | wider) == "AccessDeniedException"
    own.create_grant(**child)
    people[STRANGER].encrypt(KeyId=key["Arn"], Plaintext=b"x", EncryptionContext={"volume": "1"})
    assert code_of(people[STRANGER].encrypt, KeyId=key["Arn"], Plaintext=b"x") == "AccessDeniedException"


def test_a_grant_to_another_account(kms, other, key):
    grant = kms.create_grant(KeyId=key["KeyId"], GranteePrincipal=f"arn:aws:iam::{OTHER_ACCOUNT}:root", Operations=["Encrypt"])
    other.ok("Encrypt", KeyId=key["Arn"], Plaintext="eA==")
    kms.revoke_grant(KeyId=key["KeyId"], GrantId=grant["GrantId"])
    assert "AccessDeniedException" in other.call("Encrypt", KeyId=key["Arn"], Plaintext="eA==").body.decode()


def test_principals_must_be_there(kms, key):
    for principal in (arn("nobody"), ACCOUNT, "arn:aws:iam::999999999999:root"):
        assert code_of(kms.create_grant, KeyId=key["KeyId"], GranteePrincipal=principal, Operations=["Encrypt"]) == "InvalidArnException"
    assert code_of(kms.create_grant, KeyId=key["KeyId"], GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:root", Operations=["Sign"]) == "ValidationException"
