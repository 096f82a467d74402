// Package quota knows what an account may have and how often it may call: the quotas of AWS KMS as one table, the values that
// hold for an account in a Region, and the meters that requests are counted with.
//
// It trusts its callers to name the account that a call is charged to, and the configuration for what an operator wants. It keeps
// nothing but memory, of a bounded size: values that must last are its caller's to store and to apply again. It must never
// hold up a request: it counts, says yes or no, and that is all.
package quota

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/keywright/keywright/internal/arn"
)

// ID names a quota: its place in the table. The zero value is no quota.
type ID uint8

// The quotas that the services name. Operations with a rate of their own have theirs from Own.
const (
	Keys              ID = iota + 1 // customer managed keys
	AliasesPerKey                   // customer aliases on a customer managed key
	GrantsPerKey                    // on a customer managed key
	PolicySize                      // octets of a key policy
	CustomKeyStores                 // of any type
	OnDemandRotations               // in the life of a symmetric key

	Symmetric // cryptographic operations on symmetric and HMAC keys, and GenerateRandom
	RSA       // likewise on RSA keys
	MLDSA     // on ML-DSA keys
	ECC       // on keys of elliptic curves and SM2
	MLKEM     // on ML-KEM keys
	firstPair // key pairs, one for each of pairSpecs
)

// firstOwn is the first rate of one operation alone.
const firstOwn = firstPair + ID(len(pairSpecs))

// pairSpecs are the specs of key pairs, each with a rate of its own: what it is elsewhere, and in China if that differs.
var pairSpecs = [...]struct {
	spec        string
	rate, china float64
}{
	{"ECC_NIST_P256", 100, 0},
	{"ECC_NIST_P384", 100, 0},
	{"ECC_NIST_P521", 100, 0},
	{"ECC_SECG_P256K1", 100, 0},
	{"ECC_NIST_EDWARDS25519", 100, 0},
	{"RSA_2048", 20, 1},
	{"RSA_3072", 4, 0.5},
	{"RSA_4096", 1, 0.1},
	{"SM2", 25, 0},
}

// Quota is a row of the table ("Resource quotas" and "Request quotas", KMS developer guide).
type Quota struct {
	ID         ID
	Service    string   // service code of the Service Quotas API: kms
	Name       string   // as people know it; unique
	Code       string   // quota code; unique. Those of AWS are not published: Keywright makes its own from the name
	Rate       bool     // how often in a second, rather than how many
	Default    float64  // where nothing else is said
	Adjustable bool     // the Service Quotas API takes requests for more
	Operations []string // that a rate is for

	most    float64                // a larger value cannot hold; zero for MaxValue
	regions map[arn.Region]float64 // other defaults
	china   float64                // default in the Regions of China; zero for the same
}

// In returns the default in a Region.
func (q *Quota) In(r arn.Region) float64 {
	if v, ok := q.regions[r]; ok {
		return v
	}
	if q.china > 0 && r.Partition() == arn.China {
		return q.china
	}
	return q.Default
}

// MaxValue is the largest value of a quota (QuotaValue, Service Quotas API).
const MaxValue = 10_000_000_000

// Check refuses what cannot be the value of the quota.
func (q *Quota) Check(v float64) error {
	if math.IsNaN(v) || v < 0 || v > MaxValue || v > 0 && v < 0.001 {
		return errors.New("a quota is 0, or from 0.001 to 10,000,000,000")
	}
	if q.most > 0 && v > q.most {
		return fmt.Errorf("the largest value of the quota %q is %g", q.Name, q.most)
	}
	return nil
}

// ServiceQuotasRate is the name of the rate that all operations of Service Quotas share. Those of AWS are not published in the model;
// a page of its lists reads all that there is of an account, so there is one.
const ServiceQuotasRate = "Service Quotas request rate"

// Services are the service codes with the names that people know.
var Services = []struct{ Code, Name string }{
	{"cloudtrail", "AWS CloudTrail"},
	{"kms", "AWS Key Management Service (AWS KMS)"},
	{"servicequotas", "Service Quotas"},
}

// ownRates are the operations of KMS with a rate of their own, by that rate.
var ownRates = []struct {
	rate       float64
	operations string
}{
	{1, "GetParametersForImport"},
	{5, `CancelKeyDeletion ConnectCustomKeyStore CreateAlias CreateCustomKeyStore CreateKey DeleteCustomKeyStore DescribeCustomKeyStores
		DisableKey DisableKeyRotation DisconnectCustomKeyStore EnableKey GetKeyLastUsage ReplicateKey RotateKeyOnDemand UntagResource
		UpdateAlias UpdateCustomKeyStore UpdateKeyDescription UpdatePrimaryRegion`},
	{10, "TagResource"},
	{15, "DeleteAlias DeleteImportedKeyMaterial EnableKeyRotation ImportKeyMaterial PutKeyPolicy ScheduleKeyDeletion"},
	{50, "CreateGrant RetireGrant RevokeGrant"},
	{100, "ListGrants ListKeyPolicies ListKeyRotations ListRetirableGrants"},
	{500, "ListAliases ListKeys"},
	{1000, "GetKeyPolicy GetKeyRotationStatus"},
	{2000, "DescribeKey GetPublicKey ListResourceTags"},
}

// symmetricRegions are the Regions with other rates of symmetric operations.
var symmetricRegions = map[arn.Region]float64{
	"us-east-2": 20_000, "ap-southeast-1": 20_000, "ap-southeast-2": 20_000, "ap-northeast-1": 20_000, "eu-central-1": 20_000, "eu-west-2": 20_000,
	"us-east-1": 100_000, "us-west-2": 100_000, "eu-west-1": 100_000,
}

var (
	table  = makeTable()
	byName = indexTable(func(q *Quota) []string { return []string{q.Name} })
	byCode = indexTable(func(q *Quota) []string { return []string{q.Code} })
	own    = indexTable(func(q *Quota) []string {
		if q.ID < firstOwn {
			return nil
		}
		return []string{q.Service + ":" + q.Operations[0]}
	})
)

// makeTable writes the table. Row i has the ID i+1.
func makeTable() []Quota {
	crypto := func(kind string) string { return "Cryptographic operations (" + kind + ") request rate" }
	rows := []Quota{
		{Name: "KMS keys", Default: 100_000, Adjustable: true},
		{Name: "Aliases per KMS key", Default: 50, Adjustable: true},
		{Name: "Grants per KMS key", Default: 50_000, Adjustable: true},
		{Name: "Key policy document size", Default: 32_768, most: 32_768}, // which is what package policy reads
		{Name: "Custom key stores", Default: 10, Adjustable: true},
		{Name: "On-demand rotations per KMS key", Default: 25},
		{Name: crypto("symmetric"), Rate: true, Default: 10_000, regions: symmetricRegions, Operations: strings.Fields(
			"Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateMac GenerateRandom ReEncrypt VerifyMac")},
		{Name: crypto("RSA"), Rate: true, Default: 1000, Operations: strings.Fields("Decrypt Encrypt ReEncrypt Sign Verify")},
		{Name: crypto("ML-DSA"), Rate: true, Default: 1000, Operations: strings.Fields("Sign Verify")},
		{Name: crypto("ECC and SM2"), Rate: true, Default: 1000, Operations: strings.Fields("Decrypt DeriveSharedSecret Encrypt ReEncrypt Sign Verify")},
		{Name: crypto("ML-KEM"), Rate: true, Default: 1000, Operations: strings.Fields("Decapsulate Encapsulate")},
	}
	for _, p := range pairSpecs {
		rows = append(rows, Quota{
			Name: "GenerateDataKeyPair (" + p.spec + ") request rate", Rate: true, Default: p.rate, china: p.china,
			Operations: []string{"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"},
		})
	}
	for _, o := range ownRates {
		for _, name := range strings.Fields(o.operations) {
			rows = append(rows, Quota{Name: name + " request rate", Rate: true, Default: o.rate, Operations: []string{name}})
		}
	}
	rows = append(rows, Quota{Service: "servicequotas", Name: ServiceQuotasRate, Rate: true, Default: 20, Operations: strings.Fields(
		`GetAWSDefaultServiceQuota GetRequestedServiceQuotaChange GetServiceQuota ListAWSDefaultServiceQuotas ListRequestedServiceQuotaChangeHistory
			ListRequestedServiceQuotaChangeHistoryByQuota ListServiceQuotas ListServices RequestServiceQuotaIncrease`)})
	rows = append(rows, Quota{Service: "cloudtrail", Name: "LookupEvents request rate", Rate: true, Default: 2, Operations: []string{"LookupEvents"}})
	for i := range rows {
		q := &rows[i]
		q.ID = ID(i + 1)
		if q.Service == "" {
			q.Service = "kms"
		}
		q.Adjustable = q.Adjustable || q.Rate
		q.Code = code(q.Service, q.Name)
	}
	return rows
}

// code makes the code of a quota in the form of AWS: L- and eight digits of base 16.
func code(service, name string) string {
	sum := sha256.Sum256([]byte(service + "/" + name))
	return "L-" + strings.ToUpper(hex.EncodeToString(sum[:4]))
}

func indexTable(names func(*Quota) []string) map[string]ID {
	index := map[string]ID{}
	for i := range table {
		for _, n := range names(&table[i]) {
			if _, twice := index[n]; twice {
				panic("quota: " + n + " stands twice in the table") // found by the first test
			}
			index[n] = table[i].ID
		}
	}
	return index
}

// All returns the table. It must not be changed.
func All() []Quota { return table }

// Of returns a row of the table. It panics for an ID that has none.
func Of(id ID) *Quota { return &table[id-1] }

// Find returns the row of a code or a name; nil if there is none.
func Find(codeOrName string) *Quota {
	id, ok := byCode[codeOrName]
	if !ok {
		id, ok = byName[codeOrName]
	}
	if !ok {
		return nil
	}
	return Of(id)
}

// Own returns the rate that an operation of a service has for itself; zero if it shares one, or has none.
func Own(service, operation string) ID { return own[service+":"+operation] }

// Pair returns the rate of key pairs of a spec; zero for an unknown spec.
func Pair(spec string) ID {
	for i := range pairSpecs {
		if pairSpecs[i].spec == spec {
			return firstPair + ID(i)
		}
	}
	return 0
}
