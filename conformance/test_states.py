"""Every operation on a key in every state that a key can be in, against data/key_states.json."""
import base64
import json
import pathlib
import uuid

import pytest

MATRIX = json.loads((pathlib.Path(__file__).parent / "data/key_states.json").read_text())
del MATRIX["about"]

CASES = [(name, state, want) for name, row in MATRIX.items() for state, want in row.items()]


class Scene:
    """A key with a ciphertext and an alias, and a second key, before the first is brought into a state."""

    def __init__(self, wire, ledger):
        self.wire = wire
        metadata, other = (wire.ok("CreateKey")["KeyMetadata"] for _ in range(2))
        self.id, self.arn, self.other = metadata["KeyId"], metadata["Arn"], other["KeyId"]
        self.alias, self.other_alias = (f"alias/state/{uuid.uuid4()}" for _ in range(2))
        wire.ok("CreateAlias", AliasName=self.alias, TargetKeyId=self.id)
        wire.ok("CreateAlias", AliasName=self.other_alias, TargetKeyId=self.other)
        self.plaintext = base64.b64encode(ledger.fresh_plaintext()).decode()
        self.blob = wire.ok("Encrypt", KeyId=self.id, Plaintext=self.plaintext)["CiphertextBlob"]
        self.other_blob = wire.ok("Encrypt", KeyId=self.other, Plaintext=self.plaintext)["CiphertextBlob"]

    def enter(self, state):
        if state == "Disabled":
            self.wire.ok("DisableKey", KeyId=self.id)
        if state == "PendingDeletion":
            self.wire.ok("ScheduleKeyDeletion", KeyId=self.id)
        assert self.state() == state

    def state(self):
        return self.wire.ok("DescribeKey", KeyId=self.id)["KeyMetadata"]["KeyState"]

    def input(self, name):
        policy = self.wire.ok("GetKeyPolicy", KeyId=self.id)["Policy"] if name == "PutKeyPolicy" else None
        return {
            "CreateAlias": {"AliasName": f"alias/state/{uuid.uuid4()}", "TargetKeyId": self.id},
            "Decrypt": {"CiphertextBlob": self.blob},
            "Decrypt naming the key": {"KeyId": self.id, "CiphertextBlob": self.blob},
            "DeleteAlias": {"AliasName": self.alias},
            "Encrypt": {"KeyId": self.id, "Plaintext": self.plaintext},
            "Encrypt through an alias": {"KeyId": self.alias, "Plaintext": self.plaintext},
            "GenerateDataKey": {"KeyId": self.id, "KeySpec": "AES_256"},
            "GenerateDataKeyWithoutPlaintext": {"KeyId": self.id, "NumberOfBytes": 64},
            "ListKeys": {},
            "PutKeyPolicy": {"KeyId": self.id, "Policy": policy},
            "ReEncrypt": {"CiphertextBlob": self.blob, "DestinationKeyId": self.other},
            "ReEncrypt, source": {"CiphertextBlob": self.blob, "DestinationKeyId": self.other},
            "ReEncrypt, destination": {"CiphertextBlob": self.other_blob, "DestinationKeyId": self.id},
            "TagResource": {"KeyId": self.id, "Tags": [{"TagKey": "a", "TagValue": "b"}]},
            "UntagResource": {"KeyId": self.id, "TagKeys": ["a"]},
            "UpdateAlias, source": {"AliasName": self.alias, "TargetKeyId": self.other},
            "UpdateAlias, destination": {"AliasName": self.other_alias, "TargetKeyId": self.id},
            "UpdateKeyDescription": {"KeyId": self.id, "Description": "changed"},
        }.get(name, {"KeyId": self.id})


@pytest.mark.parametrize("name,state,want", CASES, ids=[f"{n} {s}" for n, s, _ in CASES])
def test_state(wire, ledger, name, state, want):
    scene = Scene(wire, ledger)
    scene.enter(state)
    values = scene.input(name.removesuffix(", dry run"))
    if name.endswith(", dry run"):
        values["DryRun"] = True
    answer = wire.call(name.split(",")[0].split(" ")[0], values)
    if want == "ok":
        assert answer.status == 200, answer.error
        return
    assert answer.status == 400
    assert answer.error == {
        "disabled": f"DisabledException: {scene.arn} is disabled.",
        "pending": f"KMSInvalidStateException: {scene.arn} is pending deletion.",
        "restored": f"KMSInvalidStateException: {scene.arn} is not pending deletion.",
        "dry": "DryRunOperationException: The request would have succeeded, but the DryRun option is set.",
    }[want]
    assert scene.state() == state, "a refused operation changed the state"


def test_ways_between_states(wire, new_key):
    key = new_key()["KeyId"]

    def shows(state):
        metadata = wire.ok("DescribeKey", KeyId=key)["KeyMetadata"]
        return metadata["KeyState"] == state and metadata["Enabled"] == (state == "Enabled") and \
            ("DeletionDate" in metadata) == (state == "PendingDeletion")

    assert shows("Enabled")
    wire.ok("DisableKey", KeyId=key)
    assert shows("Disabled")
    wire.ok("EnableKey", KeyId=key)
    assert shows("Enabled")
    wire.ok("EnableKeyRotation", KeyId=key)
    wire.ok("ScheduleKeyDeletion", KeyId=key, PendingWindowInDays=7)
    assert shows("PendingDeletion")
    assert not wire.ok("GetKeyRotationStatus", KeyId=key)["KeyRotationEnabled"], "rotation shows as off until it is cancelled"
    wire.ok("CancelKeyDeletion", KeyId=key)
    assert shows("Disabled")
    assert wire.ok("GetKeyRotationStatus", KeyId=key)["KeyRotationEnabled"]
