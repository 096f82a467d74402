"""Temporary credentials with boto3 and the AWS CLI: sessions of users and roles, federated users, and web identities of a real provider."""
import base64
import datetime
import json
import secrets

import botocore
import botocore.exceptions
import pytest

from harness.cli import aws
from harness.idp import CLIENT, Provider
from harness.server import ACCOUNT, OTHER_ACCOUNT

INVALID = "InvalidClientTokenId: The security token included in the request is invalid."


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow"} | s for s in statements]})


def allow(*actions, resource="*"):
    return policy({"Action": list(actions), "Resource": resource})


def trust(principal, action="sts:AssumeRole", **conditions):
    return policy({"Principal": principal, "Action": action} | ({"Condition": conditions} if conditions else {}))


@pytest.fixture(scope="module")
def iam(shared):
    return shared.boto3("iam")


@pytest.fixture(scope="module")
def user(iam, ledger):
    """Makes users: returns name and long-term credentials."""
    def make(*actions):
        name = "sts-" + secrets.token_hex(4)
        iam.create_user(UserName=name, Tags=[{"Key": "team", "Value": "red"}])
        if actions:
            iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=allow(*actions))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return name, (key["AccessKeyId"], ledger.credential(key["SecretAccessKey"]))
    return make


@pytest.fixture(scope="module")
def role(iam):
    """Makes roles: returns name and ARN."""
    def make(document, *actions, **values):
        name = "sts-" + secrets.token_hex(4)
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document, **values)["Role"]
        if actions:
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=allow(*actions))
        return name, made["Arn"]
    return make


@pytest.fixture(scope="module")
def session(ledger):
    """Turns an answer into credentials."""
    def take(answer):
        c = answer["Credentials"]
        assert c["AccessKeyId"].startswith("ASIA") and c["Expiration"] > datetime.datetime.now(datetime.timezone.utc)
        return c["AccessKeyId"], ledger.credential(c["SecretAccessKey"]), c["SessionToken"]
    return take


def record(shared, answer):
    """The audit record of a call."""
    wanted = answer["ResponseMetadata"]["RequestId"]
    lines = [line for path in shared.audit_files() for line in path.read_text().splitlines() if wanted in line]
    assert len(lines) == 1
    return json.loads(lines[0])


def refused(want, call, **arguments):
    """Calls and expects "Code: message"; "Code: …" where the message is open."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**arguments)
    error = caught.value.response["Error"]
    said = f"{error['Code']}: {error['Message']}"
    assert said == want or want.endswith("…") and said.startswith(want[:-1]), f"\n got {said}\nwant {want}"
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"]


def test_assume_role(shared, user, role, session):
    name, ann = user("sts:AssumeRole")
    role_name, arn = role(trust({"AWS": ACCOUNT}), "kms:ListKeys", "kms:CreateKey")
    answer = shared.boto3("sts", ann).assume_role(RoleArn=arn, RoleSessionName="work")
    identity = shared.boto3("sts", session(answer)).get_caller_identity()
    assert identity["Arn"] == answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{role_name}/work"
    assert identity["UserId"] == answer["AssumedRoleUser"]["AssumedRoleId"] and identity["UserId"].startswith("AROA") and identity["UserId"].endswith(":work")
    assert "PackedPolicySize" not in answer
    said = record(shared, answer)
    assert said["userIdentity"]["type"] == "IAMUser" and said["userIdentity"]["userName"] == name and said["eventSource"] == "sts.amazonaws.com"
    assert said["requestParameters"] == {"roleArn": arn, "roleSessionName": "work"} and said["readOnly"]
    assert said["responseElements"]["assumedRoleUser"] == {"assumedRoleId": identity["UserId"], "arn": identity["Arn"]}
    assert set(said["responseElements"]["credentials"]) == {"accessKeyId", "expiration"}
    assert said["resources"] == [{"accountId": ACCOUNT, "type": "AWS::IAM::Role", "ARN": arn}]
    kms = shared.boto3("kms", session(answer))
    kms.list_keys()
    refused(f"AccessDeniedException: User: {identity['Arn']} is not authorized to perform: kms:GenerateRandom on resource: * "
            "because no identity-based policy allows the kms:GenerateRandom action", kms.generate_random, NumberOfBytes=8)
    # A session policy takes away.
    answer = shared.boto3("sts", ann).assume_role(RoleArn=arn, RoleSessionName="less", Policy=allow("kms:ListKeys"))
    assert 0 < answer["PackedPolicySize"] < 100
    kms = shared.boto3("kms", session(answer))
    kms.list_keys()
    refused(f"AccessDeniedException: User: {answer['AssumedRoleUser']['Arn']} is not authorized to perform: kms:CreateKey on resource: * "
            "because no session policy allows the kms:CreateKey action", kms.create_key)


def test_who_may_not(shared, user, role):
    _, ann = user("sts:AssumeRole")
    _, weak = user()
    name, arn = role(trust({"AWS": ACCOUNT}, StringEquals={"sts:ExternalId": "open sesame".replace(" ", "-")}))
    sts = lambda who=None: shared.boto3("sts", who)
    denied = lambda who, on: f"AccessDenied: User: {sts(who).get_caller_identity()['Arn']} is not authorized to perform: sts:AssumeRole on resource: {on}"
    sts(ann).assume_role(RoleArn=arn, RoleSessionName="work", ExternalId="open-sesame")
    for values in ({}, {"ExternalId": "wrong-one"}):
        assert refused(denied(ann, arn), sts(ann).assume_role, RoleArn=arn, RoleSessionName="work", **values) == 403
    refused(denied(weak, arn), sts(weak).assume_role, RoleArn=arn, RoleSessionName="work", ExternalId="open-sesame")
    nowhere = f"arn:aws:iam::{OTHER_ACCOUNT}:role/none"
    refused(denied(ann, nowhere), sts(ann).assume_role, RoleArn=nowhere, RoleSessionName="work")
    refused("AccessDenied: Roles may not be assumed by root accounts.", sts().assume_role, RoleArn=arn, RoleSessionName="work", ExternalId="open-sesame")
    assert refused("ValidationError: …", sts(ann).assume_role, RoleArn=arn, RoleSessionName="w") == 400
    assert refused("ValidationError: The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", sts(ann).assume_role,
                   RoleArn=arn, RoleSessionName="work", ExternalId="open-sesame", DurationSeconds=3601) == 400
    refused("MalformedPolicyDocument: …", sts(ann).assume_role, RoleArn=arn, RoleSessionName="work", ExternalId="open-sesame", Policy="{")
    refused(denied(ann, arn).replace("AssumeRole on", "TagSession on"), sts(ann).assume_role, RoleArn=arn, RoleSessionName="work", ExternalId="open-sesame",
            Tags=[{"Key": "a", "Value": "b"}])


def test_chains(shared, user, role, session):
    _, ann = user("sts:*")
    actions = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    (_, first), (_, second) = role(trust({"AWS": ACCOUNT}, actions), "sts:*", MaxSessionDuration=7200), role(trust({"AWS": ACCOUNT}, actions), "kms:ListKeys", MaxSessionDuration=7200)
    answer = shared.boto3("sts", ann).assume_role(RoleArn=first, RoleSessionName="one", DurationSeconds=7200, SourceIdentity="ann",
                                                  Tags=[{"Key": "cost", "Value": "1"}], TransitiveTagKeys=["cost"])
    sts = shared.boto3("sts", session(answer))
    refused("ValidationError: The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
            sts.assume_role, RoleArn=second, RoleSessionName="two", DurationSeconds=3601)
    refused("InvalidParameterValue: One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.",
            sts.assume_role, RoleArn=second, RoleSessionName="two", Tags=[{"Key": "Cost", "Value": "2"}])
    answer = sts.assume_role(RoleArn=second, RoleSessionName="two")
    assert answer["SourceIdentity"] == "ann"
    shared.boto3("kms", session(answer)).list_keys()


def test_sessions_end_with_their_user_or_role(shared, iam, user, role, session):
    name, ann = user("sts:AssumeRole", "kms:ListKeys")
    role_name, arn = role(trust({"AWS": ACCOUNT}), "kms:ListKeys")
    mine = session(shared.boto3("sts", ann).get_session_token(DurationSeconds=129600))
    assumed = session(shared.boto3("sts", ann).assume_role(RoleArn=arn, RoleSessionName="work"))
    for credentials in (mine, assumed):
        shared.boto3("kms", credentials).list_keys()
    assert shared.boto3("sts", mine).get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/{name}"
    assert refused(INVALID, shared.boto3("iam", mine).list_users) == 403
    refused("AccessDenied: Cannot call GetSessionToken with session credentials", shared.boto3("sts", mine).get_session_token)
    # Their policies hold for the very next request.
    iam.delete_user_policy(UserName=name, PolicyName="p")
    refused("AccessDeniedException: …", shared.boto3("kms", mine).list_keys)
    iam.delete_access_key(UserName=name, AccessKeyId=ann[0])
    shared.boto3("sts", mine).get_caller_identity()
    iam.delete_user(UserName=name)
    iam.create_user(UserName=name)
    iam.delete_role_policy(RoleName=role_name, PolicyName="p")
    refused("AccessDeniedException: …", shared.boto3("kms", assumed).list_keys)
    iam.delete_role(RoleName=role_name)
    iam.create_role(RoleName=role_name, AssumeRolePolicyDocument=trust({"AWS": ACCOUNT}))
    for credentials in (mine, assumed):
        refused(INVALID, shared.boto3("sts", credentials).get_caller_identity)
        refused("UnrecognizedClientException: The security token included in the request is invalid.", shared.boto3("kms", credentials).list_keys)


def test_altered_tokens(shared, user, role, session, tally):
    _, ann = user("sts:AssumeRole")
    _, arn = role(trust({"AWS": ACCOUNT}), "kms:ListKeys")
    one, two = (session(shared.boto3("sts", ann).assume_role(RoleArn=arn, RoleSessionName=n)) for n in ("one", "two"))
    raw = base64.b64decode(one[2])
    tokens = [two[2], one[2][:-4], "x", one[2] + one[2]]
    tokens += [base64.b64encode(raw[:i] + bytes([raw[i] ^ 1]) + raw[i + 1:]).decode() for i in range(0, len(raw), 7)]
    for token in tokens:
        refused(INVALID, shared.boto3("sts", (one[0], one[1], token)).get_caller_identity)
    refused(INVALID, shared.boto3("sts", (two[0], two[1], one[2])).get_caller_identity)
    refused(INVALID, shared.boto3("sts", one[:2]).get_caller_identity)
    refused("SignatureDoesNotMatch: …", shared.boto3("sts", (one[0], two[1], one[2])).get_caller_identity)
    tally(len(tokens) + 3)


def test_federated_users(shared, user, session):
    name, ann = user("sts:GetFederationToken", "kms:ListKeys", "kms:CreateKey")
    sts = shared.boto3("sts", ann)
    answer = sts.get_federation_token(Name="guest", Policy=allow("kms:ListKeys", "iam:*"))
    guest = session(answer)
    assert answer["FederatedUser"] == {"FederatedUserId": f"{ACCOUNT}:guest", "Arn": f"arn:aws:sts::{ACCOUNT}:federated-user/guest"}
    assert shared.boto3("sts", guest).get_caller_identity()["Arn"] == answer["FederatedUser"]["Arn"]
    shared.boto3("kms", guest).list_keys()
    refused("AccessDeniedException: …", shared.boto3("kms", guest).create_key)
    refused(INVALID, shared.boto3("iam", guest).list_users)
    bare = session(sts.get_federation_token(Name="guest"))
    refused("AccessDeniedException: …", shared.boto3("kms", bare).list_keys)


def test_access_key_info_and_messages(shared, user):
    _, ann = user("sts:GetAccessKeyInfo", "sts:DecodeAuthorizationMessage")
    sts = shared.boto3("sts", ann)
    assert sts.get_access_key_info(AccessKeyId=ann[0])["Account"] == ACCOUNT
    refused("ValidationError: …", sts.get_access_key_info, AccessKeyId="AKIANOBODYNOBODYNOBO")
    refused("InvalidAuthorizationMessageException: …", sts.decode_authorization_message, EncodedMessage="abc")


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    p = Provider(tmp_path_factory.mktemp("idp"))
    yield p
    p.stop()


@pytest.fixture(scope="module")
def registered(iam, provider):
    """The provider's ARN."""
    return iam.create_open_id_connect_provider(Url=provider.url, ClientIDList=[CLIENT], ThumbprintList=[provider.thumbprint])["OpenIDConnectProviderArn"]


@pytest.fixture(scope="module")
def web_role(role, provider, registered):
    return role(trust({"Federated": registered}, "sts:AssumeRoleWithWebIdentity",
                      StringEquals={f"{provider.name}:aud": CLIENT}, StringLike={f"{provider.name}:sub": "repo:*"}), "kms:ListKeys")


def unsigned(shared):
    return shared.boto3("sts", signature_version=botocore.UNSIGNED)


def test_web_identity(shared, provider, registered, web_role, session, ledger):
    token = ledger.credential(provider.token())
    answer = unsigned(shared).assume_role_with_web_identity(RoleArn=web_role[1], RoleSessionName="job", WebIdentityToken=token)
    assert (answer["SubjectFromWebIdentityToken"], answer["Audience"], answer["Provider"]) == ("repo:keywright", CLIENT, registered)
    said = record(shared, answer)
    assert said["userIdentity"] == {"type": "WebIdentityUser", "principalId": f"{registered}:{CLIENT}:repo:keywright", "userName": "repo:keywright",
                                    "identityProvider": registered}
    assert said["recipientAccountId"] == ACCOUNT and said["awsRegion"] == "us-east-1" and token not in json.dumps(said)
    credentials = session(answer)
    assert shared.boto3("sts", credentials).get_caller_identity()["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{web_role[0]}/job"
    shared.boto3("kms", credentials).list_keys()
    refused("AccessDeniedException: …", shared.boto3("kms", credentials).create_key)


def test_web_identity_with_the_cli(shared, provider, web_role, tmp_path, ledger):
    """As in a pipeline: no credentials but a token in a file, which the client exchanges by itself."""
    (tmp_path / "token").write_text(ledger.credential(provider.token()))
    nobody = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    said = aws(shared, "sts", "assume-role-with-web-identity", "--role-arn", web_role[1], "--role-session-name", "job",
               "--web-identity-token", f"file://{tmp_path}/token", environment=nobody)
    ledger.credential(said["Credentials"]["SecretAccessKey"])
    assert said["AssumedRoleUser"]["Arn"].endswith("/job")
    ledger.called_by_cli()  # the exchange, besides the call itself
    identity = aws(shared, "sts", "get-caller-identity", environment=nobody | {
        "AWS_ROLE_ARN": web_role[1], "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"), "AWS_ROLE_SESSION_NAME": "pipeline"})
    assert identity["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{web_role[0]}/pipeline"


def test_refused_web_identities(shared, iam, provider, registered, web_role, tmp_path, tally):
    sts = unsigned(shared)
    stranger = Provider(tmp_path / "stranger")
    none = "none"
    bad = "InvalidIdentityToken: The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
    cases = [
        (bad, "no token"),
        (bad, provider.token({"alg": none}).rsplit(".", 1)[0] + "."),
        (bad, provider.token({"alg": "HS256"})),
        ("InvalidIdentityToken: The signature of the ID Token is not valid", provider.token(key=stranger.signing)),
        (f"InvalidIdentityToken: No OpenIDConnect provider found in your account for {stranger.url}", stranger.token()),
        ("InvalidIdentityToken: Incorrect token audience", provider.token(aud="other")),
        ("ExpiredTokenException: Token expired: …", provider.token(exp=1)),
        ("InvalidIdentityToken: Missing a required claim: sub", provider.token(sub="")),
        ("AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity", provider.token(sub="user:keywright")),
    ]
    for want, token in cases:
        refused(want, sts.assume_role_with_web_identity, RoleArn=web_role[1], RoleSessionName="job", WebIdentityToken=token)
    refused("AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity", sts.assume_role_with_web_identity,
            RoleArn=f"arn:aws:iam::{ACCOUNT}:role/none", RoleSessionName="job", WebIdentityToken=provider.token())
    refused("MissingAuthenticationToken: …", sts.assume_role, RoleArn=web_role[1], RoleSessionName="job")
    refused("MissingAuthenticationToken: …", sts.get_caller_identity)
    # What nothing vouches for is not asked.
    theirs = iam.create_open_id_connect_provider(Url=stranger.url, ClientIDList=[CLIENT], ThumbprintList=[provider.thumbprint])["OpenIDConnectProviderArn"]
    refused("InvalidIdentityToken: OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint", sts.assume_role_with_web_identity,
            RoleArn=web_role[1], RoleSessionName="job", WebIdentityToken=stranger.token())
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=theirs)
    stranger.stop()
    tally(len(cases) + 4)
