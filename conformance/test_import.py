"""Importing key material as other people's libraries do it: cryptography (OpenSSL) wraps, boto3 sends. What was imported is in the
ledger, so that test_zz_afterwards.py looks for it in everything that the server left."""
import base64
import datetime
import os
import time

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding

HASHES = {"SHA_1": hashes.SHA1, "SHA_256": hashes.SHA256}
NEVER = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}
ENCRYPTED = [("RSAES_OAEP_SHA_1", "RSA_2048"), ("RSAES_OAEP_SHA_256", "RSA_2048"), ("RSAES_OAEP_SHA_256", "RSA_3072"), ("RSAES_OAEP_SHA_1", "RSA_4096")]


def wrap(parameters, algorithm, material):
    """Encrypts material as the documentation of ImportKeyMaterial says."""
    public = serialization.load_der_public_key(parameters["PublicKey"])
    digest = HASHES["SHA_" + algorithm.rsplit("_", 1)[1]]()
    oaep = padding.OAEP(padding.MGF1(digest), digest, None)
    if algorithm.startswith("RSA_AES"):
        key = os.urandom(32)
        return public.encrypt(key, oaep) + keywrap.aes_key_wrap_with_padding(key, material)
    return public.encrypt(material, oaep)


def parameters_for(kms, key, algorithm="RSAES_OAEP_SHA_256", spec="RSA_2048"):
    return kms.get_parameters_for_import(KeyId=key, WrappingAlgorithm=algorithm, WrappingKeySpec=spec)


def give(kms, key, parameters, algorithm, material, **more):
    return kms.import_key_material(KeyId=key, ImportToken=parameters["ImportToken"], EncryptedKeyMaterial=wrap(parameters, algorithm, material), **(more or NEVER))


def refused(call, *arguments, **members):
    with pytest.raises(ClientError) as caught:
        call(*arguments, **members)
    error = caught.value.response["Error"]
    return f"{error['Code']}: {error['Message']}" if error["Message"] else error["Code"]


def state(kms, key):
    return kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]


@pytest.fixture
def waiting(kms):
    return kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["Arn"]


@pytest.mark.parametrize("algorithm,spec", ENCRYPTED)
def test_symmetric(kms, waiting, ledger, algorithm, spec):
    material, plaintext = ledger.fresh_plaintext(), ledger.fresh_plaintext()
    assert state(kms, waiting) == "PendingImport"
    parameters = parameters_for(kms, waiting, algorithm, spec)
    assert parameters["KeyId"] == waiting and len(parameters["ImportToken"]) <= 6144
    left = parameters["ParametersValidTo"] - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(hours=23, minutes=59) < left <= datetime.timedelta(hours=24, seconds=5)
    first = give(kms, waiting, parameters, algorithm, material)["KeyMaterialId"]
    assert state(kms, waiting) == "Enabled"
    blob = kms.encrypt(KeyId=waiting, Plaintext=plaintext)["CiphertextBlob"]
    assert kms.delete_imported_key_material(KeyId=waiting)["KeyMaterialId"] == first
    assert refused(kms.decrypt, CiphertextBlob=blob) == f"KMSInvalidStateException: {waiting} is pending import."
    assert refused(give, kms, waiting, parameters, algorithm, ledger.fresh_plaintext()) == "IncorrectKeyMaterialException"
    assert give(kms, waiting, parameters_for(kms, waiting), "RSAES_OAEP_SHA_256", material)["KeyMaterialId"] == first
    opened = kms.decrypt(CiphertextBlob=blob)
    assert opened["Plaintext"] == plaintext and opened["KeyMaterialId"] == first


def test_rotation(kms, waiting, ledger):
    """Old and new ciphertexts decrypt under their own material, and one missing material stops both."""
    parameters, materials, blobs, plaintext = parameters_for(kms, waiting), [], [], ledger.fresh_plaintext()
    for n in range(3):
        octets = ledger.fresh_plaintext()
        given = give(kms, waiting, parameters, "RSAES_OAEP_SHA_256", octets, ImportType="NEW_KEY_MATERIAL", KeyMaterialDescription=f"material {n}", **NEVER)
        materials.append((octets, given["KeyMaterialId"]))
        if n:
            assert kms.rotate_key_on_demand(KeyId=waiting)["KeyId"] == waiting
        blobs.append(kms.encrypt(KeyId=waiting, Plaintext=plaintext)["CiphertextBlob"])
    for blob, (_, material) in zip(blobs, materials):
        assert kms.decrypt(CiphertextBlob=blob)["KeyMaterialId"] == material
    listed = kms.list_key_rotations(KeyId=waiting, IncludeKeyMaterial="ALL_KEY_MATERIAL")["Rotations"]
    assert [(r["KeyMaterialId"], r["KeyMaterialState"], r.get("RotationType"), r["KeyMaterialDescription"]) for r in listed] == [
        (materials[0][1], "NON_CURRENT", None, "material 0"), (materials[1][1], "NON_CURRENT", "ON_DEMAND", "material 1"),
        (materials[2][1], "CURRENT", "ON_DEMAND", "material 2")]
    assert len(kms.list_key_rotations(KeyId=waiting)["Rotations"]) == 2
    assert refused(kms.rotate_key_on_demand, KeyId=waiting) == f"KMSInvalidStateException: No available key material pending rotation for the key: {waiting}."
    kms.delete_imported_key_material(KeyId=waiting, KeyMaterialId=materials[1][1])
    assert refused(kms.decrypt, CiphertextBlob=blobs[2]) == f"KMSInvalidStateException: {waiting} is pending import."
    give(kms, waiting, parameters, "RSAES_OAEP_SHA_256", materials[1][0])
    assert all(kms.decrypt(CiphertextBlob=blob)["Plaintext"] == plaintext for blob in blobs)


def test_expiry(kms, waiting, ledger):
    octets, parameters = ledger.fresh_plaintext(), parameters_for(kms, waiting)
    end = time.time() + 2
    give(kms, waiting, parameters, "RSAES_OAEP_SHA_256", octets, ValidTo=end)
    metadata = kms.describe_key(KeyId=waiting)["KeyMetadata"]
    assert metadata["ExpirationModel"] == "KEY_MATERIAL_EXPIRES" and abs(metadata["ValidTo"].timestamp() - end) < 0.01
    blob = kms.encrypt(KeyId=waiting, Plaintext=ledger.fresh_plaintext())["CiphertextBlob"]
    time.sleep(max(0, end - time.time()) + 0.05)
    assert refused(kms.decrypt, CiphertextBlob=blob) == f"KMSInvalidStateException: {waiting} is pending import."
    assert "ValidTo" not in kms.describe_key(KeyId=waiting)["KeyMetadata"]
    give(kms, waiting, parameters, "RSAES_OAEP_SHA_256", octets)
    kms.decrypt(CiphertextBlob=blob)


def test_tokens(kms, waiting, ledger, tally):
    other = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]["Arn"]
    octets, mine, theirs = ledger.fresh_plaintext(), parameters_for(kms, waiting), parameters_for(kms, other)
    assert refused(give, kms, waiting, theirs, "RSAES_OAEP_SHA_256", octets) == "InvalidImportTokenException"
    for at in range(0, len(mine["ImportToken"]), 50):
        altered = bytearray(mine["ImportToken"])
        altered[at] ^= 1
        assert refused(give, kms, waiting, mine | {"ImportToken": bytes(altered)}, "RSAES_OAEP_SHA_256", octets) == "InvalidImportTokenException"
    assert refused(give, kms, waiting, mine | {"PublicKey": theirs["PublicKey"]}, "RSAES_OAEP_SHA_256", octets) == "InvalidCiphertextException"
    assert refused(give, kms, waiting, mine, "RSAES_OAEP_SHA_1", octets) == "InvalidCiphertextException"
    assert refused(give, kms, waiting, mine, "RSA_AES_KEY_WRAP_SHA_256", octets) == "ValidationException: Invalid encrypted key size."
    assert refused(give, kms, waiting, mine, "RSAES_OAEP_SHA_256", octets[:16]) == "IncorrectKeyMaterialException"
    assert state(kms, waiting) == "PendingImport"
    for part in (octets, base64.b64encode(octets)):
        assert part not in mine["ImportToken"]
    tally(6 + len(mine["ImportToken"]) // 50)
