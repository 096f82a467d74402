"""The form of requests and answers: what is no JSON, what is too large, what is unknown, what is not built."""
import base64
import http.client
import json
import uuid

import pytest

from harness.expect import expect_error
from harness.wire import UUID4

IMPLEMENTED = set("""CancelKeyDeletion CreateAlias CreateGrant CreateKey Decapsulate Decrypt DeleteAlias DeleteImportedKeyMaterial DeriveSharedSecret
DescribeKey DisableKey DisableKeyRotation EnableKey EnableKeyRotation Encapsulate Encrypt GenerateDataKey GenerateDataKeyPair
GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext GenerateMac GenerateRandom GetKeyLastUsage GetKeyPolicy GetKeyRotationStatus
GetParametersForImport GetPublicKey ImportKeyMaterial ListAliases ListGrants ListKeyPolicies ListKeyRotations ListKeys
ListResourceTags ListRetirableGrants PutKeyPolicy ReEncrypt ReplicateKey RetireGrant RevokeGrant RotateKeyOnDemand ScheduleKeyDeletion Sign
TagResource UntagResource UpdateAlias UpdateKeyDescription UpdatePrimaryRegion Verify VerifyMac""".split())

# Bodies of Encrypt that cannot be read as its input.
BROKEN = {
    "no JSON": b"hello", "half an object": b'{"KeyId":"a"', "trailing comma": b'{"KeyId":"a",}', "two documents": b'{"KeyId":"a"} {}', "a list": b'["KeyId"]',
    "a text": b'"KeyId"', "single quotes": b"{'KeyId':'a'}", "comment": b'{/* */"KeyId":"a"}', "bare word": b'{"KeyId":alias}', "NUL": b'{"KeyId":"a"}\0',
    "no UTF-8": b'{"KeyId":"\xff\xfe"}', "lone surrogate": b'{"KeyId":"\\ud800"}', "raw control character": b'{"KeyId":"a\nb"}', "leading zero": b'{"Limit":01}',
    "member twice": b'{"KeyId":"a","KeyId":"b","Plaintext":"eA=="}', "unknown member twice": b'{"x":1,"x":2,"KeyId":"a"}',
    "member twice, escaped": b'{"KeyId":"a","\\u004beyId":"b"}', "number for text": b'{"KeyId":1,"Plaintext":"eA=="}', "object for text": b'{"KeyId":{},"Plaintext":"eA=="}',
    "list for text": b'{"KeyId":["a"],"Plaintext":"eA=="}', "true for text": b'{"KeyId":true}', "number for octets": b'{"KeyId":"a","Plaintext":1}',
    "no Base64": b'{"KeyId":"a","Plaintext":"***"}', "Base64 cut off": b'{"KeyId":"a","Plaintext":"eA="}', "list for a map": b'{"KeyId":"a","EncryptionContext":["a"]}',
    "number in a map": b'{"KeyId":"a","EncryptionContext":{"a":1}}', "map key twice": b'{"KeyId":"a","EncryptionContext":{"a":"1","a":"2"}}',
    "text for a list": b'{"KeyId":"a","GrantTokens":"a"}', "number in a list": b'{"KeyId":"a","GrantTokens":[1]}', "text for a truth": b'{"KeyId":"a","DryRun":"true"}',
    "very deep": b'{"x":' + b"[" * 100000 + b"]" * 100000 + b"}",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken(wire, name):
    expect_error(wire.post("Encrypt", BROKEN[name]), "SerializationException…")


@pytest.mark.parametrize("body", [b'{"Limit":"10"}', b'{"Limit":1.5}', b'{"Limit":1e99}', b'{"Limit":99999999999}', b'{"Limit":[]}', b'{"Limit":true}'])
def test_broken_numbers(wire, body):
    expect_error(wire.post("ListKeys", body), "SerializationException…")


def test_what_is_read_leniently(wire, new_key):
    key = new_key()["KeyId"]
    for body in (b'{"KeyId":"%s","Unknown":{"a":[1,{"b":null}]},"keyid":1}', b' \r\n\t{ "KeyId" : "%s" } \n', b'{"KeyId":"%s","GrantTokens":null}', b'{"KeyId":"%s","GrantTokens":[]}'):
        answer = wire.post("DescribeKey", body % key.encode())
        assert answer.status == 200, answer.error
    escaped = "".join(f"\\u{ord(c):04x}" for c in key)
    assert wire.post("DescribeKey", b'{"\\u004beyId":"%s"}' % escaped.encode()).json["KeyMetadata"]["KeyId"] == key
    assert wire.post("ListKeys", b"").status == 200, "an empty body counts as an empty object"


def test_texts_of_every_kind(wire, new_key):
    """Descriptions and tags come back as they went in."""
    texts = ["", "plain", 'quote " backslash \\ slash /', "tab\tline\nreturn\r", "ünïcödé €", "𝒦ey 🔑", "\u2028\u2029\u007f", "<b>&amp;'"]
    for text in texts:
        metadata = new_key(Description=text)
        assert metadata["Description"] == text
        assert wire.ok("DescribeKey", KeyId=metadata["KeyId"])["KeyMetadata"]["Description"] == text
        wire.ok("TagResource", KeyId=metadata["KeyId"], Tags=[{"TagKey": "k" + text[:100], "TagValue": text}])
        assert wire.ok("ListResourceTags", KeyId=metadata["KeyId"])["Tags"] == [{"TagKey": "k" + text[:100], "TagValue": text}]


def test_contexts_of_every_kind(wire, new_key, ledger):
    """The order of an encryption context does not matter; every character does."""
    key = new_key()["KeyId"]
    plaintext = base64.b64encode(ledger.fresh_plaintext()).decode()
    contexts = [{}, {"a": ""}, {"a": "b", "c": "d"}, {"ab": "c"}, {"a": "bc"}, {"a=b": "c"}, {"a": "b=c"}, {"ä": "ö"}, {"a\u0308": "ö"}, {"k": "v" * 5000}]
    blobs = [wire.ok("Encrypt", KeyId=key, Plaintext=plaintext, EncryptionContext=c)["CiphertextBlob"] for c in contexts]
    for i, blob in enumerate(blobs):
        for j, context in enumerate(contexts):
            answer = wire.call("Decrypt", CiphertextBlob=blob, EncryptionContext=dict(reversed(context.items())))
            assert (answer.json.get("Plaintext") == plaintext) == (i == j), (contexts[i], context)
            assert i == j or answer.error == "InvalidCiphertextException"


@pytest.mark.parametrize("size", [1, 15, 16, 17, 4095, 4096])
def test_sizes(wire, new_key, ledger, size):
    key = new_key()["KeyId"]
    plaintext = bytes(size) if size < 15 else ledger.fresh_plaintext(size)
    blob = wire.ok("Encrypt", KeyId=key, Plaintext=base64.b64encode(plaintext).decode())["CiphertextBlob"]
    assert len(base64.b64decode(blob)) <= 6144
    assert base64.b64decode(wire.ok("Decrypt", CiphertextBlob=blob)["Plaintext"]) == plaintext


def test_every_operation_of_the_model(kms, wire, tally):
    """What is built answers; what is not says so, honestly and by name."""
    names = set(kms.meta.service_model.operation_names) | {"Encapsulate", "Decapsulate"}
    assert IMPLEMENTED < names and len(names) >= 56
    for name in sorted(names - IMPLEMENTED):
        for body in (b"{}", b'{"KeyId":"%s"}' % str(uuid.uuid4()).encode()):
            answer = wire.post(name, body)
            expect_error(answer, "UnsupportedOperationException: …")
            assert name in answer.message
    for name in sorted(IMPLEMENTED):
        assert wire.post(name, b'{"Limit":"x","KeyId":7}' if name != "CreateKey" else b'{"Tags":7}').code in ("SerializationException", "ValidationException"), name
    tally(2 * len(names) - len(IMPLEMENTED))


@pytest.mark.parametrize("target", ["TrentService.Nothing", "TrentService.encrypt", "TrentService.", "TrentService", "Nothing.Encrypt", "", ".", "TrentService.Encrypt.More"])
def test_unknown_operation(wire, shared, target):
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
    expect_error(wire.send(wire.signing.sign(shared.address, headers, b"{}"), b"{}"), "UnknownOperationException…")


def test_other_services(wire, shared, tally):
    """What there is not of other services gets an honest answer and no success."""
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.DescribeTrails"}
    answer = wire.send(wire.alter(service="cloudtrail").signing.sign(shared.address, headers, b"{}"), b"{}")
    assert answer.status == 400 and answer.code == "UnknownOperationException", answer.body
    for service, version, action in [("iam", "2010-05-08", "CreateSAMLProvider"), ("iam", "2010-05-08", "CreateVirtualMFADevice"), ("sts", "2011-06-15", "AssumeRoleWithSAML"), ("sts", "2011-06-15", "Nothing")]:
        headers, body = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, f"Action={action}&Version={version}".encode()
        answer = wire.send(wire.alter(service=service).signing.sign(shared.address, headers, body), body)
        assert answer.status in (400, 403) and f"{action}".encode() in answer.body and b"<ErrorResponse" in answer.body, (action, answer.body)
        assert answer.headers["content-type"].startswith("text/xml")
        assert UUID4.match(answer.headers["x-amzn-requestid"])
    tally(5)


def test_headers_of_answers(wire, new_key, tally):
    key = new_key()["KeyId"]
    seen = set()
    for operation, values, body in [("DescribeKey", {"KeyId": key}, True), ("DescribeKey", {"KeyId": "foo"}, True), ("EnableKey", {"KeyId": key}, False), ("Nothing", {}, True),
                                    ("Encrypt", {}, True), ("CreateGrant", {}, True), ("GenerateRandom", {"NumberOfBytes": 3}, True)]:
        answer = wire.call(operation, values)
        assert UUID4.match(answer.headers["x-amzn-requestid"])
        assert answer.headers["content-type"] == "application/x-amz-json-1.1"
        assert int(answer.headers["content-length"]) == len(answer.body) and bool(answer.body) == body
        assert "date" in answer.headers and "no-store" in answer.headers.get("cache-control", "")
        assert "server" not in answer.headers and "x-powered-by" not in answer.headers
        if body:
            assert isinstance(json.loads(answer.body), dict)
        seen.add(answer.headers["x-amzn-requestid"])
    assert len(seen) == 7, "request ids repeat"
    tally(7)


def test_large_body(wire, shared):
    """A body beyond every legal request is refused; the largest legal one is read."""
    policy = json.dumps({"Version": "2012-10-17", "Statement": []}) + " " * 130000
    expect_error(wire.call("PutKeyPolicy", KeyId=str(uuid.uuid4()), Policy=policy), "NotFoundException: …")
    # Of a body that is too large the server reads no more than it must: the rest is never sent.
    connection = http.client.HTTPConnection(shared.address, timeout=10)
    connection.putrequest("POST", "/")
    for name, value in wire.signing.sign(shared.address, wire.headers("DescribeKey"), b"").items():
        if name != "Host":
            connection.putheader(name, value)
    connection.putheader("Content-Length", str(4 << 20))
    connection.endheaders(b'{"KeyId":"' + b"a" * (1100 << 10))
    response = connection.getresponse()
    shared.ledger.called(response.headers["x-amzn-RequestId"], "")
    assert response.status == 413 and json.loads(response.read())["__type"] == "RequestEntityTooLargeException"
    connection.close()
    assert wire.call("ListKeys").status == 200


def test_chunked_body(wire, shared, new_key):
    """A body without a length is read as well."""
    body = json.dumps({"KeyId": new_key()["KeyId"]}).encode()
    headers = wire.signing.sign(shared.address, wire.headers("DescribeKey"), body)
    connection = http.client.HTTPConnection(shared.address, timeout=10)
    connection.request("POST", "/", iter([body[:5], body[5:]]), headers, encode_chunked=True)
    response = connection.getresponse()
    shared.ledger.called(response.headers["x-amzn-RequestId"], "DescribeKey")
    assert response.status == 200, response.read()
    connection.close()


@pytest.mark.parametrize("method,target", [("GET", "/"), ("HEAD", "/"), ("GET", "/favicon.ico"), ("DELETE", "/"), ("OPTIONS", "*"), ("GET", "/healthz"), ("POST", "/admin")])
def test_no_other_doors(wire, method, target):
    """Whatever is not an operation is refused, unsigned as it is."""
    answer = wire.send({}, b"", method=method, target=target)
    assert answer.status >= 400
    assert b"go1." not in answer.body and b"goroutine" not in answer.body
