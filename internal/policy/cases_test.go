package policy_test

import "github.com/keywright/keywright/internal/policy"

const (
	trust = policy.TrustPolicy
	any2  = `"Action":"*"`
	star  = `"Resource":"*"`
)

var principalGroups = []group{
	key("default key policy", `
		allow:account,exact root kms:PutKeyPolicy
		allow:account alice kms:Decrypt
		allow:account ops kms:Encrypt
		allow:account fed kms:Encrypt
		none stranger kms:Decrypt
		none otherroot kms:Decrypt
		none s3 kms:Decrypt
		none nobody kms:Decrypt
		none root s3:GetObject`,
		to("Allow", `"Principal":{"AWS":"arn:aws:iam::111122223333:root"}`)),
	key("account id", `
		allow:account alice kms:Decrypt
		allow:account,exact root kms:Decrypt
		none stranger kms:Decrypt`,
		to("Allow", `"Principal":{"AWS":"111122223333"}`)),
	key("everyone", `
		allow:anyone alice kms:Decrypt
		allow:anyone stranger kms:Decrypt
		allow:anyone s3 kms:Decrypt
		allow:anyone nobody kms:Decrypt`,
		to("Allow", `"Principal":"*"`)),
	key("everyone of AWS", `
		allow:anyone ops kms:Decrypt
		allow:anyone otherroot kms:Decrypt`,
		to("Allow", `"Principal":{"AWS":["*"]}`)),
	key("user", `
		allow:exact alice kms:Decrypt
		none bob kms:Decrypt
		none root kms:Decrypt
		none stranger kms:Decrypt
		none ops kms:Decrypt`,
		to("Allow", `"Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"}`)),
	key("user with a path", `
		allow:exact bob kms:Decrypt
		none alice kms:Decrypt`,
		to("Allow", `"Principal":{"AWS":"arn:aws:iam::111122223333:user/team/bob"}`)),
	key("user without the path", `
		none bob kms:Decrypt`,
		to("Allow", `"Principal":{"AWS":"arn:aws:iam::111122223333:user/bob"}`)),
	key("role", `
		allow:role ops kms:Decrypt
		allow:role ops2 kms:Decrypt
		none alice kms:Decrypt`,
		to("Allow", `"Principal":{"AWS":"arn:aws:iam::111122223333:role/ops"}`)),
	key("session", `
		allow:exact ops kms:Decrypt
		none ops2 kms:Decrypt`,
		to("Allow", `"Principal":{"AWS":"arn:aws:sts::111122223333:assumed-role/ops/monday"}`)),
	key("federated user", `
		allow:exact fed kms:Decrypt
		none alice kms:Decrypt`,
		to("Allow", `"Principal":{"AWS":"arn:aws:sts::111122223333:federated-user/fay"}`)),
	key("unique ids", `
		allow:exact alice kms:Decrypt
		allow:role ops kms:Decrypt
		none bob kms:Decrypt
		none root kms:Decrypt`,
		to("Allow", `"Principal":{"AWS":["AIDAALICE00000000001","AROAOPS0000000000001"]}`)),
	key("service", `
		allow:exact s3 kms:Decrypt
		none alice kms:Decrypt
		none root kms:Decrypt`,
		to("Allow", `"Principal":{"Service":["logs.us-east-1.amazonaws.com","s3.amazonaws.com"]}`)),
	key("canonical user and provider name nobody here", `
		none alice kms:Decrypt
		none root kms:Decrypt
		none s3 kms:Decrypt`,
		to("Allow", `"Principal":{"CanonicalUser":"79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be","Federated":"token.example.com"}`)),
	key("several ways at once", `
		allow:exact,account,anyone alice kms:Decrypt
		allow:account,anyone bob kms:Decrypt
		allow:anyone stranger kms:Decrypt
		allow:role,account,anyone ops kms:Decrypt`,
		to("Allow", `"Principal":{"AWS":"111122223333"}`), to("Allow", `"Principal":"*"`),
		to("Allow", `"Principal":{"AWS":["arn:aws:iam::111122223333:user/alice","arn:aws:iam::111122223333:role/ops"]}`)),
	key("deny beats allow", `
		deny alice kms:Decrypt
		allow bob kms:Decrypt`,
		to("Allow", `"Principal":"*"`), to("Deny", `"Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"}`)),
	key("deny of the account means everybody in it", `
		deny alice kms:Decrypt
		deny root kms:Decrypt
		deny ops kms:Decrypt
		allow stranger kms:Decrypt`,
		to("Deny", `"Principal":{"AWS":"111122223333"}`), to("Allow", `"Principal":"*"`)),
	key("deny with NotPrincipal spares whom all names are listed of", `
		allow alice kms:Decrypt
		deny bob kms:Decrypt
		deny stranger kms:Decrypt
		allow root kms:Decrypt
		deny ops kms:Decrypt
		deny nobody kms:Decrypt`,
		to("Allow", `"Principal":"*"`),
		to("Deny", `"NotPrincipal":{"AWS":["111122223333","arn:aws:iam::111122223333:user/alice"]}`)),
	key("deny with NotPrincipal, session", `
		allow ops kms:Decrypt
		deny ops2 kms:Decrypt`,
		to("Allow", `"Principal":"*"`),
		to("Deny", `"NotPrincipal":{"AWS":["111122223333","arn:aws:iam::111122223333:role/ops","arn:aws:sts::111122223333:assumed-role/ops/monday"]}`)),
	key("deny with NotPrincipal, user alone", `
		deny alice kms:Decrypt
		deny bob kms:Decrypt`,
		to("Allow", `"Principal":"*"`), to("Deny", `"NotPrincipal":{"AWS":"arn:aws:iam::111122223333:user/alice"}`)),
	key("allow with NotPrincipal", `
		none alice kms:Decrypt
		allow:anyone bob kms:Decrypt
		allow:anyone stranger kms:Decrypt`,
		to("Allow", `"NotPrincipal":{"AWS":"arn:aws:iam::111122223333:user/alice"}`)),
	key("statements without Action or Resource have no effect", `
		none alice kms:Decrypt
		none root kms:PutKeyPolicy`,
		`{"Effect":"Allow","Principal":"*","Action":"kms:*"}`, `{"Effect":"Deny","Principal":"*","Resource":"*"}`),
	{"trust policy", trust, document(
		`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},"Action":"sts:AssumeRole"}`,
		`{"Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":["sts:AssumeRole","sts:SetContext"]}`,
		`{"Effect":"Allow","Principal":{"Federated":"token.example.com"},"Action":"sts:AssumeRoleWithWebIdentity",
		  "Condition":{"StringLike":{"token.example.com:sub":"repo:org/*"}}}`), `
		allow:exact alice sts:AssumeRole
		none bob sts:AssumeRole
		none alice sts:TagSession
		allow:exact s3 sts:AssumeRole
		allow web sts:AssumeRoleWithWebIdentity token.example.com:sub=repo:org/x
		none web sts:AssumeRoleWithWebIdentity token.example.com:sub=repo:other/x
		none web sts:AssumeRoleWithWebIdentity
		none web sts:AssumeRole`},
}

var actionGroups = []group{
	identity("exact action", `
		allow:anyone alice kms:Encrypt
		allow alice KMS:ENCRYPT
		allow alice kms:encrypt
		none alice kms:EncryptX
		none alice kms:Decrypt
		none alice s3:Encrypt`,
		on("Allow", `"Action":"Kms:Encrypt"`, star)),
	identity("wildcards in actions", `
		allow alice kms:GenerateDataKey
		allow alice kms:GenerateDataKeyPairWithoutPlaintext
		allow alice kms:ReEncryptFrom
		allow alice kms:ReEncryptTo
		none alice kms:ReEncrypt
		allow alice kms:ListKeys
		none alice kms:ListAliases
		none alice kms:GenerateRandom`,
		on("Allow", `"Action":["kms:GenerateDataKey*","kms:reencrypt?*","kms:List????"]`, star)),
	identity("all actions", `
		allow alice kms:Encrypt
		allow alice iam:CreateUser`,
		on("Allow", any2, star)),
	identity("NotAction", `
		none alice kms:Encrypt
		allow alice kms:Decrypt
		allow alice s3:GetObject
		none alice kms:GenerateDataKeyPair`,
		on("Allow", `"NotAction":["kms:Encrypt","kms:Generate*"]`, star)),
	identity("deny NotAction", `
		deny alice kms:Decrypt
		allow alice kms:Encrypt`,
		on("Allow", any2, star), on("Deny", `"NotAction":"kms:Encrypt"`, star)),
	identity("this key", `
		allow alice kms:Encrypt
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:key/other
		none alice kms:Encrypt resource=arn:aws:kms:us-west-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab
		none alice kms:Encrypt resource=*`,
		on("Allow", any2, `"Resource":"`+keyARN+`"`)),
	identity("keys of the account", `
		allow alice kms:Encrypt
		allow alice kms:Encrypt resource=arn:aws:kms:eu-west-1:111122223333:key/other
		none alice kms:Encrypt resource=arn:aws:kms:eu-west-1:444455556666:key/other
		none alice kms:CreateAlias resource=arn:aws:kms:eu-west-1:111122223333:alias/a
		none alice kms:CreateKey resource=*`,
		on("Allow", any2, `"Resource":"arn:aws:kms:*:111122223333:key/*"`)),
	identity("a wildcard stays within its part", `
		none alice kms:Encrypt
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:444455556666:key/a
		allow alice kms:Encrypt resource=arn:aws:kms:key/1:x:y
		allow alice kms:Encrypt resource=arn:aws:kms:key/1:2:a:b:c`,
		on("Allow", any2, `"Resource":"arn:aws:kms:key/*:*:*"`)),
	identity("the last part may have colons", `
		allow alice logs:Get resource=arn:aws:logs:us-east-1:111122223333:log-group:a:b
		none alice logs:Get resource=arn:aws:logs:us-east-1:111122223333:log-group:a
		none alice logs:Get resource=arn:aws:logs:us-east-1:111122223333`,
		on("Allow", any2, `"Resource":"arn:aws:logs:*:*:log-group:a:*"`)),
	identity("an incomplete ARN is completed", `
		allow alice kms:Encrypt
		allow alice kms:CreateAlias resource=arn:aws:kms:us-east-1:111122223333:alias/a
		none alice sqs:Send resource=arn:aws:sqs:us-east-1:111122223333:q`,
		on("Allow", any2, `"Resource":"arn:aws:kms"`)),
	identity("question marks", `
		allow alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/ab
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/a
		allow alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/a%C3%A9
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/abc`,
		on("Allow", any2, `"Resource":"arn:aws:kms:us-east-?:111122223333:alias/??"`)),
	identity("a wildcard ends between characters", `
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/%E2%82%AC
		allow alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/%E2%82%AC%E2%82%AC
		allow alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/abc`,
		on("Allow", any2, `"Resource":"arn:aws:kms:*:*:alias/*??"`)),
	identity("NotResource", `
		none alice kms:Encrypt
		allow alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:key/other
		allow alice kms:ListKeys resource=*`,
		on("Allow", any2, `"NotResource":["`+keyARN+`"]`)),
	key("a key policy that names its key", `
		allow alice kms:Encrypt
		none alice kms:Decrypt`,
		`{"Effect":"Allow","Principal":"*","Action":"kms:Encrypt","Resource":"`+keyARN+`"}`,
		`{"Effect":"Allow","Principal":"*","Action":"kms:Decrypt","Resource":"arn:aws:kms:us-east-1:111122223333:alias/a"}`),
	identity("single statement, single values", `
		deny alice kms:ScheduleKeyDeletion
		none alice kms:Encrypt`,
		on("Deny", `"Action":"kms:ScheduleKeyDeletion"`, star)),
	{
		"statement that is no list", policy.SessionPolicy,
		`{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`, `
		allow alice kms:Encrypt
		none alice s3:Get`,
	},
	{"service control", policy.ServiceControlPolicy, document(on("Allow", any2, star), on("Deny", `"NotAction":["kms:*","iam:*"]`, star)), `
		allow:anyone alice kms:Encrypt
		allow nobody kms:Encrypt
		deny root s3:GetObject`},
	{"resource control", policy.ResourceControlPolicy, document(
		`{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`,
		`{"Effect":"Deny","Principal":{"AWS":"*"},"Action":["kms:*","sts:AssumeRole"],"Resource":"*","Condition":{"StringNotEquals":{"aws:PrincipalAccount":"111122223333"}}}`), `
		allow:anyone alice kms:Encrypt aws:PrincipalAccount=111122223333
		deny stranger kms:Encrypt aws:PrincipalAccount=444455556666
		deny s3 kms:Encrypt
		allow stranger s3:GetObject aws:PrincipalAccount=444455556666`},
	{"boundary", policy.BoundaryPolicy, document(on("Allow", `"Action":["kms:Encrypt"]`, star)), `
		allow alice kms:Encrypt
		none alice kms:Decrypt`},
}

var operatorGroups = []group{
	identity("StringEquals", `
		allow alice kms:Encrypt kms:ViaService=s3
		allow alice kms:Encrypt KMS:VIASERVICE=ec2
		none alice kms:Encrypt kms:ViaService=S3
		none alice kms:Encrypt kms:ViaService=
		none alice kms:Encrypt
		none alice kms:Encrypt kms:ViaService=s3*
		allow alice kms:Encrypt kms:ViaService=x*`,
		when(`"StringEquals":{"kms:viaservice":["s3","ec2","x*"]}`)),
	identity("StringNotEquals", `
		none alice kms:Encrypt kms:ViaService=s3
		none alice kms:Encrypt kms:ViaService=ec2
		allow alice kms:Encrypt kms:ViaService=S3
		allow alice kms:Encrypt
		none alice kms:Encrypt kms:ViaService=sqs,s3
		allow alice kms:Encrypt kms:ViaService=sqs,sns`,
		when(`"StringNotEquals":{"kms:ViaService":["s3","ec2"]}`)),
	identity("StringEqualsIgnoreCase", `
		allow alice kms:Encrypt aws:username=ALICE
		allow alice kms:Encrypt aws:username=alice
		allow alice kms:Encrypt aws:username=%C3%89mile
		none alice kms:Encrypt aws:username=bob
		none alice kms:Encrypt`,
		when(`"StringEqualsIgnoreCase":{"aws:username":["Alice","émile"]}`)),
	identity("StringNotEqualsIgnoreCase", `
		none alice kms:Encrypt aws:username=ALICE
		allow alice kms:Encrypt aws:username=bob
		allow alice kms:Encrypt`,
		when(`"StringNotEqualsIgnoreCase":{"aws:username":"Alice"}`)),
	identity("StringLike", `
		allow alice kms:Encrypt kms:RequestAlias=alias/prod-1
		allow alice kms:Encrypt kms:RequestAlias=alias/prod-
		none alice kms:Encrypt kms:RequestAlias=alias/Prod-1
		none alice kms:Encrypt kms:RequestAlias=x/alias/prod-1
		allow alice kms:Encrypt kms:RequestAlias=alias/t1
		none alice kms:Encrypt kms:RequestAlias=alias/t12
		none alice kms:Encrypt`,
		when(`"StringLike":{"kms:RequestAlias":["alias/prod-*","alias/t?"]}`)),
	identity("StringNotLike", `
		none alice kms:Encrypt kms:RequestAlias=alias/prod-1
		allow alice kms:Encrypt kms:RequestAlias=alias/test
		allow alice kms:Encrypt`,
		when(`"StringNotLike":{"kms:RequestAlias":"alias/prod-*"}`)),
	identity("NumericEquals", `
		allow alice kms:EnableKeyRotation kms:RotationPeriodInDays=365
		allow alice kms:EnableKeyRotation kms:RotationPeriodInDays=365.0
		none alice kms:EnableKeyRotation kms:RotationPeriodInDays=366
		none alice kms:EnableKeyRotation kms:RotationPeriodInDays=year
		none alice kms:EnableKeyRotation kms:RotationPeriodInDays=0x16d
		none alice kms:EnableKeyRotation`,
		when(`"NumericEquals":{"kms:RotationPeriodInDays":365}`)),
	identity("NumericNotEquals", `
		none alice kms:EnableKeyRotation kms:RotationPeriodInDays=365
		allow alice kms:EnableKeyRotation kms:RotationPeriodInDays=90
		allow alice kms:EnableKeyRotation`,
		when(`"NumericNotEquals":{"kms:RotationPeriodInDays":["365","366"]}`)),
	identity("NumericLessThan and the like", `
		allow alice a:Less kms:ScheduleKeyDeletionPendingWindowInDays=6
		none alice a:Less kms:ScheduleKeyDeletionPendingWindowInDays=7
		allow alice a:LessEq kms:ScheduleKeyDeletionPendingWindowInDays=7
		none alice a:LessEq kms:ScheduleKeyDeletionPendingWindowInDays=8
		allow alice a:Greater kms:ScheduleKeyDeletionPendingWindowInDays=8
		none alice a:Greater kms:ScheduleKeyDeletionPendingWindowInDays=7
		allow alice a:GreaterEq kms:ScheduleKeyDeletionPendingWindowInDays=7
		none alice a:GreaterEq kms:ScheduleKeyDeletionPendingWindowInDays=-7
		none alice a:GreaterEq`,
		`{"Effect":"Allow","Action":"a:Less","Resource":"*","Condition":{"NumericLessThan":{"kms:ScheduleKeyDeletionPendingWindowInDays":"7"}}}`,
		`{"Effect":"Allow","Action":"a:LessEq","Resource":"*","Condition":{"NumericLessThanEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":"7"}}}`,
		`{"Effect":"Allow","Action":"a:Greater","Resource":"*","Condition":{"NumericGreaterThan":{"kms:ScheduleKeyDeletionPendingWindowInDays":"7"}}}`,
		`{"Effect":"Allow","Action":"a:GreaterEq","Resource":"*","Condition":{"NumericGreaterThanEquals":{"kms:ScheduleKeyDeletionPendingWindowInDays":"7"}}}`),
	identity("dates", `
		allow alice a:Eq aws:CurrentTime=2026-11-23T04:00:00Z
		allow alice a:Eq aws:CurrentTime=2026-11-23T05:00:00%2B01:00
		allow alice a:Eq aws:CurrentTime=1795406400
		none alice a:Eq aws:CurrentTime=2026-11-23T04:00:01Z
		none alice a:Eq aws:CurrentTime=2026-11-23T04:00:00.5Z
		none alice a:Ne aws:CurrentTime=2026-11-23T04:00:00Z
		allow alice a:Ne aws:CurrentTime=2026-11-24
		allow alice a:Lt aws:CurrentTime=2026-11-22T23:59:59Z
		none alice a:Lt aws:CurrentTime=2026-11-23
		allow alice a:Le aws:CurrentTime=2026-11-23
		none alice a:Le aws:CurrentTime=2026-11-23T00:00:01Z
		allow alice a:Gt aws:EpochTime=1795406401
		none alice a:Gt aws:EpochTime=1795406400
		allow alice a:Ge aws:EpochTime=1795406400
		none alice a:Ge aws:EpochTime=1795406399.5
		none alice a:Ge aws:EpochTime=tomorrow
		none alice a:Ge`,
		`{"Effect":"Allow","Action":"a:Eq","Resource":"*","Condition":{"DateEquals":{"aws:CurrentTime":"2026-11-23T04:00:00Z"}}}`,
		`{"Effect":"Allow","Action":"a:Ne","Resource":"*","Condition":{"DateNotEquals":{"aws:CurrentTime":"2026-11-23T04:00Z"}}}`,
		`{"Effect":"Allow","Action":"a:Lt","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"2026-11-23"}}}`,
		`{"Effect":"Allow","Action":"a:Le","Resource":"*","Condition":{"DateLessThanEquals":{"aws:CurrentTime":"2026-11-23T00:00:00"}}}`,
		`{"Effect":"Allow","Action":"a:Gt","Resource":"*","Condition":{"DateGreaterThan":{"aws:EpochTime":"1795406400"}}}`,
		`{"Effect":"Allow","Action":"a:Ge","Resource":"*","Condition":{"DateGreaterThanEquals":{"aws:EpochTime":1795406400}}}`),
	identity("Bool", `
		allow alice kms:PutKeyPolicy kms:BypassPolicyLockoutSafetyCheck=true
		allow alice kms:PutKeyPolicy kms:BypassPolicyLockoutSafetyCheck=TRUE
		none alice kms:PutKeyPolicy kms:BypassPolicyLockoutSafetyCheck=false
		none alice kms:PutKeyPolicy kms:BypassPolicyLockoutSafetyCheck=yes
		none alice kms:PutKeyPolicy`,
		when(`"Bool":{"kms:BypassPolicyLockoutSafetyCheck":true}`)),
	identity("Bool false", `
		allow alice kms:Encrypt aws:SecureTransport=false
		none alice kms:Encrypt aws:SecureTransport=true
		none alice kms:Encrypt aws:SecureTransport=no
		none alice kms:Encrypt`,
		when(`"Bool":{"aws:SecureTransport":"False"}`)),
	identity("BinaryEquals", `
		allow alice kms:Encrypt x:key=QmluYXJ5
		none alice kms:Encrypt x:key=qmluyxj5
		none alice kms:Encrypt`,
		when(`"BinaryEquals":{"x:key":"QmluYXJ5"}`)),
	identity("IpAddress", `
		allow alice kms:Encrypt aws:SourceIp=203.0.113.77
		none alice kms:Encrypt aws:SourceIp=203.0.114.1
		allow alice kms:Encrypt aws:SourceIp=::ffff:203.0.113.77
		allow alice kms:Encrypt aws:SourceIp=2001:db8:1234::1
		none alice kms:Encrypt aws:SourceIp=2001:db8:1235::1
		allow alice kms:Encrypt aws:SourceIp=198.51.100.7
		none alice kms:Encrypt aws:SourceIp=198.51.100.8
		none alice kms:Encrypt aws:SourceIp=s3.amazonaws.com
		none alice kms:Encrypt`,
		when(`"IpAddress":{"aws:SourceIp":["203.0.113.5/24","2001:DB8:1234::/48","198.51.100.7"]}`)),
	identity("NotIpAddress", `
		none alice kms:Encrypt aws:SourceIp=203.0.113.77
		allow alice kms:Encrypt aws:SourceIp=203.0.114.1
		allow alice kms:Encrypt`,
		when(`"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}`)),
	identity("ArnEquals", `
		allow alice kms:Encrypt aws:PrincipalArn=arn:aws:iam::111122223333:role/ops
		allow alice kms:Encrypt aws:PrincipalArn=arn:aws:iam::111122223333:role/a/b
		none alice kms:Encrypt aws:PrincipalArn=arn:aws:iam::444455556666:role/ops
		none alice kms:Encrypt aws:PrincipalArn=arn:aws:iam::111122223333:user/ops
		none alice kms:Encrypt aws:PrincipalArn=role/ops
		none alice kms:Encrypt`,
		when(`"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/*"}`)),
	identity("ArnLike", `
		allow alice kms:Encrypt aws:SourceArn=arn:aws:s3:::bucket
		allow alice kms:Encrypt aws:SourceArn=arn:aws:sns:eu-west-1:111122223333:topic
		none alice kms:Encrypt aws:SourceArn=arn:aws:sns:eu-west-1:111122223333:other
		none alice kms:Encrypt`,
		when(`"ArnLike":{"aws:SourceArn":["arn:aws:s3:::*","arn:aws:sns:*:*:t*"]}`)),
	identity("ArnNotEquals", `
		none alice kms:Encrypt aws:SourceArn=arn:aws:s3:::bucket
		allow alice kms:Encrypt aws:SourceArn=arn:aws:s3:::other
		allow alice kms:Encrypt`,
		when(`"ArnNotEquals":{"aws:SourceArn":"arn:aws:s3:::bucket"}`)),
	identity("ArnNotLike", `
		none alice kms:Encrypt aws:SourceArn=arn:aws:s3:::bucket
		allow alice kms:Encrypt aws:SourceArn=arn:aws:sns:::bucket
		allow alice kms:Encrypt`,
		when(`"ArnNotLike":{"aws:SourceArn":"arn:aws:s3:::b*"}`)),
	identity("an ARN pattern that is none", `
		none alice kms:Encrypt aws:SourceArn=arn:aws:s3:::bucket
		allow alice a:Any aws:SourceArn=arn:aws:s3:::bucket`,
		when(`"ArnLike":{"aws:SourceArn":"arn:aws:*"}`),
		`{"Effect":"Allow","Action":"a:Any","Resource":"*","Condition":{"ArnLike":{"aws:SourceArn":"*"}}}`),
	identity("Null", `
		allow alice a:Absent
		allow alice a:Absent kms:EncryptionContextKeys=
		none alice a:Absent kms:EncryptionContextKeys=a,b
		none alice a:Present
		allow alice a:Present kms:EncryptionContextKeys=a
		allow alice a:Either
		allow alice a:Either kms:EncryptionContextKeys=a`,
		`{"Effect":"Allow","Action":"a:Absent","Resource":"*","Condition":{"Null":{"kms:EncryptionContextKeys":"true"}}}`,
		`{"Effect":"Allow","Action":"a:Present","Resource":"*","Condition":{"Null":{"kms:EncryptionContextKeys":false}}}`,
		`{"Effect":"Allow","Action":"a:Either","Resource":"*","Condition":{"Null":{"kms:EncryptionContextKeys":[true,"false"]}}}`),
	identity("IfExists", `
		allow alice a:Str
		allow alice a:Str kms:ViaService=s3
		none alice a:Str kms:ViaService=ec2
		none alice a:Str kms:ViaService=
		allow alice a:Not
		none alice a:Not kms:ViaService=s3
		allow alice a:Num
		none alice a:Num kms:RotationPeriodInDays=1
		allow alice a:Any
		none alice a:Any aws:TagKeys=x`,
		`{"Effect":"Allow","Action":"a:Str","Resource":"*","Condition":{"StringEqualsIfExists":{"kms:ViaService":"s3"}}}`,
		`{"Effect":"Allow","Action":"a:Not","Resource":"*","Condition":{"StringNotEqualsIfExists":{"kms:ViaService":"s3"}}}`,
		`{"Effect":"Allow","Action":"a:Num","Resource":"*","Condition":{"NumericGreaterThanIfExists":{"kms:RotationPeriodInDays":"90"}}}`,
		`{"Effect":"Allow","Action":"a:Any","Resource":"*","Condition":{"ForAnyValue:StringEqualsIfExists":{"aws:TagKeys":"a"}}}`),
	identity("ForAllValues", `
		allow alice a:Eq aws:TagKeys=a
		allow alice a:Eq aws:TagKeys=a,b
		none alice a:Eq aws:TagKeys=a,c
		allow alice a:Eq
		allow alice a:Eq aws:TagKeys=
		allow alice a:Ne aws:TagKeys=c,d
		none alice a:Ne aws:TagKeys=c,a
		allow alice a:Ne
		allow alice a:Like aws:TagKeys=x1,x2
		none alice a:Like aws:TagKeys=x1,y`,
		`{"Effect":"Allow","Action":"a:Eq","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}}`,
		`{"Effect":"Allow","Action":"a:Ne","Resource":"*","Condition":{"ForAllValues:StringNotEquals":{"aws:TagKeys":["a","b"]}}}`,
		`{"Effect":"Allow","Action":"a:Like","Resource":"*","Condition":{"ForAllValues:StringLike":{"aws:TagKeys":"x*"}}}`),
	identity("ForAnyValue", `
		allow alice a:Eq kms:GrantOperations=Encrypt,Decrypt
		allow alice a:Eq kms:GrantOperations=Decrypt
		none alice a:Eq kms:GrantOperations=Encrypt,Sign
		none alice a:Eq
		allow alice a:Ne kms:GrantOperations=Encrypt,Decrypt
		none alice a:Ne kms:GrantOperations=Decrypt
		none alice a:Ne
		allow alice a:Arn x:arns=arn:aws:s3:::a,b`,
		`{"Effect":"Allow","Action":"a:Eq","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:GrantOperations":["Decrypt"]}}}`,
		`{"Effect":"Allow","Action":"a:Ne","Resource":"*","Condition":{"ForAnyValue:StringNotEquals":{"kms:GrantOperations":["Decrypt"]}}}`,
		`{"Effect":"Allow","Action":"a:Arn","Resource":"*","Condition":{"ForAnyValue:ArnLike":{"x:arns":"arn:aws:s3:::*"}}}`),
	identity("several values without a prefix are alternatives", `
		allow alice kms:CreateGrant kms:GrantOperations=Sign,Decrypt
		none alice kms:CreateGrant kms:GrantOperations=Sign,Verify`,
		when(`"StringEquals":{"kms:GrantOperations":"Decrypt"}`)),
	identity("operators and keys all have to hold", `
		allow alice kms:Encrypt aws:username=a kms:ViaService=s3 aws:SourceIp=10.0.0.1
		none alice kms:Encrypt aws:username=b kms:ViaService=s3 aws:SourceIp=10.0.0.1
		none alice kms:Encrypt aws:username=a kms:ViaService=x aws:SourceIp=10.0.0.1
		none alice kms:Encrypt aws:username=a kms:ViaService=s3 aws:SourceIp=11.0.0.1
		none alice kms:Encrypt aws:username=a kms:ViaService=s3`,
		when(`"StringEquals":{"aws:username":"a","kms:ViaService":"s3"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}`)),
	identity("no values, no conditions", `
		none alice kms:Encrypt aws:username=a
		allow alice a:Not aws:username=a
		allow alice a:None`,
		when(`"StringEquals":{"aws:username":[]}`),
		`{"Effect":"Allow","Action":"a:Not","Resource":"*","Condition":{"StringNotEquals":{"aws:username":[]}}}`,
		`{"Effect":"Allow","Action":"a:None","Resource":"*","Condition":{"StringEquals":{}}}`),
	key("encryption context", `
		allow alice kms:Decrypt kms:EncryptionContext:Department=Finance
		allow alice kms:Decrypt kms:EncryptionContext:DEPARTMENT=Finance
		none alice kms:Decrypt kms:EncryptionContext:Department=finance
		none alice kms:Decrypt kms:EncryptionContext:Dept=Finance
		none alice kms:Decrypt`,
		`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:department":"Finance"}}}`),
	key("the aliases of a key say nothing to its own policy", `
		none alice kms:Decrypt kms:ResourceAliases=alias/a
		allow alice a:Null kms:ResourceAliases=alias/a`,
		`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/a"}}}`,
		`{"Effect":"Allow","Principal":"*","Action":"a:Null","Resource":"*","Condition":{"Null":{"kms:ResourceAliases":"true"}}}`),
	identity("the aliases of a key in an identity policy", `
		allow alice kms:Decrypt kms:ResourceAliases=alias/b,alias/a
		none alice kms:Decrypt kms:ResourceAliases=alias/b`,
		when(`"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/a"}`)),
	key("deny unless through a service", `
		deny alice kms:Decrypt
		deny alice kms:Decrypt kms:ViaService=ec2.us-east-1.amazonaws.com
		allow alice kms:Decrypt kms:ViaService=s3.us-east-1.amazonaws.com`,
		to("Allow", `"Principal":"*"`),
		`{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"kms:ViaService":"s3.us-east-1.amazonaws.com"}}}`),
	identity("tags of the resource", `
		allow alice kms:Encrypt aws:ResourceTag/Project=Alpha
		allow alice kms:Encrypt aws:ResourceTag/project=Alpha
		none alice kms:Encrypt aws:ResourceTag/Project=Beta
		none alice kms:Encrypt`,
		when(`"StringEquals":{"aws:ResourceTag/Project":"Alpha"}`)),
}

var variableGroups = []group{
	identity("variable in a resource", `
		allow alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/alice aws:username=alice
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/bob aws:username=alice
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/a aws:username=a,b`,
		on("Allow", any2, `"Resource":"arn:aws:kms:*:*:alias/${aws:username}"`)),
	identity("the value of a variable has no wildcards and crosses no colon", `
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/bob aws:username=*
		allow alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/* aws:username=*
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/b aws:username=%01
		none alice a:Arn aws:SourceArn=arn:aws:sns:us-east-1:1:x aws:PrincipalAccount=us-east-1:1`,
		on("Allow", any2, `"Resource":"arn:aws:kms:*:*:alias/${aws:username}"`),
		`{"Effect":"Allow","Action":"a:Arn","Resource":"*","Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:sns:${aws:PrincipalAccount}:x"}}}`),
	identity("variables of a resource come after the fifth colon", `
		none alice kms:Encrypt aws:PrincipalAccount=111122223333
		deny alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:key/111122223333:x aws:PrincipalAccount=111122223333
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:key/1:x aws:PrincipalAccount=111122223333`,
		on("Allow", any2, `"Resource":"arn:aws:kms:*:${aws:PrincipalAccount}:key/*"`),
		on("Deny", any2, `"Resource":"arn:aws:kms:*:*:key/${aws:PrincipalAccount}:x"`)),
	identity("variable in a condition", `
		allow alice kms:Encrypt aws:ResourceTag/team=red aws:PrincipalTag/team=red
		none alice kms:Encrypt aws:ResourceTag/team=red aws:PrincipalTag/team=blue
		none alice kms:Encrypt aws:ResourceTag/team=red
		none alice kms:Encrypt aws:PrincipalTag/team=red
		none alice kms:Encrypt aws:ResourceTag/team=${aws:PrincipalTag/team}`,
		when(`"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}`)),
	identity("variable and wildcard", `
		allow alice kms:Encrypt kms:RequestAlias=alias/alice-1 aws:username=alice
		none alice kms:Encrypt kms:RequestAlias=alias/bob-1 aws:username=alice
		none alice kms:Encrypt kms:RequestAlias=alias/bob-1 aws:username=*`,
		when(`"StringLike":{"kms:RequestAlias":"alias/${aws:username}-*"}`)),
	identity("default of a variable", `
		allow alice kms:Encrypt aws:ResourceTag/team=company-wide
		allow alice kms:Encrypt aws:ResourceTag/team=red aws:PrincipalTag/team=red
		none alice kms:Encrypt aws:ResourceTag/team=company-wide aws:PrincipalTag/team=red
		none alice kms:Encrypt aws:ResourceTag/team=red`,
		when(`"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team, 'company-wide'}"}`)),
	identity("default with a brace, ignoring case", `
		allow alice kms:Encrypt x:y=A}b
		allow alice kms:Encrypt x:y=C x:z=c
		allow alice kms:Encrypt x:y=%C3%89mile x:z=%C3%A9MILE
		none alice kms:Encrypt x:y=%C3%89mile x:z=emile`,
		when(`"StringEqualsIgnoreCase":{"x:y":"${x:z,'a}b'}"}`)),
	identity("literals", `
		allow alice kms:Encrypt x:y=a*b
		none alice kms:Encrypt x:y=axb
		allow alice kms:Encrypt x:y=what?1
		none alice kms:Encrypt x:y=whatx1
		allow alice kms:Encrypt x:y=5$
		none alice kms:Encrypt x:y=${$}`,
		when(`"StringLike":{"x:y":["a${*}b","what${?}?","5${$}"]}`)),
	identity("a negated operator with a variable that has no value", `
		allow alice kms:Encrypt x:y=a
		none alice kms:Encrypt x:y=a x:z=a
		allow alice kms:Encrypt x:y=a x:z=b`,
		when(`"StringNotEquals":{"x:y":"${x:z}"}`)),
	identity("variable in an ARN condition", `
		allow alice kms:Encrypt aws:PrincipalArn=arn:aws:iam::111122223333:user/a aws:ResourceAccount=111122223333
		none alice kms:Encrypt aws:PrincipalArn=arn:aws:iam::444455556666:user/a aws:ResourceAccount=111122223333`,
		when(`"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::${aws:ResourceAccount}:user/*"}`)),
	identity("forms of a variable", `
		allow alice kms:Encrypt x:y=alice aws:username=alice
		allow alice kms:Encrypt x:y=red-alice aws:username=alice aws:PrincipalTag/Team=red
		allow alice kms:Encrypt x:y=app1 kms:EncryptionContext:App=app1
		allow alice kms:Encrypt x:y=-
		none alice kms:Encrypt x:y=-a aws:PrincipalTag/none=
		allow alice kms:Encrypt x:y=-a aws:PrincipalTag/none=a
		allow alice kms:Encrypt x:y=it%2Cs`,
		when(`"StringEquals":{"x:y":["${ AWS:UserName }","${aws:PrincipalTag/team}-${aws:username}","${kms:EncryptionContext:App}","-${aws:PrincipalTag/none,''}","${x:none,'it,s'}"]}`)),
	identity("a key with several values is no variable", `
		none alice kms:Encrypt x:y=a aws:TagKeys=a,b
		none alice kms:Encrypt x:y=b aws:TagKeys=a,b
		none alice kms:Encrypt x:y=d aws:TagKeys=a,b
		allow alice kms:Encrypt x:y=d`,
		when(`"StringEquals":{"x:y":"${aws:TagKeys,'d'}"}`)),
	identity("variables where there are none", `
		none alice a:alice aws:username=alice
		allow alice a:${aws:username} aws:username=alice
		none alice kms:Encrypt x:y=YWxpY2U= aws:username=alice`,
		on("Allow", `"Action":"a:${aws:username}"`, star)),
	identity("a resource with a variable that has no value", `
		none alice kms:Encrypt resource=arn:aws:kms:us-east-1:111122223333:alias/
		deny alice kms:Decrypt resource=arn:aws:kms:us-east-1:111122223333:alias/a
		none alice kms:Decrypt resource=arn:aws:kms:us-east-1:111122223333:alias/a aws:username=a`,
		on("Allow", `"Action":"kms:Encrypt"`, `"Resource":"arn:aws:kms:*:*:alias/${aws:username}"`),
		on("Deny", `"Action":"kms:Decrypt"`, `"NotResource":"arn:aws:kms:*:*:alias/${aws:username}"`)),
	identity("literals in resources and ARNs", `
		allow alice s3:GetObject resource=arn:aws:s3:::b/a*b
		none alice s3:GetObject resource=arn:aws:s3:::b/axb
		allow alice a:Arn aws:SourceArn=arn:aws:s3:::what?
		none alice a:Arn aws:SourceArn=arn:aws:s3:::whats
		allow alice a:Equals x:y=*
		none alice a:Equals x:y=${*}`,
		on("Allow", `"Action":"s3:*"`, `"Resource":"arn:aws:s3:::*/a${*}b"`),
		`{"Effect":"Allow","Action":"a:Arn","Resource":"*","Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:s3:::what${?}"}}}`,
		`{"Effect":"Allow","Action":"a:Equals","Resource":"*","Condition":{"StringEquals":{"x:y":"${*}"}}}`),
	{
		"the older version has no literals", policy.IdentityPolicy,
		`{"Version":"2008-10-17","Statement":[` + on("Allow", any2, `"Resource":"arn:aws:s3:::${*}"`) + `]}`, `
		allow alice s3:GetObject resource=arn:aws:s3:::${xyz}
		none alice s3:GetObject resource=arn:aws:s3:::*`,
	},
	{
		"the older version has no variables", policy.IdentityPolicy,
		`{"Version":"2008-10-17","Statement":[` + when(`"StringEquals":{"x:y":"${aws:username}"}`) + `]}`, `
		none alice kms:Encrypt x:y=alice aws:username=alice
		allow alice kms:Encrypt x:y=${aws:username}`,
	},
	{
		"no version is the older one", policy.IdentityPolicy,
		`{"Statement":[` + when(`"StringEquals":{"x:y":"${aws:username}"}`) + `]}`, `
		none alice kms:Encrypt x:y=alice aws:username=alice
		allow alice kms:Encrypt x:y=${aws:username}`,
	},
}
