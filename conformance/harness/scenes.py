"""Keys in every state that a key can be in, with all that a call about them may need."""
import collections
import os
import uuid

from cryptography.hazmat.primitives.asymmetric import ec

from .material import import_material, pkcs8, spki
from .server import REGION

AWAY = "eu-west-1"  # where replicas are

# By kind: what CreateKey is told beyond origin and multi-Region, and material for a key that has its own.
KINDS = {
    "symmetric": ({}, lambda: os.urandom(32)),
    "signing": ({"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}, lambda: pkcs8(ec.generate_private_key(ec.SECP256R1()))),
    "agreement": ({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}, lambda: pkcs8(ec.generate_private_key(ec.SECP256R1()))),
    "mac": ({"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"}, lambda: os.urandom(32)),
    "kem": ({"KeySpec": "ML_KEM_768", "KeyUsage": "ENCAPSULATE_DECAPSULATE"}, None),  # cannot be imported
}
KINDS["external"] = KINDS["multi"] = KINDS["set"] = KINDS["symmetric"]
GRANTS = 4
WITH_REPLICA = ("PendingReplicaDeletion", "Creating", "Updating")


class Scene:
    """One key of a kind on its way into a state. What is made of it is made before it enters."""

    def __init__(self, clients, kind, state):
        self.clients, self.kind, self.state = clients, kind, state
        self.region = AWAY if state in ("Creating", "Updating") else REGION  # the replica, and what is the primary key then
        self.made = collections.Counter()
        self.parameters = None
        home = clients(REGION)
        values, material = KINDS[kind]
        external = kind == "external" or state == "PendingImport"
        multi = kind in ("multi", "set") or state in WITH_REPLICA
        values = values | ({"Origin": "EXTERNAL"} if external else {}) | ({"MultiRegion": True} if multi else {})
        self.home = home.create_key(**values)["KeyMetadata"]
        self.id = self.home["KeyId"]
        self.material = material() if external else None
        if external:
            import_material(home, self.id, self.material)
        self.arn = self.home["Arn"].replace(REGION, self.region)
        self.make(home)
        # Set or not, a key with replicas would be PendingReplicaDeletion.
        if (kind == "set" and state != "PendingDeletion" or state in WITH_REPLICA) and state != "Creating":
            home.replicate_key(KeyId=self.id, ReplicaRegion=AWAY)
        self.entered = False

    def make(self, home):
        """Makes what proves that a key worked once: a ciphertext, a signature, grants."""
        usage = self.home["KeyUsage"]
        if usage == "ENCRYPT_DECRYPT":
            self.blob = home.encrypt(KeyId=self.id, Plaintext=b"matrix")["CiphertextBlob"]
        elif usage == "SIGN_VERIFY":
            self.signature = home.sign(KeyId=self.id, Message=b"matrix", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
        elif usage == "GENERATE_VERIFY_MAC":
            self.mac = home.generate_mac(KeyId=self.id, Message=b"matrix", MacAlgorithm="HMAC_SHA_256")["Mac"]
        elif usage == "KEY_AGREEMENT":
            self.peer = spki(ec.generate_private_key(ec.SECP256R1()).public_key())
        else:
            self.encapsulated = home.encapsulate(KeyId=self.id, EncapsulationAlgorithm="ML_KEM")["SharedSecretCiphertextBlob"]
        operation = {"SIGN_VERIFY": "Sign", "GENERATE_VERIFY_MAC": "GenerateMac", "KEY_AGREEMENT": "DeriveSharedSecret",
                     "ENCAPSULATE_DECAPSULATE": "Encapsulate"}.get(usage, "Encrypt")
        self.grant = {"KeyId": self.id, "GranteePrincipal": f"arn:aws:iam::{self.home['AWSAccountId']}:root", "Operations": [operation]}
        self.grants = [home.create_grant(**self.grant)["GrantId"] for _ in range(GRANTS)]

    @property
    def kms(self):
        return self.clients(self.region)

    def enter(self):
        """Brings the key into its state and gives it an alias there. Updating and sets need replicas that are ready."""
        home = self.clients(REGION)
        if self.state == "Disabled":
            home.disable_key(KeyId=self.id)
        elif self.state == "PendingImport":
            home.delete_imported_key_material(KeyId=self.id)
        elif self.state == "Creating":
            home.replicate_key(KeyId=self.id, ReplicaRegion=AWAY)
        elif self.state == "Updating":
            if self.material:
                import_material(self.kms, self.id, self.material)
                # To be used while the key is updating, which gives none.
                self.parameters = self.kms.get_parameters_for_import(KeyId=self.id, WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")
            self.grants = [self.kms.create_grant(**self.grant)["GrantId"] for _ in range(GRANTS)]  # each key has its own
            home.update_primary_region(KeyId=self.id, PrimaryRegion=AWAY)
        self.alias = f"alias/matrix/{uuid.uuid4()}"
        self.kms.create_alias(AliasName=self.alias, TargetKeyId=self.id)  # a key that waits for its deletion takes none
        if self.state in ("PendingDeletion", "PendingReplicaDeletion"):
            home.schedule_key_deletion(KeyId=self.id, PendingWindowInDays=7)
        self.entered = True
        assert self.shown() == self.state, (self.kind, self.state, self.shown())
        return self

    def shown(self):
        return self.kms.describe_key(KeyId=self.id)["KeyMetadata"]["KeyState"]


class Scenes:
    """Scenes to use until a call has changed something. Those with replicas that must be ready are made at once, before
    the server is started again, and last as long as there are some."""

    def __init__(self, clients):
        self.clients = clients
        self.open = {}
        self.ready = collections.defaultdict(list)

    def prepare(self, kind, state, count):
        for _ in range(count):
            self.ready[kind, state].append(Scene(self.clients, kind, state))

    def get(self, kind, state):
        if (kind, state) not in self.open:
            pool = self.ready[kind, state]
            needs = state == "Updating" or kind == "set" and state != "Creating"
            assert pool or not needs, f"prepare more scenes of {kind} {state}"
            self.open[kind, state] = (pool.pop() if pool else Scene(self.clients, kind, state)).enter()
        return self.open[kind, state]

    def drop(self, scene):
        if self.open.get((scene.kind, scene.state)) is scene:
            del self.open[scene.kind, scene.state]
