"""An enclave with a root of its own: attestation documents as the Nitro hypervisor makes them, and what opens the answers."""
import datetime
import hashlib
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.x509.oid import NameOID

from .material import pkcs8, spki


def cbor(value):
    """Encodes a value (RFC 8949, shortest lengths, no indefinite ones)."""
    def head(major, n):
        if n < 24:
            return bytes([major << 5 | n])
        size = next(s for s in (1, 2, 4, 8) if n < 256 ** s)
        return bytes([major << 5 | 23 + size.bit_length()]) + n.to_bytes(size, "big")
    if value is None:
        return b"\xf6"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(cbor(k) + cbor(v) for k, v in value.items())


def certificate(name, key, issuer, issuer_key, ca):
    now = datetime.datetime.now(datetime.timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                           "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
    usage["key_cert_sign" if ca else "digital_signature"] = True
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + datetime.timedelta(hours=3))
            .add_extension(x509.BasicConstraints(ca, None), True).add_extension(x509.KeyUsage(**usage), True).sign(issuer_key, hashes.SHA384()))


class Enclave:
    """Keys and certificates of one enclave, from its root down."""

    def __init__(self):
        root_key, middle_key, self.key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
        self.root = certificate("root", root_key, None, root_key, True)
        self.middle = certificate("zone", middle_key, self.root, root_key, True)
        self.leaf = certificate("enclave", self.key, self.middle, middle_key, False)
        self.recipient = rsa.generate_private_key(65537, 2048)
        self.pcrs = {i: hashlib.sha384(f"pcr {i}".encode()).digest() for i in (0, 1, 2, 4)}

    @property
    def roots(self):
        """The root as PEM, as a server trusts it."""
        return self.root.public_bytes(serialization.Encoding.PEM)

    @property
    def private(self):
        return pkcs8(self.recipient)

    def document(self, **changes):
        """A COSE_Sign1 (RFC 9052) over a fresh attestation document."""
        der = lambda c: c.public_bytes(serialization.Encoding.DER)
        payload = cbor({
            "module_id": "i-1234567890abcdef0-enc0123456789abcdef", "digest": "SHA384", "timestamp": time.time_ns() // 1_000_000, "pcrs": self.pcrs,
            "certificate": der(self.leaf), "cabundle": [der(self.root), der(self.middle)], "public_key": spki(self.recipient.public_key()),
            "user_data": None, "nonce": None,
        } | changes)
        protected = cbor({1: -35})
        der_signature = self.key.sign(cbor(["Signature1", protected, b"", payload]), ec.ECDSA(hashes.SHA384()))
        r, s = utils.decode_dss_signature(der_signature)
        return cbor([protected, {}, payload, r.to_bytes(48, "big") + s.to_bytes(48, "big")])

    def asks(self, **changes):
        return {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": self.document(**changes)}

    def opens(self, openssl, sealed):
        """What openssl finds in a CMS answer with the enclave's private key."""
        openssl("pkey", "-inform", "DER", "-in", "private", "-out", "enclave.pem", private=self.private)
        return openssl("cms", "-decrypt", "-binary", "-inform", "DER", "-in", "sealed", "-inkey", "enclave.pem", sealed=sealed)
