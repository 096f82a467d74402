"""Key material that is made outside, and its way into a key of origin EXTERNAL."""
import os

from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding


def pkcs8(private):
    """The PrivateKeyInfo (RFC 5958) of a private key, as ImportKeyMaterial takes it."""
    return private.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def spki(public):
    """The SubjectPublicKeyInfo (RFC 5280) of a public key, as GetPublicKey answers it."""
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def oaep(name):
    digest = hashes.SHA1 if name.endswith("SHA_1") else hashes.SHA256
    return padding.OAEP(padding.MGF1(digest()), digest(), None)


def wrap(algorithm, public_key, octets):
    """Wraps material under a key from GetParametersForImport: RSAES_OAEP_*, or RSA_AES_KEY_WRAP_*, which is the same
    around an AES key that wraps the material after RFC 5649."""
    public = serialization.load_der_public_key(public_key)
    if algorithm.startswith("RSAES_OAEP"):
        return public.encrypt(octets, oaep(algorithm))
    key = os.urandom(32)
    return public.encrypt(key, oaep(algorithm)) + keywrap.aes_key_wrap_with_padding(key, octets)


def import_material(kms, key_id, octets, algorithm="RSAES_OAEP_SHA_256", spec="RSA_2048", **values):
    """Imports octets into a key and returns the answer. Without an ExpirationModel they do not expire."""
    parameters = kms.get_parameters_for_import(KeyId=key_id, WrappingAlgorithm=algorithm, WrappingKeySpec=spec)
    values = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"} | values
    return kms.import_key_material(KeyId=key_id, ImportToken=parameters["ImportToken"],
                                   EncryptedKeyMaterial=wrap(algorithm, parameters["PublicKey"], octets), **values)
