package sink

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/keywright/keywright/internal/secret"
)

// The headers of a webhook's requests.
const (
	// HeaderFirst has the number of the first record of the body.
	HeaderFirst = "X-Keywright-First-Record"
	// HeaderSignature has t=SECONDS,v1=HEX: when it was signed, and the HMAC-SHA-256 of the seconds, a dot and the body.
	HeaderSignature = "X-Keywright-Signature"
)

// webhook posts batches, {"Records":[…]} as in CloudTrail's log files, and takes any 2xx answer as a receipt.
type webhook struct {
	url    string
	secret secret.Bytes
	client http.Client
}

func newWebhook(c *Config) (*webhook, error) {
	t := &webhook{url: c.URL}
	var err error
	if t.secret, err = c.Secret.read(); err != nil {
		return nil, fmt.Errorf("secret: %w", err)
	}
	config, err := clientTLS(c)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // with the proxy of the environment
	transport.TLSClientConfig, transport.MaxIdleConnsPerHost = config, 1
	t.client = http.Client{
		Transport: transport, Timeout: orDefault(c.Timeout, defaultTimeout),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // records go where the configuration says
	}
	return t, nil
}

// clientTLS returns how to speak TLS to the other side.
func clientTLS(c *Config) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		if config.RootCAs = x509.NewCertPool(); !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca: no certificate in %s", c.CA)
		}
	}
	if c.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func (*webhook) lost() <-chan struct{}    { return nil }
func (*webhook) progress() (int64, int64) { return 0, 0 }

func (t *webhook) close() error {
	t.client.CloseIdleConnections()
	return nil
}

func (t *webhook) deliver(ctx context.Context, first uint64, records [][]byte) error {
	body := []byte(`{"Records":[`)
	body = append(body, bytes.Join(records, []byte(","))...)
	body = append(body, "]}"...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be asked")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "keywright")
	req.Header.Set(HeaderFirst, strconv.FormatUint(first, 10))
	req.Header.Set(HeaderSignature, sign(t.secret, time.Now(), body))
	resp, err := t.client.Do(req)
	if err != nil {
		var with *url.Error // has the URL, which may have a secret in it
		if errors.As(err, &with) {
			err = with.Err
		}
		return fmt.Errorf("posting: %w", err)
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be used again
	if err := resp.Body.Close(); err != nil {
		return fmt.Errorf("posting: %w", err)
	}
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err = fmt.Errorf("the webhook answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if after, ok := retryAfter(resp.Header.Get("Retry-After"), time.Now()); ok {
		return &retryLater{err, after}
	}
	return err
}

// sign returns the value of HeaderSignature.
func sign(key secret.Bytes, at time.Time, body []byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key.Expose())
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// retryAfter reads Retry-After, seconds or a date (RFC 9110, section 10.2.3).
func retryAfter(value string, now time.Time) (time.Duration, bool) {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}
