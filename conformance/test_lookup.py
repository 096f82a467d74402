"""Look-up of events with boto3 and the AWS CLI, and a walk through ten calls whose records are what CloudTrail's documentation says."""
import datetime
import json
import re
import subprocess
import time

import botocore.exceptions
import pytest

from harness.cli import aws
from harness.records import faults
from harness.server import ACCOUNT, BINARY, OTHER_ACCOUNT, OTHER_KEY_ID, REGION, Server, plain_environment
from harness.wire import UUID4

ROOT, OTHER_ROOT = (f"arn:aws:iam::{a}:root" for a in (ACCOUNT, OTHER_ACCOUNT))
SERVICE = "objects.example.com"
ROLE = "builder"


def refused(code, call, **values):
    with pytest.raises(botocore.exceptions.ClientError) as e:
        call(**values)
    assert e.value.response["Error"]["Code"] == code, e.value
    return e.value.response["Error"]["Message"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of its own, over TLS, so that its trail is known from the first record."""
    folder = tmp_path_factory.mktemp("lookup")
    with Server(folder, "--tls", "--account", f"{OTHER_ACCOUNT}={OTHER_KEY_ID}:another-account-for-the-walk", data=folder / "data") as s:
        yield s


@pytest.fixture(scope="module")
def trail(server):
    return server.boto3("cloudtrail")


@pytest.fixture(scope="module")
def people(server):
    """The KMS clients of everybody, by name, and what their records say of them."""
    iam, sts = server.boto3("iam"), server.boto3("sts")
    allow = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["kms:*", "sts:AssumeRole"], "Resource": "*"},
                                                               {"Effect": "Deny", "Action": "kms:DisableKey", "Resource": "*"}]})
    user = iam.create_user(UserName="ann")["User"]
    iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument=allow)
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    trust = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}]})
    role = iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=trust)["Role"]
    iam.put_role_policy(RoleName=ROLE, PolicyName="p", PolicyDocument=allow)
    ann = (key["AccessKeyId"], key["SecretAccessKey"])
    assumed = server.boto3("sts", credentials=ann).assume_role(RoleArn=role["Arn"], RoleSessionName="monday")
    c = assumed["Credentials"]
    run = subprocess.run([str(BINARY), "service", "register", "--account", ACCOUNT, "--principal", SERVICE, "--for", ACCOUNT, "--socket", str(server.data / "admin.sock")],
                         capture_output=True, text=True, timeout=30, env=plain_environment(), check=True)
    said = dict(line.split(":", 1) for line in run.stdout.splitlines() if ":" in line)
    service = server.boto3(credentials=(said["Access key id"].strip(), said["Secret access key"].strip()))

    def on_behalf(request, **_):
        request.headers["X-Keywright-On-Behalf-Of"] = user["Arn"]
    service.meta.events.register("before-sign.kms", on_behalf)
    who = {
        "root": (server.boto3(), {"type": "Root", "principalId": ACCOUNT, "arn": ROOT, "accountId": ACCOUNT, "accessKeyId": server.key_id}),
        "ann": (server.boto3(credentials=ann), {"type": "IAMUser", "principalId": user["UserId"], "arn": user["Arn"], "accountId": ACCOUNT, "accessKeyId": ann[0], "userName": "ann"}),
        "builder": (server.boto3(credentials=(c["AccessKeyId"], c["SecretAccessKey"], c["SessionToken"])), {
            "type": "AssumedRole", "principalId": f"{role['RoleId']}:monday", "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/monday", "accountId": ACCOUNT,
            "accessKeyId": c["AccessKeyId"], "sessionContext": {
                "sessionIssuer": {"type": "Role", "principalId": role["RoleId"], "arn": role["Arn"], "accountId": ACCOUNT, "userName": ROLE},
                "webIdFederationData": {}, "attributes": {"creationDate": ..., "mfaAuthenticated": "false"}}}),
        "other": (server.boto3(credentials=(OTHER_KEY_ID, "another-account-for-the-walk")), {
            "type": "Root", "principalId": OTHER_ACCOUNT, "arn": OTHER_ROOT, "accountId": OTHER_ACCOUNT, "accessKeyId": OTHER_KEY_ID}),
        "service": (service, {"type": "IAMUser", "principalId": user["UserId"], "arn": user["Arn"], "accountId": ACCOUNT, "userName": "ann", "invokedBy": SERVICE}),
    }
    who["secrets"] = [key["SecretAccessKey"], c["SecretAccessKey"], c["SessionToken"], said["Secret access key"].strip(), "another-account-for-the-walk", server.secret]
    return who


ORDER = ["eventVersion", "userIdentity", "eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress", "userAgent", "errorCode", "errorMessage", "requestParameters",
         "responseElements", "additionalEventData", "requestID", "eventID", "readOnly", "resources", "eventType", "managementEvent", "recipientAccountId", "sharedEventID",
         "eventCategory", "tlsDetails"]


def matches(got, want, path=""):
    """Compares member for member; ... stands for any value that is there, a compiled pattern for text that fits it."""
    if want is ...:
        assert got not in (None, ""), path
    elif isinstance(want, re.Pattern):
        assert want.fullmatch(got), (path, got)
    elif isinstance(want, dict):
        assert isinstance(got, dict) and set(got) == set(want), (path, sorted(got) if isinstance(got, dict) else got, sorted(want))
        for name in want:
            matches(got[name], want[name], f"{path}.{name}")
    else:
        assert got == want, (path, got, want)


def events_of(client, request_id, attribute, value):
    """The events of a call, through LookupEvents."""
    pages = client.get_paginator("lookup_events").paginate(LookupAttributes=[{"AttributeKey": attribute, "AttributeValue": value}])
    return [e for page in pages for e in page["Events"] if json.loads(e["CloudTrailEvent"]).get("requestID") == request_id]


class Walk:
    def __init__(self, server, trail, people):
        self.server, self.trail, self.people, self.calls = server, trail, people, 0

    def call(self, name, operation, error=None, **values):
        """Makes a call and returns its answer, error, and event."""
        client, _ = self.people[name]
        self.calls += 1
        answer, failed = None, None
        try:
            answer = getattr(client, operation)(**values)
            meta = answer["ResponseMetadata"]
        except botocore.exceptions.ClientError as e:
            failed, meta = e.response["Error"], e.response["ResponseMetadata"]
        assert (failed or {}).get("Code") == error, failed
        self.request_id = meta["RequestId"]
        self.event_name = client.meta.method_to_api_mapping[operation]
        found = events_of(self.trail if name != "other" else self.server.boto3("cloudtrail", credentials=(OTHER_KEY_ID, "another-account-for-the-walk")),
                          self.request_id, "EventName", self.event_name)
        assert len(found) == 1, found
        return answer, failed, found[0]

    def check(self, name, event, *, read_only, resources, parameters, response=None, recipient=None, username=None, **more):
        """Compares the record with the documentation, and the event with its record."""
        record = json.loads(event["CloudTrailEvent"])
        by_service = name == "service"
        want = {
            "eventVersion": "1.11", "userIdentity": self.people[name][1], "eventTime": re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "eventSource": "kms.amazonaws.com",
            "eventName": self.event_name, "awsRegion": REGION, "sourceIPAddress": SERVICE if by_service else "127.0.0.1",
            "userAgent": SERVICE if by_service else re.compile("Boto3/.*"), "requestParameters": parameters, "responseElements": response,
            "requestID": self.request_id, "eventID": UUID4, "readOnly": read_only, "eventType": "AwsApiCall", "managementEvent": True,
            "recipientAccountId": recipient or ACCOUNT, "eventCategory": "Management"}
        if not by_service:
            want["tlsDetails"] = {"tlsVersion": "TLSv1.3", "cipherSuite": re.compile("TLS_.*"), "clientProvidedHostHeader": self.server.address, "keyExchange": ...}
        if resources is not None:
            want["resources"] = [{"accountId": ACCOUNT, "type": "AWS::KMS::Key", "ARN": arn} for arn in resources]
        matches(record, want | more)
        assert [m for m in ORDER if m in record] == list(record), "members out of order"
        assert event["EventId"] == record["eventID"] and event["EventName"] == record["eventName"] and event["EventSource"] == record["eventSource"]
        assert event["ReadOnly"] == ("true" if read_only else "false") and event.get("AccessKeyId") == record["userIdentity"].get("accessKeyId")
        assert event["EventTime"].astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") == record["eventTime"]
        assert event.get("Username") == username
        assert event["Resources"] == [{"ResourceType": "AWS::KMS::Key", "ResourceName": arn} for arn in resources or []]
        return record


def test_a_walk_of_ten_calls(server, trail, people, tally):
    w = Walk(server, trail, people)
    # 1. A root user makes a key.
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": [ROOT, OTHER_ROOT]}, "Action": "kms:*", "Resource": "*"}]})
    made, _, event = w.call("root", "create_key", Policy=policy, Description="walk")
    key, material = made["KeyMetadata"]["Arn"], made["KeyMetadata"]["CurrentKeyMaterialId"]
    shown = {"aWSAccountId": ACCOUNT, "keyId": key.split("/")[1], "arn": key, "creationDate": re.compile(r"[A-Z][a-z]{2} \d{1,2}, 20\d\d, \d{1,2}:\d\d:\d\d [AP]M"), "enabled": True,
             "description": "walk", "keyUsage": "ENCRYPT_DECRYPT", "keyState": "Enabled", "origin": "AWS_KMS", "keyManager": "CUSTOMER", "customerMasterKeySpec": "SYMMETRIC_DEFAULT",
             "keySpec": "SYMMETRIC_DEFAULT", "encryptionAlgorithms": ["SYMMETRIC_DEFAULT"], "multiRegion": False, "currentKeyMaterialId": material}
    w.check("root", event, read_only=False, resources=[key], username="root", response={"keyMetadata": shown}, parameters={
        "policy": policy, "description": "walk", "keyUsage": "ENCRYPT_DECRYPT", "origin": "AWS_KMS", "keySpec": "SYMMETRIC_DEFAULT", "customerMasterKeySpec": "SYMMETRIC_DEFAULT",
        "bypassPolicyLockoutSafetyCheck": False})
    # 2. A user encrypts.
    sealed, _, event = w.call("ann", "encrypt", KeyId=key, Plaintext=b"a plaintext of the walk", EncryptionContext={"stage": "walk"})
    used = {"additionalEventData": {"keyMaterialId": material}}
    w.check("ann", event, read_only=True, resources=[key], username="ann", parameters={
        "keyId": key, "encryptionAlgorithm": "SYMMETRIC_DEFAULT", "encryptionContext": {"stage": "walk"}}, **used)
    # 3. A role's session decrypts.
    _, _, event = w.call("builder", "decrypt", CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext={"stage": "walk"})
    w.check("builder", event, read_only=True, resources=[key], username="monday", parameters={"encryptionAlgorithm": "SYMMETRIC_DEFAULT", "encryptionContext": {"stage": "walk"}}, **used)
    # 4. Another account uses the key: a record for each of the two.
    _, _, event = w.call("other", "describe_key", KeyId=key)
    record = w.check("other", event, read_only=True, resources=[key], username="root", recipient=OTHER_ACCOUNT, parameters={"keyId": key}, sharedEventID=UUID4)
    owners = events_of(trail, w.request_id, "ResourceName", key)
    assert len(owners) == 1
    people["owner"] = None, {"type": "AWSAccount", "principalId": OTHER_ACCOUNT, "accountId": OTHER_ACCOUNT}
    copy = w.check("owner", owners[0], read_only=True, resources=[key], username=None, parameters={"keyId": key}, sharedEventID=record["sharedEventID"])
    assert copy["eventID"] != record["eventID"]
    # 5. A service generates a data key on behalf of the user.
    _, _, event = w.call("service", "generate_data_key", KeyId=key, KeySpec="AES_256")
    w.check("service", event, read_only=True, resources=[key], username="ann", parameters={"keyId": key, "keySpec": "AES_256"}, **used)
    # 6. The user is refused.
    _, failed, event = w.call("ann", "disable_key", error="AccessDeniedException", KeyId=key)
    w.check("ann", event, read_only=False, resources=None, username="ann", parameters=None, errorCode="AccessDenied", errorMessage=failed["Message"])
    # 7. The root user gives a grant: its token stays between the two.
    granted, _, event = w.call("root", "create_grant", KeyId=key, GranteePrincipal=people["ann"][1]["arn"], Operations=["Decrypt"], Constraints={"EncryptionContextSubset": {"a": "b"}})
    w.check("root", event, read_only=False, resources=[key], username="root", response={"grantId": granted["GrantId"], "keyId": key}, parameters={
        "keyId": key, "granteePrincipal": people["ann"][1]["arn"], "operations": ["Decrypt"], "constraints": {"encryptionContextSubset": {"a": "b"}}})
    # 8. The role's session encrypts anew under another key.
    other = people["root"][0].create_key()["KeyMetadata"]
    _, _, event = w.call("builder", "re_encrypt", CiphertextBlob=sealed["CiphertextBlob"], SourceEncryptionContext={"stage": "walk"}, DestinationKeyId=other["Arn"])
    w.check("builder", event, read_only=True, resources=[key, other["Arn"]], username="monday", parameters={
        "sourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT", "sourceEncryptionContext": {"stage": "walk"}, "destinationKeyId": other["Arn"],
        "destinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT"}, additionalEventData={"destinationKeyMaterialId": other["CurrentKeyMaterialId"], "sourceKeyMaterialId": material})
    # 9. The user decrypts what is no ciphertext.
    _, _, event = w.call("ann", "decrypt", error="InvalidCiphertextException", CiphertextBlob=b"nothing that was encrypted")
    w.check("ann", event, read_only=True, resources=None, username="ann", parameters={"encryptionAlgorithm": "SYMMETRIC_DEFAULT"}, errorCode="InvalidCiphertextException")
    # 10. The root user has the key deleted.
    _, _, event = w.call("root", "schedule_key_deletion", KeyId=key, PendingWindowInDays=7)
    w.check("root", event, read_only=False, resources=[key], username="root", parameters={"keyId": key, "pendingWindowInDays": 7}, response={
        "keyId": key, "keyState": "PendingDeletion", "deletionDate": shown["creationDate"], "pendingWindowInDays": 7})
    assert w.calls == 10
    text = b"".join(p.read_bytes() for p in server.audit_files())
    for secret in [b"a plaintext of the walk", granted["GrantToken"].encode(), *(s.encode() for s in people["secrets"])]:
        assert secret not in text
    tally(10)


def test_attributes(server, trail, people):
    """Each attribute finds the event, and not with another value."""
    key = people["ann"][0].create_key()["KeyMetadata"]["Arn"]
    event = trail.lookup_events(LookupAttributes=[{"AttributeKey": "ResourceName", "AttributeValue": key}])["Events"][0]
    for name, value in {"EventId": event["EventId"], "EventName": "CreateKey", "ReadOnly": "false", "Username": "ann", "ResourceType": "AWS::KMS::Key", "ResourceName": key,
                        "EventSource": "kms.amazonaws.com", "AccessKeyId": event["AccessKeyId"]}.items():
        pages = trail.get_paginator("lookup_events").paginate(LookupAttributes=[{"AttributeKey": name, "AttributeValue": value}], PaginationConfig={"PageSize": 7})
        found = [e["EventId"] for page in pages for e in page["Events"]]
        assert event["EventId"] in found and len(set(found)) == len(found), name
        wrong = "true" if name == "ReadOnly" else value.swapcase()
        answer = trail.lookup_events(LookupAttributes=[{"AttributeKey": name, "AttributeValue": wrong}])
        assert event["EventId"] not in [e["EventId"] for e in answer["Events"]], name


def test_time_range_and_order(trail, people):
    people["root"][0].list_keys()
    newest = trail.lookup_events(MaxResults=1)["Events"][0]["EventTime"]
    second = datetime.timedelta(seconds=1)
    assert trail.lookup_events(StartTime=newest, EndTime=newest)["Events"], "both ends are included"
    assert trail.lookup_events(EndTime=newest + second, StartTime=newest + second)["Events"] == []
    times = [e["EventTime"] for page in trail.get_paginator("lookup_events").paginate(PaginationConfig={"PageSize": 5}) for e in page["Events"]]
    assert times == sorted(times, reverse=True) and len(times) > 10
    refused("InvalidTimeRangeException", trail.lookup_events, StartTime=newest, EndTime=newest - second)
    refused("InvalidTimeRangeException", trail.lookup_events, EndTime=newest - datetime.timedelta(days=91))


def test_each_account_and_region_has_its_trail(server, trail, people):
    other = server.boto3("cloudtrail", credentials=(OTHER_KEY_ID, "another-account-for-the-walk"))
    assert all(json.loads(e["CloudTrailEvent"])["recipientAccountId"] == OTHER_ACCOUNT for e in other.lookup_events()["Events"])
    away = server.boto3("cloudtrail", region="eu-west-1")
    assert away.lookup_events()["Events"] == []
    assert [e["EventName"] for e in away.lookup_events()["Events"]] == ["LookupEvents"], "a look-up is an event, too"
    found = trail.lookup_events(LookupAttributes=[{"AttributeKey": "EventSource", "AttributeValue": "iam.amazonaws.com"}])["Events"]
    assert {"CreateUser", "CreateRole"} <= {e["EventName"] for e in found}, "IAM's Region is us-east-1"


def test_what_happens_in_two_regions(server, trail, people):
    """Both Regions have records, with one request id."""
    kms, away = people["root"][0], server.boto3(region="eu-west-1")
    key = kms.create_key(MultiRegion=True)["KeyMetadata"]["KeyId"]
    for operation, there in (("replicate_key", "CreateKey"), ("update_primary_region", "UpdatePrimaryRegion")):
        values = {"ReplicaRegion": "eu-west-1"} if there == "CreateKey" else {"PrimaryRegion": "eu-west-1"}
        request_id = getattr(kms, operation)(KeyId=key, **values)["ResponseMetadata"]["RequestId"]
        name = kms.meta.method_to_api_mapping[operation]
        (home,) = events_of(trail, request_id, "EventName", name)
        (other,) = events_of(server.boto3("cloudtrail", region="eu-west-1"), request_id, "EventName", there)
        record = json.loads(other["CloudTrailEvent"])
        assert record["awsRegion"] == "eu-west-1" and record["userIdentity"]["invokedBy"] == "kms.amazonaws.com" and home["EventId"] != other["EventId"]
        deadline = time.monotonic() + 20
        while any(c.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] != "Enabled" for c in (kms, away)):
            assert time.monotonic() < deadline
    records = [json.loads(line) for path in server.audit_files() for line in path.read_text().splitlines()]
    assert {(r["eventName"], fault) for r in records for fault in faults(r, tls=True)} == set()


def test_refusals(server, trail, people):
    for code, values in [("InvalidMaxResultsException", {"MaxResults": 0}), ("InvalidMaxResultsException", {"MaxResults": 51}), ("InvalidNextTokenException", {"NextToken": "x"}),
                         ("InvalidEventCategoryException", {"EventCategory": "management"}),
                         ("InvalidLookupAttributesException", {"LookupAttributes": [{"AttributeKey": "Name", "AttributeValue": "x"}]}),
                         ("InvalidLookupAttributesException", {"LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": v} for v in "xy"]})]:
        refused(code, trail.lookup_events, **values)
    assert trail.lookup_events(EventCategory="insight")["Events"] == []
    assert trail.list_public_keys()["PublicKeyList"] == []
    key = server.boto3("iam").create_access_key(UserName="ann")["AccessKey"]
    message = refused("AccessDeniedException", server.boto3("cloudtrail", credentials=(key["AccessKeyId"], key["SecretAccessKey"])).lookup_events)
    assert message == (f"User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: cloudtrail:LookupEvents on resource: * "
                       "because no identity-based policy allows the cloudtrail:LookupEvents action")
    assert trail.lookup_events(LookupAttributes=[{"AttributeKey": "AccessKeyId", "AttributeValue": key["AccessKeyId"]}])["Events"][0]["EventName"] == "LookupEvents"


def test_the_command_line(server, people):
    key = people["root"][0].create_key()["KeyMetadata"]["Arn"]
    said = aws(server, "cloudtrail", "lookup-events", "--lookup-attributes", f"AttributeKey=ResourceName,AttributeValue={key}")
    assert [e["EventName"] for e in said["Events"]] == ["CreateKey"] and json.loads(said["Events"][0]["CloudTrailEvent"])["resources"][0]["ARN"] == key
    everything = aws(server, "cloudtrail", "lookup-events", "--page-size", "5", "--max-items", "12")
    assert len(everything["Events"]) == 12 and everything["NextToken"]
    assert "InvalidMaxResultsException" in aws(server, "cloudtrail", "lookup-events", "--page-size", "51", fails=True)
    assert aws(server, "cloudtrail", "list-public-keys") == {"PublicKeyList": []}


def test_audit_tail_follows(server, people):
    """What the command prints while calls come, through the socket and from the files."""
    for where in (["--socket", str(server.data / "admin.sock")], ["--dir", str(server.data / "audit")]):
        tail = subprocess.Popen([str(BINARY), "audit", "tail", "-f", "-n", "1", "--json", *where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=plain_environment())
        try:
            assert json.loads(tail.stdout.readline())["eventVersion"] == "1.11"  # the last one: it follows from here
            for _ in range(3):
                answer = people["root"][0].list_aliases()["ResponseMetadata"]["RequestId"]
                assert json.loads(tail.stdout.readline())["requestID"] == answer
        finally:
            tail.terminate()
        assert tail.wait(20) == 0, tail.stderr.read()


def test_the_index_lasts(server, trail, people):
    """A restart and a kill leave everything to be found."""
    before = [e["EventId"] for page in trail.get_paginator("lookup_events").paginate() for e in page["Events"]]
    for end in (server.stop, server.kill):
        end()
        server.start()
        again = server.boto3("cloudtrail")
        found = [e["EventId"] for page in again.get_paginator("lookup_events").paginate() for e in page["Events"]]
        assert set(before) <= set(found)
