"""What an operator turns on to see more, log lines at level debug and traces of every request, tells no secret: a walk through the operations with
secrets that are known, served and refused, and then a search of both."""
import base64
import gzip
import http.server
import json
import os
import re
import socket
import subprocess
import threading

import botocore.exceptions
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from harness.ledger import search
from harness.material import import_material, spki
from harness.server import ACCOUNT, BINARY, Server, plain_environment
from harness.wire import Signing, Wire

COLLECTOR_TOKEN = "a token that only the collector and the server know"
CONTEXT = {"stage": "test"}


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans as OTLP over HTTP and keeps them as they come."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.server.tokens.add(self.headers.get("Authorization"))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Talkative(Server):
    """A `keywright server` that says all that it can."""

    own = True

    def __init__(self, folder, collector):
        super().__init__(folder, data=folder / "data")
        (self.folder / "headers").write_text(f"Authorization: {COLLECTOR_TOKEN}\n")
        (self.folder / "server.yaml").write_text(f"""
listen: 127.0.0.1:0
data: data
seals: [{{kind: key-file, file: unseal.key}}]
quotas: {{enforce: unlimited}}
log: {{level: debug, format: json}}
traces: {{endpoint: "http://127.0.0.1:{collector.server_port}", ratio: 1, headersFile: headers}}
""")
        made = subprocess.run([str(BINARY), "init", "--config", "server.yaml", "--account", ACCOUNT], capture_output=True, text=True, check=True, cwd=self.folder,
                              env=plain_environment())
        self.root = [re.search(rf"{what}: +(\S+)", made.stdout)[1] for what in ("Access key id", "Secret access key")]
        self.ledger.credential(self.root[1])

    def command(self, _):
        return [str(BINARY), "server", "--config", "server.yaml"]


@pytest.fixture
def collector():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    server.got, server.tokens = [], set()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


class Walk:
    """Makes calls, of which many are refused."""

    def __init__(self, server):
        self.server, self.ledger, self.made = server, server.ledger, 0

    def client(self, service, credentials=None):
        return self.server.boto3(service, credentials=credentials or self.server.root)

    def __call__(self, operation, **values):
        """Makes a call and notes what is secret of it."""
        self.made += 1
        for secret in (values.get("Plaintext"), values.get("Message"), values.get("CiphertextBlob")):
            if secret:
                self.ledger.plaintext(secret)
        answer = operation(**values)
        for secret in ("Plaintext", "CiphertextBlob", "SharedSecret", "PrivateKeyPlaintext", "PrivateKeyCiphertextBlob", "ImportToken"):
            if secret in answer:
                self.ledger.plaintext(answer[secret])
        return answer

    def refused(self, operation, **values):
        with pytest.raises(botocore.exceptions.ClientError):
            self(operation, **values)

    def identities(self):
        """Makes a user with a password and an access key, and sessions. Returns the credentials of one."""
        iam, sts = self.client("iam"), self.client("sts")
        password, other = (f"Aa1!{os.urandom(12).hex()}" for _ in range(2))
        self(iam.create_user, UserName="ann")
        key = self(iam.create_access_key, UserName="ann")["AccessKey"]
        self.ledger.credential(key["SecretAccessKey"])
        self(iam.create_login_profile, UserName="ann", Password=password)
        self.refused(iam.create_login_profile, UserName="ann", Password=other)
        self(iam.update_login_profile, UserName="ann", Password=other)
        self.refused(iam.update_login_profile, UserName="nobody", Password=other)
        self.refused(self.client("iam", (key["AccessKeyId"], key["SecretAccessKey"])).change_password, OldPassword=password, NewPassword=other)
        session = self(sts.get_session_token)["Credentials"]
        self(sts.get_federation_token, Name="guest")
        trust = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}]})
        role = self(iam.create_role, RoleName="builder", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        self.refused(sts.assume_role, RoleArn=role, RoleSessionName="monday")  # as root
        self.refused(sts.assume_role_with_web_identity, RoleArn=role, RoleSessionName="monday", WebIdentityToken=".".join(os.urandom(24).hex() for _ in range(3)))
        self.refused(sts.decode_authorization_message, EncodedMessage=base64.b64encode(os.urandom(60)).decode())
        return session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]

    def keys(self, kms):
        """Uses keys of every kind."""
        def key(**values):
            return self(kms.create_key, **values)["KeyMetadata"]["KeyId"]
        plaintext, message = os.urandom(32), os.urandom(40)
        symmetric = key()
        blob = self(kms.encrypt, KeyId=symmetric, Plaintext=plaintext, EncryptionContext=CONTEXT)["CiphertextBlob"]
        self(kms.decrypt, CiphertextBlob=blob, EncryptionContext=CONTEXT)
        self.refused(kms.decrypt, CiphertextBlob=blob)
        self.refused(kms.encrypt, KeyId="alias/none", Plaintext=plaintext)
        self.refused(kms.encrypt, KeyId=symmetric, Plaintext=os.urandom(5000))
        self.refused(kms.encrypt, KeyId=symmetric, Plaintext=plaintext, DryRun=True)
        self(kms.re_encrypt, CiphertextBlob=blob, SourceEncryptionContext=CONTEXT, DestinationKeyId=symmetric)
        for operation in (kms.generate_data_key, kms.generate_data_key_without_plaintext):
            self(operation, KeyId=symmetric, KeySpec="AES_256")
        for operation in (kms.generate_data_key_pair, kms.generate_data_key_pair_without_plaintext):
            self(operation, KeyId=symmetric, KeyPairSpec="ECC_NIST_P256")
        self(kms.generate_random, NumberOfBytes=64)
        self.refused(kms.generate_random, NumberOfBytes=64, Recipient={"AttestationDocument": os.urandom(64), "KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"})
        rsa = key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")
        sealed = self(kms.encrypt, KeyId=rsa, Plaintext=plaintext, EncryptionAlgorithm="RSAES_OAEP_SHA_256")["CiphertextBlob"]
        self(kms.decrypt, KeyId=rsa, CiphertextBlob=sealed, EncryptionAlgorithm="RSAES_OAEP_SHA_256")
        self.refused(kms.decrypt, KeyId=rsa, CiphertextBlob=os.urandom(256), EncryptionAlgorithm="RSAES_OAEP_SHA_256")
        signing = key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        signed = {"KeyId": signing, "Message": message, "SigningAlgorithm": "ECDSA_SHA_256"}
        self(kms.verify, Signature=self(kms.sign, **signed)["Signature"], **signed)
        self.refused(kms.verify, Signature=os.urandom(64), **signed)
        coded = {"KeyId": key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC"), "Message": message, "MacAlgorithm": "HMAC_SHA_256"}
        self(kms.verify_mac, Mac=self(kms.generate_mac, **coded)["Mac"], **coded)
        self.refused(kms.verify_mac, Mac=os.urandom(32), **coded)
        agreed = {"KeyId": key(KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT"), "KeyAgreementAlgorithm": "ECDH"}
        self(kms.derive_shared_secret, PublicKey=spki(ec.generate_private_key(ec.SECP256R1()).public_key()), **agreed)
        self.refused(kms.derive_shared_secret, PublicKey=os.urandom(91), **agreed)
        external, material = key(Origin="EXTERNAL"), os.urandom(32)
        self.ledger.plaintext(material)
        import_material(kms, external, material)
        token = self(kms.get_parameters_for_import, KeyId=external, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")["ImportToken"]
        self.refused(kms.import_key_material, KeyId=external, ImportToken=token, EncryptedKeyMaterial=os.urandom(256), ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE")
        self.refused(kms.import_key_material, KeyId=external, ImportToken=os.urandom(300), EncryptedKeyMaterial=material, ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE")
        grant = self(kms.create_grant, KeyId=symmetric, GranteePrincipal=f"arn:aws:iam::{ACCOUNT}:user/ann", RetiringPrincipal=f"arn:aws:iam::{ACCOUNT}:root",
                     Operations=["Encrypt"])
        self(kms.describe_key, KeyId=symmetric, GrantTokens=[grant["GrantToken"]])
        self.refused(kms.describe_key, KeyId=symmetric, GrantTokens=[grant["GrantToken"][:-8] + "AAAAAAAA"])
        self(kms.retire_grant, GrantToken=grant["GrantToken"])
        return symmetric

    def by_hand(self, key, session):
        """Requests that no SDK makes: their texts are broken where secrets are."""
        wire = Wire(self.server, Signing(*self.server.root))
        plaintext = base64.b64encode(self.ledger.fresh_plaintext()).decode()
        for body in (f'{{"KeyId":"{key}","Plaintext":"{plaintext}"', f'{{"KeyId":"{key}","Plaintext":"{plaintext}!"}}', f'{{"KeyId":"{key}","Plaintext":{{"{plaintext}":1}}}}',
                     f'{{"{plaintext}":"x"}}', f'"{plaintext}"'):
            assert wire.post("Encrypt", body.encode()).status >= 400
        self.refused(self.client("kms", (*session[:2], session[2][:-8] + "AAAAAAAA")).list_keys)
        wrong = self.ledger.credential(os.urandom(20).hex())
        self.refused(self.client("kms", (self.server.root[0], wrong)).list_keys)
        query = Signing(session[0], session[1], service="sts").presign(self.server.address, {}, b"", method="GET") + "&X-Amz-Security-Token=" + session[2].replace("+", "%2B")
        assert wire.send({}, b"", method="GET", target="/?Action=GetCallerIdentity&Version=2011-06-15&" + query).status >= 400
        for garbage in (f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization {wrong}\r\n\r\n", f"POST /{wrong} HTTP/9.9\r\n\r\n", f"{wrong}\r\n\r\n"):
            with socket.create_connection(self.server.address.split(":"), timeout=10) as s:
                s.sendall(garbage.encode())
                s.recv(1000)


def test_debug_lines_and_spans_hold_no_secret(tmp_path, collector, tally):
    with Talkative(tmp_path / "server", collector) as server:
        walk = Walk(server)
        session = walk.identities()
        key = walk.keys(walk.client("kms", session))
        walk.by_hand(key, session)
        assert server.stop() == 0
    spans = tmp_path / "spans"
    spans.write_bytes(b"\n".join(collector.got))
    ledger, log = server.ledger, server.log.read_text()
    needles = {n for n in ledger.plaintexts | ledger.ciphertexts | ledger.tokens if len(n) >= 12} | ledger.credentials | {COLLECTOR_TOKEN.encode()}
    assert len(needles) > 35 and collector.tokens == {COLLECTOR_TOKEN}
    assert log.count('"level":"DEBUG"') > 15, log[-3000:]
    for name in (b"kms.Encrypt", b"kms.ImportKeyMaterial", b"iam.CreateLoginProfile", b"sts.GetSessionToken"):
        assert name in spans.read_bytes(), name
    assert search([spans, server.log], needles) == []
    texts = {n for n in needles if n.isascii()}  # passwords, secret keys and tokens as they are
    assert [n for n in texts if n.decode() in log or n in spans.read_bytes()] == []
    tally(2 * len(needles))
