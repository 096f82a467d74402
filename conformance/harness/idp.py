"""An OpenID Connect provider on loopback: HTTPS, a discovery document, a key, and tokens."""
import base64
import hashlib
import http.server
import json
import pathlib
import ssl
import subprocess
import threading
import time

import rsa

CLIENT = "keywright-conformance"


def encode(octets):
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def number(n):
    return encode(n.to_bytes((n.bit_length() + 7) // 8, "big"))


class Provider:
    """Serves until it is stopped. Its certificate is its own authority: who trusts it pins its thumbprint."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        certificate, key, signing = folder / "cert.pem", folder / "key.pem", folder / "signing.pem"
        openssl = lambda *arguments: subprocess.run(["openssl", *arguments], check=True, capture_output=True)
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=idp", "-addext", "subjectAltName=IP:127.0.0.1",
                "-keyout", str(key), "-out", str(certificate))
        openssl("genrsa", "-traditional", "-out", str(signing), "2048")
        self.signing = rsa.PrivateKey.load_pkcs1(signing.read_bytes())
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text())
        self.thumbprint = hashlib.sha1(der).hexdigest()
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                document = provider.documents().get(self.path)
                self.send_response(200 if document else 404)
                body = json.dumps(document).encode()
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.name = f"127.0.0.1:{self.server.server_port}/realms/test"
        self.url = "https://" + self.name
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def documents(self):
        return {
            "/realms/test/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": self.url + "/keys"},
            "/realms/test/keys": {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "one", "n": number(self.signing.n), "e": number(self.signing.e)}]},
        }

    def token(self, header=None, key=None, **changes):
        now = int(time.time())
        claims = {"iss": self.url, "sub": "repo:keywright", "aud": CLIENT, "iat": now, "exp": now + 600} | changes
        header = {"typ": "JWT", "alg": "RS256", "kid": "one"} | (header or {})
        text = encode(json.dumps(header).encode()) + "." + encode(json.dumps(claims).encode())
        return text + "." + encode(rsa.sign(text.encode(), key or self.signing, "SHA-256"))

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
