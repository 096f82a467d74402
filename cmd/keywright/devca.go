package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// devCA is the certificate of a development server and where the CA that signed it can be found.
type devCA struct {
	bundle string // PEM file with the CA's certificate
	leaf   tls.Certificate
	remove string // temporary directory that ends with the server; "" if the files stay
}

// The names of the files below the data directory.
const (
	devCAFile    = "ca.pem"
	devCAKeyFile = "ca.key"
)

// makeDevCA returns a certificate for this machine's own names. With a data directory the CA lies in its directory "tls"
// and is used again, so that a bundle stays good over restarts; without one it ends with the server. The server's own
// certificate is made anew at every start and never stored.
func makeDevCA(data string) (c *devCA, err error) {
	c = &devCA{}
	dir := filepath.Join(data, "tls")
	if data == "" {
		if dir, err = os.MkdirTemp("", "keywright-dev-"); err != nil {
			return nil, fmt.Errorf("making a directory for the CA: %w", err)
		}
		c.remove = dir
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a directory for the CA: %w", err)
	}
	if c.bundle, err = filepath.Abs(filepath.Join(dir, devCAFile)); err != nil {
		return nil, fmt.Errorf("finding the CA: %w", err)
	}
	ca, err := loadOrMakeCA(c.bundle, filepath.Join(dir, devCAKeyFile), data != "")
	if err != nil {
		return nil, err
	}
	c.leaf, err = signLeaf(ca)
	return c, err
}

func (c *devCA) get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.leaf, nil }

func (c *devCA) close() error {
	if c.remove == "" {
		return nil
	}
	return os.RemoveAll(c.remove)
}

func loadOrMakeCA(certPath, keyPath string, keep bool) (tls.Certificate, error) {
	if keep {
		ca, err := tls.LoadX509KeyPair(certPath, keyPath)
		if err == nil && time.Now().Before(ca.Leaf.NotAfter) {
			return ca, nil
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return ca, withHint(fmt.Errorf("loading the development CA: %w", err), "remove the directory "+filepath.Dir(certPath)+" to have a new one made")
		}
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Keywright development CA"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().AddDate(5, 0, 0),
	}
	ca, err := issue(template, nil)
	if err != nil {
		return ca, err
	}
	if keep {
		text, err := x509.MarshalPKCS8PrivateKey(ca.PrivateKey)
		if err != nil {
			return ca, fmt.Errorf("encoding the development CA's key: %w", err)
		}
		if err := writePEM(keyPath, "PRIVATE KEY", text); err != nil {
			return ca, err
		}
	}
	return ca, writePEM(certPath, "CERTIFICATE", ca.Certificate[0])
}

func signLeaf(ca tls.Certificate) (tls.Certificate, error) {
	return issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotAfter: time.Now().AddDate(0, 0, 90),
	}, &ca)
}

// issue makes a key and a certificate for it, signed by the issuer or, without one, by itself.
func issue(template *x509.Certificate, issuer *tls.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a key: %w", err)
	}
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails: crypto/rand crashes the program instead
	template.SerialNumber, template.NotBefore = new(big.Int).SetBytes(serial), time.Now().Add(-time.Hour)
	parent, signer := template, crypto.PrivateKey(key)
	if issuer != nil {
		parent, signer = issuer.Leaf, issuer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("writing the development CA: %w", err)
	}
	return nil
}
