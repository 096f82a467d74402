"""What the record of each operation of KMS may show, as CloudTrail's and KMS's documentation and real records have it."""

SERVICE_EVENTS = {
    "RotateKey": {"rotationType", "keyOrigin", "previousKeyMaterialId", "currentKeyMaterialId", "keyId"}, "DeleteKey": None,
    "DeleteExpiredKeyMaterial": {"keyId", "keyMaterialId"}, "SynchronizeMultiRegionKey": None}

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


def op(read_only, required="", optional="", response=None, additional=""):
    return {"read_only": read_only, "required": set(required.split()), "optional": set(optional.split()), "response": response, "additional": set(additional.split())}


def use(required, optional="", material="keyMaterialId"):
    """A cryptographic operation."""
    return op(True, required, optional + " dryRun", None, material + " recipient")


OPERATIONS = {
    "CreateKey": op(False, "description keyUsage origin keySpec customerMasterKeySpec bypassPolicyLockoutSafetyCheck", "multiRegion policy tags customKeyStoreId xksKeyId", {"keyMetadata"}),
    "ReplicateKey": op(False, "keyId replicaRegion bypassPolicyLockoutSafetyCheck description", "policy tags", {"replicaKeyMetadata", "replicaPolicy"}),
    "UpdatePrimaryRegion": op(False, "keyId primaryRegion"),
    "CreateAlias": op(False, "aliasName targetKeyId", "", KEY), "UpdateAlias": op(False, "aliasName targetKeyId", "", KEY), "DeleteAlias": op(False, "aliasName", "", KEY),
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
    "Encrypt": use("keyId encryptionAlgorithm", "encryptionContext"), "Decrypt": use("encryptionAlgorithm", "keyId encryptionContext"),
    "ReEncrypt": use("sourceEncryptionAlgorithm destinationKeyId destinationEncryptionAlgorithm", "sourceKeyId sourceEncryptionContext destinationEncryptionContext",
                     "sourceKeyMaterialId destinationKeyMaterialId"),
    "GenerateDataKey": use("keyId", "keySpec numberOfBytes encryptionContext"), "GenerateDataKeyWithoutPlaintext": use("keyId", "keySpec numberOfBytes encryptionContext"),
    "GenerateDataKeyPair": use("keyId keyPairSpec", "encryptionContext"), "GenerateDataKeyPairWithoutPlaintext": use("keyId keyPairSpec", "encryptionContext"),
    "Sign": use("keyId messageType signingAlgorithm"), "Verify": use("keyId messageType signingAlgorithm"),
    "GenerateMac": use("keyId macAlgorithm"), "VerifyMac": use("keyId macAlgorithm"), "GenerateRandom": op(True, additional="recipient"),
    "DeriveSharedSecret": use("keyId keyAgreementAlgorithm"), "Encapsulate": use("keyId encapsulationAlgorithm"), "Decapsulate": use("keyId encapsulationAlgorithm"),
    **{name: op(True, "keyId", "limit marker") for name in ("ListKeyPolicies", "ListResourceTags")},
    "ListKeyRotations": op(True, "keyId", "includeKeyMaterial limit marker"),
    **{name: op(True, "keyId") for name in ("DescribeKey", "GetPublicKey", "GetKeyRotationStatus", "GetKeyLastUsage")},
    "GetKeyPolicy": op(True, "keyId policyName"), "ListAliases": op(True, "", "keyId limit marker"), "ListKeys": op(True, "", "limit marker"),
    "ListGrants": op(True, "keyId", "marker limit grantId granteePrincipal granteeServicePrincipal"),
    "ListRetirableGrants": op(True, "", "retiringPrincipal retiringServicePrincipal limit marker"),
}


def faults(record):
    """What is wrong with a record: texts, none for one that is as documented."""
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
    if event:
        want(set(who) == {"accountId", "invokedBy"} and who["invokedBy"] == "AWS Internal", f"identity {who}")
        want("requestID" not in record and record["eventName"] in SERVICE_EVENTS | {"CreateKey": None}, "a service event of another kind")
        details = SERVICE_EVENTS.get(record["eventName"])
        want(set(record.get("serviceEventDetails", {})) <= (details or set()), f"details {record.get('serviceEventDetails')}")
        return found
    always, others = IDENTITIES.get(who.get("type"), (set(), set()))
    want(who.get("type") in IDENTITIES and always <= set(who) - {"type"} <= always | others, f"identity {who}")
    want("requestID" in record and record["eventType"] == "AwsApiCall", "no call")
    want("errorMessage" not in record or "errorCode" in record, "a message without a code")
    if record.get("errorCode") == "AccessDenied":
        want(record["requestParameters"] is None and record["responseElements"] is None and "resources" not in record, "shows what was denied")
    row = OPERATIONS.get(record["eventName"]) if record["eventSource"] == "kms.amazonaws.com" else None
    if row is None:
        return found
    shown, given = set(record["requestParameters"] or {}), row["required"] | row["optional"]
    want(shown <= given, f"parameters {sorted(shown - given)}")
    want(set(record.get("additionalEventData") or {}) <= row["additional"], f"additional {record.get('additionalEventData')}")
    if "errorCode" in record:
        want(record["responseElements"] is None, "a response to a call that failed")
        return found
    want(record["readOnly"] is row["read_only"], "readOnly")
    by_service = who.get("invokedBy") == "kms.amazonaws.com"  # what a call did in another Region
    want(by_service or row["required"] <= shown, f"lacks the parameters {sorted(row['required'] - shown)}")
    answer = record["responseElements"]
    wanted = row["response"]
    if record["eventName"] == "ScheduleKeyDeletion" and answer and answer.get("keyState") == "PendingReplicaDeletion":
        wanted = wanted - {"deletionDate"}
    want(by_service or (set(answer) if answer else None) == wanted, f"response {answer}")
    want(all(list(r) == ["accountId", "type", "ARN"] and r["type"] == "AWS::KMS::Key" for r in record.get("resources", [])), "resources")
    return found
