"""The five operations with a Recipient: openssl opens the answers with the enclave's key, and nothing is answered in the clear."""
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from harness.enclave import Enclave
from harness.material import spki
from harness.openssl import OpenSSL
from harness.server import ACCOUNT, Server

PLAINTEXT = b"for the enclave only"


@pytest.fixture(scope="module")
def enclave():
    return Enclave()


@pytest.fixture(scope="module")
def kms(tmp_path_factory, enclave):
    folder = tmp_path_factory.mktemp("attestation")
    (folder / "roots.pem").write_bytes(enclave.roots)
    with Server(folder, "--attestation-roots", str(folder / "roots.pem")) as server:
        yield server.boto3()


@pytest.fixture(scope="module")
def openssl(tmp_path_factory):
    return OpenSSL(tmp_path_factory.mktemp("openssl"))


@pytest.fixture(scope="module")
def sealed(kms):
    """A symmetric key and a ciphertext."""
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    return key, kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)["CiphertextBlob"]


def test_decrypt(kms, enclave, openssl, sealed):
    answer = kms.decrypt(CiphertextBlob=sealed[1], Recipient=enclave.asks())
    assert not answer.get("Plaintext")
    assert enclave.opens(openssl, answer["CiphertextForRecipient"]) == PLAINTEXT


def test_data_keys(kms, enclave, openssl, sealed):
    key = sealed[0]
    answer = kms.generate_data_key(KeyId=key, KeySpec="AES_256", Recipient=enclave.asks())
    assert not answer.get("Plaintext")
    assert enclave.opens(openssl, answer["CiphertextForRecipient"]) == kms.decrypt(CiphertextBlob=answer["CiphertextBlob"])["Plaintext"]
    answer = kms.generate_data_key_pair(KeyId=key, KeyPairSpec="RSA_2048", Recipient=enclave.asks())
    assert not answer.get("PrivateKeyPlaintext")
    private = enclave.opens(openssl, answer["CiphertextForRecipient"])
    assert private == kms.decrypt(CiphertextBlob=answer["PrivateKeyCiphertextBlob"])["Plaintext"] and openssl.public(private) == answer["PublicKey"]


def test_random_and_shared_secret(kms, enclave, openssl):
    answer = kms.generate_random(NumberOfBytes=48, Recipient=enclave.asks())
    assert not answer.get("Plaintext") and len(enclave.opens(openssl, answer["CiphertextForRecipient"])) == 48
    key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="KEY_AGREEMENT")["KeyMetadata"]["KeyId"]
    values = {"KeyId": key, "KeyAgreementAlgorithm": "ECDH", "PublicKey": spki(ec.generate_private_key(ec.SECP256R1()).public_key())}
    answer = kms.derive_shared_secret(**values, Recipient=enclave.asks())
    assert not answer.get("SharedSecret")
    assert enclave.opens(openssl, answer["CiphertextForRecipient"]) == kms.derive_shared_secret(**values)["SharedSecret"]


@pytest.mark.parametrize("name", ["another root", "altered", "cut off", "old", "without a public key", "garbage"])
def test_refused(kms, enclave, sealed, name):
    good = enclave.document()
    document = {
        "another root": lambda: Enclave().document(), "altered": lambda: good[:-1] + bytes([good[-1] ^ 1]), "cut off": lambda: good[:-1],
        "old": lambda: enclave.document(timestamp=int((time.time() - 86400) * 1000)), "without a public key": lambda: enclave.document(public_key=None),
        "garbage": lambda: b"garbage",
    }[name]()
    with pytest.raises(kms.exceptions.ClientError) as e:
        kms.decrypt(CiphertextBlob=sealed[1], Recipient={"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": document})
    assert e.value.response["Error"]["Code"] == "ValidationException"


def test_conditions(kms, enclave):
    """A key policy that opens to one image only: other images, and calls without a document, are refused."""
    def policy(image):
        root = {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}
        return json.dumps({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"},
            {"Effect": "Deny", "Principal": root, "Action": "kms:Decrypt", "Resource": "*", "Condition": {"StringNotEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": image}}},
        ]})
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    blob = kms.encrypt(KeyId=key, Plaintext=PLAINTEXT)["CiphertextBlob"]
    kms.put_key_policy(KeyId=key, Policy=policy(enclave.pcrs[0].hex()))
    assert kms.decrypt(CiphertextBlob=blob, Recipient=enclave.asks())["CiphertextForRecipient"]
    for values in ({}, {"Recipient": enclave.asks(pcrs=enclave.pcrs | {0: bytes(48)})}):
        with pytest.raises(kms.exceptions.ClientError) as e:
            kms.decrypt(CiphertextBlob=blob, **values)
        assert e.value.response["Error"]["Code"] == "AccessDeniedException"
