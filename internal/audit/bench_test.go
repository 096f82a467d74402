package audit_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// sample is a record of an Encrypt by a user, as the server writes it: 980 octets. Those of roles' sessions are half as long again, and
// longer records are verified faster.
func sample(n int) []byte {
	return fmt.Appendf(nil, `{"eventVersion":"1.11","userIdentity":{"type":"IAMUser","principalId":"AIDAEXAMPLEEXAMPLE12","arn":"arn:aws:iam::111122223333:user/ann",`+
		`"accountId":"111122223333","accessKeyId":"AKIAEXAMPLEEXAMPLE12","userName":"ann"},"eventTime":"2026-05-20T20:46:16Z",`+
		`"eventSource":"kms.amazonaws.com","eventName":"Encrypt","awsRegion":"us-east-1","sourceIPAddress":"192.0.2.17","userAgent":"aws-sdk-go-v2/1.39.2 os/linux lang/go#1.26.4",`+
		`"requestParameters":{"keyId":"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab","encryptionAlgorithm":"SYMMETRIC_DEFAULT"},"responseElements":null,`+
		`"requestID":"%08x-6cb2-4f50-aeb8-2d3a5b6c7d8e","eventID":"%08x-9f1e-4b42-8a37-0c1d2e3f4a5b","readOnly":true,"resources":[{"accountId":"111122223333","type":"AWS::KMS::Key",`+
		`"ARN":"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}],"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management"}`, n, n)
}

// BenchmarkVerify verifies a log on one processor, and reads and hashes the same octets without more, in turn. The ratio is that of
// the processor's time, so that a slow disk counts for neither. How many records is KEYWRIGHT_VERIFY, or 100,000: ten million
// take 11 GB of disk under TMPDIR.
func BenchmarkVerify(b *testing.B) {
	count := 100_000
	if text := os.Getenv("KEYWRIGHT_VERIFY"); text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	dir := b.TempDir()
	l, err := audit.Open(audit.Options{Dir: dir, Durability: audit.Written, Seed: seed})
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < count; {
		var batch [][]byte
		for ; len(batch) < 1000 && i < count; i++ {
			batch = append(batch, sample(i))
		}
		if err := l.Append(batch...); err != nil {
			b.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	segments, err := audit.Segments(dir)
	if err != nil {
		b.Fatal(err)
	}
	var octets int64
	var ratios []float64
	for b.Loop() {
		began := processorTime(b)
		octets = 0
		for _, s := range segments {
			octets += bare(b, s)
		}
		plain := processorTime(b) - began
		began = processorTime(b)
		report, err := audit.Verify(b.Context(), audit.VerifyOptions{Dir: dir})
		if err != nil || len(report.Findings) > 0 || report.Next != uint64(count) {
			b.Fatalf("%+v, %v", report, err)
		}
		verified := processorTime(b) - began
		ratios = append(ratios, plain.Seconds()/verified.Seconds())
		b.ReportMetric(float64(octets)/verified.Seconds()/1e6, "verified-MB/s")
		b.ReportMetric(float64(octets)/plain.Seconds()/1e6, "sha256-MB/s")
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
	b.ReportMetric(float64(octets)/float64(count), "octets/record")
}

// processorTime returns what the process has used.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bare hashes a file.
func bare(b *testing.B, path string) int64 {
	b.Helper()
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	h, buf := sha256.New(), make([]byte, 512<<10)
	var n int64
	for {
		k, err := f.Read(buf)
		h.Write(buf[:k])
		if n += int64(k); err == io.EOF {
			return n
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
