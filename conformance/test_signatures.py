"""Who gets in: signed headers, presigned requests and session tokens; and every way to be refused, in the service's words."""
import datetime
import re

import pytest

from harness.expect import expect_error
from harness.server import ACCOUNT, OTHER_KEY_ID, REGION
from harness.wire import STAMP, Signing, Wire, now

BODY = b'{"NumberOfBytes":1}'
MISMATCH = ("InvalidSignatureException: The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.")
UNKNOWN = "UnrecognizedClientException: The security token included in the request is invalid."
MISSING = "MissingAuthenticationTokenException: Missing Authentication Token"
INVALID = "InvalidSignatureException: "
HEADER = "IncompleteSignatureException: "


@pytest.fixture
def attempt(wire, shared, ledger):
    """Signs GenerateRandom as changes say, lets edit spoil the headers, and sends it."""
    def run(edit=None, body=BODY, method="POST", target="/", **changes):
        signed = wire.alter(**changes).signing.sign(shared.address, wire.headers("GenerateRandom"), BODY)
        if edit:
            signed = edit(signed) or signed
        return wire.send(signed, body, method=method, target=target)  # what the record names may be changed, too
    return run


def without(*names):
    return lambda headers: {k: v for k, v in headers.items() if k.lower() not in names}


def replace(name, old, new):
    def edit(headers):
        return headers | {name: re.sub(old, new, headers[name])}
    return edit


def test_signed(attempt):
    assert attempt().status == 200
    assert attempt(date_header="Date").status == 200, "the Date header may stand in for X-Amz-Date"
    assert attempt(lambda h: h | {"User-Agent": "added on the way", "X-Amzn-Trace-Id": "Root=1-2-3"}).status == 200
    assert attempt(date=now(-4.9)).status == attempt(date=now(4.9)).status == 200
    assert attempt(lambda h: h | {"Authorization": h["Authorization"].replace(", ", ",")}).status == 200


# What is changed after or while signing, and what comes of it.
REFUSED = {
    "no signature at all": (dict(edit=without("authorization")), MISSING),
    "another scheme": (dict(edit=lambda h: h | {"Authorization": "Bearer abc"}), MISSING),
    "wrong secret": (dict(secret="wrong"), MISMATCH),
    "secret of another account": (dict(key_id=OTHER_KEY_ID), MISMATCH),
    "body changed": (dict(body=b'{"NumberOfBytes":2}'), MISMATCH),
    "body appended to": (dict(body=BODY + b" "), MISMATCH),
    "method changed": (dict(method="PUT"), MISMATCH),
    "path changed": (dict(target="/x"), MISMATCH),
    "query added": (dict(target="/?a=b"), MISMATCH),
    "signed header changed": (dict(edit=lambda h: h | {"Content-Type": "application/json"}), MISMATCH),
    "operation changed": (dict(edit=lambda h: h | {"X-Amz-Target": "TrentService.ListKeys"}), MISMATCH),
    "host changed": (dict(edit=lambda h: h | {"Host": "kms.example.com"}), MISMATCH),
    "signed header gone": (dict(edit=without("content-type")), MISMATCH),
    "signature changed": (dict(edit=replace("Authorization", r"Signature=.", "Signature=g")), MISMATCH),
    "signature shortened": (dict(edit=replace("Authorization", r".$", "")), MISMATCH),
    "signature of capitals": (dict(edit=lambda h: h | {"Authorization": re.sub(r"Signature=(\w+)", lambda m: "Signature=" + m[1].upper(), h["Authorization"])}), MISMATCH),
    "signed headers reordered": (dict(edit=replace("Authorization", "content-type;host", "host;content-type")), MISMATCH),
    "target not signed": (dict(unsigned=("x-amz-target",)), INVALID + "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization."),
    "x-amz header added": (dict(edit=lambda h: h | {"X-Amz-Other": "1"}), INVALID + "'x-amz-other' must be a 'SignedHeader' in the AWS Authorization."),
    "host not signed": (dict(unsigned=("host",)), INVALID + "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."),
    "date not signed": (dict(unsigned=("x-amz-date",)), INVALID + "'x-amz-date' must be a 'SignedHeader' in the AWS Authorization."),
    "unknown access key": (dict(key_id="AKIANOBODYKNOWSTHIS0"), UNKNOWN),
    "unknown session key": (dict(key_id="ASIANOBODYKNOWSTHIS0"), UNKNOWN),
    "long-term key with a token": (dict(token="FwoGZXIvYXdzEBYaD"), UNKNOWN),
    "Region of no form": (dict(region="us east"), INVALID + "Credential should be scoped to a valid region. "),
    "empty Region": (dict(region=""), INVALID + "Credential should be scoped to a valid region. "),
    "another service": (dict(service="s3"), INVALID + "Credential should be scoped to correct service: 'kms'. "),
    "another terminator": (dict(terminator="aws5"), INVALID + "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5'."),
    "no credential": (dict(edit=replace("Authorization", r"Credential=[^,]*, ", "")), HEADER + "Authorization header requires 'Credential' parameter. …"),
    "no signature in the header": (dict(edit=replace("Authorization", r", Signature=.*", "")), HEADER + "Authorization header requires 'Signature' parameter. …"),
    "no signed headers": (dict(edit=replace("Authorization", r"SignedHeaders=[^,]*, ", "")), HEADER + "Authorization header requires 'SignedHeaders' parameter. …"),
    "nothing behind the scheme": (dict(edit=lambda h: h | {"Authorization": "AWS4-HMAC-SHA256 x"}),
                                  HEADER + "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. "
                                  "Authorization header requires 'SignedHeaders' parameter. …"),
    "no date": (dict(edit=without("x-amz-date", "date")), HEADER + "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. …"),
    "no credential and no date": (dict(edit=lambda h: without("x-amz-date")(h | {"Authorization": re.sub(r"Credential=[^,]*, ", "", h["Authorization"])})),
                                  HEADER + "Authorization header requires 'Credential' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. …"),
    "credential of four parts": (dict(edit=replace("Authorization", "/aws4_request", "")), HEADER + "…"),
    "date of no form": (dict(edit=lambda h: h | {"X-Amz-Date": "yesterday"}), HEADER + "…"),
    "another algorithm": (dict(edit=replace("Authorization", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1")), HEADER + "…"),
    "two Authorization headers": (dict(edit=lambda h: [*h.items(), ("Authorization", h["Authorization"])]), HEADER + "…"),
    "two dates": (dict(edit=lambda h: [*h.items(), ("X-Amz-Date", h["X-Amz-Date"])]), "…"),
    "header and query both sign": (dict(target="/?X-Amz-Signature=0"), HEADER + "…"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(attempt, name):
    how, want = REFUSED[name]
    if want == "…":
        assert attempt(**how).code in ("IncompleteSignatureException", "InvalidSignatureException")
    else:
        expect_error(attempt(**how), want)


def stamps(then, minutes):
    """The times that the service may name, a second being able to pass meanwhile."""
    return {(t.strftime(STAMP), (t + datetime.timedelta(minutes=minutes)).strftime(STAMP)) for t in (then, now())}


@pytest.mark.parametrize("minutes,words", [
    (-6, "Signature expired: {date} is now earlier than {edge} ({now} - 5 min.)"), (-60, "Signature expired: {date} is now earlier than {edge} ({now} - 5 min.)"),
    (6, "Signature not yet current: {date} is still later than {edge} ({now} + 5 min.)"), (600, "Signature not yet current: {date} is still later than {edge} ({now} + 5 min.)")])
def test_wrong_time(attempt, minutes, words):
    then, date = now(), now(minutes)
    answer = attempt(date=date)
    wanted = [INVALID + words.format(date=date.strftime(STAMP), now=n, edge=e) for n, e in stamps(then, -5 if minutes < 0 else 5)]
    assert answer.error in wanted, f"{answer.error} is not in {wanted}"


def test_scope_of_another_day(attempt):
    date = now()
    answer = attempt(date=date, scope_date="20200101")
    expect_error(answer, INVALID + "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                 f"'20200101' != '{date.strftime('%Y%m%d')}', from '{date.strftime(STAMP)}'.")


def test_presigned(wire, shared):
    headers = wire.headers("GenerateRandom")

    def send(signing, body=BODY, sent=headers, **how):
        query = signing.presign(shared.address, headers, BODY, **how)
        return wire.send(dict(sent), body, target="/?" + query)
    assert send(wire.signing).status == 200
    assert send(wire.alter(date=now(-30)).signing, expires=3600).status == 200, "an older one holds as long as it says"
    expect_error(send(wire.signing, body=b'{"NumberOfBytes":3}'), MISMATCH)
    expect_error(send(wire.signing, sent=wire.headers("ListKeys")), MISMATCH)
    expect_error(send(wire.alter(secret="wrong").signing), MISMATCH)
    expect_error(send(wire.alter(key_id="AKIANOBODYKNOWSTHIS0").signing), UNKNOWN)
    old = send(wire.alter(date=now(-11)).signing, expires=600)
    assert re.fullmatch(INVALID + r"Signature expired: \d{8}T\d{6}Z is now earlier than \d{8}T\d{6}Z \(\d{8}T\d{6}Z - 10 min\.\)", old.error), old.error
    expect_error(send(wire.alter(date=now(6)).signing), INVALID + "Signature not yet current: …")
    expect_error(send(wire.signing, expires=604801), HEADER + "…")
    expect_error(send(wire.signing, expires=0), HEADER + "…")
    query = wire.signing.presign(shared.address, headers, BODY)
    for part in query.split("&"):
        less = "&".join(p for p in query.split("&") if p != part)
        answer = wire.send(dict(headers), BODY, target="/?" + less, operation="GenerateRandom")
        assert answer.status == 400 and answer.code in ("IncompleteSignatureException", "InvalidSignatureException"), part


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_presigned_caller_identity(shared, wire, method):
    """boto3 makes this URL; others prove who they are with it."""
    url = shared.boto3("sts").generate_presigned_url("get_caller_identity", ExpiresIn=60, HttpMethod=method)
    answer = wire.send({}, b"", method=method, target=url.removeprefix(shared.url), operation="GetCallerIdentity")
    assert answer.status == 200 and f"<Arn>arn:aws:iam::{ACCOUNT}:root</Arn>".encode() in answer.body, answer.body
    changed = url.removeprefix(shared.url).replace("GetCallerIdentity", "GetSessionToken")
    assert wire.send({}, b"", method=method, target=changed, operation="GetSessionToken").status == 403


@pytest.fixture(scope="module")
def session(shared, ledger):
    made = shared.boto3("sts").get_session_token(DurationSeconds=900)["Credentials"]
    ledger.credential(made["SecretAccessKey"]), ledger.credential(made["SessionToken"])
    left = made["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
    assert 890 < left.total_seconds() <= 900
    return Signing(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])


def test_session_token(shared, session, new_key):
    key = new_key()["Arn"]
    client = shared.boto3(credentials=(session.key_id, session.secret, session.token))
    assert client.describe_key(KeyId=key)["KeyMetadata"]["Arn"] == key
    identity = shared.boto3("sts", credentials=(session.key_id, session.secret, session.token)).get_caller_identity()
    assert (identity["Account"], identity["Arn"], identity["UserId"]) == (ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root", ACCOUNT)
    mine = Wire(shared, session)
    assert mine.call("ListKeys").status == 200
    headers = mine.headers("GenerateRandom")
    query = session.presign(shared.address, headers, BODY)
    assert mine.send(headers, BODY, target="/?" + query).status == 200


def test_wrong_session_token(shared, session, wire, tally):
    mine, token = Wire(shared, session), session.token
    expect_error(mine.alter(token=None).call("ListKeys"), UNKNOWN)
    expect_error(mine.alter(token="x" + token).call("ListKeys"), UNKNOWN)
    expect_error(mine.alter(token=token[:-8]).call("ListKeys"), UNKNOWN)
    places = range(0, len(token), 7)
    for i in places:
        expect_error(mine.alter(token=token[:i] + ("A" if token[i] != "A" else "B") + token[i + 1:]).call("ListKeys"), UNKNOWN)
    expect_error(mine.alter(secret=wire.signing.secret).call("ListKeys"), MISMATCH)
    expect_error(mine.alter(key_id=session.key_id[:-1] + ("A" if session.key_id[-1] != "A" else "B")).call("ListKeys"), UNKNOWN)
    expect_error(wire.alter(token=token).call("ListKeys"), UNKNOWN)
    tally(5 + len(places))


def test_any_region_and_no_other_service(wire):
    for region in (REGION, "eu-central-1", "mars-north-7"):
        assert wire.alter(region=region).call("ListKeys").status == 200
    expect_error(wire.alter(service="sts").call("ListKeys"), INVALID + "Credential should be scoped to correct service: 'kms'. ")
