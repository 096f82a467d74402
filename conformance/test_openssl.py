"""Both ways with the openssl command and with pyca/cryptography: signatures, ciphertexts, shared secrets and MACs of keys that
were made here or there. And of keys that were made there: their private octets are never seen again."""
import base64
import hashlib
import os
import secrets

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import mldsa

from harness.ledger import forms, search
from harness.material import import_material, pkcs8, spki
from harness.openssl import OpenSSL

MESSAGE = b"interoperation " * 20
BITS = ("256", "384", "512")


def curve(name):
    return ["-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{name}", "-pkeyopt", "ec_param_enc:named_curve"]


def rsa(size):
    return ["-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{size}"]


# How `openssl genpkey` makes a key of a spec, and what it is called in a file of options.
GENERATE = {
    "RSA_2048": rsa(2048), "RSA_3072": rsa(3072), "RSA_4096": rsa(4096), "ECC_NIST_P256": curve("P-256"), "ECC_NIST_P384": curve("P-384"),
    "ECC_NIST_P521": curve("P-521"), "ECC_SECG_P256K1": curve("secp256k1"), "ECC_NIST_EDWARDS25519": ["-algorithm", "ED25519"], "SM2": curve("SM2"),
}


def pss(bits):
    return ["-rawin", "-digest", f"sha{bits}", "-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"]


def hashed(bits):
    return ["-rawin", "-digest", f"sha{bits}"]


SM2 = ["-rawin", "-digest", "sm3", "-pkeyopt", "distid:1234567812345678"]
# Spec, algorithm, options of `openssl pkeyutl`, and the size of the digest that MessageType DIGEST takes, 0 for none.
SIGNING = [(spec, f"RSASSA_{padding}_SHA_{bits}", make(bits), int(bits))
           for spec in ("RSA_2048", "RSA_3072", "RSA_4096") for padding, make in (("PSS", pss), ("PKCS1_V1_5", hashed)) for bits in BITS]
SIGNING += [("ECC_NIST_P256", "ECDSA_SHA_256", hashed(256), 256), ("ECC_NIST_P384", "ECDSA_SHA_384", hashed(384), 384),
            ("ECC_NIST_P521", "ECDSA_SHA_512", hashed(512), 512), ("ECC_SECG_P256K1", "ECDSA_SHA_256", hashed(256), 256),
            ("ECC_NIST_EDWARDS25519", "ED25519_SHA_512", ["-rawin"], 0), ("SM2", "SM2DSA", SM2, 0)]
NAMES = [f"{s} {a}" for s, a, _, _ in SIGNING]


def key_wrap(spec):
    return "RSA_AES_KEY_WRAP_SHA_256" if spec.startswith("RSA") else "RSAES_OAEP_SHA_256"


def private_octets(spec, der):
    """The octets of a private key that nobody may see: its numbers, seed or scalar, and the whole of its PKCS#8."""
    if spec == "SM2":  # not known to pyca/cryptography: the scalar is where RFC 5915 puts it
        at = der.index(b"\x02\x01\x01\x04\x20") + 5
        return [der, der[at:at + 32]]
    key = serialization.load_der_private_key(der, None)
    if spec.startswith("RSA"):
        n = key.private_numbers()
        return [der, *(x.to_bytes((x.bit_length() + 7) // 8, "big") for x in (n.d, n.p, n.q, n.dmp1, n.dmq1))]
    if spec == "ECC_NIST_EDWARDS25519":
        return [der, key.private_bytes_raw()]
    return [der, key.private_numbers().private_value.to_bytes((key.key_size + 7) // 8, "big")]


class Imports:
    """Keys that openssl has made, each imported once for each usage, and all that the server answered meanwhile."""

    def __init__(self, kms, ledger, openssl):
        self.kms, self.ledger, self.openssl = kms, ledger, openssl
        self.private, self.ids, self.secret, self.answers = {}, {}, set(), []
        kms.meta.events.register("before-parse.kms", lambda response_dict, **_: self.answers.append(response_dict["body"]))

    def keep(self, octets):
        """Notes material. The ledger has it looked for in all that the run leaves on disk."""
        self.secret.update(o for o in octets if len(o) >= 16)
        for o in octets:
            self.ledger.plaintext(o)

    def key(self, spec, usage):
        """The id of a key with origin EXTERNAL, and its private octets."""
        if spec not in self.private:
            self.private[spec] = self.openssl.private(*GENERATE[spec])
            self.keep(private_octets(spec, self.private[spec]))
        if (spec, usage) not in self.ids:
            made = self.kms.create_key(KeySpec=spec, KeyUsage=usage, Origin="EXTERNAL")["KeyMetadata"]
            import_material(self.kms, made["KeyId"], self.private[spec], key_wrap(spec), "RSA_4096" if spec == "ECC_NIST_P521" else "RSA_2048")
            self.ids[spec, usage] = made["KeyId"]
        return self.ids[spec, usage], self.private[spec]


@pytest.fixture(scope="module")
def openssl(tmp_path_factory):
    return OpenSSL(tmp_path_factory.mktemp("openssl"))


@pytest.fixture(scope="module")
def client(shared):
    return shared.boto3()


@pytest.fixture(scope="module")
def imports(client, ledger, openssl):
    return Imports(client, ledger, openssl)


@pytest.fixture(scope="module")
def own(client):
    """Keys that are made here: by spec and usage, an id and the public key."""
    made = {}

    def get(spec, usage):
        if (spec, usage) not in made:
            key = client.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"]
            made[spec, usage] = key, client.get_public_key(KeyId=key)["PublicKey"]
        return made[spec, usage]
    return get


@pytest.mark.parametrize("spec,algorithm,options,digest", SIGNING, ids=NAMES)
def test_our_signatures_verify_there(client, own, openssl, tally, spec, algorithm, options, digest):
    key, public = own(spec, "SIGN_VERIFY")
    signatures = [client.sign(KeyId=key, Message=MESSAGE, SigningAlgorithm=algorithm)["Signature"]]
    if digest:
        summed = hashlib.new(f"sha{digest}", MESSAGE).digest()
        signatures.append(client.sign(KeyId=key, Message=summed, MessageType="DIGEST", SigningAlgorithm=algorithm)["Signature"])
    for signature in signatures:
        assert openssl.verifies(public, MESSAGE, signature, options)
        assert not openssl.verifies(public, MESSAGE + b"!", signature, options)
    tally(2 * len(signatures))


@pytest.mark.parametrize("spec,algorithm,options,digest", SIGNING, ids=NAMES)
def test_their_signatures_verify_here(client, imports, openssl, tally, spec, algorithm, options, digest):
    key, private = imports.key(spec, "SIGN_VERIFY")
    assert client.get_public_key(KeyId=key)["PublicKey"] == openssl.public(private), "the public key is exactly openssl's"
    signature = openssl.sign(private, MESSAGE, options)
    messages = [(MESSAGE, "RAW")] + ([(hashlib.new(f"sha{digest}", MESSAGE).digest(), "DIGEST")] if digest else [])
    for message, kind in messages:
        assert client.verify(KeyId=key, Message=message, MessageType=kind, Signature=signature, SigningAlgorithm=algorithm)["SignatureValid"]
    for message, wrong in [(MESSAGE + b"!", signature), (MESSAGE, signature[:-1] + bytes([signature[-1] ^ 1]))]:
        with pytest.raises(client.exceptions.KMSInvalidSignatureException):
            client.verify(KeyId=key, Message=message, Signature=wrong, SigningAlgorithm=algorithm)
    # And what is signed here with the key of theirs.
    ours = client.sign(KeyId=key, Message=MESSAGE, SigningAlgorithm=algorithm)["Signature"]
    assert openssl.verifies(openssl.public(private), MESSAGE, ours, options)
    tally(4 + len(messages))


@pytest.mark.parametrize("spec", ["RSA_2048", "RSA_3072", "RSA_4096"])
@pytest.mark.parametrize("algorithm,digest", [("RSAES_OAEP_SHA_1", "sha1"), ("RSAES_OAEP_SHA_256", "sha256")])
def test_encrypted_offline(client, own, imports, openssl, ledger, tally, spec, algorithm, digest):
    """With the public key alone, anybody encrypts; only the key here decrypts. And the other way round with an imported key."""
    options = ["-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", f"rsa_oaep_md:{digest}"]
    key, public = own(spec, "ENCRYPT_DECRYPT")
    most = {"RSA_2048": 256, "RSA_3072": 384, "RSA_4096": 512}[spec] - 2 * hashlib.new(digest).digest_size - 2
    for size in (12, 64, most):
        plaintext = ledger.fresh_plaintext(size)
        blob = ledger.ciphertext(openssl.encrypt(public, plaintext, options))
        assert client.decrypt(KeyId=key, CiphertextBlob=blob, EncryptionAlgorithm=algorithm)["Plaintext"] == plaintext
    for altered in (blob[:-1] + bytes([blob[-1] ^ 1]), blob[:-1], blob + b"\0"):
        with pytest.raises(client.exceptions.InvalidCiphertextException):
            client.decrypt(KeyId=key, CiphertextBlob=altered, EncryptionAlgorithm=algorithm)
    theirs, private = imports.key(spec, "ENCRYPT_DECRYPT")
    blob = client.encrypt(KeyId=theirs, Plaintext=plaintext, EncryptionAlgorithm=algorithm)["CiphertextBlob"]
    assert openssl("pkeyutl", "-decrypt", "-keyform", "DER", "-inkey", "private", "-in", "blob", *options, private=private, blob=blob) == plaintext
    tally(7)


def test_sm2_encrypted_offline(client, own, imports, openssl, ledger, tally):
    key, public = own("SM2", "ENCRYPT_DECRYPT")
    plaintext = ledger.fresh_plaintext(100)
    blob = ledger.ciphertext(openssl.encrypt(public, plaintext, []))
    assert client.decrypt(KeyId=key, CiphertextBlob=blob, EncryptionAlgorithm="SM2PKE")["Plaintext"] == plaintext
    theirs, private = imports.key("SM2", "ENCRYPT_DECRYPT")
    blob = client.encrypt(KeyId=theirs, Plaintext=plaintext, EncryptionAlgorithm="SM2PKE")["CiphertextBlob"]
    assert openssl("pkeyutl", "-decrypt", "-keyform", "DER", "-inkey", "private", "-in", "blob", private=private, blob=blob) == plaintext
    tally(2)


@pytest.mark.parametrize("spec", ["ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"])
def test_both_sides_agree(client, own, imports, openssl, ledger, tally, spec):
    peer = openssl.private(*GENERATE[spec])
    for key, public in [own(spec, "KEY_AGREEMENT"), (imports.key(spec, "KEY_AGREEMENT")[0], openssl.public(imports.key(spec, "KEY_AGREEMENT")[1]))]:
        shared = client.derive_shared_secret(KeyId=key, KeyAgreementAlgorithm="ECDH", PublicKey=openssl.public(peer))["SharedSecret"]
        assert ledger.plaintext(shared) == openssl.agree(peer, public)
    tally(2)


@pytest.mark.parametrize("bits,least,most", [("224", 28, 64), ("256", 32, 64), ("384", 48, 128), ("512", 64, 128)])
def test_macs(client, imports, openssl, tally, bits, least, most):
    for size in (least, most):
        material = os.urandom(size)
        imports.keep([material])
        key = client.create_key(KeySpec=f"HMAC_{bits}", KeyUsage="GENERATE_VERIFY_MAC", Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
        import_material(client, key, material)
        openssl.file("message", MESSAGE)
        theirs = openssl("dgst", f"-sha{bits}", "-mac", "HMAC", "-macopt", f"hexkey:{material.hex()}", "-binary", "message")
        algorithm = f"HMAC_SHA_{bits}"
        assert client.generate_mac(KeyId=key, Message=MESSAGE, MacAlgorithm=algorithm)["Mac"] == theirs
        assert client.verify_mac(KeyId=key, Message=MESSAGE, Mac=theirs, MacAlgorithm=algorithm)["MacValid"]
        with pytest.raises(client.exceptions.KMSInvalidMacException):
            client.verify_mac(KeyId=key, Message=MESSAGE + b"!", Mac=theirs, MacAlgorithm=algorithm)
    tally(6)


@pytest.mark.parametrize("spec", GENERATE)
def test_data_key_pairs_load(client, openssl, ledger, spec):
    key = client.create_key()["KeyMetadata"]["KeyId"]
    pair = client.generate_data_key_pair(KeyId=key, KeyPairSpec=spec)
    private = ledger.plaintext(pair["PrivateKeyPlaintext"])
    assert openssl.public(private) == pair["PublicKey"]
    assert openssl("pkey", "-inform", "DER", "-in", "private", "-check", "-noout", private=private).splitlines() == [b"Key is valid"]
    assert client.decrypt(CiphertextBlob=pair["PrivateKeyCiphertextBlob"])["Plaintext"] == private
    hidden = client.generate_data_key_pair_without_plaintext(KeyId=key, KeyPairSpec=spec)
    private = ledger.plaintext(client.decrypt(CiphertextBlob=hidden["PrivateKeyCiphertextBlob"])["Plaintext"])
    assert openssl.public(private) == hidden["PublicKey"]


@pytest.mark.parametrize("spec,usage,size", [
    ("RSA_2048", "SIGN_VERIFY", 294), ("RSA_3072", "SIGN_VERIFY", 422), ("RSA_4096", "SIGN_VERIFY", 550), ("ECC_NIST_P256", "SIGN_VERIFY", 91),
    ("ECC_NIST_P384", "SIGN_VERIFY", 120), ("ECC_NIST_P521", "SIGN_VERIFY", 158), ("ECC_SECG_P256K1", "SIGN_VERIFY", 88),
    ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY", 44), ("ML_DSA_44", "SIGN_VERIFY", 1334), ("ML_DSA_65", "SIGN_VERIFY", 1974), ("ML_DSA_87", "SIGN_VERIFY", 2614),
    ("ML_KEM_768", "ENCAPSULATE_DECAPSULATE", 1206), ("ML_KEM_1024", "ENCAPSULATE_DECAPSULATE", 1590)])
def test_public_keys_parse(own, spec, usage, size):
    public = own(spec, usage)[1]
    assert len(public) == size and spki(serialization.load_der_public_key(public)) == public


@pytest.mark.parametrize("spec", ["ML_DSA_44", "ML_DSA_65", "ML_DSA_87"])
def test_ml_dsa(client, own, tally, spec):
    """pyca/cryptography brings an OpenSSL that knows ML-DSA."""
    key, public = own(spec, "SIGN_VERIFY")
    there = serialization.load_der_public_key(public)
    sign = lambda message, kind: client.sign(KeyId=key, Message=message, MessageType=kind, SigningAlgorithm="ML_DSA_SHAKE_256")["Signature"]
    there.verify(sign(MESSAGE, "RAW"), MESSAGE)
    # The message representative of FIPS 204 for an empty context.
    name = hashlib.shake_256(there.public_bytes_raw()).digest(64)
    there.verify(sign(hashlib.shake_256(name + b"\0\0" + MESSAGE).digest(64), "EXTERNAL_MU"), MESSAGE)
    tally(2)


@pytest.mark.parametrize("spec", ["ML_KEM_768", "ML_KEM_1024"])
def test_ml_kem(client, own, ledger, spec):
    """Encapsulated there with the fetched public key, decapsulated here."""
    key, public = own(spec, "ENCAPSULATE_DECAPSULATE")
    shared, ciphertext = serialization.load_der_public_key(public).encapsulate()
    opened = client.decapsulate(KeyId=key, SharedSecretCiphertextBlob=ciphertext, EncapsulationAlgorithm="ML_KEM")
    assert ledger.plaintext(opened["SharedSecret"]) == shared


def test_material_is_exported_nowhere(shared, client, imports, tally, tmp_path):
    """What the server ever answered, logged, wrote to the audit log and to its data directory has no private octets of what was imported."""
    for spec in GENERATE:
        imports.key(spec, "SIGN_VERIFY")
    symmetric = secrets.token_bytes(32)
    imports.keep([symmetric])
    key = client.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
    import_material(client, key, symmetric)
    client.decrypt(CiphertextBlob=client.generate_data_key(KeyId=key, KeySpec="AES_256")["CiphertextBlob"])
    for name in ("describe_key", "list_key_rotations", "get_key_policy", "list_grants"):
        getattr(client, name)(KeyId=key)
    # JSON has octets as Base64 from the first one on: what stands inside them is found only when that is undone.
    (tmp_path / "answers").write_bytes(b"\n".join(imports.answers))
    (tmp_path / "octets").write_bytes(b"\n".join(base64.b64decode(v) for b in imports.answers for v in b.split(b'"') if len(v) > 15 and base64_text(v)))
    files = [*tmp_path.iterdir(), shared.log, *(p for p in shared.data.rglob("*") if p.is_file())]
    assert len(imports.secret) > 30 and len(imports.answers) > 100 or not os.environ.get("CI")
    assert search(files, imports.secret) == []
    (tmp_path / "control").write_bytes(b"x" + symmetric)
    assert search([tmp_path / "control"], {symmetric}) and forms(symmetric), "the search finds what is there"
    tally(len(imports.secret) * len(files))


def base64_text(text):
    try:
        return base64.b64encode(base64.b64decode(text, validate=True)) == text
    except ValueError:
        return False


def test_seeds_of_others(client, imports, tally):
    """ML-DSA keys that were made there. ML-KEM keys cannot be imported."""
    kinds = [("ML_DSA_44", mldsa.MLDSA44PrivateKey), ("ML_DSA_65", mldsa.MLDSA65PrivateKey), ("ML_DSA_87", mldsa.MLDSA87PrivateKey)]
    for spec, kind in kinds:
        private = kind.generate()
        key = client.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY", Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
        imports.keep([pkcs8(private), private.private_bytes_raw()])
        import_material(client, key, pkcs8(private))
        assert client.get_public_key(KeyId=key)["PublicKey"] == spki(private.public_key())
        values = {"KeyId": key, "Message": MESSAGE, "SigningAlgorithm": "ML_DSA_SHAKE_256"}
        assert client.verify(**values, Signature=private.sign(MESSAGE))["SignatureValid"]
    with pytest.raises(client.exceptions.UnsupportedOperationException):
        client.create_key(KeySpec="ML_KEM_768", KeyUsage="ENCAPSULATE_DECAPSULATE", Origin="EXTERNAL")
    tally(7)
