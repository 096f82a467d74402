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
	info     *kmsapi.RecipientInfo // what the client says; nil for nobody
	met      bool
	document *attest.Document // once it was met; nil if there is none that holds
	err      error
}

// meet verifies the Recipient of the request, if it has one, when it is asked for the first time: not for a caller who may do
// nothing. The error is the answer to one that is not to be believed; it comes after authorization, in which such a document
// says nothing.
func (r *request) meet() (*attest.Document, error) {
	to := &r.recipient
	if to.info != nil && !to.met {
		to.met = true
		to.document, to.err = r.attested(to.info)
	}
	return to.document, to.err
}

// believes is meet for who wants to know only whether to go on.
func (r *request) believes() error {
	_, err := r.meet()
	return err
}

func (r *request) attested(info *kmsapi.RecipientInfo) (*attest.Document, error) {
	switch {
	case r.attestation == nil:
		return nil, wire.Errorf(kmsapi.CodeUnsupportedOperationException,
			"This Keywright trusts no roots of attestation documents: Recipient is not supported.")
	case !info.KeyEncryptionAlgorithm.Set: // which has one value
		return nil, wire.Errorf(wire.CodeValidation, "KeyEncryptionAlgorithm is required in Recipient.")
	case len(info.AttestationDocument) == 0:
		return nil, wire.Errorf(wire.CodeValidation, "AttestationDocument is required in Recipient.")
	}
	end, waited, err := r.custody.Turn(r.ctx, r.call.Caller.Account)
	r.waited = r.waited || waited
	if err != nil {
		return nil, err
	}
	defer end()
	d, err := r.attestation.Verify(info.AttestationDocument, r.wall())
	if errors.Is(err, attest.ErrDocument) {
		return nil, wire.Errorf(wire.CodeValidation, "Invalid %v.", err)
	}
	return d, err
}

// facts returns what conditions may ask about the input, and about the enclave if there is one.
func (r *request) facts() guard.FactSource {
	if r.recipient.info == nil {
		return r.op.facts
	}
	about := r.op.facts
	return func(f *guard.Facts, in wire.Input) {
		if about != nil {
			about(f, in)
		}
		f.Later("kms:RecipientAttestation:", func(f *guard.Facts) error {
			d, err := r.meet()
			if err == nil {
				attestationFacts(f, d)
			}
			var notBelieved *wire.Error
			if errors.As(err, &notBelieved) {
				return nil
			}
			return err
		})
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
	d, err := r.meet()
	if err != nil { // which the handler has looked at before
		plaintext.Wipe()
		return secret.Bytes{}, nil, err
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
