"""Requests made by hand: a signer with every screw loose, and a client that shows what the server really said."""
import dataclasses
import datetime
import hashlib
import hmac
import http.client
import json
import re
import threading
import urllib.parse

from .server import REGION

UUID4 = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
STAMP = "%Y%m%dT%H%M%SZ"


def now(minutes=0):
    return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=minutes)


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict  # lower-case names
    body: bytes

    @property
    def json(self):
        return json.loads(self.body) if self.body else {}

    @property
    def code(self):
        return self.json.get("__type", "") if self.status != 200 else ""

    @property
    def message(self):
        """The message, None where there is no such member."""
        return self.json.get("message")

    @property
    def error(self):
        """Code and message as one text, as the tables of cases have them."""
        return self.code if self.message is None else f"{self.code}: {self.message}"


@dataclasses.dataclass
class Signing:
    """How to sign. Every field can be made wrong on its own."""
    key_id: str
    secret: str
    token: str = None
    region: str = REGION
    service: str = "kms"
    terminator: str = "aws4_request"
    date: datetime.datetime = None
    scope_date: str = None
    date_header: str = "X-Amz-Date"
    unsigned: tuple = ()  # lower-case names of headers to leave out of the signature

    def scope(self, stamp):
        return f"{self.scope_date or stamp[:8]}/{self.region}/{self.service}/{self.terminator}"

    def signature(self, method, path, query, headers, names, body, stamp):
        """AWS Signature Version 4 (IAM user guide, "Create a signed AWS API request")."""
        canonical = "\n".join([
            method, path, query, *(f"{n}:{' '.join(headers[n].split())}" for n in names), "", ";".join(names),
            hashlib.sha256(body).hexdigest()])
        scope = self.scope(stamp)
        to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + self.secret).encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, to_sign.encode(), "sha256").hex()

    def sign(self, address, headers, body, method="POST", path="/", query=""):
        """Returns the headers with a date and an Authorization."""
        stamp = (self.date or now()).strftime(STAMP)
        headers = dict(headers) | {"Host": address}
        if self.date_header:
            headers[self.date_header] = stamp
        if self.token:
            headers["X-Amz-Security-Token"] = self.token
        lower = {k.lower(): v for k, v in headers.items()}
        names = sorted(n for n in lower if n not in self.unsigned)
        signature = self.signature(method, path, query, lower, names, body, stamp)
        headers["Authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.key_id}/{self.scope(stamp)}, "
                                    f"SignedHeaders={';'.join(names)}, Signature={signature}")
        return headers

    def presign(self, address, headers, body, expires=300, method="POST"):
        """Returns the query string that signs a request with these headers and this body."""
        stamp = (self.date or now()).strftime(STAMP)
        lower = {k.lower(): v for k, v in headers.items()} | {"host": address}
        names = sorted(lower)
        parameters = {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{self.key_id}/{self.scope(stamp)}",
                      "X-Amz-Date": stamp, "X-Amz-Expires": str(expires), "X-Amz-SignedHeaders": ";".join(names)}
        if self.token:
            parameters["X-Amz-Security-Token"] = self.token
        quote = lambda text: urllib.parse.quote(text, safe="-_.~")
        query = "&".join(f"{quote(k)}={quote(v)}" for k, v in sorted(parameters.items()))
        return query + "&X-Amz-Signature=" + self.signature(method, "/", query, lower, names, body, stamp)


class Wire:
    """Calls operations of one server with one signing."""

    def __init__(self, server, signing=None):
        self.server = server
        self.signing = signing or Signing(server.key_id, server.secret)
        self._local = threading.local()

    def alter(self, **changes):
        """The same client with another signing."""
        return Wire(self.server, dataclasses.replace(self.signing, **changes))

    @staticmethod
    def headers(operation):
        return {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"TrentService.{operation}"}

    def call(self, operation, members=None, **values):
        """Calls with the members as JSON."""
        return self.post(operation, json.dumps(members if members is not None else values).encode())

    def ok(self, operation, **values):
        """Calls and returns the output of a call that must succeed."""
        answer = self.call(operation, values)
        assert answer.status == 200, f"{operation}({values}): {answer.error}"
        return answer.json

    def post(self, operation, body):
        headers = self.signing.sign(self.server.address, self.headers(operation), body)
        return self.send(headers, body, operation=operation)

    def send(self, headers, body, method="POST", target="/", operation="", ledger=True):
        """Sends exactly this; headers are a dict or a list of pairs. It opens a new connection where the old one ended."""
        for attempt in range(2):
            connection = getattr(self._local, "connection", None)
            fresh = connection is None
            if fresh:
                connection = self._local.connection = http.client.HTTPConnection(self.server.address, timeout=30)
            try:
                connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
                pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
                if not any(name.lower() == "host" for name, _ in pairs):
                    pairs.insert(0, ("Host", self.server.address))
                if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in pairs):
                    pairs.append(("Content-Length", str(len(body))))
                for name, value in pairs:
                    connection.putheader(name, value)
                connection.endheaders(body if body else None)
                response = connection.getresponse()
                answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
                if response.will_close:
                    self.close()
                break
            except (http.client.HTTPException, ConnectionError):
                self.close()
                if fresh or attempt:
                    raise
        if ledger:
            self.server.ledger.called(answer.headers.get("x-amzn-requestid", ""), operation)
            if answer.status == 200 and b'Blob"' in answer.body or b'"Plaintext"' in answer.body:
                self.server.ledger.answered(answer.json)
        return answer

    def close(self):
        if connection := getattr(self._local, "connection", None):
            connection.close()
        self._local.connection = None
