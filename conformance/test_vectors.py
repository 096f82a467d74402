"""Published vectors through the API: their private keys are imported, and the operations answer what the vectors say. Project Wycheproof
(the version that go.mod pins) and RFC 8032. At most KEYWRIGHT_VECTOR_KEYS keys of each file (6), those with most tests first;
at the primitives, the Go tests run all, and those of ML-KEM, whose keys cannot be imported."""
import collections
import functools
import json
import os
import pathlib
import subprocess

import botocore.exceptions
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from harness.material import import_material, pkcs8
from harness.server import ROOT

KEYS = int(os.environ.get("KEYWRIGHT_VECTOR_KEYS", "6"))
MOST = 4096  # octets of a message

# How many vectors of each file there are to be checked, with six keys or more. A filter that lets nothing pass is seen here.
LEAST = {
    "rsa_oaep_2048_sha1_mgf1sha1": 28, "rsa_oaep_2048_sha256_mgf1sha256": 28, "rsa_oaep_3072_sha256_mgf1sha256": 28, "rsa_oaep_4096_sha256_mgf1sha256": 28,
    "ecdh_secp256r1": 551, "ecdh_secp384r1": 997, "ecdh_secp521r1": 852, "hmac_sha224": 58, "hmac_sha256": 59, "hmac_sha384": 59, "hmac_sha512": 59,
    "rsa_pkcs1_2048_sig_gen": 21, "rsa_pkcs1_3072_sig_gen": 21, "rsa_pkcs1_4096_sig_gen": 21, "RFC 8032": 3,
    "mldsa_44_sign_seed RAW": 53, "mldsa_65_sign_seed RAW": 57, "mldsa_87_sign_seed RAW": 49,
    "mldsa_44_sign_seed EXTERNAL_MU": 55, "mldsa_65_sign_seed EXTERNAL_MU": 59, "mldsa_87_sign_seed EXTERNAL_MU": 51,
}


@functools.cache
def vectors():
    """The folder of the vectors, in Go's module cache."""
    run = subprocess.run(["go", "list", "-m", "-f", "{{.Dir}}", "github.com/c2sp/wycheproof"], capture_output=True, text=True, check=True, cwd=ROOT)
    return pathlib.Path(run.stdout.strip()) / "testvectors_v1"


def groups(name):
    return json.loads((vectors() / f"{name}_test.json").read_text())["testGroups"]


def by_key(tests, member):
    """Up to KEYS lists of the tests that share a key, the longest first."""
    found = collections.defaultdict(list)
    for t in tests:
        found[t[member]].append(t)
    return sorted(found.items(), key=lambda item: -len(item[1]))[:KEYS]


@pytest.fixture(scope="module")
def count(request):
    """By file, how many vectors were checked; printed at the end."""
    n = collections.Counter()
    yield n
    request.config.tables.append(["published vectors through the API", *(f"{k:42} {v:6}" for k, v in n.items()), f"{'in all':42} {sum(n.values()):6}"])


@pytest.fixture
def enough(count, tally):
    """Requires that as many vectors of some files were checked as there are, or one at least if fewer keys are asked for."""
    def check(*files):
        for file in files:
            assert count[file] >= (LEAST[file] if KEYS >= 6 else 1), f"{file}: {count[file]} vectors"
        tally(sum(count[file] for file in files))
    return check


@pytest.fixture
def imported(kms, ledger):
    """Imports material into a new key and returns its id."""
    def new(spec, usage, material):
        ledger.plaintext(material)
        key = kms.create_key(KeySpec=spec, KeyUsage=usage, Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
        large = spec.startswith("RSA")
        import_material(kms, key, material, "RSA_AES_KEY_WRAP_SHA_256" if large else "RSAES_OAEP_SHA_256", "RSA_3072" if spec == "ECC_NIST_P521" else "RSA_2048")
        return key
    return new


def said(call, **values):
    """The output of a call, or the code of its error."""
    try:
        return call(**values)
    except botocore.exceptions.ClientError as e:
        return e.response["Error"]["Code"]


@pytest.mark.parametrize("size,algorithm,file", [(2048, "RSAES_OAEP_SHA_1", "rsa_oaep_2048_sha1_mgf1sha1"), (2048, "RSAES_OAEP_SHA_256", "rsa_oaep_2048_sha256_mgf1sha256"),
                                                 (3072, "RSAES_OAEP_SHA_256", "rsa_oaep_3072_sha256_mgf1sha256"), (4096, "RSAES_OAEP_SHA_256", "rsa_oaep_4096_sha256_mgf1sha256")])
def test_oaep(kms, imported, ledger, enough, count, size, algorithm, file):
    for group in groups(file):
        key = imported(f"RSA_{size}", "ENCRYPT_DECRYPT", bytes.fromhex(group["privateKeyPkcs8"]))
        for t in group["tests"]:
            if not t["ct"] or t["label"] and t["result"] == "valid":  # the API has no label
                continue
            got = said(kms.decrypt, KeyId=key, EncryptionAlgorithm=algorithm, CiphertextBlob=bytes.fromhex(t["ct"]))
            want = t["result"] == "valid"
            assert (got["Plaintext"].hex() == t["msg"]) if want else got == "InvalidCiphertextException", (t["tcId"], got)
            count[file] += 1
    enough(file)


@pytest.mark.parametrize("spec,curve,name", [("ECC_NIST_P256", ec.SECP256R1(), "secp256r1"), ("ECC_NIST_P384", ec.SECP384R1(), "secp384r1"), ("ECC_NIST_P521", ec.SECP521R1(), "secp521r1")])
def test_ecdh(kms, imported, enough, count, spec, curve, name):
    """Of a public key that is not quite as it should be, the shared secret may be right, or the key refused."""
    file = f"ecdh_{name}"
    tests = [t for g in groups(file) for t in g["tests"]]
    for private, cases in by_key(tests, "private"):
        key = imported(spec, "KEY_AGREEMENT", pkcs8(ec.derive_private_key(int(private, 16), curve)))
        for t in cases:
            if not 0 < len(t["public"]) // 2 <= 8192:
                continue
            got = said(kms.derive_shared_secret, KeyId=key, KeyAgreementAlgorithm="ECDH", PublicKey=bytes.fromhex(t["public"]))
            right = isinstance(got, dict) and got["SharedSecret"].hex() == t["shared"]
            refused = got == "ValidationException"
            assert {"valid": right, "invalid": refused, "acceptable": right or refused}[t["result"]], (t["tcId"], t["comment"], got)
            count[file] += 1
    enough(file)


@pytest.mark.parametrize("bits,most", [(224, 64), (256, 64), (384, 128), (512, 128)])
def test_hmac(kms, imported, enough, count, bits, most):
    file, algorithm = f"hmac_sha{bits}", f"HMAC_SHA_{bits}"
    tests = [t | {"size": g["tagSize"]} for g in groups(file) for t in g["tests"] if bits // 8 <= len(t["key"]) // 2 <= most and 0 < len(t["msg"]) // 2 <= MOST]
    for material, cases in by_key(tests, "key"):
        key = imported(f"HMAC_{bits}", "GENERATE_VERIFY_MAC", bytes.fromhex(material))
        for t in cases:
            message, tag = bytes.fromhex(t["msg"]), bytes.fromhex(t["tag"])
            valid = t["result"] == "valid" and t["size"] == bits  # a cut tag is none
            if valid:
                assert kms.generate_mac(KeyId=key, Message=message, MacAlgorithm=algorithm)["Mac"] == tag, t["tcId"]
            got = said(kms.verify_mac, KeyId=key, Message=message, Mac=tag, MacAlgorithm=algorithm)
            assert got["MacValid"] if valid else got == "KMSInvalidMacException", (t["tcId"], got)
            count[file] += 1
    enough(file)


@pytest.mark.parametrize("size", [2048, 3072, 4096])
def test_pkcs1_signatures(kms, imported, enough, count, size):
    file, keys = f"rsa_pkcs1_{size}_sig_gen", {}
    for group in groups(file):
        algorithm = {"SHA-256": "RSASSA_PKCS1_V1_5_SHA_256", "SHA-384": "RSASSA_PKCS1_V1_5_SHA_384", "SHA-512": "RSASSA_PKCS1_V1_5_SHA_512"}.get(group["sha"])
        private = group["privateKeyPkcs8"]
        if int(group["privateKey"]["publicExponent"], 16) != 65537:  # keys of the service have no other
            continue
        if not algorithm or (private not in keys and len(keys) == KEYS):
            continue
        if private not in keys:
            keys[private] = imported(f"RSA_{size}", "SIGN_VERIFY", bytes.fromhex(private))
            assert kms.get_public_key(KeyId=keys[private])["PublicKey"].hex() == group["keyDer"]
        for t in group["tests"]:
            if t["result"] == "valid" and 0 < len(t["msg"]) // 2 <= MOST:
                message, signature = bytes.fromhex(t["msg"]), bytes.fromhex(t["sig"])
                assert kms.sign(KeyId=keys[private], Message=message, SigningAlgorithm=algorithm)["Signature"] == signature, t["tcId"]
                assert kms.verify(KeyId=keys[private], Message=message, Signature=signature, SigningAlgorithm=algorithm)["SignatureValid"]
                count[file] += 1
    enough(file)


# RFC 8032, 7.1: seed, public key, message, signature.
ED25519 = [
    ("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"),
    ("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42", "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
     "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"),
]


def test_ed25519(kms, imported, enough, count):
    for seed, public, message, signature in ED25519:
        key = imported("ECC_NIST_EDWARDS25519", "SIGN_VERIFY", pkcs8(ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))))
        assert serialization.load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"]).public_bytes_raw().hex() == public
        values = {"KeyId": key, "Message": bytes.fromhex(message), "SigningAlgorithm": "ED25519_SHA_512"}
        assert kms.sign(**values)["Signature"].hex() == signature
        assert kms.verify(**values, Signature=bytes.fromhex(signature))["SignatureValid"]
        count["RFC 8032"] += 1
    enough("RFC 8032")


@pytest.mark.parametrize("size", [44, 65, 87])
def test_ml_dsa(kms, imported, enough, count, size):
    """Signatures of the vectors verify under the key that their seed makes. Ours are other ones: they are randomized."""
    file = f"mldsa_{size}_sign_seed"
    keys = 0
    for group in groups(file):
        tests = [t for t in group["tests"] if t["result"] == "valid" and 0 < len(t.get("msg", "")) // 2 <= MOST]
        if not tests or keys == KEYS:
            continue
        keys += 1
        key = imported(f"ML_DSA_{size}", "SIGN_VERIFY", bytes.fromhex(group["privateKeyPkcs8"]))
        assert serialization.load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"]).public_bytes_raw().hex() == group["publicKey"]
        for t in tests:
            # The API has no context, but a message representative may have been made with one.
            forms = [(t["msg"], "RAW")] if not t.get("ctx") else []
            for message, kind in forms + ([(t["mu"], "EXTERNAL_MU")] if "mu" in t else []):
                values = {"KeyId": key, "Message": bytes.fromhex(message), "MessageType": kind, "SigningAlgorithm": "ML_DSA_SHAKE_256"}
                assert kms.verify(**values, Signature=bytes.fromhex(t["sig"]))["SignatureValid"], t["tcId"]
                count[f"{file} {kind}"] += 1
    enough(f"{file} RAW", f"{file} EXTERNAL_MU")
