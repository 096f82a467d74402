package kms

import (
	"errors"
	"slices"

	"github.com/keywright/keywright/internal/ciphertext"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// maxContext is the largest encryption context in octets of its keys and values ("Encryption context", KMS developer
// guide: under 8,192 bytes serialized).
const maxContext = 8192

func checkContext(context map[string]string) error {
	n := 0
	for k, v := range context {
		n += len(k) + len(v)
	}
	if n >= maxContext {
		return wire.Errorf(wire.CodeValidation, "The encryption context must be smaller than %d bytes.", maxContext)
	}
	return nil
}

// checkContextOf is checkContext for a key, which has to be symmetric if there is a context: nothing would bind it to another
// key's ciphertext.
func checkContextOf(k *key.Key, context map[string]string) error {
	if len(context) > 0 && k.Spec != key.SymmetricDefault {
		return wire.Errorf(wire.CodeValidation, "EncryptionContext is supported only with symmetric encryption KMS keys.")
	}
	return checkContext(context)
}

// hasAlgorithm checks an algorithm against a key, and whether there are keys of its spec at all in the mode that this process
// runs in.
func hasAlgorithm(k *key.Key, algorithm string) error {
	if k.Spec == key.SymmetricDefault && algorithm == keyspec.AlgorithmSymmetric {
		return nil
	}
	if !slices.Contains(keyspec.Of(k.Spec).Algorithms(k.Usage), algorithm) {
		return wire.Errorf(kmsapi.CodeInvalidKeyUsageException, "Algorithm %s is incompatible with key spec %s.", algorithm, k.Spec)
	}
	return allowedSpec(k.Spec)
}

// allowedSpec refuses key specs whose primitives are outside the FIPS 140-3 module while nothing else is to be used.
func allowedSpec(s key.Spec) error {
	if !keyspec.Allowed(s) {
		return wire.Errorf(kmsapi.CodeUnsupportedOperationException, "Key spec %s is not available in FIPS mode.", s)
	}
	return nil
}

// fitsPlaintext checks the length of what is to be encrypted under a key. The model has the limit of symmetric keys.
func fitsPlaintext(k *key.Key, algorithm string, size int) error {
	if most := keyspec.MaxPlaintext(k.Spec, algorithm); most > 0 && size > most {
		return wire.Errorf(wire.CodeValidation, "Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", algorithm, k.Spec, most)
	}
	return nil
}

// encryptionAlgorithm returns the algorithm of a call that encrypts or decrypts, with its default.
func encryptionAlgorithm(given wire.Opt[string]) string { return given.Or(keyspec.AlgorithmSymmetric) }

// dry ends a dry run in which everything was checked.
func dry(run wire.Opt[bool]) error {
	if run.V {
		return wire.Errorf(kmsapi.CodeDryRunOperationException, "The request would have succeeded, but the DryRun option is set.")
	}
	return nil
}

// firstError returns the first error of a list of checks that cost next to nothing.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// usedMaterial notes the key material that the call used, for its record, and returns its id for the answer. Nobody is told
// about that of keys that are not symmetric, which have one material in their life.
func (r *request) usedMaterial(k *key.Key, m *key.Material) (id wire.Opt[string]) {
	if k.Spec != key.SymmetricDefault {
		return id
	}
	r.call.Additional().String("keyMaterialId", m.ID)
	return wire.Some(m.ID)
}

// seal encrypts under a key, in a turn.
func (s *snapshot) seal(p guard.Permit, algorithm string, plaintext []byte, context map[string]string) ([]byte, error) {
	if s.Spec != key.SymmetricDefault {
		return s.material.EncryptAsymmetric(p, algorithm, plaintext)
	}
	return s.material.Encrypt(p, plaintext, context)
}

func encrypt(r *request, in *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	algorithm, k := encryptionAlgorithm(in.EncryptionAlgorithm), r.key.Key
	err := firstError(hasAlgorithm(k, algorithm), fitsPlaintext(k, algorithm, in.Plaintext.Len()), checkContextOf(k, in.EncryptionContext))
	if err := r.ready(err, bucketOf(k.Spec), in.DryRun); err != nil {
		return nil, err
	}
	end, err := r.turn()
	if err != nil {
		return nil, err
	}
	defer end()
	blob, err := r.key.seal(r.permit, algorithm, in.Plaintext.Expose(), in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	r.usedMaterial(r.key.Key, r.key.Current())
	return &kmsapi.EncryptResponse{CiphertextBlob: blob, KeyID: wire.Some(r.key.arn), EncryptionAlgorithm: wire.Some(algorithm)}, nil
}

// sealed is a ciphertext to be opened: the blob, what its header says if it has one, and the key it is for.
type sealed struct {
	blob      []byte
	header    ciphertext.Header
	algorithm string
	use
}

// unopened describes a request to decrypt, as Decrypt and ReEncrypt have it.
type unopened struct {
	blob      []byte
	given     wire.Opt[string] // the key the client named, if it did
	algorithm string
	context   map[string]string
	question  question
	bare      bool  // a dry run without a ciphertext
	rules     error // what the rules between members say, which comes after authorization
}

// errForeignCiphertext is the answer to a ciphertext whose key is unknown here or closed to the caller, where the client
// named none: which of them it is stays untold.
var errForeignCiphertext = wire.Errorf(wire.CodeAccessDenied,
	"The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access.")

// headed reports whether the ciphertext says which key it is for: those of asymmetric keys do not, and need none of us to be
// made.
func (u *unopened) headed() bool {
	return !u.bare && (u.algorithm == keyspec.AlgorithmSymmetric || !u.given.Set)
}

// parse reads the header of a ciphertext that should have one.
func (u *unopened) parse() (h ciphertext.Header, err error) {
	h, _, err = ciphertext.Parse(u.blob)
	switch {
	case err == nil:
	case u.algorithm == keyspec.AlgorithmSymmetric:
		err = wire.Bare(kmsapi.CodeInvalidCiphertextException)
	default:
		err = wire.Errorf(wire.CodeValidation, "KeyId is required to decrypt with algorithm %s.", u.algorithm)
	}
	return h, err
}

// follows returns what the rules between members say, and then what is wrong with the Recipient.
func (r *request) follows(rules error) error {
	if rules != nil {
		return rules
	}
	return r.believes()
}

// locate finds and authorizes the key of a ciphertext, and checks everything but the ciphertext's own integrity.
func (r *request) locate(u unopened) (*sealed, error) {
	s := &r.source // which costs no memory of its own
	*s = sealed{blob: u.blob, algorithm: u.algorithm, use: use{question: u.question}}
	var err error
	if u.given.Set {
		if s.key, s.alias, err = r.find(anyForm, u.given.V, u.question.action); err != nil {
			return nil, err
		}
		if s.key, s.permit, err = r.admit(s.key, s.alias, u.question); err != nil {
			return nil, err
		}
	}
	if u.headed() {
		if s.header, err = u.parse(); err != nil {
			return nil, err
		}
	}
	if s.key != nil {
		r.call.Concerns(s.key.Account, s.key.arn)
	}
	if s.key != nil || len(u.blob) == 0 {
		if err := r.follows(u.rules); err != nil {
			return nil, err
		}
	}
	switch {
	case s.key == nil:
		if err := r.locateByHeader(s); err != nil {
			return nil, err
		}
	case u.headed() && (s.header.Account != s.key.Account || s.header.Key != s.key.ID):
		return nil, wire.Errorf(kmsapi.CodeIncorrectKeyException, "The key ID in the request does not identify a CMK that can perform this operation.")
	}
	k := s.key.Key
	if err := firstError(r.follows(u.rules), r.op.usage(k), usable.blocks(k), hasAlgorithm(k, u.algorithm)); err != nil {
		return nil, err
	}
	if k.Spec != key.SymmetricDefault {
		return s, checkContextOf(k, u.context)
	}
	return s, nil
}

func (r *request) locateByHeader(s *sealed) error {
	var err error
	s.key, err = r.load(r.ctx, key.Name{Account: s.header.Account, Region: r.call.Region, ID: s.header.Key})
	if errors.Is(err, store.ErrNotFound) {
		return errForeignCiphertext
	}
	if err != nil {
		return err
	}
	s.untold = true
	if err = r.permitUse(&s.use); err == nil {
		r.call.Concerns(s.key.Account, s.key.arn)
	}
	return err
}

// openSealed decrypts a located ciphertext. It returns the material as well, of which symmetric keys can have several.
func (r *request) openSealed(s *sealed, context map[string]string) (plaintext secret.Bytes, m *key.Material, err error) {
	end, err := r.await(s.key, s.permit)
	if err != nil {
		return secret.Bytes{}, nil, err
	}
	defer end()
	if r.waited {
		if err := r.review(&s.use, usable); err != nil {
			return secret.Bytes{}, nil, err
		}
	}
	if s.key.Spec == key.SymmetricDefault {
		plaintext, m, err = s.key.material.Decrypt(s.permit, &s.header, s.blob, context)
	} else {
		plaintext, err = s.key.material.DecryptAsymmetric(s.permit, s.algorithm, s.blob)
	}
	if errors.Is(err, custody.ErrInvalidCiphertext) {
		return secret.Bytes{}, nil, wire.Bare(kmsapi.CodeInvalidCiphertextException)
	}
	return plaintext, m, err
}

// bareDryRun checks the members of a request to decrypt that depend on each other, and reports whether it is a dry run
// without a ciphertext.
func bareDryRun(modifiers []string, run wire.Opt[bool], given wire.Opt[string], keyMember string) (bool, error) {
	ignore := slices.Contains(modifiers, kmsapi.DryRunModifierTypeIgnoreCiphertext)
	switch {
	case len(modifiers) > 0 && !run.V:
		return false, wire.Errorf(wire.CodeValidation, "DryRunModifiers can only be specified when DryRun is set to true.")
	case ignore && !given.Set:
		return false, wire.Errorf(wire.CodeValidation, "%s is required when DryRunModifiers includes IGNORE_CIPHERTEXT.", keyMember)
	}
	return ignore, nil
}

func decrypt(r *request, in *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	bare, rules := bareDryRun(in.DryRunModifiers, in.DryRun, in.KeyID, "KeyId")
	s, err := r.locate(unopened{
		in.CiphertextBlob, in.KeyID, encryptionAlgorithm(in.EncryptionAlgorithm), in.EncryptionContext, r.ask(in), bare, rules,
	})
	if err != nil {
		return nil, err
	}
	if err := r.chargeUse(s.key.Key); err != nil {
		return nil, err
	}
	if bare {
		return nil, dry(in.DryRun)
	}
	plaintext, material, err := r.openSealed(s, in.EncryptionContext)
	if err := firstError(err, dry(in.DryRun)); err != nil {
		return nil, err
	}
	clear, sealed, err := r.answer(plaintext)
	if err != nil {
		return nil, err
	}
	r.usedKey(s.key)
	return &kmsapi.DecryptResponse{
		KeyID: wire.Some(s.key.arn), Plaintext: clear, CiphertextForRecipient: sealed, EncryptionAlgorithm: wire.Some(s.algorithm),
		KeyMaterialID: r.usedMaterial(s.key.Key, material),
	}, nil
}

func reEncrypt(r *request, in *kmsapi.ReEncryptRequest) (*kmsapi.ReEncryptResponse, error) {
	bare, rules := bareDryRun(in.DryRunModifiers, in.DryRun, in.SourceKeyID, "SourceKeyId")
	to, alias, errTo := r.find(anyForm, in.DestinationKeyID.V, actionReEncryptTo)
	from, err := r.locate(unopened{in.CiphertextBlob, in.SourceKeyID, encryptionAlgorithm(in.SourceEncryptionAlgorithm), in.SourceEncryptionContext, question{
		action: r.action, facts: r.sameKey(r.op.facts, in, to), in: in, bound: true, context: in.SourceEncryptionContext,
	}, bare, rules})
	if err := firstError(err, errTo); err != nil { // in the order of the keys, though a condition may ask for both
		return nil, err
	}
	dest := use{alias: alias, question: question{
		action: actionReEncryptTo, facts: r.sameKey(destinationFacts, in, to), in: in, bound: true, context: in.DestinationEncryptionContext,
	}}
	if dest.key, dest.permit, err = r.admit(to, alias, dest.question); err != nil {
		return nil, err
	}
	to = dest.key
	r.call.Concerns(to.Account, to.arn)
	algorithm := encryptionAlgorithm(in.DestinationEncryptionAlgorithm)
	err = firstError(r.op.usage(to.Key), usable.blocks(to.Key), hasAlgorithm(to.Key, algorithm), checkContextOf(to.Key, in.DestinationEncryptionContext))
	if err != nil {
		return nil, err
	}
	if err := r.chargeBoth(from.key.Key, to.Key); err != nil {
		return nil, err
	}
	if bare {
		return nil, dry(in.DryRun)
	}
	plaintext, material, err := r.openSealed(from, in.SourceEncryptionContext)
	if err != nil {
		return nil, err
	}
	defer plaintext.Wipe()
	if err := firstError(fitsPlaintext(to.Key, algorithm, plaintext.Len()), dry(in.DryRun)); err != nil {
		return nil, err
	}
	end, err := r.await(dest.key, dest.permit)
	if err != nil {
		return nil, err
	}
	defer end()
	if r.waited { // both, because the call is as old from here on as what decides now
		if err := r.review(&from.use, usable); err != nil {
			return nil, err
		}
		if err := r.decideAgain(&dest, usable); err != nil {
			return nil, err
		}
		to = dest.key
	}
	blob, err := to.seal(dest.permit, algorithm, plaintext.Expose(), in.DestinationEncryptionContext)
	if err != nil {
		return nil, err
	}
	r.usedKey(from.key)
	r.usedKey(to)
	out := &kmsapi.ReEncryptResponse{
		CiphertextBlob: blob, SourceKeyID: wire.Some(from.key.arn), KeyID: wire.Some(to.arn),
		SourceEncryptionAlgorithm: wire.Some(from.algorithm), DestinationEncryptionAlgorithm: wire.Some(algorithm),
	}
	if to.Spec == key.SymmetricDefault {
		out.DestinationKeyMaterialID = wire.Some(to.Current().ID)
		r.call.Additional().String("destinationKeyMaterialId", to.Current().ID)
	}
	if material != nil {
		out.SourceKeyMaterialID = wire.Some(material.ID)
		r.call.Additional().String("sourceKeyMaterialId", material.ID)
	}
	return out, nil
}

// sameKey adds kms:ReEncryptOnSameKey to the facts of a ReEncrypt whose destination is to, or nil if there is none.
func (r *request) sameKey(facts guard.FactSource, in *kmsapi.ReEncryptRequest, to *snapshot) guard.FactSource {
	return func(f *guard.Facts, input wire.Input) {
		facts(f, input)
		source, _, err := ciphertext.Parse(in.CiphertextBlob)
		if err != nil || encryptionAlgorithm(in.SourceEncryptionAlgorithm) != keyspec.AlgorithmSymmetric {
			// A dry run without a ciphertext, and one of an asymmetric key, name their source.
			if snap, _, err := r.find(anyForm, in.SourceKeyID.V, r.action); err == nil {
				source.Account, source.Key = snap.Account, snap.ID
			}
		}
		f.Bool("kms:ReEncryptOnSameKey", to != nil && source.Account == to.Account && source.Key == to.ID)
	}
}

// dataKeySize returns the length of the data key that a request asks for. That exactly one of the two is there was
// checked before.
func dataKeySize(spec wire.Opt[string], n wire.Opt[int32]) int {
	switch {
	case n.Set:
		return int(n.V)
	case spec.V == kmsapi.DataKeySpecAes128:
		return 16
	}
	return 32
}

func oneSize(spec wire.Opt[string], n wire.Opt[int32]) error {
	if spec.Set == n.Set {
		return wire.Errorf(wire.CodeValidation, "Please specify either number of bytes or key spec.")
	}
	if spec.Set && spec.V != kmsapi.DataKeySpecAes128 && spec.V != kmsapi.DataKeySpecAes256 {
		// The service's model check lets the specs of KMS keys through here, too.
		return wire.Errorf(wire.CodeValidation, "KeySpec %s is not a valid data key spec.", spec.V)
	}
	return nil
}

// makesDataKeys refuses a key that is for encryption but no symmetric one.
func makesDataKeys(k *key.Key) error {
	if k.Spec != key.SymmetricDefault {
		return wire.Errorf(kmsapi.CodeInvalidKeyUsageException, "You cannot generate a data key with an asymmetric CMK")
	}
	return nil
}

// dataKey makes a data key and encrypts it.
func (r *request) dataKey(size int, context map[string]string, run wire.Opt[bool]) (secret.Bytes, []byte, error) {
	if err := r.ready(firstError(makesDataKeys(r.key.Key), checkContext(context)), quota.Symmetric, run); err != nil {
		return secret.Bytes{}, nil, err
	}
	if err := r.settle(); err != nil {
		return secret.Bytes{}, nil, err
	}
	plaintext, err := r.custody.Random(r.permit, r.key.Name, size)
	if err != nil {
		return secret.Bytes{}, nil, err
	}
	blob, err := r.key.material.Encrypt(r.permit, plaintext.Expose(), context)
	if err != nil {
		plaintext.Wipe()
		return secret.Bytes{}, nil, err
	}
	r.usedMaterial(r.key.Key, r.key.Current())
	return plaintext, blob, nil
}

func generateDataKey(r *request, in *kmsapi.GenerateDataKeyRequest) (*kmsapi.GenerateDataKeyResponse, error) {
	if err := r.believes(); err != nil {
		return nil, err
	}
	plaintext, blob, err := r.dataKey(dataKeySize(in.KeySpec, in.NumberOfBytes), in.EncryptionContext, in.DryRun)
	if err != nil {
		return nil, err
	}
	clear, sealed, err := r.answer(plaintext)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GenerateDataKeyResponse{
		CiphertextBlob: blob, Plaintext: clear, CiphertextForRecipient: sealed, KeyID: wire.Some(r.key.arn), KeyMaterialID: wire.Some(r.key.Current().ID),
	}, nil
}

func generateDataKeyWithoutPlaintext(r *request, in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) (*kmsapi.GenerateDataKeyWithoutPlaintextResponse, error) {
	plaintext, blob, err := r.dataKey(dataKeySize(in.KeySpec, in.NumberOfBytes), in.EncryptionContext, in.DryRun)
	if err != nil {
		return nil, err
	}
	plaintext.Wipe()
	return &kmsapi.GenerateDataKeyWithoutPlaintextResponse{
		CiphertextBlob: blob, KeyID: wire.Some(r.key.arn), KeyMaterialID: wire.Some(r.key.Current().ID),
	}, nil
}

func generateRandom(r *request, in *kmsapi.GenerateRandomRequest) (*kmsapi.GenerateRandomResponse, error) {
	switch {
	case !in.NumberOfBytes.Set:
		return nil, wire.Errorf(wire.CodeValidation, "NumberOfBytes is required.")
	case in.CustomKeyStoreID.Set:
		return nil, wire.Bare(kmsapi.CodeCustomKeyStoreNotFoundException) // there are none
	}
	if err := r.believes(); err != nil {
		return nil, err
	}
	if err := r.charge(quota.Symmetric); err != nil {
		return nil, err
	}
	b, err := r.custody.Random(r.permit, key.Name{}, int(in.NumberOfBytes.V))
	if err != nil {
		return nil, err
	}
	r.call.ConcernsNothing()
	clear, sealed, err := r.answer(b)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GenerateRandomResponse{Plaintext: clear, CiphertextForRecipient: sealed}, nil
}
