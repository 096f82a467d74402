"""Everybody who should not get in: without signature, with another's token, with a token that has ended, through another account, with documents made to hurt."""
import base64
import json
import pathlib
import re
import time
import urllib.parse
import uuid

import botocore
import botocore.exceptions
import botocore.loaders
import pytest

from harness.server import ACCOUNT, OTHER_ACCOUNT, OTHER_KEY_ID, REGION
from harness.wire import Signing

# What each service answers to what is not signed, or not signed for it.
TARGETS = {"kms": "TrentService", "cloudtrail": "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101",
           "servicequotas": "ServiceQuotasV20190624"}
VERSIONS = {"iam": "2010-05-08", "sts": "2011-06-15"}
OPERATIONS = {service: sorted(botocore.loaders.Loader().load_service_model(service, "service-2")["operations"]) for service in ("kms", "iam", "sts", "cloudtrail")}
OPERATIONS["servicequotas"] = sorted(botocore.loaders.Loader().load_service_model("service-quotas", "service-2")["operations"])
UNSIGNED = {"AssumeRoleWithWebIdentity"}  # its token speaks for itself


def allow(actions, resource="*", **more):
    return {"Effect": "Allow", "Action": actions, "Resource": resource} | more


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def code_of(call, **arguments):
    """The error code of a call that must fail."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


@pytest.fixture
def person(shared):
    """Makes a user, gives back its name and credentials."""
    iam = shared.boto3("iam")

    def make(*statements):
        name = "u" + uuid.uuid4().hex[:12]
        iam.create_user(UserName=name)
        made = iam.create_access_key(UserName=name)["AccessKey"]
        if statements:
            iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document(*statements))
        return name, (made["AccessKeyId"], shared.ledger.credential(made["SecretAccessKey"]))
    return make


def forget(shared, name):
    iam = shared.boto3("iam")
    for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
        iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    for policy in iam.list_user_policies(UserName=name)["PolicyNames"]:
        iam.delete_user_policy(UserName=name, PolicyName=policy)
    iam.delete_user(UserName=name)


def session_of(shared, credentials, **arguments):
    made = shared.boto3("sts", credentials=credentials).get_session_token(**arguments)["Credentials"]
    return tuple(shared.ledger.credential(made[k]) if k != "AccessKeyId" else made[k] for k in ("AccessKeyId", "SecretAccessKey", "SessionToken"))


def request_for(service, operation):
    """Headers and body of a call without members."""
    if service in TARGETS:
        return {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"{TARGETS[service]}.{operation}"}, b"{}"
    return ({"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
            urllib.parse.urlencode({"Action": operation, "Version": VERSIONS[service]}).encode())


def said(answer):
    """The error code, whichever protocol says it."""
    assert answer.status in (400, 403), f"{answer.status}: {answer.body[:200]!r}"
    if answer.headers["content-type"].startswith("application/x-amz-json"):
        return answer.code
    return answer.body.split(b"<Code>")[1].split(b"<")[0].decode()


WRONG = {  # changes to a good signing, and the code of JSON and of Query services
    "wrong service": (dict(service="s3"), "InvalidSignatureException", "SignatureDoesNotMatch"),
    "wrong terminator": (dict(terminator="aws4"), "InvalidSignatureException", "SignatureDoesNotMatch"),
    "Region of no form": (dict(region="here there"), "InvalidSignatureException", "SignatureDoesNotMatch"),
    "another day": (dict(scope_date="20200101"), "InvalidSignatureException", "SignatureDoesNotMatch"),
    "wrong secret": (dict(secret="x" * 40), "InvalidSignatureException", "SignatureDoesNotMatch"),
    "unknown key": (dict(key_id="AKIANOBODYHASTHISONE"), "UnrecognizedClientException", "InvalidClientTokenId"),
    "another's key id": (dict(key_id=OTHER_KEY_ID), "InvalidSignatureException", "SignatureDoesNotMatch"),
    "a token of nobody": (dict(token="AAAA"), "UnrecognizedClientException", "InvalidClientTokenId"),
    "a temporary key without token": (dict(key_id="ASIANOBODYHASTHISONE"), "UnrecognizedClientException", "InvalidClientTokenId"),
}


@pytest.mark.parametrize("service", OPERATIONS)
def test_unsigned_and_wrongly_signed_calls_to_every_operation(wire, shared, tally, service):
    json_service = service in TARGETS
    asked = 0
    for operation in OPERATIONS[service]:
        headers, body = request_for(service, operation)
        answer = wire.send(headers, body, operation=operation)
        if operation in UNSIGNED:
            assert said(answer) not in ("MissingAuthenticationToken",), operation
            continue
        assert said(answer) == ("MissingAuthenticationTokenException" if json_service else "MissingAuthenticationToken"), operation
        for what, (changes, for_json, for_query) in WRONG.items():
            signing = Signing(**{"key_id": shared.key_id, "secret": shared.secret, "service": service} | changes)
            answer = wire.send(signing.sign(shared.address, headers, body), body, operation=operation)
            assert said(answer) == (for_json if json_service else for_query), f"{operation} with {what}: {answer.body[:300]!r}"
            asked += 1
    tally(asked)


def built():
    """The operations that there are, as the printed tables have them."""
    docs = pathlib.Path(__file__).parent.parent / "docs"
    rows = {service: set(re.findall(r"^\| ([A-Z]\w+) \|", (docs / file).read_text(), re.MULTILINE)) - {"Operation"}
            for service, file in (("kms", "operations.md"), ("iam", "iam.md"))}
    assert len(rows["kms"]) > 30 and len(rows["iam"]) > 90
    return rows | {"sts": {"AssumeRole", "AssumeRoleWithWebIdentity", "DecodeAuthorizationMessage", "GetAccessKeyInfo", "GetCallerIdentity",
                           "GetFederationToken", "GetSessionToken"}}


OPTIONAL = {  # members that the models do not require, but what the operations are about does
    "CreateAccessKey": ["UserName"], "CreateLoginProfile": ["UserName", "Password"], "DeleteAccessKey": ["UserName"], "DeleteLoginProfile": ["UserName"],
    "GetLoginProfile": ["UserName"], "GetUser": ["UserName"], "ListAccessKeys": ["UserName"], "UpdateAccessKey": ["UserName"],
    "UpdateLoginProfile": ["Password"], "ListMFADevices": ["UserName"], "ListSSHPublicKeys": ["UserName"], "ListSigningCertificates": ["UserName"],
    "ListServiceSpecificCredentials": ["UserName"], "CreateGrant": ["GranteePrincipal"], "Decrypt": ["CiphertextBlob"], "ReEncrypt": ["CiphertextBlob"],
    "GenerateDataKey": ["KeySpec"], "GenerateDataKeyWithoutPlaintext": ["KeySpec"], "GenerateRandom": ["NumberOfBytes"],
    "ListRetirableGrants": ["RetiringPrincipal"], "RetireGrant": ["KeyId", "GrantId"],
}


@pytest.fixture
def belongings(shared, person, kms, ledger):
    """One of everything, by the member of inputs that names it."""
    iam, tag = shared.boto3("iam"), uuid.uuid4().hex[:8]
    user, (key_id, _) = person(allow("kms:Encrypt"))
    trust = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}]})
    policy = iam.create_policy(PolicyName="p" + tag, PolicyDocument=document(allow("kms:Encrypt")))["Policy"]["Arn"]
    role = iam.create_role(RoleName="r" + tag, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    iam.create_group(GroupName="g" + tag)
    provider = iam.create_open_id_connect_provider(Url=f"https://{tag}.example.com", ThumbprintList=["0" * 40])["OpenIDConnectProviderArn"]
    key = kms.create_key()["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/" + tag, TargetKeyId=key)
    grant = kms.create_grant(KeyId=key, GranteePrincipal=role, RetiringPrincipal=role, Operations=["Encrypt"])["GrantId"]
    password = ledger.credential("Correct-Horse-44-battery")
    return {
        "UserName": user, "GroupName": "g" + tag, "RoleName": "r" + tag, "PolicyName": "p", "PolicyArn": policy, "RoleArn": role, "AccessKeyId": key_id,
        "OpenIDConnectProviderArn": provider, "Url": f"https://{tag}.example.com", "ClientID": "client", "ThumbprintList": ["0" * 40],
        "PolicyDocument": document(allow("kms:Encrypt")), "AssumeRolePolicyDocument": trust, "PermissionsBoundary": policy, "VersionId": "v1",
        "PolicyInputList": [document(allow("kms:Encrypt"))], "ActionNames": ["kms:Encrypt"], "PolicySourceArn": role, "Status": "Inactive",
        "AccountAlias": "the-" + tag, "Password": password, "OldPassword": password, "NewPassword": password, "Description": "new",
        "Tags": [{"Key": "a", "Value": "b"}], "TagKeys": ["a"], "RoleSessionName": "session", "EncodedMessage": "AAAA", "Name": "guest",
        "KeyId": key, "TargetKeyId": key, "DestinationKeyId": key, "AliasName": "alias/" + tag, "GrantId": grant, "GranteePrincipal": role,
        "RetiringPrincipal": role, "Operations": ["Encrypt"], "Plaintext": b"x", "KeySpec": "AES_256", "NumberOfBytes": 1,
        "CiphertextBlob": kms.encrypt(KeyId=key, Plaintext=b"x")["CiphertextBlob"],
        "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048", "ImportToken": b"x", "EncryptedKeyMaterial": b"x",
        "Message": b"x", "SigningAlgorithm": "ECDSA_SHA_256", "Signature": b"x", "MacAlgorithm": "HMAC_SHA_256", "Mac": b"x", "KeyPairSpec": "ECC_NIST_P256",
        "KeyAgreementAlgorithm": "ECDH", "PublicKey": b"x", "EncapsulationAlgorithm": "ML_KEM", "SharedSecretCiphertextBlob": b"x", "ReplicaRegion": "eu-west-1", "PrimaryRegion": "eu-west-1",
        "Policy": document({"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "kms:*", "Resource": "*"}),
    }


def test_a_principal_without_rights_gets_nothing_from_any_operation(shared, person, belongings, wire, tally):
    """Good calls about what is there are refused for want of permission, but the two that need none; what is no operation here is said to be none."""
    name, (key_id, secret) = person()
    free = {"GetCallerIdentity", "GetSessionToken"} | UNSIGNED
    there = built()
    asked = 0
    for service in ("kms", "iam", "sts"):
        client = shared.boto3(service, credentials=(key_id, secret))
        denied, unknown = ("AccessDeniedException", "UnsupportedOperationException") if service == "kms" else ("AccessDenied", "InvalidAction")
        for operation in set(OPERATIONS[service]) - free:
            asked += 1
            if operation not in there[service]:
                headers, body = request_for(service, operation)
                signing = Signing(key_id=key_id, secret=secret, service=service)
                answer = wire.send(signing.sign(shared.address, headers, body), body, operation=operation)
                assert said(answer) == unknown, f"{service}:{operation}: {answer.body[:300]!r}"
                continue
            shape = client.meta.service_model.operation_model(operation).input_shape
            members = OPTIONAL.get(operation, []) + (shape.required_members if shape else [])
            values = {member: belongings[member] for member in members}
            if operation == "TagResource":
                values["Tags"] = [{"TagKey": "a", "TagValue": "b"}]
            with pytest.raises(botocore.exceptions.ClientError) as caught:
                getattr(client, botocore.xform_name(operation))(**values)
            error = caught.value.response["Error"]
            action = f"{service}:{'ReEncryptFrom' if operation == 'ReEncrypt' else operation}"
            assert error["Code"] == denied, f"{service}:{operation}: {error}"
            assert error["Message"].startswith(f"User: arn:aws:iam::{ACCOUNT}:user/{name} is not authorized to perform: {action} on resource: "), error
    tally(asked)


def test_session_tokens_altered_and_replayed(shared, person, tally):
    _, credentials = person(allow("kms:GenerateRandom"))
    key_id, secret, token = session_of(shared, credentials)
    assert shared.boto3(credentials=(key_id, secret, token)).generate_random(NumberOfBytes=1)
    other_id, other_secret, other_token = session_of(shared, credentials)
    unknown = "UnrecognizedClientException"
    wrong = {
        "token of another session": (key_id, secret, other_token), "key id of another session": (other_id, secret, token),
        "secret of another session": (key_id, other_secret, token), "long-term key with the token": (*credentials, token),
        "no token": (key_id, secret), "cut": (key_id, secret, token[:-4]), "longer": (key_id, secret, token + "AAAA"), "empty": (key_id, secret, "="),
    }
    raw = base64.b64decode(token)
    for at in range(0, len(raw), max(1, len(raw) // 64)):
        wrong[f"octet {at}"] = (key_id, secret, base64.b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1:]).decode())
    for what, attempt in wrong.items():
        got = code_of(shared.boto3(credentials=attempt).generate_random, NumberOfBytes=1)
        assert got == ("InvalidSignatureException" if what == "secret of another session" else unknown), f"{what}: {got}"
    tally(len(wrong))


def test_tokens_of_deleted_users_and_their_namesakes(shared, person):
    name, credentials = person(allow("kms:*"))
    session = session_of(shared, credentials)
    kms = shared.boto3(credentials=session)
    kms.generate_random(NumberOfBytes=1)
    forget(shared, name)
    assert code_of(kms.generate_random, NumberOfBytes=1) == "UnrecognizedClientException"
    assert code_of(shared.boto3(credentials=credentials).generate_random, NumberOfBytes=1) == "UnrecognizedClientException"
    iam = shared.boto3("iam")
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document(allow("kms:*")))
    assert code_of(kms.generate_random, NumberOfBytes=1) == "UnrecognizedClientException"


def test_tokens_of_deleted_roles_and_narrowed_rights(shared, person):
    iam = shared.boto3("iam")
    name, credentials = person(allow("sts:AssumeRole"))
    role = "r" + uuid.uuid4().hex[:12]
    trust = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/{name}"}, "Action": "sts:AssumeRole"}]})
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)
    iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=document(allow("kms:GenerateRandom")))
    arn = f"arn:aws:iam::{ACCOUNT}:role/{role}"
    made = shared.boto3("sts", credentials=credentials).assume_role(RoleArn=arn, RoleSessionName="session")["Credentials"]
    kms = shared.boto3(credentials=(made["AccessKeyId"], shared.ledger.credential(made["SecretAccessKey"]), shared.ledger.credential(made["SessionToken"])))
    kms.generate_random(NumberOfBytes=1)
    iam.delete_role_policy(RoleName=role, PolicyName="p")
    assert code_of(kms.generate_random, NumberOfBytes=1) == "AccessDeniedException"  # a token carries no rights, only a name
    iam.delete_role(RoleName=role)
    assert code_of(kms.generate_random, NumberOfBytes=1) == "UnrecognizedClientException"
    iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust)
    iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=document(allow("kms:*")))
    assert code_of(kms.generate_random, NumberOfBytes=1) == "UnrecognizedClientException"


def test_role_chaining_ends_after_an_hour(shared, person):
    iam = shared.boto3("iam")
    name, credentials = person(allow("sts:AssumeRole"))
    first, second = ("r" + uuid.uuid4().hex[:12] for _ in range(2))
    for role, principal in ((first, f"user/{name}"), (second, f"role/{first}")):
        trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:{principal}"}, "Action": "sts:AssumeRole"}]}
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust), MaxSessionDuration=43200)
        iam.put_role_policy(RoleName=role, PolicyName="p", PolicyDocument=document(allow(["sts:AssumeRole", "kms:GenerateRandom"])))

    def assume(who, role, **more):
        return shared.boto3("sts", credentials=who).assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}", RoleSessionName="session", **more)["Credentials"]
    made = assume(credentials, first, DurationSeconds=43200)
    session = made["AccessKeyId"], shared.ledger.credential(made["SecretAccessKey"]), shared.ledger.credential(made["SessionToken"])
    sts = shared.boto3("sts", credentials=session)
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{second}", RoleSessionName="session", DurationSeconds=3601)
    assert caught.value.response["Error"] == caught.value.response["Error"] | {
        "Code": "ValidationError", "Message": "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"}
    chained = assume(session, second)
    assert chained["Expiration"].timestamp() - time.time() <= 3601
    shared.ledger.credential(chained["SecretAccessKey"])
    shared.ledger.credential(chained["SessionToken"])
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        assume(credentials, second)  # the user is not in the second role's trust
    assert caught.value.response["Error"]["Message"] == f"User: arn:aws:iam::{ACCOUNT}:user/{name} is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::{ACCOUNT}:role/{second}"


def test_grant_tokens_of_other_keys(shared, person, kms):
    name, credentials = person()
    mine, theirs = (kms.create_key()["KeyMetadata"]["Arn"] for _ in range(2))
    token = kms.create_grant(KeyId=mine, GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:user/{name}", Operations=["Encrypt", "Decrypt"])["GrantToken"]
    own = shared.boto3(credentials=credentials)
    own.encrypt(KeyId=mine, Plaintext=b"x", GrantTokens=[token])
    assert code_of(own.encrypt, KeyId=theirs, Plaintext=b"x", GrantTokens=[token]) == "AccessDeniedException"
    assert code_of(own.describe_key, KeyId=mine, GrantTokens=[token]) == "AccessDeniedException"
    raw = base64.b64decode(token)
    for at in range(0, len(raw), 7):
        forged = base64.b64encode(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1:]).decode()
        assert code_of(own.encrypt, KeyId=mine, Plaintext=b"x", GrantTokens=[forged]) == "InvalidGrantTokenException"
    grants = kms.list_grants(KeyId=mine)["Grants"]
    kms.revoke_grant(KeyId=mine, GrantId=grants[0]["GrantId"])
    assert code_of(own.encrypt, KeyId=mine, Plaintext=b"x", GrantTokens=[token]) == "AccessDeniedException"
    assert code_of(own.encrypt, KeyId=mine, Plaintext=b"x") == "AccessDeniedException"


def test_one_account_does_not_act_for_another(shared, person, kms):
    """The confused deputy: what an account's own policies say of another account's things means nothing there."""
    theirs = ("AKIAKEYWRIGHTOTHER00", shared.other_secret)
    iam = shared.boto3("iam", credentials=theirs)
    name = "deputy" + uuid.uuid4().hex[:8]
    iam.create_user(UserName=name)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    credentials = made["AccessKeyId"], shared.ledger.credential(made["SecretAccessKey"])
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document(allow("*")))
    key = kms.create_key()["KeyMetadata"]["Arn"]
    stranger = shared.boto3(credentials=credentials)
    refusal = f"User: arn:aws:iam::{OTHER_ACCOUNT}:user/{name} is not authorized to perform: kms:Encrypt on resource: {key}"
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        stranger.encrypt(KeyId=key, Plaintext=b"x")
    assert caught.value.response["Error"]["Message"] == refusal
    # One half is not enough: the key's policy lets the account, and its user has lost the permission.
    opened = {"Effect": "Allow", "Principal": {"AWS": OTHER_ACCOUNT}, "Action": ["kms:Encrypt", "kms:CreateGrant"], "Resource": "*"}
    owner = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "kms:*", "Resource": "*"}
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=document(owner, opened))
    stranger.encrypt(KeyId=key, Plaintext=b"x")
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document(allow("kms:*", f"arn:aws:kms:{REGION}:{OTHER_ACCOUNT}:key/*")))
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        stranger.encrypt(KeyId=key, Plaintext=b"x")
    assert caught.value.response["Error"]["Message"] == refusal
    # Administration stays at home whatever the policies say.
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document(allow("*")))
    kms.put_key_policy(KeyId=key, PolicyName="default", Policy=document(owner, opened | {"Action": "kms:*"}))
    for call in (stranger.disable_key, stranger.schedule_key_deletion, stranger.get_key_policy, stranger.list_key_policies):
        assert code_of(call, KeyId=key) == "AccessDeniedException"
    # Identities of another account are nobody's to touch, by name or by ARN.
    victim = person()[0]
    assert code_of(iam.get_user, UserName=victim) == "NoSuchEntity"
    real = shared.boto3("iam").create_policy(PolicyName="p" + uuid.uuid4().hex[:12], PolicyDocument=document(allow("*")))["Policy"]["Arn"]
    for arn in (real, f"arn:aws:iam::{ACCOUNT}:policy/x"):
        assert code_of(iam.attach_user_policy, UserName=name, PolicyArn=arn) == "NoSuchEntity"
    assert code_of(shared.boto3("iam", credentials=theirs).create_access_key, UserName=victim) == "NoSuchEntity"


HEAVY = {  # documents of size n, and what CreateKey, PutUserPolicy and SimulateCustomPolicy answer to them
    "100,000 statements": (lambda n: json.dumps({"Version": "2012-10-17", "Statement": [allow("kms:*")] * n}), 100_000,
                           ("RequestEntityTooLargeException", "RequestEntityTooLarge", "RequestEntityTooLarge")),
    "200,000 nested lists": (lambda n: '{"Version":"2012-10-17","Statement":' + "[" * n + "]" * n + "}", 200_000,
                             ("ValidationException", "ValidationError", "ValidationError")),
    "100,000 nested objects": (lambda n: '{"Version":"2012-10-17","Statement":[{"Condition":' + '{"a":' * n + "1" + "}" * n + "}]}", 100_000,
                               ("ValidationException", "ValidationError", "ValidationError")),
    "one long wildcard": (lambda n: document(allow("kms:" + "*a" * n)), 50_000, ("LimitExceededException", "LimitExceeded", "LimitExceeded")),
    # As much as is read everywhere.
    "900 nested lists": (lambda n: '{"Version":"2012-10-17","Statement":' + "[" * n + "]" * n + "}", 900,
                         ("MalformedPolicyDocumentException", "MalformedPolicyDocument", "InvalidInput")),
    "300 nested objects": (lambda n: '{"Version":"2012-10-17","Statement":[{"Condition":' + '{"a":' * n + "1" + "}" * n + "}]}", 300,
                           ("MalformedPolicyDocumentException", "MalformedPolicyDocument", "InvalidInput")),
}


def steady(once, twice, most=5, negligible=0.5):
    """Twice as much takes at most that many times as long. What takes no time to speak of, or only while the machine is busy, is well."""
    short = long = float("inf")
    for _ in range(5):
        for call in (once, twice):
            began = time.monotonic()
            call()
            took = time.monotonic() - began
            short, long = (min(short, took), long) if call is once else (short, min(long, took))
        if long <= most * short + negligible:
            return
    pytest.fail(f"took {short:.3f} s, and {long:.3f} s for twice as much")


@pytest.mark.parametrize("what", HEAVY)
def test_heavy_documents_are_refused_at_once(shared, kms, person, what):
    make, n, codes = HEAVY[what]
    iam, name = shared.boto3("iam"), person()[0]

    def send(text, expected=None):
        got = (code_of(kms.create_key, Policy=text), code_of(iam.put_user_policy, UserName=name, PolicyName="p", PolicyDocument=text),
               code_of(iam.simulate_custom_policy, PolicyInputList=[text], ActionNames=["kms:Encrypt"]))
        assert expected in (None, got), got
    half, whole = make(n // 2), make(n)
    steady(lambda: send(half), lambda: send(whole, codes))


def test_wildcard_heavy_policies_decide_quickly(shared, person, kms):
    """The largest key policy there can be, made of patterns that nearly match, must not slow a decision down for long."""
    owner = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "kms:*", "Resource": "*"}

    def decision(stars, length):
        heavy = [{"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "kms:Decrypt", "Resource": "*",
                  "Condition": {"StringLike": {"kms:EncryptionContext:x": "*" + "a*" * stars + "b"}}} for _ in range(100)]
        key = kms.create_key(Policy=document(owner, *heavy))["KeyMetadata"]["Arn"]
        context = {"x": "a" * length}
        blob = kms.encrypt(KeyId=key, Plaintext=b"x", EncryptionContext=context)["CiphertextBlob"]

        def decide():
            assert kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"] == b"x"
        return decide
    largest = decision(60, 4000)
    steady(decision(30, 4000), largest)
    steady(decision(60, 2000), largest)
