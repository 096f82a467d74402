package kms

import (
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

func generateMac(r *request, in *kmsapi.GenerateMacRequest) (*kmsapi.GenerateMacResponse, error) {
	algorithm := in.MacAlgorithm.V
	if err := r.ready(hasAlgorithm(r.key.Key, algorithm), quota.Symmetric, in.DryRun); err != nil {
		return nil, err
	}
	mac, err := r.key.material.MAC(r.permit, algorithm, in.Message.Expose())
	if err != nil {
		return nil, err
	}
	return &kmsapi.GenerateMacResponse{KeyID: wire.Some(r.key.arn), Mac: mac, MacAlgorithm: wire.Some(algorithm)}, nil
}

// verifyMac answers an error, and never false, to what is no code of the message.
func verifyMac(r *request, in *kmsapi.VerifyMacRequest) (*kmsapi.VerifyMacResponse, error) {
	algorithm := in.MacAlgorithm.V
	if err := firstFailure(hasAlgorithm(r.key.Key, algorithm), func() error { return r.charge(quota.Symmetric) }); err != nil {
		return nil, err
	}
	valid, err := r.key.material.VerifyMAC(r.permit, algorithm, in.Message.Expose(), in.Mac)
	if err != nil {
		return nil, err
	}
	if !valid {
		return nil, wire.Bare(kmsapi.CodeKMSInvalidMacException)
	}
	if err := dry(in.DryRun); err != nil {
		return nil, err
	}
	return &kmsapi.VerifyMacResponse{KeyID: wire.Some(r.key.arn), MacValid: wire.Some(true), MacAlgorithm: wire.Some(algorithm)}, nil
}
