package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

// talker makes signed calls to a server and collects what must never be in its log.
type talker struct {
	t          *testing.T
	endpoint   string
	credential sigv4.Credential
	secrets    map[string]string // by what they are
}

// secret notes a secret.
func (k *talker) secret(what, text string) {
	k.t.Helper()
	if len(text) < 8 {
		k.t.Fatalf("%s is too short to be looked for: %q", what, text)
	}
	k.secrets[what] = text
}

// post makes a call, signed for a service unless that is empty, and returns the answer's body.
func (k *talker) post(service, contentType, body string, header ...string) string {
	k.t.Helper()
	u, err := url.Parse(k.endpoint)
	if err != nil {
		k.t.Fatal(err)
	}
	signed := sigv4.Request{Method: http.MethodPost, Path: "/", Host: u.Host, Body: []byte(body), Header: []sigv4.Field{{Name: "Content-Type", Value: contentType}}}
	for i := 0; i < len(header); i += 2 {
		signed.Header = append(signed.Header, sigv4.Field{Name: header[i], Value: header[i+1]})
	}
	if service != "" {
		signed.Header = append(signed.Header, sigv4.Sign(&signed, k.credential, "us-east-1", service, time.Now())...)
	}
	req, err := http.NewRequest(http.MethodPost, k.endpoint, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	for _, f := range signed.Header {
		req.Header.Set(f.Name, f.Value)
		if strings.EqualFold(f.Name, "Authorization") {
			_, signature, _ := strings.Cut(f.Value, "Signature=")
			k.secrets["signature "+signature[:6]] = signature
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	return string(text)
}

// kms makes a call of KMS.
func (k *talker) kms(operation, body string, header ...string) map[string]any {
	k.t.Helper()
	text := k.post("kms", "application/x-amz-json-1.1", body, append(header, "X-Amz-Target", "TrentService."+operation)...)
	var out map[string]any
	if text != "" {
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			k.t.Fatalf("%s: %s", operation, text)
		}
	}
	return out
}

// query makes a call of IAM or STS and returns the text of an element of the answer.
func (k *talker) query(service, form, element string) string {
	k.t.Helper()
	version := map[string]string{"iam": "2010-05-08", "sts": "2011-06-15"}[service]
	text := k.post(service, "application/x-www-form-urlencoded", form+"&Version="+version)
	_, rest, ok := strings.Cut(text, "<"+element+">")
	if !ok {
		k.t.Fatalf("%s: %s", form, text)
	}
	value, _, _ := strings.Cut(rest, "<")
	return value
}

// forms are the ways in which a secret could have been written.
func forms(text string) []string {
	list := []string{text, url.QueryEscape(text), hex.EncodeToString([]byte(text)), base64.RawStdEncoding.EncodeToString([]byte(text))}
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw) >= 8 {
		list = append(list, string(raw), hex.EncodeToString(raw), strings.TrimRight(text, "="))
	}
	return list
}

// TestNothingSecretIsLogged runs a server that logs as much as it can, calls it with known secrets, right and wrong, and
// searches all that it wrote.
func TestNothingSecretIsLogged(t *testing.T) {
	dir := t.TempDir()
	k := &talker{t: t, secrets: map[string]string{}}
	k.secret("passphrase", "correct horse battery staple")
	k.secret("collector's token", "collector-token-0123456789")
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("phrase", k.secrets["passphrase"]+"\n")
	write("headers", "Authorization: Bearer "+k.secrets["collector's token"]+"\n")
	write("server.yaml", "listen: 127.0.0.1:0\ndata: data\nseals: [{kind: passphrase, file: phrase}]\nlog: {format: json, level: debug}\n"+
		"traces: {endpoint: 'http://127.0.0.1:1', ratio: 1, headersFile: headers}\n")
	made, err := exec.Command("keywright", "init", "--config", filepath.Join(dir, "server.yaml"), "--account", "111122223333").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, made)
	}
	find := func(expression string) string {
		m := regexp.MustCompile(expression).FindSubmatch(made)
		if m == nil {
			t.Fatalf("%s is not in %s", expression, made)
		}
		return string(m[1])
	}
	k.secret("root's secret access key", find(`Secret access key: (\S+)`))
	k.credential = sigv4.Credential{AccessKeyID: find(`Access key id:     (\S+)`), Secret: secret.FromString(k.secrets["root's secret access key"])}

	cmd := exec.Command("keywright", "server", "--config", filepath.Join(dir, "server.yaml"))
	var log safeBuffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() && k.endpoint == "" {
		if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
			k.endpoint = m[1]
			break
		}
	}
	if k.endpoint == "" {
		t.Fatalf("it did not start: %s", log.String())
	}
	k.talk()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if ended, err = true, cmd.Wait(); err != nil {
		t.Error(err)
	}
	all := log.Bytes()
	if n := bytes.Count(all, []byte(`"msg":"a request was refused"`)); n < 10 {
		t.Errorf("%d lines about refused requests: the log says too little for this test", n)
	}
	if !bytes.Contains(all, []byte("traces could not be delivered")) {
		t.Error("there is no line about the collector, whose token is looked for")
	}
	for line := range bytes.Lines(all) {
		if !json.Valid(line) {
			t.Errorf("no JSON: %s", line)
		}
		for what, text := range k.secrets {
			for _, form := range forms(text) {
				if bytes.Contains(line, []byte(form)) {
					t.Errorf("the %s is in the log: %s", what, line)
				}
			}
		}
	}
}

// talk makes calls with secrets in every place that a request or an answer has for them, and in places that are not for
// them.
func (k *talker) talk() {
	text := func(m map[string]any, path ...string) string {
		k.t.Helper()
		var v any = m
		for _, p := range path {
			v = v.(map[string]any)[p]
		}
		s, ok := v.(string)
		if !ok {
			k.t.Fatalf("%v is not in %v", path, m)
		}
		return s
	}
	const plaintext, malformed = "cGxhaW50ZXh0IHRoYXQgbm9ib2R5IGxvZ3M=", "malformed-but-secret-body"
	k.secret("plaintext", plaintext)
	k.secret("malformed body", malformed)
	id := text(k.kms("CreateKey", "{}"), "KeyMetadata", "KeyId")
	blob := text(k.kms("Encrypt", `{"KeyId":"`+id+`","Plaintext":"`+plaintext+`"}`), "CiphertextBlob")
	if got := text(k.kms("Decrypt", `{"CiphertextBlob":"`+blob+`"}`), "Plaintext"); got != plaintext {
		k.t.Errorf("decrypted %s", got)
	}
	k.secret("data key", text(k.kms("GenerateDataKey", `{"KeyId":"`+id+`","KeySpec":"AES_256"}`), "Plaintext"))
	k.secret("random octets", text(k.kms("GenerateRandom", `{"NumberOfBytes":32}`), "Plaintext"))
	k.secret("private key", text(k.kms("GenerateDataKeyPair", `{"KeyId":"`+id+`","KeyPairSpec":"ECC_NIST_P256"}`), "PrivateKeyPlaintext"))
	external := text(k.kms("CreateKey", `{"Origin":"EXTERNAL"}`), "KeyMetadata", "KeyId")
	token := text(k.kms("GetParametersForImport", `{"KeyId":"`+external+`","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`), "ImportToken")
	k.secret("import token", token)
	k.kms("ImportKeyMaterial", `{"KeyId":"`+external+`","ImportToken":"`+token+`","EncryptedKeyMaterial":"`+plaintext+`","ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE"}`)

	// Wrong in every way.
	k.kms("Encrypt", `{"KeyId":"`+id+`","Plaintext":"`+plaintext+`","NoMember":"`+malformed+`"}`)
	k.kms("Encrypt", `{"KeyId":"`+id+`","Plaintext":"`+plaintext)
	k.kms("Encrypt", `{"KeyId":"`+id+`","Plaintext":{"`+plaintext+`":1}}`)
	k.kms("Encrypt", `{"KeyId":"`+plaintext+`","Plaintext":"`+plaintext+`"}`)
	k.kms("Encrypt", `{"KeyId":"`+id+`","Plaintext":"`+strings.Repeat(plaintext[:36], 200)+`"}`)
	k.kms("Decrypt", `{"CiphertextBlob":"`+plaintext+`"}`)
	k.kms(malformed, "{}")
	k.kms("Encrypt", malformed)
	k.kms("Encrypt", `{"KeyId":"`+id+`","Plaintext":"`+plaintext+`"}`, "X-Amz-Security-Token", malformed)
	k.post("", "application/x-amz-json-1.1", malformed, "X-Amz-Target", "TrentService.Encrypt", "Authorization", "AWS4-HMAC-SHA256 Signature="+malformed)
	k.post("", malformed, malformed)
	k.post("kms", "application/x-www-form-urlencoded", "Action="+malformed+"&Version="+malformed)

	// Identities.
	k.query("iam", "Action=CreateUser&UserName=ann", "UserId")
	k.secret("user's secret access key", k.query("iam", "Action=CreateAccessKey&UserName=ann", "SecretAccessKey"))
	k.secret("password", "Pa55-word-that-nobody-logs!")
	k.query("iam", "Action=CreateLoginProfile&UserName=ann&Password="+url.QueryEscape(k.secrets["password"]), "CreateDate")
	k.query("iam", "Action=CreateLoginProfile&UserName=nobody&Password="+url.QueryEscape(k.secrets["password"]), "Code")
	k.secret("session token", k.query("sts", "Action=GetFederationToken&Name=fed", "SessionToken"))
	k.secret("session's secret access key", k.query("sts", "Action=GetFederationToken&Name=fed", "SecretAccessKey"))
	k.secret("web identity token", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl")
	k.post("", "application/x-www-form-urlencoded", "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=ann&RoleArn=arn:aws:iam::111122223333:role/none&WebIdentityToken="+
		k.secrets["web identity token"])
}
