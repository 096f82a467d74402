package dev_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/dev"
)

const (
	material      = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	otherMaterial = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
)

// fixture was encrypted by another installation under the key that the seeds here make: "fixture", without a context.
const fixture = "S1cBAAAAABnfZpDlEjSrzRKrNM1W7xI0VniQq+/xkNvrwu4Yv+1utH9tYAUG8sT7KnWok6086U7W1X+gUolsAr55c2MT2n8u7dwdAAIIvMqJzppizqFJJOJWMR+ZQ/VEOagV81TxwLP+zcEFn/JA"

func seedOf(lines ...string) string {
	return "keys:\n  - id: " + keyID + "\n    " + strings.Join(lines, "\n    ") + "\n"
}

func TestSeededKeyDecryptsFixtures(t *testing.T) {
	w := newWorld(t, seedOf("material: "+material, "aliases: [alias/app, alias/second]", "tags: {team: payments, env: test}", "description: for tests", "rotationPeriodInDays: 100"))
	check := func() {
		t.Helper()
		out := w.ok("Decrypt", map[string]any{"CiphertextBlob": fixture})
		if out["Plaintext"] != base64.StdEncoding.EncodeToString([]byte("fixture")) || out["KeyId"] != "arn:aws:kms:us-east-1:111122223333:key/"+keyID {
			t.Errorf("%v", out)
		}
		k := w.ok("DescribeKey", map[string]any{"KeyId": "alias/app"})["KeyMetadata"].(map[string]any)
		if k["KeyId"] != keyID || k["Description"] != "for tests" || k["Origin"] != "AWS_KMS" || k["KeyState"] != "Enabled" {
			t.Errorf("%v", k)
		}
		if tags := w.ok("ListResourceTags", map[string]any{"KeyId": keyID})["Tags"]; fmt.Sprint(tags) != "[map[TagKey:env TagValue:test] map[TagKey:team TagValue:payments]]" {
			t.Errorf("%v", tags)
		}
		if r := w.ok("GetKeyRotationStatus", map[string]any{"KeyId": keyID}); r["RotationPeriodInDays"] != 100.0 {
			t.Errorf("%v", r)
		}
	}
	check()
	// The same again changes nothing; what others did to the key is put right.
	w.ok("ScheduleKeyDeletion", map[string]any{"KeyId": keyID})
	w.ok("UpdateKeyDescription", map[string]any{"KeyId": w.newKey(), "Description": "x"})
	w.ok("UpdateAlias", map[string]any{"AliasName": "alias/app", "TargetKeyId": w.newKey()})
	w.ask("POST", "/v1/seed", []byte(seedOf("material: "+material, "aliases: [alias/app, alias/second]", "tags: {team: payments, env: test}", "description: for tests", "rotationPeriodInDays: 100")), nil)
	check()
	if n := len(w.ok("ListAliases", map[string]any{"KeyId": keyID})["Aliases"].([]any)); n != 2 {
		t.Errorf("%d aliases", n)
	}
	// A reset seeds anew.
	w.ask("POST", "/v1/reset", nil, nil)
	check()
	if n := len(w.ok("ListKeys", nil)["Keys"].([]any)); n != 1 {
		t.Errorf("%d keys", n)
	}
	w.refused("POST", "/v1/seed", []byte(seedOf("material: "+otherMaterial)), `keys[0] "`+keyID+`": preparing SeedKey`)
	w.refused("POST", "/v1/seed", []byte(seedOf("spec: HMAC_256", "usage: GENERATE_VERIFY_MAC", "material: "+material)), "there already with the spec SYMMETRIC_DEFAULT")
}

func TestSeveralGenerations(t *testing.T) {
	w := newWorld(t, seedOf("material: ["+material+", "+otherMaterial+"]", "disabled: true"))
	if s := w.state(keyID); s != "Disabled" {
		t.Error(s)
	}
	w.ok("EnableKey", map[string]any{"KeyId": keyID})
	w.ok("Decrypt", map[string]any{"CiphertextBlob": fixture}) // under the older one
	list := w.ok("ListKeyRotations", map[string]any{"KeyId": keyID, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"})["Rotations"].([]any)
	if len(list) != 2 || list[1].(map[string]any)["KeyMaterialState"] != "CURRENT" {
		t.Errorf("%v", list)
	}
	w.ask("POST", "/v1/seed", []byte(seedOf("material: ["+material+", "+otherMaterial+"]")), nil)
	w.ask("POST", "/v1/seed", []byte(seedOf("material: "+material)), nil) // the later one stays
	if n := len(w.ok("ListKeyRotations", map[string]any{"KeyId": keyID, "IncludeKeyMaterial": "ALL_KEY_MATERIAL"})["Rotations"].([]any)); n != 2 {
		t.Errorf("%d generations", n)
	}
}

func TestSeedsOfOtherSpecs(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "\n", "\n      ")
	policy := "policy:\n      Version: '2012-10-17'\n      Statement: [{Effect: Allow, Principal: {AWS: 'arn:aws:iam::111122223333:root'}, Action: 'kms:*', Resource: '*'}]"
	w := newWorld(t, seedOf("spec: ECC_NIST_P256", "usage: SIGN_VERIFY", policy, "material: |\n      "+text))
	digest := sha256.Sum256([]byte("message"))
	out := w.ok("Sign", map[string]any{"KeyId": keyID, "Message": base64.StdEncoding.EncodeToString(digest[:]), "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"})
	signature, err := base64.StdEncoding.DecodeString(out["Signature"].(string))
	if err != nil || !ecdsa.VerifyASN1(&private.PublicKey, digest[:], signature) {
		t.Errorf("%v: no signature of the seeded key", err)
	}
	if got := w.ok("GetKeyPolicy", map[string]any{"KeyId": keyID})["Policy"].(string); !strings.Contains(got, `"kms:*"`) {
		t.Error(got)
	}
	w.ask("POST", "/v1/seed", []byte("keys: [{id: mrk-1234abcd12ab34cd56ef1234567890ab, multiRegion: true, region: eu-west-1}, {id: 2234abcd-12ab-34cd-56ef-1234567890ab, origin: EXTERNAL}]"), nil)
	if s := w.state("2234abcd-12ab-34cd-56ef-1234567890ab"); s != "PendingImport" {
		t.Error(s)
	}
	w.ask("POST", "/v1/seed", []byte("keys: [{id: 2234abcd-12ab-34cd-56ef-1234567890ab, origin: EXTERNAL, material: "+material+"}]"), nil)
	if s := w.state("2234abcd-12ab-34cd-56ef-1234567890ab"); s != "Enabled" {
		t.Error(s)
	}
}

func TestSeedsThatAreRefused(t *testing.T) {
	w := newWorld(t, "")
	entry := `keys[0] "` + keyID + `": `
	for text, want := range map[string]string{
		"keys: [{aliases: [alias/x]}]":                       "it has no id",
		"keys: [{id: short}]":                                "no key id",
		"keys: [{id: 1234ABCD-12ab-34cd-56ef-1234567890ab}]": "small letters",
		"keys: [{id: mrk-1234abcd12ab34cd56ef1234567890ab}]": "begin with mrk-",
		"keyz: []":                                               "field keyz not found",
		"keys: []\n---\nkeys: []":                                "more than one document",
		seedOf("stuff: x"):                                       "field stuff not found",
		seedOf("account: '999988887777'"):                        entry + "there is no account 999988887777",
		seedOf("account: x"):                                     entry,
		seedOf("region: nowhere at all"):                         entry,
		seedOf("spec: SYMMETRIC"):                                entry + "ValidationException",
		seedOf("spec: RSA_2048"):                                 entry + "ValidationException: You must specify a KeyUsage",
		seedOf("usage: SIGN_VERIFY"):                             "not compatible",
		seedOf("material: AAEC"):                                 "material number 1 is none of spec SYMMETRIC_DEFAULT",
		seedOf("material: '!!!'"):                                "material number 1: it is neither base64 nor PEM",
		seedOf("material: {a: b}"):                               "material is a text, or a list of them",
		seedOf("material: [" + material + ", " + material + "]"): "material number 2 is there twice",
		seedOf("material: |", "  -----BEGIN RSA PRIVATE KEY-----", "  AAEC", "  -----END RSA PRIVATE KEY-----"): "openssl pkcs8 -topk8",
		seedOf("material: |", "  -----BEGIN PRIVATE KEY-----"):                                                  "not one block of PEM",
		seedOf("aliases: [app]"):                                "alias app: ValidationException",
		seedOf("aliases: [alias/aws/s3]"):                       "alias alias/aws/s3: NotAuthorizedException",
		seedOf("aliases: [alias/a, alias/a]"):                   "alias/a is there twice",
		seedOf("tags: {'aws:x': y}"):                            "reserved",
		seedOf("policy: nonsense"):                              "MalformedPolicyDocumentException",
		seedOf("policy: [a]"):                                   "neither JSON text",
		seedOf("rotationPeriodInDays: 5"):                       "ValidationException",
		seedOf("origin: EXTERNAL", "rotationPeriodInDays: 100"): "only SYMMETRIC_DEFAULT keys of the origin AWS_KMS rotate",
		seedOf("description: " + strings.Repeat("x", 9000)):     "ValidationException",
		seedOf("origin: AWS_CLOUDHSM"):                          "does not have keys with Origin AWS_CLOUDHSM",
		"keys: [{id: " + keyID + "}, {id: " + keyID + "}]":      `keys[1] "` + keyID + `": arn:aws:kms:us-east-1:111122223333:key/` + keyID + " is there twice",
		seedOf("spec: HMAC_256", "usage: GENERATE_VERIFY_MAC", "material: ["+material+", "+otherMaterial+"]"): "one generation of material",
	} {
		w.refused("POST", "/v1/seed", []byte(text), want)
	}
	if n := len(w.ok("ListKeys", nil)["Keys"].([]any)); n != 0 {
		t.Errorf("%d keys are there", n)
	}
}

func FuzzParseSeed(f *testing.F) {
	f.Add(seedOf("material: ["+material+"]", "tags: {a: b}", "aliases: [alias/a]"))
	f.Add(seedOf("policy: {a: &a [b], c: *a}", "material: |\n      -----BEGIN PRIVATE KEY-----\n      AAEC\n      -----END PRIVATE KEY-----"))
	f.Add("keys: [{id: 1, policy: !!binary x}]")
	f.Fuzz(func(t *testing.T, text string) {
		seeds, err := dev.ParseSeed([]byte(text), dev.Home{Account: account, Region: region})
		if err != nil {
			return
		}
		for _, s := range seeds {
			if s.ID == "" || s.Account == "" || s.Region == "" {
				t.Errorf("%q gives %+v", text, s.Name)
			}
		}
	})
}
