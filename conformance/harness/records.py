"""What the record of each operation shows, as CloudTrail's and KMS's documentation and real records have it."""
import collections

from .rows import SERVICES, strangers

# The events that no call made: their details, and how many resources. The last three are those of the control endpoint of keywright dev.
SERVICE_EVENTS = {
    "CreateKey": (set(), 1), "RotateKey": ({"rotationType", "keyOrigin", "previousKeyMaterialId", "currentKeyMaterialId", "keyId"}, 1), "DeleteKey": (set(), 1),
    "DeleteExpiredKeyMaterial": ({"keyId", "keyMaterialId"}, 1), "SynchronizeMultiRegionKey": (set(), 1),
    "SeedKey": ({"keyId", "aliases", "changed"}, 1), "SetClock": ({"time"}, 0), "ResetServer": (set(), 0)}
TLS = {"tlsVersion", "cipherSuite", "clientProvidedHostHeader", "keyExchange"}

FRAME = ["eventVersion", "userIdentity", "eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress", "userAgent", "errorCode", "errorMessage", "requestParameters",
         "responseElements", "additionalEventData", "requestID", "eventID", "readOnly", "resources", "eventType", "managementEvent", "recipientAccountId", "serviceEventDetails",
         "sharedEventID", "eventCategory", "tlsDetails"]
ALWAYS = set(FRAME) - {"errorCode", "errorMessage", "additionalEventData", "requestID", "resources", "serviceEventDetails", "sharedEventID", "tlsDetails"}

IDENTITIES = {  # members by type: those that are always there, and others
    "Root": ({"principalId", "arn", "accountId", "accessKeyId"}, {"sessionContext", "invokedBy"}),
    "IAMUser": ({"principalId", "arn", "accountId", "userName"}, {"accessKeyId", "sessionContext", "invokedBy"}),
    "AssumedRole": ({"principalId", "arn", "accountId", "sessionContext"}, {"accessKeyId", "invokedBy"}),
    "FederatedUser": ({"principalId", "arn", "accountId", "accessKeyId", "sessionContext"}, {"invokedBy"}),
    "WebIdentityUser": ({"principalId", "userName", "identityProvider"}, set()),
    "AWSAccount": ({"principalId", "accountId"}, {"invokedBy"}),
    "AWSService": ({"invokedBy"}, set()),
    "Unknown": (set(), {"accessKeyId"}),
}

KEY, BOTH = {"keyId"}, {"keyId", "keyMaterialId"}


def op(read_only, required="", optional="", response=None, additional="", resources=1):
    """additional is what is there whenever the call succeeds."""
    return {"read_only": read_only, "required": set(required.split()), "optional": set(optional.split()), "response": response, "additional": set(additional.split()),
            "resources": resources}


def use(required, optional="", material="", resources=1):
    """A cryptographic operation."""
    return op(True, required, optional + " dryRun", None, material, resources)


SYMMETRIC = "SYMMETRIC_DEFAULT"
RECIPIENTS = {"Decrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom", "DeriveSharedSecret"}


def materials(record, row):
    """What additionalEventData must have: the ids of the material of symmetric keys, which the algorithms in the record tell from others."""
    shown = record["requestParameters"] or {}
    if record["eventName"] == "ReEncrypt":
        return {f"{side}KeyMaterialId" for side in ("source", "destination") if shown.get(f"{side}EncryptionAlgorithm") == SYMMETRIC}
    if record["eventName"] in ("Encrypt", "Decrypt"):
        return row["additional"] if shown.get("encryptionAlgorithm") == SYMMETRIC else set()
    return row["additional"]


OPERATIONS = {
    "CreateKey": op(False, "description keyUsage origin keySpec customerMasterKeySpec bypassPolicyLockoutSafetyCheck", "multiRegion policy tags customKeyStoreId xksKeyId", {"keyMetadata"}),
    "ReplicateKey": op(False, "keyId replicaRegion bypassPolicyLockoutSafetyCheck description", "policy tags", {"replicaKeyMetadata", "replicaPolicy"}),
    "UpdatePrimaryRegion": op(False, "keyId primaryRegion"),  # its record in the other Region has no resources
    **{name: op(False, "aliasName targetKeyId", "", KEY, resources=2) for name in ("CreateAlias", "UpdateAlias")}, "DeleteAlias": op(False, "aliasName", "", KEY, resources=2),
    "EnableKey": op(False, "keyId", "", KEY), "DisableKey": op(False, "keyId", "", KEY), "DisableKeyRotation": op(False, "keyId", "", KEY),
    "CancelKeyDeletion": op(False, "keyId", "", KEY), "EnableKeyRotation": op(False, "keyId", "rotationPeriodInDays", KEY), "RotateKeyOnDemand": op(False, "keyId", "", KEY),
    "ScheduleKeyDeletion": op(False, "keyId pendingWindowInDays", "", {"keyId", "keyState", "deletionDate", "pendingWindowInDays"}),
    "UpdateKeyDescription": op(False, "keyId description", "", KEY), "PutKeyPolicy": op(False, "keyId policyName policy bypassPolicyLockoutSafetyCheck", "", KEY),
    "TagResource": op(False, "keyId tags", "", KEY), "UntagResource": op(False, "keyId tagKeys", "", KEY),
    "CreateGrant": op(False, "keyId operations", "granteePrincipal granteeServicePrincipal retiringPrincipal retiringServicePrincipal constraints name dryRun", {"grantId", "keyId"}),
    "RevokeGrant": op(False, "keyId grantId", "dryRun", KEY), "RetireGrant": op(False, "", "dryRun", KEY, "grantId"),
    "GetParametersForImport": op(True, "keyId wrappingAlgorithm wrappingKeySpec"),
    "ImportKeyMaterial": op(False, "keyId expirationModel", "importType validTo keyMaterialDescription keyMaterialId", BOTH),
    "DeleteImportedKeyMaterial": op(False, "keyId", "keyMaterialId", BOTH),
    "Encrypt": use("keyId encryptionAlgorithm", "encryptionContext", "keyMaterialId"), "Decrypt": use("encryptionAlgorithm", "keyId encryptionContext", "keyMaterialId"),
    "ReEncrypt": use("sourceEncryptionAlgorithm destinationKeyId destinationEncryptionAlgorithm", "sourceKeyId sourceEncryptionContext destinationEncryptionContext",
                     "sourceKeyMaterialId destinationKeyMaterialId", 2),  # one if it is the same key
    **{name: use("keyId", "keySpec numberOfBytes encryptionContext", "keyMaterialId") for name in ("GenerateDataKey", "GenerateDataKeyWithoutPlaintext")},
    **{name: use("keyId keyPairSpec", "encryptionContext", "keyMaterialId") for name in ("GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext")},
    "Sign": use("keyId messageType signingAlgorithm"), "Verify": use("keyId messageType signingAlgorithm"),
    "GenerateMac": use("keyId macAlgorithm"), "VerifyMac": use("keyId macAlgorithm"), "GenerateRandom": op(True, resources=0),
    "DeriveSharedSecret": use("keyId keyAgreementAlgorithm"), "Encapsulate": use("keyId encapsulationAlgorithm"), "Decapsulate": use("keyId encapsulationAlgorithm"),
    **{name: op(True, "keyId", "limit marker") for name in ("ListKeyPolicies", "ListResourceTags")},
    "ListKeyRotations": op(True, "keyId", "includeKeyMaterial limit marker"),
    **{name: op(True, "keyId") for name in ("DescribeKey", "GetPublicKey", "GetKeyRotationStatus", "GetKeyLastUsage")},
    "GetKeyPolicy": op(True, "keyId policyName"), "ListAliases": op(True, "", "keyId limit marker", resources=0), "ListKeys": op(True, "", "limit marker", resources=0),
    "ListGrants": op(True, "keyId", "marker limit grantId granteePrincipal granteeServicePrincipal"),
    "ListRetirableGrants": op(True, "", "retiringPrincipal retiringServicePrincipal limit marker", resources=0),
}


def faults(record, tls=False):
    """What is wrong with a record of a server that has TLS or not: texts, none for one that is as documented."""
    found = []

    def want(holds, text):
        if not holds:
            found.append(text)

    want([m for m in FRAME if m in record] == list(record), f"members {list(record)}")
    want(ALWAYS <= set(record), f"lacks {ALWAYS - set(record)}")
    who, event = record["userIdentity"], record["eventType"] == "AwsServiceEvent"
    if record["eventSource"] == "administration.keywright":
        want(event and set(who) == {"type", "accountId", "invokedBy"}, f"identity {who}")
        return found
    want(all(found_in(r, record) for r in record.get("resources", [])), f"resources {record.get('resources')}")
    if event:
        want(set(who) == {"accountId", "invokedBy"} and who["invokedBy"] == "AWS Internal", f"identity {who}")
        want("requestID" not in record and "tlsDetails" not in record and record["eventName"] in SERVICE_EVENTS, "a service event of another kind")
        details, resources = SERVICE_EVENTS.get(record["eventName"], (set(), 0))
        want(set(record.get("serviceEventDetails", {})) == details, f"details {record.get('serviceEventDetails')}")
        want(len(record.get("resources", [])) == resources, f"resources {record.get('resources')}")
        return found
    always, others = IDENTITIES.get(who.get("type"), (set(), set()))
    want(who.get("type") in IDENTITIES and always <= set(who) - {"type"} <= always | others, f"identity {who}")
    want("requestID" in record and record["eventType"] == "AwsApiCall" and "serviceEventDetails" not in record, "no call")
    want("errorMessage" not in record or "errorCode" in record, "a message without a code")
    by_service = who.get("invokedBy") == "kms.amazonaws.com"  # what a call did in another Region
    shown_tls = set(record.get("tlsDetails", {}))
    want(TLS - {"keyExchange"} <= shown_tls <= TLS if tls and "invokedBy" not in who else not shown_tls, f"tlsDetails {record.get('tlsDetails')}")
    copy = who.get("type") == "AWSAccount" and who["accountId"] != record["recipientAccountId"]  # the key owner's
    want("sharedEventID" in record or not copy, "a copy that nothing joins to its like")
    want(not strangers({k: v for k in ("requestParameters", "responseElements", "additionalEventData") for k, v in (record.get(k) or {}).items()}),
         f"members of members: {strangers(record['requestParameters'] or {})} {strangers(record['responseElements'] or {})}")
    if record.get("errorCode") == "AccessDenied":
        want(record["requestParameters"] is None and "resources" not in record and "additionalEventData" not in record, "shows what was denied")
    if "errorCode" in record:
        want(record["responseElements"] is None, "a response to a call that failed")
    if record["eventSource"] == "kms.amazonaws.com":
        of_kms(record, by_service, want)
    else:
        of_others(record, want)
    return found


def found_in(resource, record):
    """Whether a resource is where the record says: of the account and Region that its ARN names."""
    if list(resource) != ["accountId", "type", "ARN"]:
        return False
    _, _, service, region, account, name = resource["ARN"].split(":", 5)
    kind, region_holds = {"kms": ("AWS::KMS::Key", region == record["awsRegion"]), "iam": ("AWS::IAM::Role", region == "" and name.startswith("role/"))}[service]
    return resource["type"] == kind and account == resource["accountId"] and region_holds


def of_kms(record, by_service, want):
    row = OPERATIONS.get(record["eventName"])
    if row is None:
        want("errorCode" in record, "an operation that there is not")
        return
    shown, given, resources = set(record["requestParameters"] or {}), row["required"] | row["optional"], [r["ARN"] for r in record.get("resources", [])]
    want(shown <= given, f"parameters {sorted(shown - given)}")
    additional, recipient = set(record.get("additionalEventData") or {}), {"recipient"} if record["eventName"] in RECIPIENTS else set()
    want(additional <= row["additional"] | recipient, f"additional {record.get('additionalEventData')}")
    want(len(resources) <= row["resources"], f"resources {resources}")
    if "errorCode" in record:
        return
    want(record["readOnly"] is row["read_only"], "readOnly")
    want(by_service or row["required"] <= shown, f"lacks the parameters {sorted(row['required'] - shown)}")
    want(additional - recipient == materials(record, row), f"additional {record.get('additionalEventData')}")
    answer, wanted = record["responseElements"], row["response"]
    if record["eventName"] == "ScheduleKeyDeletion" and answer and answer.get("keyState") == "PendingReplicaDeletion":
        wanted = wanted - {"deletionDate"}
    want(by_service or (set(answer) if answer else None) == wanted, f"response {answer}")
    if by_service:
        want(len(resources) == (record["eventName"] == "CreateKey"), f"resources {resources}")
        return
    want(len(set(resources)) == row["resources"] or record["eventName"] == "ReEncrypt" and len(resources) == 1, f"resources {resources}")
    key = (answer or {}).get("keyId") or (record["requestParameters"] or {}).get("keyId", "")
    if row["resources"] and "alias/" not in key:
        want(any(arn == key or arn.endswith("/" + key) or not key for arn in resources), f"resources {resources} of {key}")


def of_others(record, want):
    row = SERVICES.get(record["eventSource"], {}).get(record["eventName"])
    if row is None:
        want("errorCode" in record and record["requestParameters"] is None, "an operation that there is not")
        return
    shown, answered = set(record["requestParameters"] or {}), set(record["responseElements"] or {})
    want(shown <= row["required"] | row["optional"], f"parameters {sorted(shown - row['required'] - row['optional'])}")
    want("additionalEventData" not in record, f"additional {record.get('additionalEventData')}")
    if "errorCode" in record:
        return
    want(record["readOnly"] is row["read_only"], "readOnly")
    want(row["required"] <= shown, f"lacks the parameters {sorted(row['required'] - shown)}")
    want(row["answer_required"] <= answered <= row["answer"], f"response {record['responseElements']}")
    want(len(record.get("resources", [])) == row["resources"], f"resources {record.get('resources')}")


def strays(records):
    """Records with a sharedEventID that is not in two or three of the same call, each in another account's trail, one of them the caller's."""
    shared = collections.defaultdict(list)
    for record in records:
        if "sharedEventID" in record:
            shared[record["sharedEventID"]].append(record)
    return [found for found in shared.values() if not (
        len(found) in (2, 3) and len({r["requestID"] for r in found}) == 1 and len({r["recipientAccountId"] for r in found}) == len(found)
        and len({r["eventID"] for r in found}) == len(found) and sum(r["userIdentity"].get("type") != "AWSAccount" for r in found) == 1)]
