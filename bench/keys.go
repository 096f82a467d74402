package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// signer is a key that signs, and how.
type signer struct {
	spec      key.Spec
	algorithm string
}

var (
	p256    = signer{keyspec.P256, keyspec.AlgorithmECDSA256}
	rsa2048 = signer{keyspec.RSA2048, keyspec.AlgorithmPSSSHA256}
	ed25519 = signer{keyspec.Ed25519, keyspec.AlgorithmEd25519}
	mldsa65 = signer{keyspec.MLDSA65, keyspec.AlgorithmMLDSA}
)

// messageSize is how much is signed.
const messageSize = 64

// bytesOf returns the octets of a blob member of an answer.
func bytesOf(out object, member string) ([]byte, error) {
	text, _ := out[member].(string)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%s is %q", member, text)
	}
	return b, nil
}

// use is what a key is made for.
type use struct {
	spec  key.Spec
	usage key.Usage
}

// made is a key of the server: its ARN and, of asymmetric keys, the public key as octets and parsed.
type made struct {
	arn    string
	spki   []byte
	public keyspec.Public
}

// keyFor returns the key for a use. It is made the first time, so that no round has the server make keys beside what is measured.
func (t *target) keyFor(spec key.Spec, usage key.Usage) (*made, error) {
	if k := t.keys[use{spec, usage}]; k != nil {
		return k, nil
	}
	arn, err := t.createKey(object{"KeySpec": spec, "KeyUsage": usage})
	if err != nil {
		return nil, err
	}
	k := &made{arn: arn}
	if usage != key.MACUsage {
		out, err := t.call("GetPublicKey", object{"KeyId": k.arn})
		if err != nil {
			return nil, err
		}
		if k.spki, err = bytesOf(out, "PublicKey"); err != nil {
			return nil, err
		}
		if k.public, err = keyspec.ParsePublic(spec, k.spki); err != nil {
			return nil, err
		}
	}
	t.keys[use{spec, usage}] = k
	return k, nil
}

var errSignature = errors.New("the signature is not valid")

// signRequests signs. Answers are verified here, with the public key that the server gave before.
func signRequests(s signer) func(*target) ([]request, error) {
	return func(t *target) ([]request, error) {
		k, err := t.keyFor(s.spec, key.SignVerify)
		if err != nil {
			return nil, err
		}
		return t.build("Sign", func() (object, func(object) error, error) {
			message := plaintext(messageSize)
			return object{"KeyId": k.arn, "SigningAlgorithm": s.algorithm, "Message": message}, func(out object) error {
				signature, err := bytesOf(out, "Signature")
				if err == nil && !k.public.(keyspec.Verifier).Verify(s.algorithm, keyspec.Raw, message, signature) {
					err = errSignature
				}
				return err
			}, nil
		})
	}
}

func verifyRequests(s signer) func(*target) ([]request, error) {
	return func(t *target) ([]request, error) {
		k, err := t.keyFor(s.spec, key.SignVerify)
		if err != nil {
			return nil, err
		}
		return t.build("Verify", func() (object, func(object) error, error) {
			body := object{"KeyId": k.arn, "SigningAlgorithm": s.algorithm, "Message": plaintext(messageSize)}
			out, err := t.call("Sign", body)
			if err != nil {
				return nil, nil, err
			}
			body["Signature"] = out["Signature"]
			return body, func(out object) error {
				if out["SignatureValid"] != true {
					return errSignature
				}
				return nil
			}, nil
		})
	}
}

func macRequests(t *target) ([]request, error) {
	k, err := t.keyFor(keyspec.HMACSHA256, key.MACUsage)
	if err != nil {
		return nil, err
	}
	return t.build("GenerateMac", func() (object, func(object) error, error) {
		body := object{"KeyId": k.arn, "MacAlgorithm": keyspec.AlgorithmHMAC256, "Message": plaintext(messageSize)}
		return body, func(out object) error {
			_, err := t.call("VerifyMac", object{"KeyId": k.arn, "MacAlgorithm": keyspec.AlgorithmHMAC256, "Message": body["Message"], "Mac": out["Mac"]})
			return err
		}, nil
	})
}

func randomRequests(t *target) ([]request, error) {
	return t.build("GenerateRandom", func() (object, func(object) error, error) {
		return object{"NumberOfBytes": 32}, func(out object) error {
			if b, err := bytesOf(out, "Plaintext"); err != nil || len(b) != 32 {
				return fmt.Errorf("%d random octets: %w", len(b), err)
			}
			return nil
		}, nil
	})
}

// agreeRequests derives secrets with the other parties' public keys. Answers are compared with what those parties get.
func agreeRequests(t *target) ([]request, error) {
	k, err := t.keyFor(keyspec.P256, key.KeyAgreement)
	if err != nil {
		return nil, err
	}
	return t.build("DeriveSharedSecret", func() (object, func(object) error, error) {
		peer, err := keyspec.Generate(keyspec.P256)
		if err != nil {
			return nil, nil, err
		}
		want, err := peer.(keyspec.Agreer).Agree(k.spki)
		if err != nil {
			return nil, nil, err
		}
		return object{"KeyId": k.arn, "KeyAgreementAlgorithm": keyspec.AlgorithmECDH, "PublicKey": peer.Public().SPKI()}, func(out object) error {
			if out["SharedSecret"] != base64.StdEncoding.EncodeToString(want.Expose()) {
				return errors.New("another secret than the other party's")
			}
			return nil
		}, nil
	})
}

// bare is a primitive of the standard library with nothing around it, ready to be called by many.
type bare func() error

// bareP256 hashes and signs, as P-256 keys do.
func bareP256() (bare, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	message := plaintext(messageSize)
	return func() error {
		digest := sha256.Sum256(message)
		_, err := ecdsa.SignASN1(rand.Reader, k, digest[:])
		return err
	}, nil
}

// bareRSA is bareP256 for RSA-2048 with PSS.
func bareRSA() (bare, error) {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	message := plaintext(messageSize)
	return func() error {
		digest := sha256.Sum256(message)
		_, err := rsa.SignPSS(rand.Reader, k, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		return err
	}, nil
}

// drive calls the primitive on all processors at once and returns how often a second it was done, and the microseconds of CPU that
// each call took.
func (b bare) drive(length time.Duration) (rate, cpu float64, err error) {
	var stop atomic.Bool
	var done atomic.Int64
	failures := make(chan error, runtime.NumCPU())
	before, err := used()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	timer := time.AfterFunc(length, func() { stop.Store(true) })
	defer timer.Stop()
	var all sync.WaitGroup
	for range runtime.NumCPU() {
		all.Go(func() {
			for !stop.Load() {
				if err := b(); err != nil {
					failures <- err
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	elapsed := time.Since(start)
	after, err := used()
	close(failures)
	n := float64(done.Load())
	return n / elapsed.Seconds(), float64((after - before).Microseconds()) / n, errors.Join(err, <-failures)
}

// used returns the user and system time of this process.
func used() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// primitiveOf returns the primitive of a case, or nil for the case "".
func primitiveOf(name string) (bare, error) {
	for _, k := range kinds {
		if k.name == name && k.bare != nil {
			return k.bare()
		}
	}
	if name != "" {
		return nil, fmt.Errorf("no case %q has a primitive", name)
	}
	return nil, nil
}
