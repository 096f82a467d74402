#!/usr/bin/env python3
"""Makes internal/seal/testdata/vectors.json anew: an installation sealed by an implementation that is not ours.

It follows the comments in internal/seal only and takes its cryptography from pyca/cryptography. Every random value comes
from SHA-256 of a name, so that the file is the same every time. Nothing in it protects anything.

Needs: python3 with the package cryptography, 44 or later (Argon2id).
"""
import base64
import hashlib
import hmac
import json
import pathlib
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.kbkdf import CounterLocation, KBKDFHMAC, Mode
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

CREATED_MS = 1790000000123


def octets(name: str, size: int = 32) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:size]


def b64(b: bytes) -> str:
    return base64.b64encode(b).decode()


def associate(name: str, *fields) -> bytes:
    out = b""
    for f in (name, *fields):
        f = f.encode() if isinstance(f, str) else f
        out += struct.pack(">I", len(f)) + f
    return out


def kbkdf(key: bytes, label: str, context: bytes) -> bytes:
    return KBKDFHMAC(algorithm=hashes.SHA256(), mode=Mode.CounterMode, length=32, rlen=4, llen=4,
                     location=CounterLocation.BeforeFixed, label=label.encode(), context=context, fixed=None).derive(key)


def blob(key: bytes, version: int, aad: bytes, plaintext: bytes, name: str) -> bytes:
    header = struct.pack(">BI", 1, version) + octets("nonce of " + name, 16)
    message_key = kbkdf(key, "keywright message key v1", header[5:])
    gcm_nonce = octets("GCM nonce of " + name, 12)
    return header + gcm_nonce + AESGCM(message_key).encrypt(gcm_nonce, plaintext, associate("keywright blob v1", header, aad))


def seal_record(seal_id: str, kind: str, root_id: str, params: bytes, key: bytes, root: bytes) -> dict:
    name = "the " + kind
    aad = associate("keywright seal record v1", seal_id, kind, name, root_id, str(CREATED_MS), params)
    return {"id": seal_id, "kind": kind, "name": name, "params": b64(params), "wrapped": b64(blob(key, 0, aad, root, seal_id))}


def main() -> None:
    root, root_id, phrase, key_file = octets("root key"), "7f0c4a52-0000-4000-8000-000000000001", b"correct horse", octets("key file")
    salt = octets("salt", 16)
    argon = json.dumps({"kdf": "argon2id", "salt": b64(salt), "time": 2, "memoryKiB": 1024, "threads": 2}).encode()
    argon_key = Argon2id(salt=salt, length=32, iterations=2, lanes=2, memory_cost=1024).derive(phrase)
    pbkdf2 = json.dumps({"kdf": "pbkdf2-hmac-sha256", "salt": b64(salt), "iterations": 2000}).encode()
    pbkdf2_key = PBKDF2HMAC(algorithm=hashes.SHA256(), length=32, salt=salt, iterations=2000).derive(phrase + b" 2")
    file_id = "7f0c4a52-0000-4000-8000-00000000000c"
    seals = [
        seal_record("7f0c4a52-0000-4000-8000-00000000000a", "passphrase", root_id, argon, argon_key, root),
        seal_record("7f0c4a52-0000-4000-8000-00000000000b", "passphrase", root_id, pbkdf2, pbkdf2_key, root),
        seal_record(file_id, "key-file", root_id, b"", kbkdf(key_file, "keywright key file seal v1", file_id.encode()), root),
    ]
    domain_keys, blobs, tags = [], [], []
    for domain in ["material", "credential", "row", "token"]:
        for version in [1, 2]:
            name = f"{domain} {version}"
            key = octets("domain key " + name)
            aad = associate("keywright domain key v1", domain, str(version), root_id, str(CREATED_MS))
            domain_keys.append({"domain": domain, "version": version, "wrapped": b64(blob(root, 0, aad, key, "key " + name))})
            context = associate("keywright domain v1", domain)
            encryption, tag = (kbkdf(key, f"keywright {use} subkey v1", context) for use in ["encryption", "tag"])
            aad = associate("vector v1", name)
            plaintext = f"what {name} protects".encode()
            blobs.append({"domain": domain, "aad": b64(aad), "plaintext": b64(plaintext),
                          "blob": b64(blob(encryption, version, aad, plaintext, name))})
            head = struct.pack(">I", version)
            tags.append({"domain": domain, "data": b64(plaintext),
                         "tag": b64(head + hmac.digest(tag, head + plaintext, "sha256"))})
    path = pathlib.Path(__file__).parent.parent / "internal/seal/testdata/vectors.json"
    path.write_text(json.dumps({
        "made by": "scripts/seal-vectors.py with pyca/cryptography", "rootId": root_id, "createdMs": CREATED_MS,
        "passphrases": ["correct horse", "correct horse 2"], "keyFile": b64(key_file), "seals": seals,
        "domainKeys": domain_keys, "blobs": blobs, "tags": tags}, indent=1) + "\n")


main()
