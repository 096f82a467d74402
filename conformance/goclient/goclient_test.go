// Package goclient_test drives the server with the AWS SDK for Go, unchanged.
package goclient_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/keywright/keywright/conformance/server"
)

func start(t *testing.T) (*server.Server, *kms.Client, context.Context) {
	s := server.Start(t, "", filepath.Join(t.TempDir(), "log"))
	return s, s.KMS(), server.Context(t)
}

// must returns the output of a call that must succeed.
func must[T any](t *testing.T) func(T, error) T {
	return func(out T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

func newKey(t *testing.T, c *kms.Client) *types.KeyMetadata {
	t.Helper()
	return must[*kms.CreateKeyOutput](t)(c.CreateKey(server.Context(t), &kms.CreateKeyInput{})).KeyMetadata
}

func TestWalk(t *testing.T) {
	_, c, ctx := start(t)
	k := newKey(t, c)
	if k.KeyState != types.KeyStateEnabled || k.KeySpec != types.KeySpecSymmetricDefault || k.KeyManager != types.KeyManagerTypeCustomer ||
		*k.AWSAccountId != server.Account || time.Since(*k.CreationDate).Abs() > time.Minute || len(*k.CurrentKeyMaterialId) != 64 {
		t.Errorf("%+v", k)
	}
	alias := "alias/go"
	must[*kms.CreateAliasOutput](t)(c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: k.KeyId}))
	plaintext := make([]byte, 100)
	_, _ = rand.Read(plaintext)
	context := map[string]string{"stage": "test", "service": "go"}
	sealed := must[*kms.EncryptOutput](t)(c.Encrypt(ctx, &kms.EncryptInput{KeyId: &alias, Plaintext: plaintext, EncryptionContext: context}))
	if *sealed.KeyId != *k.Arn || sealed.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
		t.Errorf("%+v", sealed)
	}
	opened := must[*kms.DecryptOutput](t)(c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context}))
	if !bytes.Equal(opened.Plaintext, plaintext) || *opened.KeyId != *k.Arn || *opened.KeyMaterialId != *k.CurrentKeyMaterialId {
		t.Errorf("%+v", opened)
	}
	other := newKey(t, c)
	moved := must[*kms.ReEncryptOutput](t)(c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, SourceEncryptionContext: context, DestinationKeyId: other.Arn}))
	if *moved.SourceKeyId != *k.Arn || *moved.KeyId != *other.Arn {
		t.Errorf("%+v", moved)
	}
	data := must[*kms.GenerateDataKeyOutput](t)(c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes256}))
	again := must[*kms.DecryptOutput](t)(c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: data.CiphertextBlob, KeyId: k.KeyId}))
	if len(data.Plaintext) != 32 || !bytes.Equal(data.Plaintext, again.Plaintext) {
		t.Error("a data key does not decrypt to itself")
	}
	must[*kms.EnableKeyRotationOutput](t)(c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: k.KeyId, RotationPeriodInDays: aws.Int32(180)}))
	status := must[*kms.GetKeyRotationStatusOutput](t)(c.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: k.KeyId}))
	if !status.KeyRotationEnabled || *status.RotationPeriodInDays != 180 || time.Until(*status.NextRotationDate).Round(time.Hour) != 180*24*time.Hour {
		t.Errorf("%+v", status)
	}
	plan := must[*kms.ScheduleKeyDeletionOutput](t)(c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: aws.Int32(7)}))
	if plan.KeyState != types.KeyStatePendingDeletion || *plan.PendingWindowInDays != 7 || time.Until(*plan.DeletionDate).Round(time.Hour) != 7*24*time.Hour {
		t.Errorf("%+v", plan)
	}
}

// as reports whether err is a T.
func as[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

func TestTypedErrors(t *testing.T) {
	_, c, ctx := start(t)
	k, disabled, pending := newKey(t, c), newKey(t, c), newKey(t, c)
	must[*kms.DisableKeyOutput](t)(c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: disabled.KeyId}))
	must[*kms.ScheduleKeyDeletionOutput](t)(c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: pending.KeyId}))
	must[*kms.CreateAliasOutput](t)(c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/there"), TargetKeyId: k.KeyId}))
	blob := must[*kms.EncryptOutput](t)(c.Encrypt(ctx, &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("x")})).CiphertextBlob
	encrypt := func(id string, more func(*kms.EncryptInput)) error {
		in := &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")}
		if more != nil {
			more(in)
		}
		_, err := c.Encrypt(ctx, in)
		return err
	}
	for name, check := range map[string]struct {
		is   func(error) bool
		call func() error
	}{
		"not found": {as[*types.NotFoundException], func() error { return encrypt("alias/none", nil) }},
		"disabled":  {as[*types.DisabledException], func() error { return encrypt(*disabled.KeyId, nil) }},
		"state":     {as[*types.KMSInvalidStateException], func() error { return encrypt(*pending.KeyId, nil) }},
		"usage": {as[*types.InvalidKeyUsageException], func() error {
			return encrypt(*k.KeyId, func(in *kms.EncryptInput) { in.EncryptionAlgorithm = types.EncryptionAlgorithmSpecRsaesOaepSha256 })
		}},
		"grant token": {as[*types.InvalidGrantTokenException], func() error {
			return encrypt(*k.KeyId, func(in *kms.EncryptInput) { in.GrantTokens = []string{"x"} })
		}},
		"dry run": {as[*types.DryRunOperationException], func() error {
			return encrypt(*k.KeyId, func(in *kms.EncryptInput) { in.DryRun = aws.Bool(true) })
		}},
		"ciphertext": {as[*types.InvalidCiphertextException], func() error {
			_, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"a": "b"}})
			return err
		}},
		"incorrect key": {as[*types.IncorrectKeyException], func() error {
			_, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob, KeyId: disabled.KeyId})
			return err
		}},
		"already exists": {as[*types.AlreadyExistsException], func() error {
			_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/there"), TargetKeyId: k.KeyId})
			return err
		}},
		"arn": {as[*types.InvalidArnException], func() error {
			_, err := c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: aws.String("alias/there")})
			return err
		}},
		"marker": {as[*types.InvalidMarkerException], func() error {
			_, err := c.ListKeys(ctx, &kms.ListKeysInput{Marker: aws.String("x")})
			return err
		}},
		"tags": {as[*types.TagException], func() error {
			_, err := c.TagResource(ctx, &kms.TagResourceInput{KeyId: k.KeyId, Tags: []types.Tag{{TagKey: aws.String("aws:x"), TagValue: aws.String("")}}})
			return err
		}},
		"policy": {as[*types.MalformedPolicyDocumentException], func() error {
			_, err := c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: aws.String("{}")})
			return err
		}},
		"unsupported": {as[*types.UnsupportedOperationException], func() error {
			_, err := c.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: k.KeyId})
			return err
		}},
		"key store": {as[*types.CustomKeyStoreNotFoundException], func() error {
			_, err := c.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1), CustomKeyStoreId: aws.String("cks-1234567890abcdef0")})
			return err
		}},
	} {
		if err := check.call(); !check.is(err) {
			t.Errorf("%s: %T %v", name, err, err)
		}
	}
}

// Errors that are not in the model come as smithy.APIError with the service's code and words.
func TestOtherErrors(t *testing.T) {
	s, c, ctx := start(t)
	for want, call := range map[string]func() error{
		"ValidationException: Please specify either number of bytes or key spec.": func() error {
			_, err := c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: newKey(t, c).KeyId})
			return err
		},
		"UnrecognizedClientException: The security token included in the request is invalid.": func() error {
			_, err := s.KMSWith("AKIANOBODY", "x", "").ListKeys(ctx, &kms.ListKeysInput{})
			return err
		},
		"InvalidSignatureException: The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.": func() error {
			_, err := s.KMSWith(server.KeyID, "x", "").ListKeys(ctx, &kms.ListKeysInput{})
			return err
		},
	} {
		var e smithy.APIError
		if err := call(); !errors.As(err, &e) || e.ErrorCode()+": "+e.ErrorMessage() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestPaginators(t *testing.T) {
	_, c, ctx := start(t)
	var made, listed []string
	for range 120 {
		made = append(made, *newKey(t, c).KeyId)
	}
	for p := kms.NewListKeysPaginator(c, &kms.ListKeysInput{Limit: aws.Int32(50)}); p.HasMorePages(); {
		for _, k := range must[*kms.ListKeysOutput](t)(p.NextPage(ctx)).Keys {
			listed = append(listed, *k.KeyId)
		}
	}
	slices.Sort(made)
	slices.Sort(listed)
	if !slices.Equal(made, listed) {
		t.Errorf("listed %d keys of %d", len(listed), len(made))
	}
	for i := range 50 {
		name := "alias/go/" + strconv.Itoa(i)
		must[*kms.CreateAliasOutput](t)(c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &made[0]}))
	}
	aliases := 0
	for p := kms.NewListAliasesPaginator(c, &kms.ListAliasesInput{KeyId: &made[0], Limit: aws.Int32(20)}); p.HasMorePages(); {
		aliases += len(must[*kms.ListAliasesOutput](t)(p.NextPage(ctx)).Aliases)
	}
	if aliases != 50 {
		t.Errorf("listed %d aliases", aliases)
	}
}

func TestSessionToken(t *testing.T) {
	s, _, ctx := start(t)
	who := must[*sts.GetCallerIdentityOutput](t)(s.STS().GetCallerIdentity(ctx, nil))
	if *who.Account != server.Account || *who.Arn != "arn:aws:iam::"+server.Account+":root" {
		t.Errorf("%+v", who)
	}
	made := must[*sts.GetSessionTokenOutput](t)(s.STS().GetSessionToken(ctx, &sts.GetSessionTokenInput{DurationSeconds: aws.Int32(900)})).Credentials
	c := s.KMSWith(*made.AccessKeyId, *made.SecretAccessKey, *made.SessionToken)
	if out := must[*kms.GenerateRandomOutput](t)(c.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(9)})); len(out.Plaintext) != 9 {
		t.Errorf("%d random octets", len(out.Plaintext))
	}
}

// The SDK's presigner moves X-Amz-Target into the query.
func TestPresigned(t *testing.T) {
	s, c, ctx := start(t)
	body := []byte(`{"KeyId":"` + *newKey(t, c).KeyId + `"}`)
	sum := sha256.Sum256(body)
	req := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/", nil))
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "TrentService.DescribeKey")
	req.URL.RawQuery = "X-Amz-Expires=60"
	link, signed, err := v4.NewSigner().PresignHTTP(ctx, aws.Credentials{AccessKeyID: server.KeyID, SecretAccessKey: server.Secret}, req,
		hex.EncodeToString(sum[:]), "kms", server.Region, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{"as signed": nil, "changed": func(b []byte) []byte { return append(b, ' ') }} {
		sent := bytes.Clone(body)
		if change != nil {
			sent = change(sent)
		}
		again := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodPost, link, bytes.NewReader(sent)))
		again.Header = signed.Clone()
		again.Header.Set("Content-Type", "application/x-amz-json-1.1")
		answer, err := http.DefaultClient.Do(again)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if change == nil && (answer.StatusCode != http.StatusOK || !strings.Contains(string(text), `"KeyMetadata"`)) || change != nil && !strings.Contains(string(text), "InvalidSignatureException") {
			t.Errorf("%s: %d %s", name, answer.StatusCode, text)
		}
	}
}

func TestPolicyOpensToAnotherAccount(t *testing.T) {
	s, c, ctx := start(t)
	k := newKey(t, c)
	blob := must[*kms.EncryptOutput](t)(c.Encrypt(ctx, &kms.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("shared")})).CiphertextBlob
	decrypt := func() error {
		out, err := s.OtherKMS().Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob})
		if err == nil && string(out.Plaintext) != "shared" {
			t.Error("another plaintext")
		}
		return err
	}
	if err := decrypt(); err == nil {
		t.Error("another account decrypted")
	}
	document, _ := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": map[string]any{
		"Effect": "Allow", "Principal": map[string]any{"AWS": []string{server.Account, server.OtherAccount}}, "Action": "kms:*", "Resource": "*",
	}})
	must[*kms.PutKeyPolicyOutput](t)(c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: k.KeyId, Policy: aws.String(string(document))}))
	if err := decrypt(); err != nil {
		t.Error(err)
	}
}
