package kms

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/keywright/keywright/internal/attest"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// Answers for enclaves ("How AWS Nitro Enclaves uses AWS KMS", KMS developer guide): the client sends an attestation document,
// conditions may ask what it says, and the answer is encrypted for the public key in it, with nothing in the clear beside.

// recipient is whom an answer is for, if not just for the caller.
type recipient struct {
	document *attest.Document // nil if there is none that holds
	// err is the answer to a Recipient that is not to be believed. It comes after authorization, in which such a document says
	// nothing.
	err error
}

// meet verifies the Recipient of a request, once, before anything asks about it.
func (r *request) meet(info *kmsapi.RecipientInfo) {
	if info == nil {
		return
	}
	r.recipient.document, r.recipient.err = r.attested(info)
}

func (s *Service) attested(info *kmsapi.RecipientInfo) (*attest.Document, error) {
	switch {
	case s.attestation == nil:
		return nil, wire.Errorf(kmsapi.CodeUnsupportedOperationException,
			"This Keywright trusts no roots of attestation documents: Recipient is not supported.")
	case !info.KeyEncryptionAlgorithm.Set: // which has one value
		return nil, wire.Errorf(wire.CodeValidation, "KeyEncryptionAlgorithm is required in Recipient.")
	case len(info.AttestationDocument) == 0:
		return nil, wire.Errorf(wire.CodeValidation, "AttestationDocument is required in Recipient.")
	}
	d, err := s.attestation.Verify(info.AttestationDocument, s.wall())
	if errors.Is(err, attest.ErrDocument) {
		return nil, wire.Errorf(wire.CodeValidation, "Invalid %v.", err)
	}
	return d, err
}

// facts returns what conditions may ask about the input, and about the enclave if there is one.
func (r *request) facts() guard.FactSource {
	d := r.recipient.document
	if d == nil {
		return r.op.facts
	}
	about := r.op.facts
	return func(f *guard.Facts, in wire.Input) {
		if about != nil {
			about(f, in)
		}
		attestationFacts(f, d)
	}
}

// imageKey is the second name of register 0, which measures the image of the enclave.
var imageKey = policy.ParseKey("kms:RecipientAttestation:ImageSha384")

func attestationFacts(f *guard.Facts, d *attest.Document) {
	if image, ok := d.PCRs[0]; ok {
		f.Add(imageKey, hex.EncodeToString(image))
	}
	for n, value := range d.PCRs {
		f.String("kms:RecipientAttestation:PCR"+strconv.Itoa(n), hex.EncodeToString(value))
	}
	for n, value := range d.NitroTPMPCRs {
		f.String("kms:RecipientAttestation:NitroTPMPCR"+strconv.Itoa(n), hex.EncodeToString(value))
	}
}

// answer returns what the caller gets of a plaintext: the plaintext, or if the request has a Recipient, what that can decrypt,
// and no plaintext.
func (r *request) answer(plaintext secret.Bytes) (clear secret.Bytes, sealed []byte, err error) {
	d := r.recipient.document
	if r.recipient.err != nil { // which the handler has looked at before
		plaintext.Wipe()
		return secret.Bytes{}, nil, r.recipient.err
	}
	if d == nil {
		return plaintext, nil, nil
	}
	defer plaintext.Wipe()
	if sealed, err = d.Encrypt(plaintext.Expose()); err != nil {
		return secret.Bytes{}, nil, err
	}
	r.call.Additional().Object("recipient", func(f *audit.Fields) { showRecipient(f, d) })
	return secret.Bytes{}, sealed, nil
}

// The registers that records show, enclaves' beside the image's.
var (
	shownPCRs         = []int{1, 2, 3, 4, 8}
	shownNitroTPMPCRs = []int{4, 7, 8, 9, 16, 23}
)

// showRecipient shows an enclave in a record ("Monitoring requests for attested platforms", KMS developer guide). Values are
// in base64, as in real records; the guide's samples have hex.
func showRecipient(f *audit.Fields, d *attest.Document) {
	f.String("attestationDocumentModuleId", d.ModuleID)
	show := func(name string, value []byte) {
		if value != nil {
			f.String(name, base64.StdEncoding.EncodeToString(value))
		}
	}
	show("attestationDocumentEnclaveImageDigest", d.PCRs[0])
	for _, n := range shownPCRs {
		show("attestationDocumentEnclavePCR"+strconv.Itoa(n), d.PCRs[n])
	}
	for _, n := range shownNitroTPMPCRs {
		show("attestationDocumentNitroTPMPCR"+strconv.Itoa(n), d.NitroTPMPCRs[n])
	}
}
