package goclient_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/keywright/keywright/conformance/server"
)

// walk calls every operation at least once and notes which it called.
type walk struct {
	*testing.T
	kms, away *kms.Client
	ctx       context.Context

	mutex  sync.Mutex
	called map[string]bool
}

const awayRegion = "eu-west-1"

func TestEveryOperation(t *testing.T) {
	_, c, ctx := start(t)
	w := &walk{T: t, ctx: ctx, called: map[string]bool{}}
	note := func(o *kms.Options) { o.APIOptions = append(o.APIOptions, w.note) }
	w.kms = kms.New(c.Options(), note)
	w.away = kms.New(c.Options(), note, func(o *kms.Options) { o.Region = awayRegion })
	k := w.symmetric()
	w.around(k)
	w.signatures()
	w.agreements()
	w.imports()
	w.regions()
	w.states(k)
	w.keyStores()

	text, err := os.ReadFile(filepath.Join("..", "clients", "operations.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if all, called := strings.Fields(string(text)), slices.Sorted(maps.Keys(w.called)); !slices.Equal(all, called) {
		t.Errorf("called %v, not %v", called, all)
	}
	t.Logf("%d operations", len(w.called))
}

// note is a middleware that keeps the operation's name.
func (w *walk) note(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("note", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
		w.mutex.Lock()
		w.called[awsmiddleware.GetOperationName(ctx)] = true
		w.mutex.Unlock()
		return next.HandleInitialize(ctx, in)
	}), middleware.After)
}

// is fails the test unless it is true.
func (w *walk) is(truth bool, what string) {
	w.Helper()
	if !truth {
		w.Fatal(what)
	}
}

// call returns the output of an operation that must succeed.
func call[In, Out any](w *walk, do func(context.Context, *In, ...func(*kms.Options)) (*Out, error), in *In) *Out {
	w.Helper()
	out, err := do(w.ctx, in)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// refused asserts that an operation fails with an E.
func refused[E error, In, Out any](w *walk, do func(context.Context, *In, ...func(*kms.Options)) (*Out, error), in *In) {
	w.Helper()
	if _, err := do(w.ctx, in); !as[E](err) {
		w.Errorf("%T: %v", err, err)
	}
}

func (w *walk) key(in *kms.CreateKeyInput) *types.KeyMetadata {
	w.Helper()
	return call(w, w.kms.CreateKey, in).KeyMetadata
}

func (w *walk) open(blob []byte) []byte {
	w.Helper()
	return call(w, w.kms.Decrypt, &kms.DecryptInput{CiphertextBlob: blob}).Plaintext
}

func (w *walk) random(size int) []byte {
	octets := make([]byte, size)
	_, _ = rand.Read(octets)
	return octets
}

func (w *walk) symmetric() *types.KeyMetadata {
	k := w.key(&kms.CreateKeyInput{Description: aws.String("go")})
	id := k.KeyId
	call(w, w.kms.UpdateKeyDescription, &kms.UpdateKeyDescriptionInput{KeyId: id, Description: aws.String("changed")})
	w.is(*call(w, w.kms.DescribeKey, &kms.DescribeKeyInput{KeyId: id}).KeyMetadata.Description == "changed", "description")
	plaintext := w.random(100)
	blob := call(w, w.kms.Encrypt, &kms.EncryptInput{KeyId: id, Plaintext: plaintext}).CiphertextBlob
	w.is(bytes.Equal(w.open(blob), plaintext), "Decrypt")
	other := w.key(&kms.CreateKeyInput{}).KeyId
	moved := call(w, w.kms.ReEncrypt, &kms.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: other})
	w.is(bytes.Equal(w.open(moved.CiphertextBlob), plaintext), "ReEncrypt")
	data := call(w, w.kms.GenerateDataKey, &kms.GenerateDataKeyInput{KeyId: id, KeySpec: types.DataKeySpecAes256})
	w.is(bytes.Equal(w.open(data.CiphertextBlob), data.Plaintext), "GenerateDataKey")
	hidden := call(w, w.kms.GenerateDataKeyWithoutPlaintext, &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: id, NumberOfBytes: aws.Int32(24)})
	w.is(len(w.open(hidden.CiphertextBlob)) == 24, "GenerateDataKeyWithoutPlaintext")
	pair := call(w, w.kms.GenerateDataKeyPair, &kms.GenerateDataKeyPairInput{KeyId: id, KeyPairSpec: types.DataKeyPairSpecEccNistP256})
	private, err := x509.ParsePKCS8PrivateKey(pair.PrivateKeyPlaintext)
	w.is(err == nil && bytes.Equal(w.open(pair.PrivateKeyCiphertextBlob), pair.PrivateKeyPlaintext), "GenerateDataKeyPair")
	public, err := x509.ParsePKIXPublicKey(pair.PublicKey)
	w.is(err == nil && private.(*ecdsa.PrivateKey).PublicKey.Equal(public), "the halves of a pair")
	half := call(w, w.kms.GenerateDataKeyPairWithoutPlaintext, &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: id, KeyPairSpec: types.DataKeyPairSpecEccNistP384})
	_, err = x509.ParsePKCS8PrivateKey(w.open(half.PrivateKeyCiphertextBlob))
	w.is(err == nil, "GenerateDataKeyPairWithoutPlaintext")
	w.is(*call(w, w.kms.GetKeyLastUsage, &kms.GetKeyLastUsageInput{KeyId: id}).KeyId == *id, "GetKeyLastUsage")
	return k
}

func (w *walk) around(k *types.KeyMetadata) {
	id, alias, root := k.KeyId, aws.String("alias/walk"), aws.String("arn:aws:iam::"+server.Account+":root")
	call(w, w.kms.CreateAlias, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: w.key(&kms.CreateKeyInput{}).KeyId})
	call(w, w.kms.UpdateAlias, &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: id})
	w.is(*call(w, w.kms.ListAliases, &kms.ListAliasesInput{KeyId: id}).Aliases[0].AliasName == *alias, "ListAliases")
	call(w, w.kms.DeleteAlias, &kms.DeleteAliasInput{AliasName: alias})
	call(w, w.kms.TagResource, &kms.TagResourceInput{KeyId: id, Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}})
	w.is(*call(w, w.kms.ListResourceTags, &kms.ListResourceTagsInput{KeyId: id}).Tags[0].TagValue == "b", "ListResourceTags")
	call(w, w.kms.UntagResource, &kms.UntagResourceInput{KeyId: id, TagKeys: []string{"a"}})
	policy := call(w, w.kms.GetKeyPolicy, &kms.GetKeyPolicyInput{KeyId: id}).Policy
	call(w, w.kms.PutKeyPolicy, &kms.PutKeyPolicyInput{KeyId: id, Policy: policy})
	w.is(slices.Equal(call(w, w.kms.ListKeyPolicies, &kms.ListKeyPoliciesInput{KeyId: id}).PolicyNames, []string{"default"}), "ListKeyPolicies")
	grant := &kms.CreateGrantInput{KeyId: id, GranteePrincipal: root, RetiringPrincipal: root, Operations: []types.GrantOperation{types.GrantOperationEncrypt}}
	first, second := call(w, w.kms.CreateGrant, grant), call(w, w.kms.CreateGrant, grant)
	w.is(len(call(w, w.kms.ListGrants, &kms.ListGrantsInput{KeyId: id}).Grants) == 2, "ListGrants")
	w.is(len(call(w, w.kms.ListRetirableGrants, &kms.ListRetirableGrantsInput{RetiringPrincipal: root}).Grants) == 2, "ListRetirableGrants")
	call(w, w.kms.RetireGrant, &kms.RetireGrantInput{GrantToken: first.GrantToken})
	call(w, w.kms.RevokeGrant, &kms.RevokeGrantInput{KeyId: id, GrantId: second.GrantId})
	call(w, w.kms.EnableKeyRotation, &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: aws.Int32(100)})
	w.is(*call(w, w.kms.GetKeyRotationStatus, &kms.GetKeyRotationStatusInput{KeyId: id}).RotationPeriodInDays == 100, "GetKeyRotationStatus")
	call(w, w.kms.DisableKeyRotation, &kms.DisableKeyRotationInput{KeyId: id})
	w.is(*call(w, w.kms.RotateKeyOnDemand, &kms.RotateKeyOnDemandInput{KeyId: id}).KeyId == *k.Arn, "RotateKeyOnDemand")
	w.is(call(w, w.kms.ListKeyRotations, &kms.ListKeyRotationsInput{KeyId: id}).Rotations[0].RotationType == types.RotationTypeOnDemand, "ListKeyRotations")
	w.is(len(call(w, w.kms.GenerateRandom, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(33)}).Plaintext) == 33, "GenerateRandom")
	w.is(slices.ContainsFunc(call(w, w.kms.ListKeys, &kms.ListKeysInput{}).Keys, func(e types.KeyListEntry) bool { return *e.KeyArn == *k.Arn }), "ListKeys")
}

func (w *walk) publicKey(id *string) []byte {
	return call(w, w.kms.GetPublicKey, &kms.GetPublicKeyInput{KeyId: id}).PublicKey
}

func (w *walk) signatures() {
	id, message := w.key(&kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify}).KeyId, w.random(200)
	signature := call(w, w.kms.Sign, &kms.SignInput{KeyId: id, Message: message, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}).Signature
	public, err := x509.ParsePKIXPublicKey(w.publicKey(id))
	if err != nil {
		w.Fatal(err)
	}
	sum := sha256.Sum256(message)
	w.is(ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), sum[:], signature), "crypto/ecdsa verifies")
	verify := &kms.VerifyInput{KeyId: id, Message: message, Signature: signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}
	w.is(call(w, w.kms.Verify, verify).SignatureValid, "Verify")
	verify.Message = w.random(200)
	refused[*types.KMSInvalidSignatureException](w, w.kms.Verify, verify)

	id = w.key(&kms.CreateKeyInput{KeySpec: types.KeySpecHmac384, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}).KeyId
	mac := call(w, w.kms.GenerateMac, &kms.GenerateMacInput{KeyId: id, Message: message, MacAlgorithm: types.MacAlgorithmSpecHmacSha384}).Mac
	check := &kms.VerifyMacInput{KeyId: id, Message: message, Mac: mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha384}
	w.is(len(mac) == 48 && call(w, w.kms.VerifyMac, check).MacValid, "VerifyMac")
}

func (w *walk) agreements() {
	in := &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP384, KeyUsage: types.KeyUsageTypeKeyAgreement}
	ann, bob := w.key(in).KeyId, w.key(in).KeyId
	derive := func(own, peer *string) []byte {
		return call(w, w.kms.DeriveSharedSecret, &kms.DeriveSharedSecretInput{KeyId: own, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: w.publicKey(peer)}).SharedSecret
	}
	w.is(bytes.Equal(derive(ann, bob), derive(bob, ann)), "DeriveSharedSecret")

	id := w.key(&kms.CreateKeyInput{KeySpec: types.KeySpecMlKem768, KeyUsage: types.KeyUsageTypeEncapsulateDecapsulate}).KeyId
	made := call(w, w.kms.Encapsulate, &kms.EncapsulateInput{KeyId: id, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem})
	opened := call(w, w.kms.Decapsulate, &kms.DecapsulateInput{
		KeyId: id, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem, SharedSecretCiphertextBlob: made.SharedSecretCiphertextBlob,
	})
	w.is(bytes.Equal(made.SharedSecret, opened.SharedSecret), "Decapsulate")
}

func (w *walk) imports() {
	id := w.key(&kms.CreateKeyInput{Origin: types.OriginTypeExternal}).KeyId
	given := call(w, w.kms.GetParametersForImport, &kms.GetParametersForImportInput{
		KeyId: id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
	})
	public, err := x509.ParsePKIXPublicKey(given.PublicKey)
	if err != nil {
		w.Fatal(err)
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), w.random(32), nil)
	if err != nil {
		w.Fatal(err)
	}
	material := call(w, w.kms.ImportKeyMaterial, &kms.ImportKeyMaterialInput{
		KeyId: id, ImportToken: given.ImportToken, EncryptedKeyMaterial: wrapped, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
	}).KeyMaterialId
	w.is(len(*material) == 64 && w.state(w.kms, id) == types.KeyStateEnabled, "ImportKeyMaterial")
	call(w, w.kms.DeleteImportedKeyMaterial, &kms.DeleteImportedKeyMaterialInput{KeyId: id})
	w.is(w.state(w.kms, id) == types.KeyStatePendingImport, "DeleteImportedKeyMaterial")
}

func (w *walk) describe(c *kms.Client, id *string) *types.KeyMetadata {
	return call(w, c.DescribeKey, &kms.DescribeKeyInput{KeyId: id}).KeyMetadata
}

func (w *walk) state(c *kms.Client, id *string) types.KeyState { return w.describe(c, id).KeyState }

// enabled waits until a key is Enabled.
func (w *walk) enabled(c *kms.Client, id *string) *types.KeyMetadata {
	for w.state(c, id) != types.KeyStateEnabled {
		select {
		case <-w.ctx.Done():
			w.Fatalf("%s does not become Enabled", *id)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return w.describe(c, id)
}

func (w *walk) regions() {
	id := w.key(&kms.CreateKeyInput{MultiRegion: aws.Bool(true)}).KeyId
	replica := call(w, w.kms.ReplicateKey, &kms.ReplicateKeyInput{KeyId: id, ReplicaRegion: aws.String(awayRegion)}).ReplicaKeyMetadata
	w.is(replica.MultiRegionConfiguration.MultiRegionKeyType == types.MultiRegionKeyTypeReplica, "ReplicateKey")
	w.enabled(w.away, id)
	plaintext := w.random(10)
	blob := call(w, w.kms.Encrypt, &kms.EncryptInput{KeyId: id, Plaintext: plaintext}).CiphertextBlob
	w.is(bytes.Equal(call(w, w.away.Decrypt, &kms.DecryptInput{CiphertextBlob: blob}).Plaintext, plaintext), "Decrypt in another Region")
	call(w, w.kms.UpdatePrimaryRegion, &kms.UpdatePrimaryRegionInput{KeyId: id, PrimaryRegion: aws.String(awayRegion)})
	w.is(w.enabled(w.away, id).MultiRegionConfiguration.MultiRegionKeyType == types.MultiRegionKeyTypePrimary, "UpdatePrimaryRegion")
}

func (w *walk) states(k *types.KeyMetadata) {
	id := k.KeyId
	call(w, w.kms.DisableKey, &kms.DisableKeyInput{KeyId: id})
	refused[*types.DisabledException](w, w.kms.Encrypt, &kms.EncryptInput{KeyId: id, Plaintext: []byte("x")})
	call(w, w.kms.EnableKey, &kms.EnableKeyInput{KeyId: id})
	call(w, w.kms.ScheduleKeyDeletion, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(7)})
	w.is(*call(w, w.kms.CancelKeyDeletion, &kms.CancelKeyDeletionInput{KeyId: id}).KeyId == *k.Arn, "CancelKeyDeletion")
	refused[*types.NotFoundException](w, w.kms.DescribeKey, &kms.DescribeKeyInput{KeyId: aws.String("alias/none")})
}

// keyStores asserts that what is not there says so. The model does not declare the error, so that it has no type of its own here.
func (w *walk) keyStores() {
	store := aws.String("cks-1234567890abcdef0")
	for name, do := range map[string]func() error{
		"ConnectCustomKeyStore": func() error {
			_, err := w.kms.ConnectCustomKeyStore(w.ctx, &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store})
			return err
		},
		"CreateCustomKeyStore": func() error {
			_, err := w.kms.CreateCustomKeyStore(w.ctx, &kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("store")})
			return err
		},
		"DeleteCustomKeyStore": func() error {
			_, err := w.kms.DeleteCustomKeyStore(w.ctx, &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: store})
			return err
		},
		"DescribeCustomKeyStores": func() error {
			_, err := w.kms.DescribeCustomKeyStores(w.ctx, &kms.DescribeCustomKeyStoresInput{})
			return err
		},
		"DisconnectCustomKeyStore": func() error {
			_, err := w.kms.DisconnectCustomKeyStore(w.ctx, &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store})
			return err
		},
		"UpdateCustomKeyStore": func() error {
			_, err := w.kms.UpdateCustomKeyStore(w.ctx, &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: store})
			return err
		},
	} {
		var e smithy.APIError
		if err := do(); !errors.As(err, &e) || e.ErrorCode() != "UnsupportedOperationException" {
			w.Errorf("%s: %v", name, err)
		}
	}
}
