#!/usr/bin/env python3
"""Makes internal/kbkdf/testdata/label-context.json anew.

The outputs come from pyca/cryptography (KBKDFHMAC); each is then computed again with OpenSSL 3 (`openssl kdf KBKDF`)
and the script stops if the two differ. Inputs come from SHA-256 of a counter, so that the file is the same every time.

Needs: python3 with the package cryptography (50.0.2 made the committed file), openssl 3 on the path.
"""
import hashlib
import json
import pathlib
import subprocess

import cryptography
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.kbkdf import CounterLocation, KBKDFHMAC, Mode

LABELS = ["a", "keywright message key v1", "Ünïcode label", "x" * 100]
CONTEXT_SIZES = [1, 16, 32, 200]
LENGTHS = [16, 32, 48]


def octets(name: str, size: int) -> bytes:
    out = b""
    while len(out) < size:
        out += hashlib.sha256(f"{name} {len(out)}".encode()).digest()
    return out[:size]


def with_openssl(key: bytes, label: bytes, context: bytes, length: int) -> bytes:
    text = subprocess.run(
        ["openssl", "kdf", "-keylen", str(length), "-kdfopt", "mac:HMAC", "-kdfopt", "digest:SHA256",
         "-kdfopt", "mode:counter", "-kdfopt", f"hexkey:{key.hex()}", "-kdfopt", f"hexsalt:{label.hex()}",
         "-kdfopt", f"hexinfo:{context.hex()}", "KBKDF"],
        check=True, capture_output=True, text=True).stdout
    return bytes.fromhex(text.strip().replace(":", ""))


def main() -> None:
    vectors = []
    for label in LABELS:
        for context_size in CONTEXT_SIZES:
            for length in LENGTHS:
                n = len(vectors)
                key, context = octets(f"key {n}", 32 if n % 5 else 80), octets(f"context {n}", context_size)
                kdf = KBKDFHMAC(algorithm=hashes.SHA256(), mode=Mode.CounterMode, length=length, rlen=4, llen=4,
                                location=CounterLocation.BeforeFixed, label=label.encode(), context=context, fixed=None)
                output = kdf.derive(key)
                if with_openssl(key, label.encode(), context, length) != output:
                    raise SystemExit(f"vector {n}: OpenSSL and pyca/cryptography differ")
                vectors.append({"key": key.hex(), "label": label, "context": context.hex(), "length": length,
                                "output": output.hex()})
    openssl = subprocess.run(["openssl", "version"], check=True, capture_output=True, text=True).stdout.split()
    path = pathlib.Path(__file__).parent.parent / "internal/kbkdf/testdata/label-context.json"
    made = f"scripts/kbkdf-vectors.py: pyca/cryptography {cryptography.__version__}, checked with OpenSSL {openssl[1]}"
    path.write_text(json.dumps({"made by": made, "vectors": vectors}, indent=1, ensure_ascii=False) + "\n")


main()
