"""IAM through boto3 and the AWS CLI: users, groups, roles and policies as Terraform and people make them."""
import json

import botocore.exceptions
import pytest

from harness.cli import aws
from harness.server import ACCOUNT

ALLOW = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}


@pytest.fixture(scope="module")
def iam(shared):
    return shared.boto3("iam")


@pytest.fixture
def refused(request):
    """Calls that must fail with that code, status and text."""
    def call(code, status, text, operation, **values):
        request.config.checks[request.path.name] += 1
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            operation(**values)
        answer = caught.value.response
        assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status), answer
        assert answer["Error"]["Message"] == text
    return call


def trust(principal):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"}]})


def test_a_user_from_its_making_to_its_end(shared, iam, refused, ledger):
    made = iam.create_user(UserName="Walker", Path="/team/", Tags=[{"Key": "team", "Value": "red"}])["User"]
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/team/Walker" and made["UserId"].startswith("AIDA") and len(made["UserId"]) == 21
    got = iam.get_user(UserName="Walker")["User"]
    assert got == made
    refused("EntityAlreadyExists", 409, "User with name walker already exists.", iam.create_user, UserName="walker")
    refused("NoSuchEntity", 404, "The user with name nobody cannot be found.", iam.get_user, UserName="nobody")
    key = iam.create_access_key(UserName="Walker")["AccessKey"]
    ledger.credential(key["SecretAccessKey"])
    walker = (key["AccessKeyId"], key["SecretAccessKey"])
    who = shared.boto3("sts", walker).get_caller_identity()
    assert who["Arn"] == made["Arn"] and who["UserId"] == made["UserId"]
    as_walker = shared.boto3("iam", walker)
    refused("AccessDenied", 403, f"User: {made['Arn']} is not authorized to perform: iam:ListUsers on resource: arn:aws:iam::{ACCOUNT}:user/ because no "
            "identity-based policy allows the iam:ListUsers action", as_walker.list_users)
    # What a policy gives holds for the very next call, and what is taken away, too.
    iam.put_user_policy(UserName="Walker", PolicyName="look", PolicyDocument=json.dumps(
        {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iam:List*", "Resource": "*"}}))
    assert "Walker" in [u["UserName"] for u in as_walker.list_users()["Users"]]
    assert iam.get_user_policy(UserName="Walker", PolicyName="look")["PolicyDocument"]["Statement"]["Action"] == "iam:List*"
    iam.delete_user_policy(UserName="Walker", PolicyName="look")
    with pytest.raises(botocore.exceptions.ClientError):
        as_walker.list_users()
    used = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])
    assert used["UserName"] == "Walker" and used["AccessKeyLastUsed"]["ServiceName"] in ("iam", "sts")
    refused("DeleteConflict", 409, "Cannot delete entity, must delete access keys first.", iam.delete_user, UserName="Walker")
    iam.update_access_key(UserName="Walker", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    refused("InvalidClientTokenId", 403, "The security token included in the request is invalid.", as_walker.list_users)
    iam.delete_access_key(UserName="Walker", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="Walker")
    refused("NoSuchEntity", 404, "The user with name Walker cannot be found.", iam.delete_user, UserName="Walker")


def test_groups_and_managed_policies(shared, iam, refused, ledger):
    policy = iam.create_policy(PolicyName="use-keys", Path="/kms/", PolicyDocument=json.dumps(ALLOW), Description="d")["Policy"]
    assert policy["Arn"] == f"arn:aws:iam::{ACCOUNT}:policy/kms/use-keys" and policy["DefaultVersionId"] == "v1"
    iam.create_group(GroupName="keepers")
    iam.create_user(UserName="member")
    iam.add_user_to_group(GroupName="keepers", UserName="member")
    assert [u["UserName"] for u in iam.get_group(GroupName="keepers")["Users"]] == ["member"]
    assert [g["GroupName"] for g in iam.list_groups_for_user(UserName="member")["Groups"]] == ["keepers"]
    key = iam.create_access_key(UserName="member")["AccessKey"]
    ledger.credential(key["SecretAccessKey"])
    kms = shared.boto3("kms", (key["AccessKeyId"], key["SecretAccessKey"]))
    refused("AccessDeniedException", 400, f"User: arn:aws:iam::{ACCOUNT}:user/member is not authorized to perform: kms:ListKeys on resource: * because no "
            "identity-based policy allows the kms:ListKeys action", kms.list_keys)
    iam.attach_group_policy(GroupName="keepers", PolicyArn=policy["Arn"])
    kms.list_keys()
    made = kms.create_key()["KeyMetadata"]  # whose default policy leaves it to the account's policies
    kms.describe_key(KeyId=made["KeyId"])
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "kms:DescribeKey", "Resource": made["Arn"]}, ALLOW["Statement"][0]]}
    version = iam.create_policy_version(PolicyArn=policy["Arn"], PolicyDocument=json.dumps(deny), SetAsDefault=True)["PolicyVersion"]
    assert version["VersionId"] == "v2" and version["IsDefaultVersion"]
    assert iam.get_policy_version(PolicyArn=policy["Arn"], VersionId="v2")["PolicyVersion"]["Document"] == deny
    refused("AccessDeniedException", 400, f"User: arn:aws:iam::{ACCOUNT}:user/member is not authorized to perform: kms:DescribeKey on resource: {made['Arn']} "
            f"with an explicit deny in an identity-based policy: {policy['Arn']}", kms.describe_key, KeyId=made["KeyId"])
    iam.set_default_policy_version(PolicyArn=policy["Arn"], VersionId="v1")
    kms.describe_key(KeyId=made["KeyId"])
    iam.put_user_permissions_boundary(UserName="member", PermissionsBoundary="arn:aws:iam::aws:policy/IAMFullAccess")
    refused("AccessDeniedException", 400, f"User: arn:aws:iam::{ACCOUNT}:user/member is not authorized to perform: kms:ListKeys on resource: * because no "
            "permissions boundary allows the kms:ListKeys action", kms.list_keys)
    iam.delete_user_permissions_boundary(UserName="member")
    assert iam.list_entities_for_policy(PolicyArn=policy["Arn"])["PolicyGroups"][0]["GroupName"] == "keepers"
    refused("DeleteConflict", 409, "Cannot delete a policy attached to entities.", iam.delete_policy, PolicyArn=policy["Arn"])
    result = iam.simulate_principal_policy(PolicySourceArn=f"arn:aws:iam::{ACCOUNT}:user/member", ActionNames=["kms:ListKeys", "iam:ListUsers"])
    assert [r["EvalDecision"] for r in result["EvaluationResults"]] == ["allowed", "implicitDeny"]
    iam.detach_group_policy(GroupName="keepers", PolicyArn=policy["Arn"])
    iam.delete_policy_version(PolicyArn=policy["Arn"], VersionId="v2")
    iam.delete_policy(PolicyArn=policy["Arn"])
    iam.remove_user_from_group(GroupName="keepers", UserName="member")
    iam.delete_group(GroupName="keepers")
    iam.delete_access_key(UserName="member", AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName="member")


def test_a_role_as_terraform_has_it(iam, refused):
    user = iam.create_user(UserName="trusted")["User"]
    role = iam.create_role(RoleName="worker", Path="/x/", AssumeRolePolicyDocument=trust(user["Arn"]), Description="d", MaxSessionDuration=7200,
                           Tags=[{"Key": "a", "Value": "b"}])["Role"]
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/x/worker" and role["RoleId"].startswith("AROA")
    iam.get_waiter("role_exists").wait(RoleName="worker")
    got = iam.get_role(RoleName="worker")["Role"]
    assert got["AssumeRolePolicyDocument"] == json.loads(trust(user["Arn"])) and got["MaxSessionDuration"] == 7200
    iam.attach_role_policy(RoleName="worker", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    assert iam.list_attached_role_policies(RoleName="worker")["AttachedPolicies"] == [
        {"PolicyName": "ReadOnlyAccess", "PolicyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}]
    refused("MalformedPolicyDocument", 400, f'Invalid principal in policy: "AWS":"arn:aws:iam::{ACCOUNT}:user/nobody"', iam.update_assume_role_policy,
            RoleName="worker", PolicyDocument=trust(f"arn:aws:iam::{ACCOUNT}:user/nobody"))
    iam.delete_user(UserName="trusted")
    assert iam.get_role(RoleName="worker")["Role"]["AssumeRolePolicyDocument"] == json.loads(trust(user["UserId"]))
    refused("DeleteConflict", 409, "Cannot delete entity, must detach all policies first.", iam.delete_role, RoleName="worker")
    iam.detach_role_policy(RoleName="worker", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    assert iam.list_instance_profiles_for_role(RoleName="worker")["InstanceProfiles"] == []
    iam.delete_role(RoleName="worker")
    refused("NoSuchEntity", 404, "The role with name worker cannot be found.", iam.get_role, RoleName="worker")


def test_pages_and_paths(iam):
    for i in range(7):
        iam.create_user(UserName=f"page-{i}", Path="/pages/")
    names = [u["UserName"] for page in iam.get_paginator("list_users").paginate(PathPrefix="/pages/", PaginationConfig={"PageSize": 3}) for u in page["Users"]]
    assert names == [f"page-{i}" for i in range(7)]
    for name in names:
        iam.delete_user(UserName=name)


def test_login_providers_and_the_account(iam, refused, ledger):
    iam.create_user(UserName="human")
    refused("PasswordPolicyViolation", 400, "Password does not conform to the account password policy.", iam.create_login_profile, UserName="human", Password="short")
    profile = iam.create_login_profile(UserName="human", Password=ledger.credential("Correct-Horse-42-battery"), PasswordResetRequired=True)["LoginProfile"]
    assert profile["PasswordResetRequired"] and iam.get_login_profile(UserName="human")["LoginProfile"] == profile
    iam.delete_login_profile(UserName="human")
    iam.delete_user(UserName="human")
    arn = iam.create_open_id_connect_provider(Url="https://id.example.com", ClientIDList=["app"], ThumbprintList=["0" * 40])["OpenIDConnectProviderArn"]
    assert arn == f"arn:aws:iam::{ACCOUNT}:oidc-provider/id.example.com"
    got = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert (got["Url"], got["ClientIDList"]) == ("id.example.com", ["app"])
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    iam.create_account_alias(AccountAlias="the-conformance")
    assert iam.list_account_aliases()["AccountAliases"] == ["the-conformance"]
    iam.delete_account_alias(AccountAlias="the-conformance")
    summary = iam.get_account_summary()["SummaryMap"]
    assert summary["Users"] == sum(len(p["Users"]) for p in iam.get_paginator("list_users").paginate()) and summary["UsersQuota"] == 5000 and summary["AccountMFAEnabled"] == 0


def test_the_command_line(shared, request, ledger):
    def cli(*arguments, **options):
        request.config.checks[request.path.name] += 1
        return aws(shared, *arguments, **options)
    user = cli("iam", "create-user", "--user-name", "typed")["User"]
    assert user["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/typed"
    key = cli("iam", "create-access-key", "--user-name", "typed")["AccessKey"]
    ledger.credential(key["SecretAccessKey"])
    assert [k["AccessKeyId"] for k in cli("iam", "list-access-keys", "--user-name", "typed")["AccessKeyMetadata"]] == [key["AccessKeyId"]]
    cli("iam", "put-user-policy", "--user-name", "typed", "--policy-name", "p", "--policy-document", json.dumps(ALLOW))
    assert cli("iam", "list-user-policies", "--user-name", "typed") == {"PolicyNames": ["p"]}
    said = cli("iam", "delete-user", "--user-name", "typed", fails=True)
    assert said.endswith("An error occurred (DeleteConflict) when calling the DeleteUser operation: Cannot delete entity, must delete policies first.")
    cli("iam", "delete-user-policy", "--user-name", "typed", "--policy-name", "p")
    cli("iam", "delete-access-key", "--user-name", "typed", "--access-key-id", key["AccessKeyId"])
    cli("iam", "delete-user", "--user-name", "typed")
