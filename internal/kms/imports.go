package kms

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/keywrap"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

const (
	// parametersLife is how long a wrapping key and its token can be used (API_GetParametersForImport).
	parametersLife = 24 * time.Hour
	// maxValidity is how far ahead material can expire at most ("Resource quotas", KMS developer guide).
	maxValidity = 365 * 24 * time.Hour
)

// suits returns the error for material that cannot come under a wrapping ("Select a wrapping algorithm", KMS developer guide):
// private RSA keys are too long for anything but an AES key, which is not for secret keys, and P-521 keys are too long for
// OAEP under the shortest RSA key.
func suits(material key.Spec, w custody.Wrapping) error {
	if w.Algorithm == kmsapi.AlgorithmSpecRsaesPkcs1V15 {
		return wire.Errorf(kmsapi.CodeUnsupportedOperationException, "The wrapping algorithm %s is no longer supported.", w.Algorithm)
	}
	fits := slices.Contains(keywrap.Algorithms(w.Spec), w.Algorithm) && keyspec.Allowed(w.Spec)
	switch w.Algorithm {
	case keywrap.AESWrapSHA1, keywrap.AESWrapSHA256:
		fits = fits && material != key.SymmetricDefault && keyspec.Of(material).MAC == nil
	case keywrap.OAEPSHA1, keywrap.OAEPSHA256:
		fits = fits && (material != keyspec.P521 || w.Spec != keyspec.RSA2048)
		fallthrough
	default:
		fits = fits && !slices.Contains([]key.Spec{keyspec.RSA2048, keyspec.RSA3072, keyspec.RSA4096}, material)
	}
	if !fits {
		return wire.Errorf(kmsapi.CodeUnsupportedOperationException,
			"Key material of key spec %s cannot be imported with wrapping algorithm %s and wrapping key spec %s.", material, w.Algorithm, w.Spec)
	}
	return nil
}

func getParametersForImport(r *request, in *kmsapi.GetParametersForImportRequest) (*kmsapi.GetParametersForImportResponse, error) {
	w := custody.Wrapping{Algorithm: in.WrappingAlgorithm.V, Spec: key.Spec(in.WrappingKeySpec.V)}
	if err := firstError(allowedSpec(r.key.Spec), suits(r.key.Spec, w)); err != nil {
		return nil, err
	}
	until := r.moment().Add(parametersLife)
	public, token, err := r.custody.WrappingKey(r.ctx, r.permit, r.key.Key, w, until)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GetParametersForImportResponse{
		KeyID: wire.Some(r.key.arn), ImportToken: token, PublicKey: secret.Take(public), ParametersValidTo: wire.Some(until),
	}, nil
}

// expirationModel is the ExpirationModel of an import, with its default.
func expirationModel(in *kmsapi.ImportKeyMaterialRequest) key.Expiration {
	return key.Expiration(in.ExpirationModel.Or(string(key.Expires)))
}

// checkImport checks the members of an import that depend on each other.
func checkImport(in *kmsapi.ImportKeyMaterialRequest) error {
	expires := expirationModel(in) == key.Expires
	switch {
	case expires && !in.ValidTo.Set:
		return wire.Errorf(wire.CodeValidation, "A validTo date must be set if the ExpirationModel is %s", key.Expires)
	case !expires && in.ValidTo.Set:
		return wire.Errorf(wire.CodeValidation, "A validTo date must not be set if the ExpirationModel is %s", key.DoesNotExpire)
	case in.ImportType.Or("") == kmsapi.ImportTypeNewKeyMaterial && in.KeyMaterialID.Set:
		return wire.Errorf(wire.CodeValidation, "KeyMaterialId must not be set if the ImportType is %s.", in.ImportType.V)
	}
	return nil
}

// checkValidTo checks when material is to expire.
func checkValidTo(in *kmsapi.ImportKeyMaterialRequest, now time.Time) error {
	switch {
	case !in.ValidTo.Set:
		return nil
	case !in.ValidTo.V.After(now):
		return wire.Errorf(wire.CodeValidation, "ValidTo must be in the future")
	case in.ValidTo.V.After(now.Add(maxValidity)):
		return wire.Errorf(wire.CodeValidation, "ValidTo must be within 365 days")
	}
	return nil
}

// checkGenerations refuses what is about several generations of material for keys that have one only.
func checkGenerations(k *key.Key, in *kmsapi.ImportKeyMaterialRequest) error {
	if k.Spec != key.SymmetricDefault && (in.ImportType.Set || in.KeyMaterialID.Set || in.KeyMaterialDescription.Set) {
		return wire.Errorf(wire.CodeValidation, "ImportType, KeyMaterialId and KeyMaterialDescription can only be specified for symmetric encryption KMS keys.")
	}
	return nil
}

// importFailures says what the errors of custody are to a client.
var importFailures = map[error]*wire.Error{
	custody.ErrImportToken:        wire.Bare(kmsapi.CodeInvalidImportTokenException),
	custody.ErrImportTokenExpired: wire.Bare(kmsapi.CodeExpiredImportTokenException),
	custody.ErrImportSize:         wire.Errorf(wire.CodeValidation, "Invalid encrypted key size."),
	custody.ErrImportUnwrap:       wire.Bare(kmsapi.CodeInvalidCiphertextException),
	custody.ErrImportMaterial:     wire.Bare(kmsapi.CodeIncorrectKeyMaterialException),
}

// importFailure returns the client's error for one of custody.
func importFailure(err error) error {
	for cause, failure := range importFailures {
		if errors.Is(err, cause) {
			return failure
		}
	}
	return err
}

// importKeyMaterial opens the material before it locks the key: that takes milliseconds.
func importKeyMaterial(r *request, in *kmsapi.ImportKeyMaterialRequest) (*kmsapi.ImportKeyMaterialResponse, error) {
	if err := firstError(allowedSpec(r.key.Spec), checkGenerations(r.key.Key, in), checkValidTo(in, r.now())); err != nil {
		return nil, err
	}
	m, err := r.custody.Import(r.ctx, r.permit, r.key.Key, in.ImportToken, in.EncryptedKeyMaterial, r.moment())
	if err != nil {
		return nil, importFailure(err)
	}
	m.Description, m.Expiration = in.KeyMaterialDescription.V, expirationModel(in)
	if in.ValidTo.Set {
		m.ValidTo = in.ValidTo.V.UTC().Truncate(time.Millisecond)
	}
	err = r.changeShared(func(k *key.Key) error {
		fillImport(k, in) // the key may have got material since
		return takeIn(k, m, in.ImportType.V, in.KeyMaterialID.V)
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.ImportKeyMaterialResponse{KeyID: wire.Some(r.key.arn), KeyMaterialID: wire.Some(m.ID)}, nil
}

// defaultImportType is what an import is that does not say so (API_ImportKeyMaterial).
func defaultImportType(k *key.Key) string {
	if len(k.Material) == 0 && !k.IsReplica() {
		return kmsapi.ImportTypeNewKeyMaterial
	}
	return kmsapi.ImportTypeExistingKeyMaterial
}

// fillImport gives the input of an import without a type the one that it is of.
func fillImport(k *key.Key, in wire.Input) {
	if kind := &in.(*kmsapi.ImportKeyMaterialRequest).ImportType; !kind.Set {
		kind.V = defaultImportType(k)
	}
}

// takeIn gives a key imported material. expected is the id that the material should have, empty for any. A replica gets the material
// of its primary key only.
func takeIn(k *key.Key, m key.Material, importType, expected string) error {
	known := k.FindMaterial(m.ID) != nil
	fresh := importType == kmsapi.ImportTypeNewKeyMaterial
	if known == fresh || fresh && k.IsReplica() || expected != "" && expected != m.ID {
		return wire.Bare(kmsapi.CodeIncorrectKeyMaterialException)
	}
	if pending := k.Pending(); fresh && pending != nil {
		return wire.Errorf(kmsapi.CodeKMSInvalidStateException,
			"New key material (id: %s) cannot be imported into KMS key %s, because another key material (id: %s) is pending rotation.", m.ID, k.ID, pending.ID)
	}
	if m.State = key.Current; len(k.Material) > 0 {
		m.State = key.PendingRotation
	}
	k.Import(m)
	return nil
}

// deleteImportedKeyMaterial deletes the current material, or the one that is named. What is missing already is deleted again
// without effect.
func deleteImportedKeyMaterial(r *request, in *kmsapi.DeleteImportedKeyMaterialRequest) (*kmsapi.DeleteImportedKeyMaterialResponse, error) {
	out := new(kmsapi.DeleteImportedKeyMaterialResponse)
	err := r.changeShared(func(k *key.Key) error {
		id := in.KeyMaterialID.V
		switch current := k.Current(); {
		case in.KeyMaterialID.Set && k.FindMaterial(id) == nil:
			return wire.Errorf(kmsapi.CodeNotFoundException, "Key material %s does not exist in KMS key %s", id, k.ARN())
		case !in.KeyMaterialID.Set && current == nil:
			return nil
		case !in.KeyMaterialID.Set:
			id = current.ID
		}
		out.KeyMaterialID = wire.Some(id)
		k.Drop(id)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.KeyID = wire.Some(r.key.arn)
	return out, nil
}

// showExpiration adds to a description of a key when its material goes, while it has any.
func showExpiration(m *kmsapi.KeyMetadata, k *key.Key) {
	if k.Origin != key.OriginExternal {
		return
	}
	for i := range k.Material {
		if g := &k.Material[i]; g.Permanent() && g.Imported() {
			m.ExpirationModel = wire.Some(string(key.DoesNotExpire))
		}
	}
	if at := k.ExpiresAt((*key.Material).Permanent); !at.IsZero() {
		m.ExpirationModel, m.ValidTo = wire.Some(string(key.Expires)), wire.Some(at)
	}
}

// expired reports whether the time of some of a key's material is over, so that the key must not be used as it is.
func (s *Service) expired(snap *snapshot) bool {
	return !snap.expires.IsZero() && !snap.expires.After(s.now())
}

// expiredDetails returns what the record of material that expired says.
func expiredDetails(k *key.Key, id string) func(guard.Permit) (*audit.Fields, error) {
	return func(guard.Permit) (*audit.Fields, error) {
		details := new(audit.Fields)
		details.String("keyId", string(k.ID))
		details.String("keyMaterialId", id)
		return details, nil
	}
}

func showImport(f *audit.Fields, in *kmsapi.ImportKeyMaterialRequest) {
	f.String("keyId", in.KeyID.V)
	if in.ValidTo.Set {
		f.Date("validTo", in.ValidTo.V)
	}
	f.String("expirationModel", string(expirationModel(in)))
	if in.ImportType.V != "" { // there is none if the call found no key
		f.String("importType", in.ImportType.V)
	}
	text(f, "keyMaterialDescription", in.KeyMaterialDescription)
	text(f, "keyMaterialId", in.KeyMaterialID)
}

// importFacts gives kms:ValidTo in seconds since 1970, with the milliseconds that are kept: operators on numbers read it, as the
// service documents them for this key, and so do those on dates.
func importFacts(f *guard.Facts, in *kmsapi.ImportKeyMaterialRequest) {
	f.String("kms:ExpirationModel", string(expirationModel(in)))
	if in.ValidTo.Set {
		f.String("kms:ValidTo", strconv.FormatFloat(float64(in.ValidTo.V.UnixMilli())/1000, 'f', -1, 64))
	}
}

func replyImport(f *audit.Fields, _ *guard.Call, out wire.Output) {
	switch out := out.(type) {
	case *kmsapi.ImportKeyMaterialResponse:
		text(f, "keyId", out.KeyID)
		text(f, "keyMaterialId", out.KeyMaterialID)
	case *kmsapi.DeleteImportedKeyMaterialResponse:
		text(f, "keyId", out.KeyID)
		text(f, "keyMaterialId", out.KeyMaterialID)
	}
}
