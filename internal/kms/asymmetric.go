package kms

import (
	"errors"
	"slices"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// getPublicKey answers what everybody may know of an asymmetric key.
func getPublicKey(r *request, _ *kmsapi.GetPublicKeyRequest) (*kmsapi.GetPublicKeyResponse, error) {
	k := r.key
	m := k.Current()
	if m == nil || len(m.Public) == 0 {
		return nil, wire.Bare(kmsapi.CodeUnsupportedOperationException) // a symmetric or HMAC key
	}
	about := metadata(k.Key)
	return &kmsapi.GetPublicKeyResponse{
		KeyID: wire.Some(k.arn), PublicKey: slices.Clone(m.Public), KeyUsage: about.KeyUsage,
		CustomerMasterKeySpec: about.CustomerMasterKeySpec, KeySpec: about.KeySpec,
		EncryptionAlgorithms: about.EncryptionAlgorithms, SigningAlgorithms: about.SigningAlgorithms,
		KeyAgreementAlgorithms: about.KeyAgreementAlgorithms, EncapsulationAlgorithms: about.EncapsulationAlgorithms,
	}, nil
}

// messageType is the MessageType of a call, with its default.
func messageType(given wire.Opt[string]) keyspec.MessageType {
	return keyspec.MessageType(given.Or(string(keyspec.Raw)))
}

// checkMessage checks whether a message of a type can be signed with an algorithm of a key ("MessageType", API_Sign).
func checkMessage(k *key.Key, algorithm string, kind keyspec.MessageType, size int) error {
	incompatible := func(with, what string) error {
		return wire.Errorf(wire.CodeValidation, "Message type %s is incompatible with %s %s.", kind, with, what)
	}
	external := algorithm == keyspec.AlgorithmMLDSA // its digest is one of its own, with another name
	digest := keyspec.DigestSize(algorithm)
	switch {
	case external && kind == keyspec.Digest, !external && kind == keyspec.ExternalMu:
		return incompatible("key spec", string(k.Spec))
	case kind == keyspec.Digest && digest == 0, kind == keyspec.Raw && algorithm == keyspec.AlgorithmEd25519ph:
		return incompatible("algorithm", algorithm)
	case kind == keyspec.Digest && size != digest, kind == keyspec.ExternalMu && size != keyspec.MuSize:
		return wire.Errorf(wire.CodeValidation, "Digest is invalid length for algorithm %s.", algorithm)
	}
	return nil
}

func sign(r *request, in *kmsapi.SignRequest) (*kmsapi.SignResponse, error) {
	algorithm, kind, k := in.SigningAlgorithm.V, messageType(in.MessageType), r.key.Key
	err := firstError(hasAlgorithm(k, algorithm), checkMessage(k, algorithm, kind, in.Message.Len()))
	if err := r.ready(err, bucketOf(k.Spec), in.DryRun); err != nil {
		return nil, err
	}
	signature, err := r.key.material.Sign(r.ctx, r.permit, algorithm, kind, in.Message.Expose())
	if err != nil {
		return nil, err
	}
	return &kmsapi.SignResponse{KeyID: wire.Some(r.key.arn), Signature: signature, SigningAlgorithm: wire.Some(algorithm)}, nil
}

// verify answers an error, and never false, to what is no signature of the message.
func verify(r *request, in *kmsapi.VerifyRequest) (*kmsapi.VerifyResponse, error) {
	algorithm, kind, k := in.SigningAlgorithm.V, messageType(in.MessageType), r.key.Key
	err := firstError(hasAlgorithm(k, algorithm), checkMessage(k, algorithm, kind, in.Message.Len()))
	if err := firstFailure(err, func() error { return r.chargeUse(k) }); err != nil {
		return nil, err
	}
	valid, err := r.key.material.Verify(r.ctx, r.permit, algorithm, kind, in.Message.Expose(), in.Signature)
	if err != nil {
		return nil, err
	}
	if !valid {
		return nil, wire.Bare(kmsapi.CodeKMSInvalidSignatureException)
	}
	if err := dry(in.DryRun); err != nil {
		return nil, err
	}
	return &kmsapi.VerifyResponse{KeyID: wire.Some(r.key.arn), SignatureValid: wire.Some(true), SigningAlgorithm: wire.Some(algorithm)}, nil
}

// errPeer is the answer to another party's public key that is malformed, of another curve or not on it.
var errPeer = &wire.Error{Code: wire.CodeValidation}

func deriveSharedSecret(r *request, in *kmsapi.DeriveSharedSecretRequest) (*kmsapi.DeriveSharedSecretResponse, error) {
	algorithm, k := in.KeyAgreementAlgorithm.V, r.key.Key
	if err := firstFailure(hasAlgorithm(k, algorithm), r.believes); err != nil {
		return nil, err
	}
	if _, err := keyspec.ParsePublic(k.Spec, in.PublicKey); err != nil { // which a dry run finds out, too
		return nil, errPeer
	}
	if err := r.ready(nil, bucketOf(k.Spec), in.DryRun); err != nil {
		return nil, err
	}
	shared, err := r.key.material.Agree(r.ctx, r.permit, in.PublicKey)
	if errors.Is(err, keyspec.ErrPeer) {
		return nil, errPeer
	}
	if err != nil {
		return nil, err
	}
	clear, sealed, err := r.answer(shared)
	if err != nil {
		return nil, err
	}
	return &kmsapi.DeriveSharedSecretResponse{
		KeyID: wire.Some(r.key.arn), SharedSecret: clear, CiphertextForRecipient: sealed, KeyAgreementAlgorithm: wire.Some(algorithm),
		KeyOrigin: wire.Some(string(k.Origin)),
	}, nil
}

func encapsulate(r *request, in *kmsapi.EncapsulateRequest) (*kmsapi.EncapsulateResponse, error) {
	algorithm := in.EncapsulationAlgorithm.V
	if err := r.ready(hasAlgorithm(r.key.Key, algorithm), bucketOf(r.key.Spec), in.DryRun); err != nil {
		return nil, err
	}
	shared, blob, err := r.key.material.Encapsulate(r.permit)
	if err != nil {
		return nil, err
	}
	return &kmsapi.EncapsulateResponse{
		KeyID: wire.Some(r.key.arn), SharedSecret: shared, SharedSecretCiphertextBlob: blob, EncapsulationAlgorithm: wire.Some(algorithm),
	}, nil
}

// decapsulate answers a secret to every ciphertext of the right length: to one that was not made for the key, another secret
// than its maker has (implicit rejection, FIPS 203).
func decapsulate(r *request, in *kmsapi.DecapsulateRequest) (*kmsapi.DecapsulateResponse, error) {
	algorithm, k := in.EncapsulationAlgorithm.V, r.key.Key
	if err := hasAlgorithm(k, algorithm); err != nil {
		return nil, err
	}
	if len(in.SharedSecretCiphertextBlob) != keyspec.CiphertextSize(k.Spec) {
		return nil, wire.Bare(kmsapi.CodeInvalidCiphertextException)
	}
	if err := r.ready(nil, bucketOf(k.Spec), in.DryRun); err != nil {
		return nil, err
	}
	shared, err := r.key.material.Decapsulate(r.permit, in.SharedSecretCiphertextBlob)
	if errors.Is(err, custody.ErrInvalidCiphertext) {
		return nil, wire.Bare(kmsapi.CodeInvalidCiphertextException)
	}
	if err != nil {
		return nil, err
	}
	return &kmsapi.DecapsulateResponse{KeyID: wire.Some(r.key.arn), SharedSecret: shared, EncapsulationAlgorithm: wire.Some(algorithm)}, nil
}
