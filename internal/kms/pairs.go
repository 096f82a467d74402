package kms

import (
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// keyPair is a new key pair: its private key (PKCS#8 DER) in the clear and encrypted, and its public key.
type keyPair struct {
	private      secret.Bytes
	blob, public []byte
	materialID   wire.Opt[string] // what it is encrypted under
}

// dataKeyPair makes a key pair and encrypts its private key under the request's key.
func (r *request) dataKeyPair(spec key.Spec, context map[string]string, run wire.Opt[bool]) (p keyPair, err error) {
	err = firstError(makesDataKeys(r.key.Key), allowedSpec(spec), checkContext(context))
	if err := r.ready(err, quota.Pair(string(spec)), run); err != nil {
		return keyPair{}, err
	}
	if p.private, p.public, err = r.custody.Pair(r.ctx, r.permit, r.key.Name, spec); err != nil {
		return keyPair{}, err
	}
	if err = r.lookAgain(); err == nil {
		p.blob, err = r.key.material.Encrypt(r.permit, p.private.Expose(), context)
	}
	if err != nil {
		p.private.Wipe()
		return keyPair{}, err
	}
	p.materialID = r.usedMaterial(r.key.Key, r.key.Current())
	return p, nil
}

// lookAgain loads the request's key anew after something that took time, in which the right to use it may have been taken or
// its material may have gone.
func (r *request) lookAgain() error {
	now, err := r.load(r.ctx, r.key.Name)
	if err != nil {
		return gone(r.key.Name, err)
	}
	if err := firstFailure(r.stillAllowed(now), func() error { return r.op.States.blocks(now.Key) }); err != nil {
		return err
	}
	r.key = now
	return nil
}

func generateDataKeyPair(r *request, in *kmsapi.GenerateDataKeyPairRequest) (*kmsapi.GenerateDataKeyPairResponse, error) {
	if err := r.believes(); err != nil {
		return nil, err
	}
	p, err := r.dataKeyPair(key.Spec(in.KeyPairSpec.V), in.EncryptionContext, in.DryRun)
	if err != nil {
		return nil, err
	}
	clear, sealed, err := r.answer(p.private)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GenerateDataKeyPairResponse{
		KeyID: wire.Some(r.key.arn), KeyPairSpec: in.KeyPairSpec, PrivateKeyPlaintext: clear, CiphertextForRecipient: sealed, PrivateKeyCiphertextBlob: p.blob,
		PublicKey: p.public, KeyMaterialID: p.materialID,
	}, nil
}

func generateDataKeyPairWithoutPlaintext(r *request, in *kmsapi.GenerateDataKeyPairWithoutPlaintextRequest) (*kmsapi.GenerateDataKeyPairWithoutPlaintextResponse, error) {
	p, err := r.dataKeyPair(key.Spec(in.KeyPairSpec.V), in.EncryptionContext, in.DryRun)
	if err != nil {
		return nil, err
	}
	p.private.Wipe()
	return &kmsapi.GenerateDataKeyPairWithoutPlaintextResponse{
		KeyID: wire.Some(r.key.arn), KeyPairSpec: in.KeyPairSpec, PrivateKeyCiphertextBlob: p.blob, PublicKey: p.public, KeyMaterialID: p.materialID,
	}, nil
}
