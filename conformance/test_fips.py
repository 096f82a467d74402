"""A server in FIPS mode: what it makes works, and what is outside the FIPS 140-3 module it refuses and says why."""
import base64

import pytest
from harness.server import Server
from harness.wire import Wire

USAGES = {  # the specs inside the module, and what keys of them are for
    "RSA_2048": ["ENCRYPT_DECRYPT", "SIGN_VERIFY"], "RSA_3072": ["SIGN_VERIFY"], "RSA_4096": ["ENCRYPT_DECRYPT"],
    "ECC_NIST_P256": ["SIGN_VERIFY", "KEY_AGREEMENT"], "ECC_NIST_P384": ["SIGN_VERIFY", "KEY_AGREEMENT"], "ECC_NIST_P521": ["SIGN_VERIFY", "KEY_AGREEMENT"],
    "ECC_NIST_EDWARDS25519": ["SIGN_VERIFY"], "SYMMETRIC_DEFAULT": ["ENCRYPT_DECRYPT"],
    "HMAC_224": ["GENERATE_VERIFY_MAC"], "HMAC_256": ["GENERATE_VERIFY_MAC"], "HMAC_384": ["GENERATE_VERIFY_MAC"], "HMAC_512": ["GENERATE_VERIFY_MAC"],
    "ML_KEM_768": ["ENCAPSULATE_DECAPSULATE"], "ML_KEM_1024": ["ENCAPSULATE_DECAPSULATE"],
}
OUTSIDE = {"ECC_SECG_P256K1": "SIGN_VERIFY", "SM2": "SIGN_VERIFY", "ML_DSA_44": "SIGN_VERIFY", "ML_DSA_65": "SIGN_VERIFY", "ML_DSA_87": "SIGN_VERIFY",
           "ML_KEM_512": "ENCAPSULATE_DECAPSULATE"}
EXTERNAL = [spec for spec in OUTSIDE if spec != "ML_KEM_512"]  # whose keys can have imported material
PAIRS = {"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_NIST_EDWARDS25519"}
WRAPPING = {"WrappingAlgorithm": "RSA_AES_KEY_WRAP_SHA_256", "WrappingKeySpec": "RSA_2048"}


def b64(octets):
    return base64.b64encode(octets).decode()


@pytest.fixture(scope="module")
def fips(tmp_path_factory):
    """A server in FIPS mode with keys of every kind that another server made before on the same data."""
    folder = tmp_path_factory.mktemp("fips")
    with Server(folder, data=folder / "data") as ordinary:
        wire = Wire(ordinary)
        made = {spec: wire.ok("CreateKey", KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"] for spec, usage in OUTSIDE.items()}
        for spec in EXTERNAL:
            key = wire.ok("CreateKey", KeySpec=spec, KeyUsage=OUTSIDE[spec], Origin="EXTERNAL")["KeyMetadata"]["KeyId"]
            made["EXTERNAL", spec] = key, wire.ok("GetParametersForImport", KeyId=key, **WRAPPING)["ImportToken"]
    with Server(folder, data=folder / "data", environment={"GODEBUG": "fips140=on"}) as server:
        yield Wire(server), made


def round_trips(wire, key, spec, usage, algorithms):
    """Uses the key with every algorithm that it says it has."""
    message = b64(b"m" * 64)
    for algorithm in algorithms:
        use = {"KeyId": key, "DryRun": False}
        if usage == "ENCRYPT_DECRYPT":
            use["EncryptionAlgorithm"] = algorithm
            blob = wire.ok("Encrypt", Plaintext=message, **use)["CiphertextBlob"]
            assert wire.ok("Decrypt", CiphertextBlob=blob, **use)["Plaintext"] == message
        elif usage == "SIGN_VERIFY":
            use |= {"SigningAlgorithm": algorithm, "Message": message, "MessageType": "DIGEST" if "_PH_" in algorithm else "RAW"}
            assert wire.ok("Verify", Signature=wire.ok("Sign", **use)["Signature"], **use)["SignatureValid"] is True
        elif usage == "GENERATE_VERIFY_MAC":
            use |= {"MacAlgorithm": algorithm, "Message": message}
            assert wire.ok("VerifyMac", Mac=wire.ok("GenerateMac", **use)["Mac"], **use)["MacValid"] is True
        elif usage == "KEY_AGREEMENT":
            use["KeyAgreementAlgorithm"] = algorithm
            assert wire.ok("DeriveSharedSecret", PublicKey=wire.ok("GetPublicKey", KeyId=key)["PublicKey"], **use)["SharedSecret"]
        else:
            use["EncapsulationAlgorithm"] = algorithm
            made = wire.ok("Encapsulate", **use)
            opened = wire.ok("Decapsulate", SharedSecretCiphertextBlob=made["SharedSecretCiphertextBlob"], **use)
            assert opened["SharedSecret"] == made["SharedSecret"]
    return len(algorithms)


@pytest.mark.parametrize("spec", USAGES)
def test_inside(fips, spec, tally):
    wire, _ = fips
    checks = 0
    for usage in USAGES[spec]:
        metadata = wire.ok("CreateKey", KeySpec=spec, KeyUsage=usage)["KeyMetadata"]
        (algorithms,) = [v for k, v in metadata.items() if k.endswith("Algorithms")]
        checks += round_trips(wire, metadata["KeyId"], spec, usage, algorithms)
    tally(checks)


def test_pairs(fips, tally):
    wire, _ = fips
    key = wire.ok("CreateKey")["KeyMetadata"]["KeyId"]
    for spec in PAIRS:
        pair = wire.ok("GenerateDataKeyPair", KeyId=key, KeyPairSpec=spec)
        assert wire.ok("Decrypt", CiphertextBlob=pair["PrivateKeyCiphertextBlob"])["Plaintext"] == pair["PrivateKeyPlaintext"]
    for spec in ("SM2", "ECC_SECG_P256K1"):
        for operation in ("GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"):
            answer = wire.call(operation, KeyId=key, KeyPairSpec=spec)
            assert answer.error == f"UnsupportedOperationException: Key spec {spec} is not available in FIPS mode."
    tally(len(PAIRS) + 4)


@pytest.mark.parametrize("spec", OUTSIDE)
def test_outside(fips, spec, tally):
    """No such key is made, and none that was made before is used; it can be seen and deleted."""
    wire, made = fips
    refused = f"UnsupportedOperationException: Key spec {spec} is not available in FIPS mode."
    assert wire.call("CreateKey", KeySpec=spec, KeyUsage=OUTSIDE[spec]).error == refused
    metadata = wire.ok("DescribeKey", KeyId=made[spec])["KeyMetadata"]
    (algorithms,) = [v for k, v in metadata.items() if k.endswith("Algorithms")]
    if OUTSIDE[spec] == "SIGN_VERIFY":
        use = {"KeyId": made[spec], "SigningAlgorithm": algorithms[0], "Message": b64(b"x")}
        answers = [wire.call("Sign", **use), wire.call("Verify", Signature=b64(b"x"), **use)]
    else:
        use = {"KeyId": made[spec], "EncapsulationAlgorithm": algorithms[0]}
        answers = [wire.call("Encapsulate", **use), wire.call("Decapsulate", SharedSecretCiphertextBlob=b64(b"x" * 768), **use)]
    assert [answer.error for answer in answers] == [refused, refused]
    wire.ok("ScheduleKeyDeletion", KeyId=made[spec], PendingWindowInDays=7)
    tally(5)


@pytest.mark.parametrize("spec", EXTERNAL)
def test_outside_imports_nothing(fips, spec, tally):
    """Nothing is imported into a key that was made before, nor is a wrapping key made for it."""
    wire, made = fips
    key, token = made["EXTERNAL", spec]
    refused = f"UnsupportedOperationException: Key spec {spec} is not available in FIPS mode."
    assert wire.call("GetParametersForImport", KeyId=key, **WRAPPING).error == refused
    use = {"ImportToken": token, "EncryptedKeyMaterial": b64(b"x" * 400), "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
    assert wire.call("ImportKeyMaterial", KeyId=key, **use).error == refused
    tally(2)
