"""What the records of operations other than those of KMS may show, by the service and the operation. An operation that has no row has no
record of a success; a member that has none has no place in a record, whatever it is called."""


def row(required="", optional="", answer="", resources=0, read_only=False):
    """Members of requestParameters that are always there, others, members of responseElements (* for those that are not always there), None for no
    answer; and how many resources."""
    words = answer.split()
    return {"read_only": read_only, "required": set(required.split()), "optional": set(optional.split()), "answer": {w.strip("*") for w in words},
            "answer_required": {w for w in words if not w.startswith("*")}, "resources": resources}


def read(required="", optional=""):
    return row(required, optional, read_only=True)


def listing(required="", optional=""):
    return read(required, optional + " marker maxItems")


USER, ROLE, GROUP, POLICY = "userName", "roleName", "groupName", "policyArn"
PROVIDER = "openIDConnectProviderArn"
HOLDERS = {"User": USER, "Role": ROLE, "Group": GROUP}
TAGGED = {"User": USER, "Role": ROLE, "Policy": POLICY, "OpenIDConnectProvider": PROVIDER}

IAM = {
    "AddClientIDToOpenIDConnectProvider": row(f"{PROVIDER} clientID"), "RemoveClientIDFromOpenIDConnectProvider": row(f"{PROVIDER} clientID"),
    "AddUserToGroup": row("groupName userName"), "RemoveUserFromGroup": row("groupName userName"),
    "ChangePassword": row(),
    "CreateAccessKey": row("", USER, "accessKey"), "DeleteAccessKey": row("accessKeyId", USER), "UpdateAccessKey": row("accessKeyId status", USER),
    "CreateAccountAlias": row("accountAlias"), "DeleteAccountAlias": row("accountAlias"),
    "CreateGroup": row(GROUP, "path", "group"), "DeleteGroup": row(GROUP), "UpdateGroup": row(GROUP, "newPath newGroupName"),
    "CreateLoginProfile": row("", "userName passwordResetRequired", "loginProfile"), "DeleteLoginProfile": row("", USER),
    "UpdateLoginProfile": row(USER, "passwordResetRequired"),
    "CreateOpenIDConnectProvider": row("url", "clientIDList thumbprintList tags", f"{PROVIDER} *tags"), "DeleteOpenIDConnectProvider": row(PROVIDER),
    "UpdateOpenIDConnectProviderThumbprint": row(f"{PROVIDER} thumbprintList"),
    "CreatePolicy": row("policyName policyDocument", "path description tags", "policy"), "DeletePolicy": row(POLICY),
    "CreatePolicyVersion": row("policyArn policyDocument", "setAsDefault", "policyVersion"), "DeletePolicyVersion": row("policyArn versionId"),
    "SetDefaultPolicyVersion": row("policyArn versionId"),
    "CreateRole": row("roleName assumeRolePolicyDocument", "path description maxSessionDuration permissionsBoundary tags", "role"), "DeleteRole": row(ROLE),
    "UpdateRole": row(ROLE, "description maxSessionDuration"), "UpdateRoleDescription": row("roleName description", "", "role"),
    "UpdateAssumeRolePolicy": row("roleName policyDocument"),
    "CreateUser": row(USER, "path permissionsBoundary tags", "user"), "DeleteUser": row(USER), "UpdateUser": row(USER, "newPath newUserName"),
    "DeleteRolePermissionsBoundary": row(ROLE), "DeleteUserPermissionsBoundary": row(USER),
    "PutRolePermissionsBoundary": row("roleName permissionsBoundary"), "PutUserPermissionsBoundary": row("userName permissionsBoundary"),
    **{f"Attach{kind}Policy": row(f"{name} policyArn") for kind, name in HOLDERS.items()},
    **{f"Detach{kind}Policy": row(f"{name} policyArn") for kind, name in HOLDERS.items()},
    **{f"Put{kind}Policy": row(f"{name} policyName policyDocument") for kind, name in HOLDERS.items()},
    **{f"Delete{kind}Policy": row(f"{name} policyName") for kind, name in HOLDERS.items()},
    **{f"Get{kind}Policy": read(f"{name} policyName") for kind, name in HOLDERS.items()},
    **{f"List{kind}Policies": listing(name) for kind, name in HOLDERS.items()},
    **{f"ListAttached{kind}Policies": listing(name, "pathPrefix") for kind, name in HOLDERS.items()},
    **{f"Tag{kind}": row(f"{name} tags") for kind, name in TAGGED.items()},
    **{f"Untag{kind}": row(f"{name} tagKeys") for kind, name in TAGGED.items()},
    **{f"List{kind}Tags": listing(name) for kind, name in TAGGED.items()},
    "GetAccessKeyLastUsed": read("accessKeyId"), "GetAccountPasswordPolicy": read(), "GetAccountSummary": read(),
    "GetContextKeysForCustomPolicy": read("policyInputList"), "GetContextKeysForPrincipalPolicy": read("policySourceArn", "policyInputList"),
    "GetGroup": listing(GROUP), "GetLoginProfile": read("", USER), "GetOpenIDConnectProvider": read(PROVIDER), "GetPolicy": read(POLICY),
    "GetPolicyVersion": read("policyArn versionId"), "GetRole": read(ROLE), "GetUser": read("", USER),
    "ListAccessKeys": listing("", USER), "ListAccountAliases": listing(), "ListEntitiesForPolicy": listing(POLICY, "entityFilter pathPrefix policyUsageFilter"),
    "ListGroups": listing("", "pathPrefix"), "ListRoles": listing("", "pathPrefix"), "ListUsers": listing("", "pathPrefix"), "ListGroupsForUser": listing(USER),
    "ListInstanceProfilesForRole": listing(ROLE), "ListMFADevices": listing("", USER), "ListOpenIDConnectProviders": read(),
    "ListPolicies": listing("", "scope onlyAttached pathPrefix policyUsageFilter"), "ListPolicyVersions": listing(POLICY), "ListSSHPublicKeys": listing("", USER),
    "ListServiceSpecificCredentials": listing("", "userName serviceName allUsers"), "ListSigningCertificates": listing("", USER),
    "ListVirtualMFADevices": listing("", "assignmentStatus"),
    **{f"Simulate{kind}Policy": listing(f"{given} actionNames", "policyInputList permissionsBoundaryPolicyInputList orderedOrganizationPolicyInputList policyExclusionList resourceArns "
                                        "resourcePolicy resourceOwner callerArn contextEntries resourceHandlingOption")
       for kind, given in (("Custom", "policyInputList"), ("Principal", "policySourceArn"))},
}

LIMITS = "durationSeconds policy policyArns tags transitiveTagKeys"
STS = {
    "AssumeRole": row("roleArn roleSessionName", f"{LIMITS} externalId sourceIdentity", "credentials assumedRoleUser *packedPolicySize *sourceIdentity", 1, True),
    "AssumeRoleWithWebIdentity": row("roleArn roleSessionName", f"{LIMITS} providerId",
                                     "subjectFromWebIdentityToken credentials assumedRoleUser *packedPolicySize provider audience *sourceIdentity", 1, True),
    "DecodeAuthorizationMessage": read(), "GetAccessKeyInfo": read("accessKeyId"), "GetCallerIdentity": read(),
    "GetFederationToken": row("name", LIMITS, "credentials federatedUser *packedPolicySize", 0, True),
    "GetSessionToken": row("", "durationSeconds", "credentials", 0, True),
}

TIMES = "startTime endTime"
CLOUDTRAIL = {"LookupEvents": read("", f"lookupAttributes {TIMES} eventCategory maxResults"), "ListPublicKeys": read("", TIMES)}

PAGE = "maxResults nextToken"
QUOTAS = {
    "GetAWSDefaultServiceQuota": read("serviceCode quotaCode"), "GetServiceQuota": read("serviceCode quotaCode", "contextId"),
    "GetRequestedServiceQuotaChange": read("requestId"), "ListAWSDefaultServiceQuotas": read("serviceCode", PAGE), "ListServices": read("", PAGE),
    "ListRequestedServiceQuotaChangeHistory": read("", f"serviceCode status {PAGE}"),
    "ListRequestedServiceQuotaChangeHistoryByQuota": read("serviceCode quotaCode", f"status {PAGE}"), "ListServiceQuotas": read("serviceCode", f"quotaCode {PAGE}"),
    "RequestServiceQuotaIncrease": row("serviceCode quotaCode desiredValue", "contextId supportCaseAllowed", "requestedQuota"),
}

SERVICES = {"iam.amazonaws.com": IAM, "sts.amazonaws.com": STS, "cloudtrail.amazonaws.com": CLOUDTRAIL, "servicequotas.amazonaws.com": QUOTAS}

KEY_METADATA = ("aWSAccountId keyId arn creationDate enabled description keyUsage keyState deletionDate validTo origin customKeyStoreId cloudHsmClusterId expirationModel keyManager "
                "customerMasterKeySpec keySpec encryptionAlgorithms signingAlgorithms keyAgreementAlgorithms encapsulationAlgorithms macAlgorithms multiRegion "
                "multiRegionConfiguration pendingDeletionWindowInDays currentKeyMaterialId")
BOUNDARY, TAG = "permissionsBoundaryType permissionsBoundaryArn", "key value tagKey tagValue"

# What is inside of members that have members. What clients name themselves is None.
INSIDE = {name: members and set(members.split()) for name, members in {
    "keyMetadata": KEY_METADATA, "replicaKeyMetadata": KEY_METADATA, "multiRegionConfiguration": "multiRegionKeyType primaryKey replicaKeys", "primaryKey": "arn region",
    "replicaKeys": "arn region", "tags": TAG, "constraints": "encryptionContextSubset encryptionContextEquals sourceArn",
    **dict.fromkeys(("encryptionContext", "sourceEncryptionContext", "destinationEncryptionContext", "encryptionContextSubset", "encryptionContextEquals")),
    "recipient": " ".join(["attestationDocumentModuleId attestationDocumentEnclaveImageDigest", *(f"attestationDocumentEnclavePCR{n}" for n in (1, 2, 3, 4, 8)),
                           *(f"attestationDocumentNitroTPMPCR{n}" for n in (4, 7, 8, 9, 16, 23))]),
    "accessKey": "userName accessKeyId status createDate", "group": "path groupName groupId arn createDate", "loginProfile": "userName createDate passwordResetRequired",
    "policy": "policyName policyId arn path defaultVersionId attachmentCount permissionsBoundaryUsageCount isAttachable description createDate updateDate tags",
    "policyVersion": "versionId isDefaultVersion createDate",
    "role": "path roleName roleId arn createDate assumeRolePolicyDocument description maxSessionDuration permissionsBoundary tags roleLastUsed",
    "roleLastUsed": "lastUsedDate region", "user": "path userName userId arn createDate passwordLastUsed permissionsBoundary tags", "permissionsBoundary": BOUNDARY,
    "contextEntries": "contextKeyName contextKeyValues contextKeyType", "credentials": "accessKeyId expiration", "assumedRoleUser": "assumedRoleId arn",
    "federatedUser": "federatedUserId arn", "policyArns": "arn", "lookupAttributes": "attributeKey attributeValue", "requestedQuota": "id status desiredValue quotaArn",
}.items()}


def strangers(value, path=""):
    """The members inside of members that have no place there."""
    found = []
    for name, inner in value.items():
        for one in inner if isinstance(inner, list) else [inner]:
            if not isinstance(one, dict):
                continue
            known = INSIDE.get(name, set())
            if known is not None:
                found += [f"{path}{name}.{m}" for m in set(one) - known] + strangers(one, f"{path}{name}.")
    return found
