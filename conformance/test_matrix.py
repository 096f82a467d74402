"""Every operation, with every error that its model declares, on a key in every state: data/matrix.json says what comes first."""
import collections
import functools
import json
import os
import pathlib
import uuid

import boto3
import botocore.exceptions
import pytest

from harness.material import wrap
from harness.scenes import AWAY, Scenes
from harness.server import ACCOUNT, REGION
from harness.slow import SlowServer

MATRIX = json.loads((pathlib.Path(__file__).parent / "data/matrix.json").read_text())
STATES, CODES, ROWS, SITUATIONS = (MATRIX[k] for k in ("states", "codes", "rows", "situations"))
OPERATIONS = MATRIX["operations"]
KEY_STORES = {"ConnectCustomKeyStore", "CreateCustomKeyStore", "DeleteCustomKeyStore", "DescribeCustomKeyStores",
              "DisconnectCustomKeyStore", "UpdateCustomKeyStore"}
STATE_ERRORS = {"DisabledException", "KMSInvalidStateException"}
ROOT = f"arn:aws:iam::{ACCOUNT}:root"
TAG = {"TagKey": "matrix", "TagValue": "matrix"}
DATA_KEY = {"KeySpec": "AES_256"}
POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}]})

# After these, where they succeed, a key is not what it was.
CHANGES = {"CancelKeyDeletion", "DeleteAlias", "DeleteImportedKeyMaterial", "DisableKey", "EnableKey", "EnableKeyRotation", "ImportKeyMaterial",
           "ReplicateKey", "RotateKeyOnDemand", "ScheduleKeyDeletion", "UpdateAlias", "UpdatePrimaryRegion"}
# How many scenes with a replica that is ready the whole run uses up.
PREPARED = {("set", s): n for s, n in zip(STATES, (5, 2, 2, 2, 2, 0, 3))} | {
    ("symmetric", "Updating"): 12, ("external", "Updating"): 6, ("multi", "Updating"): 2, ("signing", "Updating"): 2, ("mac", "Updating"): 2,
    ("agreement", "Updating"): 2, ("kem", "Updating"): 2}


class World:
    """The server, clients of every Region, somebody without permissions, and the count of what was checked."""

    def __init__(self, folder):
        self.server = SlowServer(folder, ACCOUNT)
        self.server.start()
        iam = self.server.boto3("iam")
        iam.create_user(UserName="nobody")
        made = iam.create_access_key(UserName="nobody")["AccessKey"]
        self.nobody_key = made["AccessKeyId"], made["SecretAccessKey"]
        self.made = {}
        self.scenes = Scenes(self.client)
        self.count = collections.Counter()

    def client(self, region, nobody=False):
        name = self.server.url, region, nobody
        if name not in self.made:
            self.made[name] = self.server.boto3(region=region, credentials=self.nobody_key if nobody else None)
        return self.made[name]

    def prepare(self):
        for (kind, state), n in PREPARED.items():
            self.scenes.prepare(kind, state, n)
        self.server.restart()
        self.others = {}
        for region in (REGION, AWAY):
            kms = self.client(region)
            key = kms.create_key()["KeyMetadata"]["KeyId"]
            self.others[region] = key, kms.encrypt(KeyId=key, Plaintext=b"other")["CiphertextBlob"]


# By state, and for operations without a key, how many checks there are at least: rows and situations that get lost are seen here.
LEAST = {"Enabled": 311, "Disabled": 311, "PendingDeletion": 311, "PendingReplicaDeletion": 309, "PendingImport": 295, "Creating": 308, "Updating": 309, "any": 27}


@pytest.fixture(scope="module")
def world(tmp_path_factory, request):
    w = World(tmp_path_factory.mktemp("matrix"))
    try:
        w.prepare()
        yield w
    finally:
        w.server.stop()
        request.config.tables.append(table(w.count))
    if not request.config.option.keyword and not any("::" in a for a in request.config.args):  # all of the matrix was asked for
        count = {state: sum(n for (_, s), n in w.count.items() if s == state) for state in [*STATES, "any"]}
        assert set(count) == set(LEAST) and not {s: n for s, n in count.items() if n < LEAST[s]}, count


def table(count):
    """Operation by state: how many checks there were."""
    columns = [*STATES, "any"]
    lines = ["operation by key state: checks", " " * 36 + "".join(f"{c.replace('Pending', 'P.').replace('ReplicaDeletion', 'Replica')[:10]:>11}" for c in columns)]
    for operation in sorted({o for o, _ in count}):
        lines.append(f"{operation:36}" + "".join(f"{count[operation, c] or '':>11}" for c in columns))
    lines.append(f"{'in all ' + str(sum(count.values())):36}" + "".join(f"{sum(n for (_, s), n in count.items() if s == c):>11}" for c in columns))
    never = sum(len(v) for v in MATRIX["never"].values())
    lines.append(f"declared errors that no client can bring about: {never}, and of any operation {', '.join(MATRIX['never, of any operation'])}")
    lines += [f"state left out: {s}: {why}" for s, why in MATRIX["states left out"].items()]
    return lines


def other_key(world, scene):
    """The id of an enabled symmetric key in the Region of the scene."""
    return world.others[scene.region][0]


def other_region(scene):
    """Where the other key of a set is."""
    return REGION if scene.region == AWAY else AWAY


def plain(world, scene, operation):
    """The input with which an operation succeeds, as far as the state lets it."""
    k = scene.id
    named = {"KeyId": k}
    with_alias = {"AliasName": scene.alias, "TargetKeyId": k}
    if operation == "ImportKeyMaterial":
        return named | import_input(world, scene, scene.material)
    if operation in ("RetireGrant", "RevokeGrant"):
        return {"KeyId": scene.arn, "GrantId": scene.grants[-1]}
    if operation == "CreateAlias":
        return with_alias | {"AliasName": f"alias/matrix/{uuid.uuid4()}"}
    if operation == "UpdateAlias":
        return with_alias
    make = {
        "CreateGrant": lambda: {"GranteePrincipal": ROOT, "Operations": ["DescribeKey"]},
        "Decapsulate": lambda: {"SharedSecretCiphertextBlob": scene.encapsulated, "EncapsulationAlgorithm": "ML_KEM"},
        "Decrypt": lambda: {"CiphertextBlob": scene.blob},
        "DeriveSharedSecret": lambda: {"KeyAgreementAlgorithm": "ECDH", "PublicKey": scene.peer},
        "Encapsulate": lambda: {"EncapsulationAlgorithm": "ML_KEM"},
        "Encrypt": lambda: {"Plaintext": b"matrix"},
        "GenerateDataKey": lambda: DATA_KEY,
        "GenerateDataKeyPair": lambda: {"KeyPairSpec": "ECC_NIST_P256"},
        "GenerateDataKeyPairWithoutPlaintext": lambda: {"KeyPairSpec": "ECC_NIST_P256"},
        "GenerateDataKeyWithoutPlaintext": lambda: DATA_KEY,
        "GenerateMac": lambda: {"Message": b"matrix", "MacAlgorithm": "HMAC_SHA_256"},
        "GetParametersForImport": lambda: {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"},
        "PutKeyPolicy": lambda: {"Policy": POLICY},
        "ReplicateKey": lambda: {"ReplicaRegion": "eu-north-1"},
        "Sign": lambda: {"Message": b"matrix", "SigningAlgorithm": "ECDSA_SHA_256"},
        "TagResource": lambda: {"Tags": [TAG]},
        "UntagResource": lambda: {"TagKeys": [TAG["TagKey"]]},
        "UpdateKeyDescription": lambda: {"Description": "matrix"},
        "UpdatePrimaryRegion": lambda: {"PrimaryRegion": other_region(scene)},
        "Verify": lambda: {"Message": b"matrix", "SigningAlgorithm": "ECDSA_SHA_256", "Signature": scene.signature},
        "VerifyMac": lambda: {"Message": b"matrix", "MacAlgorithm": "HMAC_SHA_256", "Mac": scene.mac},
    }
    if operation == "DeleteAlias":
        return {"AliasName": scene.alias}
    if operation == "ReEncrypt":
        return {"CiphertextBlob": scene.blob, "DestinationKeyId": other_key(world, scene)}
    return named | make.get(operation, dict)()


def import_input(world, scene, octets):
    """Parameters are asked for where the state gives them; elsewhere those of another key do, for the state comes first."""
    ask = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}
    try:
        p = scene.parameters or scene.kms.get_parameters_for_import(KeyId=scene.id, **ask)
    except botocore.exceptions.ClientError:
        p = external_parameters(world)
    return {"ImportToken": p["ImportToken"], "EncryptedKeyMaterial": wrap("RSAES_OAEP_SHA_256", p["PublicKey"], octets or os.urandom(32)),
            "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}


@functools.cache
def external_parameters(world):
    home = world.client(REGION)
    return home.get_parameters_for_import(KeyId=home.create_key(Origin="EXTERNAL")["KeyMetadata"]["KeyId"],
                                          WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")


def altered(octets):
    return octets[:-1] + bytes([octets[-1] ^ 1])


# The kind of key that does not fit an operation of this usage, and what is given to an algorithm that does not fit.
MISFIT = {"Encrypt": "mac", "ReEncrypt": "mac", "GenerateDataKey": "mac", "GenerateDataKeyWithoutPlaintext": "mac", "GenerateDataKeyPair": "mac",
          "GenerateDataKeyPairWithoutPlaintext": "mac", "Sign": "agreement", "Verify": "agreement", "DeriveSharedSecret": "signing",
          "GenerateMac": "symmetric", "VerifyMac": "symmetric", "Encapsulate": "symmetric", "Decapsulate": "symmetric"}
OTHER_KIND = {"no symmetric key": "mac", "symmetric key": "symmetric", "single Region": "symmetric", "own material": "symmetric", "imported material": "external",
              "taken Region": "set"}
# States in which there is no key of a kind, or none for a situation: such a key has no imported material, or is a multi-Region key.
NO_SUCH_KEY = {"kem": {"PendingImport"}, "own material": {"PendingImport"}, "single Region": {"PendingReplicaDeletion", "Creating", "Updating"}}
# A key that is being created has no grants yet, and who may retire a grant that is not there is nobody's question.
NO_GRANT = {("RetireGrant", "no permission", "Creating")}
ALGORITHM = {"Encrypt": ("EncryptionAlgorithm", "RSAES_OAEP_SHA_256"), "Decrypt": ("EncryptionAlgorithm", "RSAES_OAEP_SHA_256"),
             "ReEncrypt": ("SourceEncryptionAlgorithm", "RSAES_OAEP_SHA_256"), "Sign": ("SigningAlgorithm", "ECDSA_SHA_384"),
             "Verify": ("SigningAlgorithm", "ECDSA_SHA_384"), "GenerateMac": ("MacAlgorithm", "HMAC_SHA_512"), "VerifyMac": ("MacAlgorithm", "HMAC_SHA_512")}


def misfit(world, scene, operation):
    """The input of an operation whose key is one of another usage, in the state of the scene."""
    if operation == "ReEncrypt":  # the destination; the source is a key that works
        return {"CiphertextBlob": world.others[scene.region][1], "DestinationKeyId": scene.id}
    given = {"Signature": b"x", "Mac": b"x"}
    values = {"Encrypt": {"Plaintext": b"x"}, "Sign": {"Message": b"x", "SigningAlgorithm": "ECDSA_SHA_256"},
              "Verify": {"Message": b"x", "SigningAlgorithm": "ECDSA_SHA_256", "Signature": given["Signature"]},
              "GenerateMac": {"Message": b"x", "MacAlgorithm": "HMAC_SHA_256"}, "VerifyMac": {"Message": b"x", "MacAlgorithm": "HMAC_SHA_256", "Mac": given["Mac"]},
              "DeriveSharedSecret": {"KeyAgreementAlgorithm": "ECDH", "PublicKey": b"x"}, "Encapsulate": {"EncapsulationAlgorithm": "ML_KEM"},
              "Decapsulate": {"EncapsulationAlgorithm": "ML_KEM", "SharedSecretCiphertextBlob": bytes(1088)},
              "GenerateDataKey": DATA_KEY, "GenerateDataKeyWithoutPlaintext": DATA_KEY}.get(operation, {"KeyPairSpec": "ECC_NIST_P256"})
    return {"KeyId": scene.id} | values


def fill(scene, operation, situation):
    """Does what must have been done before an error can be brought about."""
    if situation == "fifty aliases" and not scene.made[situation]:
        for _ in range(50 - len(scene.kms.list_aliases(KeyId=scene.id, Limit=100)["Aliases"])):
            scene.kms.create_alias(AliasName=f"alias/matrix/{uuid.uuid4()}", TargetKeyId=scene.id)
    if situation == "25 rotations" and not scene.made[situation]:
        for _ in range(25):
            scene.kms.rotate_key_on_demand(KeyId=scene.id)
    scene.made[situation] += 1


def bring_about(world, scene, operation, situation):
    """The input that brings an error about, as far as what comes before lets it."""
    if situation == "usage":
        return misfit(world, scene, operation)
    if situation == "nothing given":  # or too little, where nothing is required
        return {"Limit": 0} if operation == "ListAliases" else {}
    if OTHER_KIND.get(situation) and operation == "ImportKeyMaterial":
        return {"KeyId": scene.id} | import_input(world, scene, None)
    values = dict(plain(world, scene, operation))
    key = next((m for m in ("KeyId", "TargetKeyId") if m in values), "SourceKeyId")
    blob = values.get("CiphertextBlob")
    changes = {
        "other Region": lambda: {key: scene.arn.replace(scene.region, "ap-south-1")},
        "alias": lambda: {key: f"arn:aws:kms:{scene.region}:{ACCOUNT}:{scene.alias}" if operation == "RetireGrant" else scene.alias},
        "other service": lambda: {key: f"arn:aws:s3:{scene.region}:{ACCOUNT}:key/{scene.id}"},
        "grant token": lambda: {"GrantTokens": ["bm8gdG9rZW4="]},
        "algorithm": lambda: {ALGORITHM[operation][0]: ALGORITHM[operation][1]} | ({"KeyId": scene.id} if operation == "Decrypt" else {}) | (
            {"SourceKeyId": scene.id} if operation == "ReEncrypt" else {}),
        "dry run": lambda: {"DryRun": True},
        "garbage": lambda: {"CiphertextBlob": b"garbage" * 30},
        "altered ciphertext": lambda: {"CiphertextBlob": altered(blob)},
        "ciphertext of another key": lambda: {"KeyId": scene.id, "CiphertextBlob": world.others[scene.region][1]},
        "source of another key": lambda: {"SourceKeyId": scene.id, "CiphertextBlob": world.others[scene.region][1], "DestinationKeyId": scene.id},
        "short ciphertext": lambda: {"SharedSecretCiphertextBlob": values["SharedSecretCiphertextBlob"][:-1]},
        "altered signature": lambda: {"Signature": altered(values["Signature"])},
        "altered MAC": lambda: {"Mac": altered(values["Mac"])},
        "unknown alias": lambda: {"AliasName": "alias/matrix/none"},
        "policy name": lambda: {"PolicyName": "other"},
        "marker": lambda: {"Marker": "bWFya2Vy"},
        "malformed grant id": lambda: {"GrantId": "x"},
        "unknown grant": lambda: {"GrantId": "0" * 64},
        "same tag twice": lambda: {"Tags": [TAG, TAG]},
        "malformed policy": lambda: {"Policy": "{}"},
        "large policy": lambda: {"Policy": POLICY + " " * 33000},
        "taken alias": lambda: {"AliasName": scene.alias},
        "fifty aliases": lambda: {"AliasName": f"alias/matrix/{uuid.uuid4()}"} if operation == "CreateAlias" else {"AliasName": elsewhere(world, scene)},
        "taken Region": lambda: {"ReplicaRegion": other_region(scene)},
        "garbage material": lambda: {"EncryptedKeyMaterial": os.urandom(256)},
        "other material": lambda: import_input(world, scene, os.urandom(32)) | {"ImportType": "EXISTING_KEY_MATERIAL"},
        "garbage token": lambda: {"ImportToken": b"garbage" * 30},
        "bad grant token": lambda: {"GrantToken": "bm8gdG9rZW4=", "KeyId": None, "GrantId": None},
    }
    values |= changes.get(situation, dict)()
    return {k: v for k, v in values.items() if v is not None}


def elsewhere(world, scene):
    """An alias of another key in the Region of the scene, to be pointed at the scene's key."""
    name = f"alias/matrix/{uuid.uuid4()}"
    scene.kms.create_alias(AliasName=name, TargetKeyId=other_key(world, scene))
    return name


def call(client, operation, values):
    """What is said: ok, or the error as the tables have it."""
    try:
        client._make_api_call(operation, values)
    except botocore.exceptions.ClientError as e:
        error = e.response["Error"]
        return f"{error['Code']}: {error['Message']}" if error.get("Message") else error["Code"]
    return "ok"


def fits(said, want):
    if not want.endswith("…"):
        return said == want
    return said.startswith(want[:-1]) or want.endswith(": …") and said == want[:-3]


def filled(want, scene):
    return want.replace("$arn", scene.arn).replace("$region", scene.region).replace("$alias", scene.alias)


def check_state(world, operation, entry, state):
    """All checks of one operation on keys in one state: yields what went wrong."""
    cell = ROWS[entry["row"]][state]
    blocked = cell != "ok"
    found = [(None, "after", "ok")] + [(s, SITUATIONS[s]["when"], SITUATIONS[s]["error"])
             for s in dict.fromkeys(x for xs in (MATRIX["every operation"] | entry["errors"]).values() for x in xs)]
    for situation, when, error in found:
        kind = OTHER_KIND.get(situation, MISFIT[operation] if situation == "usage" else entry["key"])
        if state in NO_SUCH_KEY.get(situation, set()) | NO_SUCH_KEY.get(kind, set()) or (operation, situation, state) in NO_GRANT:
            continue
        scene = world.scenes.get(kind, state)
        if not blocked:
            fill(scene, operation, situation)
        want = filled(CODES[cell] if blocked and when == "after" else error, scene)
        values = bring_about(world, scene, operation, situation) if situation else plain(world, scene, operation)
        said = call(world.client(scene.region, nobody=situation == "no permission"), operation, values)
        world.count[operation, state] += 1
        if not fits(said, want):
            yield f"{state}, {situation or 'plain'}: said {said!r}, not {want!r}"
        if said == "ok":
            if operation in ("RetireGrant", "RevokeGrant"):
                scene.grants.pop()
            if operation in CHANGES or not scene.grants:
                world.scenes.drop(scene)
        elif scene.shown() != state:
            yield f"{state}, {situation}: the refused call made the key {scene.shown()}"
            world.scenes.drop(scene)
        if scene.made["fifty aliases"] or scene.made["25 rotations"]:
            world.scenes.drop(scene)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("operation", [o for o in OPERATIONS if "key" in OPERATIONS[o]])
def test_operation(world, tally, operation):
    wrong = [w for state in STATES for w in check_state(world, operation, OPERATIONS[operation], state)]
    tally(sum(n for (o, _), n in world.count.items() if o == operation))
    assert not wrong, f"{len(wrong)} of {operation}:\n" + "\n".join(wrong)


KEYLESS = {
    "malformed policy": {"Policy": "{}"}, "key store origin": {"Origin": "AWS_CLOUDHSM"}, "large policy": {"Policy": POLICY + " " * 33000},
    "same tag twice": {"Tags": [TAG, TAG]}, "key store": {"CustomKeyStoreId": "cks-1234567890abcdef0"}, "marker": {"Marker": "bWFya2Vy"},
    "other account": {"RetiringPrincipal": "arn:aws:iam::444455556666:root"},
}
PLAIN = {"CreateKey": {}, "GenerateRandom": {"NumberOfBytes": 8}, "ListKeys": {}, "ListRetirableGrants": {"RetiringPrincipal": ROOT}}
INVALID = {"CreateKey": {"KeySpec": "x"}, "GenerateRandom": {"NumberOfBytes": 0}, "ListKeys": {"Limit": 0}, "ListRetirableGrants": {"Limit": 0}}


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if "key" not in OPERATIONS[o]])
def test_operation_without_key(world, tally, operation):
    kms, wrong = world.client(REGION), []
    cases = [("plain", PLAIN[operation], "ok", kms), ("no permission", PLAIN[operation], "AccessDeniedException: …", world.client(REGION, nobody=True)),
             ("invalid", INVALID[operation], "ValidationException: …", kms)]
    cases += [(s, PLAIN[operation] | KEYLESS[s], SITUATIONS[s]["error"], kms) for ss in OPERATIONS[operation]["errors"].values() for s in ss]
    for name, values, want, client in cases:
        said = call(client, operation, values)
        world.count[operation, "any"] += 1
        if not fits(said, want):
            wrong.append(f"{name}: said {said!r}, not {want!r}")
    tally(len(cases))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("operation", sorted(KEY_STORES))
def test_custom_key_stores(world, operation):
    """Keys in custom key stores are not there: the answer names the operation and is no success."""
    values = {"CustomKeyStoreName": "store"} if operation == "CreateCustomKeyStore" else {"CustomKeyStoreId": "cks-1234567890abcdef0"}
    said = call(world.client(REGION), operation, values)
    world.count[operation, "any"] += 1
    assert said.startswith("UnsupportedOperationException: ") and operation in said


def test_every_declared_error_is_there():
    """Each error of the model is brought about by a situation or a state, or has a reason why no client can."""
    model = boto3.session.Session().client("kms", region_name=REGION).meta.service_model
    assert set(model.operation_names) == set(OPERATIONS) | KEY_STORES
    for operation, entry in OPERATIONS.items():
        row = ROWS.get(entry.get("row"), {})
        by_state = {CODES[c].split(":")[0] for c in row.values() if c != "ok"}
        have = set(entry["errors"]) | by_state | set(MATRIX["never"].get(operation, {})) | set(MATRIX["never, of any operation"])
        declared = {e.name for e in model.operation_model(operation).error_shapes}
        assert declared <= have, f"{operation}: nothing about {sorted(declared - have)}"
        assert not declared & set(MATRIX["never"].get(operation, {})) & (set(entry["errors"]) | by_state), f"{operation}: brought about and called impossible"
        for error, situations in entry["errors"].items():
            for s in situations:
                assert SITUATIONS[s]["error"].split(":")[0].rstrip("…") == error, (operation, s)
    assert STATE_ERRORS <= {c.split(":")[0] for c in CODES.values()}
    assert set(MATRIX["states left out"]) == {"Unavailable"}
