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


def document(*actions):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]})


@pytest.fixture
def terraform(shared, request):
    """Makes calls in the order in which Terraform's provider for AWS does."""
    client = shared.boto3("iam")

    def call(operation, missing=False, **values):
        request.config.checks[request.path.name] += 1
        if not missing:
            return getattr(client, operation)(**values)
        with pytest.raises(botocore.exceptions.ClientError) as caught:  # what the provider takes for "gone"
            getattr(client, operation)(**values)
        answer = caught.value.response
        assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == ("NoSuchEntity", 404), answer
    return call


def test_terraform_policy_role_and_attachments(terraform):
    # aws_iam_policy: create, read
    arn = terraform("create_policy", PolicyName="tf", Path="/tf/", PolicyDocument=document("kms:Encrypt"), Description="d",
                    Tags=[{"Key": "a", "Value": "1"}])["Policy"]["Arn"]

    def read_policy(version, *actions):
        got = terraform("get_policy", PolicyArn=arn)["Policy"]
        assert (got["Arn"], got["DefaultVersionId"], got["Description"]) == (arn, version, "d")
        text = terraform("get_policy_version", PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
        assert text == json.loads(document(*actions))
        return got
    assert read_policy("v1", "kms:Encrypt")["Tags"] == [{"Key": "a", "Value": "1"}]
    # aws_iam_role: create, read
    trusted = trust(f"arn:aws:iam::{ACCOUNT}:root")
    role = terraform("create_role", RoleName="tf", Path="/", AssumeRolePolicyDocument=trusted, MaxSessionDuration=3600, Tags=[{"Key": "a", "Value": "1"}])["Role"]

    def read_role(inline, attached):
        got = terraform("get_role", RoleName="tf")["Role"]
        assert (got["Arn"], got["RoleId"]) == (role["Arn"], role["RoleId"])
        assert terraform("list_role_policies", RoleName="tf")["PolicyNames"] == inline
        assert [p["PolicyArn"] for p in terraform("list_attached_role_policies", RoleName="tf")["AttachedPolicies"]] == attached
        return got
    assert read_role([], [])["AssumeRolePolicyDocument"] == json.loads(trusted)
    # aws_iam_role_policy_attachment and aws_iam_role_policy: create, read
    terraform("attach_role_policy", RoleName="tf", PolicyArn=arn)
    terraform("put_role_policy", RoleName="tf", PolicyName="own", PolicyDocument=document("kms:Decrypt"))
    assert terraform("get_role_policy", RoleName="tf", PolicyName="own")["PolicyDocument"] == json.loads(document("kms:Decrypt"))
    read_role(["own"], [arn])
    # A second apply: every member of the policy and the role changes.
    terraform("list_policy_versions", PolicyArn=arn)
    terraform("create_policy_version", PolicyArn=arn, PolicyDocument=document("kms:Encrypt", "kms:Decrypt"), SetAsDefault=True)
    terraform("untag_policy", PolicyArn=arn, TagKeys=["a"])
    terraform("tag_policy", PolicyArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    assert read_policy("v2", "kms:Encrypt", "kms:Decrypt")["Tags"] == [{"Key": "b", "Value": "2"}]
    terraform("update_assume_role_policy", RoleName="tf", PolicyDocument=trust(ACCOUNT))
    terraform("update_role_description", RoleName="tf", Description="new")
    terraform("update_role", RoleName="tf", MaxSessionDuration=7200, Description="new")
    terraform("put_role_permissions_boundary", RoleName="tf", PermissionsBoundary=arn)
    terraform("untag_role", RoleName="tf", TagKeys=["a"])
    terraform("tag_role", RoleName="tf", Tags=[{"Key": "b", "Value": "2"}])
    got = read_role(["own"], [arn])
    assert (got["MaxSessionDuration"], got["Description"], got["Tags"]) == (7200, "new", [{"Key": "b", "Value": "2"}])
    assert got["PermissionsBoundary"] == {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn}
    terraform("delete_role_permissions_boundary", RoleName="tf")
    # destroy: attachments first, then the role, then the policy with all its versions
    terraform("detach_role_policy", RoleName="tf", PolicyArn=arn)
    terraform("delete_role_policy", RoleName="tf", PolicyName="own")
    terraform("get_role_policy", RoleName="tf", PolicyName="own", missing=True)
    assert terraform("list_instance_profiles_for_role", RoleName="tf")["InstanceProfiles"] == []
    read_role([], [])  # force_detach_policies
    terraform("delete_role", RoleName="tf")
    terraform("get_role", RoleName="tf", missing=True)
    versions = terraform("list_policy_versions", PolicyArn=arn)["Versions"]
    assert [(v["VersionId"], v["IsDefaultVersion"]) for v in versions] == [("v2", True), ("v1", False)]
    terraform("delete_policy_version", PolicyArn=arn, VersionId="v1")
    terraform("delete_policy", PolicyArn=arn)
    terraform("get_policy", PolicyArn=arn, missing=True)


def test_terraform_user_with_force_destroy(shared, terraform, refused, ledger):
    refused("NoSuchEntity", 404, f"The Password Policy with domain name {ACCOUNT} cannot be found.", shared.boto3("iam").get_account_password_policy)
    # aws_iam_user, aws_iam_group, aws_iam_user_group_membership: create, read
    user = terraform("create_user", UserName="tf", Path="/", Tags=[{"Key": "a", "Value": "1"}])["User"]
    assert terraform("get_user", UserName="tf")["User"] == user
    terraform("create_group", GroupName="tf", Path="/")
    terraform("get_group", GroupName="tf")
    terraform("add_user_to_group", UserName="tf", GroupName="tf")
    assert [g["GroupName"] for g in terraform("list_groups_for_user", UserName="tf")["Groups"]] == ["tf"]
    # aws_iam_user_policy_attachment, aws_iam_user_policy, aws_iam_access_key, aws_iam_user_login_profile
    managed = "arn:aws:iam::aws:policy/ReadOnlyAccess"
    terraform("attach_user_policy", UserName="tf", PolicyArn=managed)
    assert [p["PolicyArn"] for p in terraform("list_attached_user_policies", UserName="tf")["AttachedPolicies"]] == [managed]
    terraform("put_user_policy", UserName="tf", PolicyName="own", PolicyDocument=document("kms:Decrypt"))
    assert terraform("get_user_policy", UserName="tf", PolicyName="own")["PolicyDocument"] == json.loads(document("kms:Decrypt"))
    key = terraform("create_access_key", UserName="tf")["AccessKey"]
    ledger.credential(key["SecretAccessKey"])
    assert [k["Status"] for k in terraform("list_access_keys", UserName="tf")["AccessKeyMetadata"]] == ["Active"]
    terraform("get_login_profile", UserName="tf", missing=True)
    terraform("create_login_profile", UserName="tf", Password=ledger.credential("Correct-Horse-43-battery"), PasswordResetRequired=True)
    # A second apply renames the user, moves it and bounds it.
    terraform("update_user", UserName="tf", NewUserName="tf-2", NewPath="/moved/")
    terraform("put_user_permissions_boundary", UserName="tf-2", PermissionsBoundary=managed)
    terraform("untag_user", UserName="tf-2", TagKeys=["a"])
    terraform("tag_user", UserName="tf-2", Tags=[{"Key": "b", "Value": "2"}])
    got = terraform("get_user", UserName="tf-2")["User"]
    assert (got["Arn"], got["UserId"], got["Tags"]) == (f"arn:aws:iam::{ACCOUNT}:user/moved/tf-2", user["UserId"], [{"Key": "b", "Value": "2"}])
    assert got["PermissionsBoundary"]["PermissionsBoundaryArn"] == managed
    # destroy: what Terraform made, then with force_destroy what others may have made
    terraform("detach_user_policy", UserName="tf-2", PolicyArn=managed)
    terraform("delete_user_policy", UserName="tf-2", PolicyName="own")
    terraform("get_user_policy", UserName="tf-2", PolicyName="own", missing=True)
    for group in terraform("list_groups_for_user", UserName="tf-2")["Groups"]:
        terraform("remove_user_from_group", UserName="tf-2", GroupName=group["GroupName"])
    for made in terraform("list_access_keys", UserName="tf-2")["AccessKeyMetadata"]:
        terraform("delete_access_key", UserName="tf-2", AccessKeyId=made["AccessKeyId"])
    assert terraform("list_ssh_public_keys", UserName="tf-2")["SSHPublicKeys"] == []
    assert terraform("list_virtual_mfa_devices", AssignmentStatus="Assigned")["VirtualMFADevices"] == []
    assert terraform("list_mfa_devices", UserName="tf-2")["MFADevices"] == []
    terraform("delete_login_profile", UserName="tf-2")
    terraform("delete_login_profile", UserName="tf-2", missing=True)
    assert terraform("list_signing_certificates", UserName="tf-2")["Certificates"] == []
    assert terraform("list_service_specific_credentials", UserName="tf-2")["ServiceSpecificCredentials"] == []
    terraform("delete_user", UserName="tf-2")
    terraform("get_user", UserName="tf-2", missing=True)
    terraform("list_mfa_devices", UserName="tf-2", missing=True)
    assert terraform("get_group", GroupName="tf")["Users"] == []
    terraform("delete_group", GroupName="tf")


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
