#!/usr/bin/env python3
"""Makes internal/custody/soft/testdata/blobs.json anew: ciphertext blobs written by a second implementation.

It follows the tables of package ciphertext and the constants of package soft, with pyca/cryptography for the KDF and the
cipher, so that the Go code and this file can only agree if both follow the format. Inputs come from SHA-256 of a name, so
that the file is the same every time.

Needs: python3 with the package cryptography (50.0.2 made the committed file).
"""
import hashlib
import hmac
import json
import pathlib
import struct

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.kbkdf import CounterLocation, KBKDFHMAC, Mode

CASES = [
    ("111122223333", "1234abcd-12ab-34cd-56ef-1234567890ab", b"x", {}),
    ("000000000001", "00000000-0000-4000-8000-000000000000", b"attack at dawn", {"stage": "test"}),
    ("999999999999", "mrk-1234abcd12ab34cd56ef1234567890ab", bytes(range(256)) * 16, {"b": "2", "a": "", "Z": "é", "aa": "1"}),
]


def octets(name: str, size: int) -> bytes:
    out = b""
    while len(out) < size:
        out += hashlib.sha256(f"{name} {len(out)}".encode()).digest()
    return out[:size]


def text(s: str) -> bytes:
    raw = s.encode()
    return struct.pack(">I", len(raw)) + raw


def main() -> None:
    vectors = []
    for i, (account, key_id, plaintext, context) in enumerate(CASES):
        material, nonce, iv = octets(f"material {i}", 32), octets(f"nonce {i}", 16), octets(f"iv {i}", 12)
        material_id = hmac.new(material, b"keywright material id v1\0" + f"{account}/{key_id}".encode(), "sha256").digest()
        multi = key_id.startswith("mrk-")
        raw_id = bytes.fromhex(key_id.removeprefix("mrk-").replace("-", ""))
        header = b"KW" + bytes([1, int(multi)]) + struct.pack(">Q", int(account)) + raw_id + material_id + nonce
        pairs = sorted(context.items(), key=lambda p: p[0].encode())
        aad = b"keywright ciphertext v1\0" + header + struct.pack(">I", len(pairs)) + b"".join(text(k) + text(v) for k, v in pairs)
        key = KBKDFHMAC(algorithm=hashes.SHA256(), mode=Mode.CounterMode, length=32, rlen=4, llen=4,
                        location=CounterLocation.BeforeFixed, label=b"keywright message key v1", context=nonce, fixed=None).derive(material)
        blob = header + iv + AESGCM(key).encrypt(iv, plaintext, aad)
        vectors.append({"account": account, "keyId": key_id, "material": material.hex(), "materialId": material_id.hex(),
                        "context": context, "plaintext": plaintext.hex(), "blob": blob.hex()})
    out = pathlib.Path(__file__).parent.parent / "internal/custody/soft/testdata/blobs.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
