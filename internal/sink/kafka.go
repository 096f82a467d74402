package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/keywright/keywright/internal/trail"
)

// kafka produces records to a topic, each under the ARN of the first key or alias that it is about, else of its account:
// Kafka keeps the order of what has one key. All replicas in sync must have a record before it counts as delivered. The
// client tries again by itself, in order and without duplicates, as long as the process lives.
type kafka struct {
	client *kgo.Client
	topic  string
	// troubled is told why a delivery takes long, while it does.
	troubled func(error)
	event    trail.Event
}

// overdue is after how long a delivery is asked why it takes so long.
const overdue = 5 * time.Second

func newKafka(c *Config, troubled func(error)) (*kafka, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(c.Brokers...), kgo.ClientID("keywright"), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.MaxBufferedRecords(maxBatch), kgo.ProducerLinger(0), kgo.RetryBackoffFn(func(tries int) time.Duration {
			return min(firstBackoff<<min(tries, 10), orDefault(c.MaxBackoff, maxBackoff))
		}),
	}
	if c.TLS {
		config, err := clientTLS(c)
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	if c.SASL != nil {
		mechanism, err := c.SASL.mechanism()
		if err != nil {
			return nil, fmt.Errorf("sasl: password: %w", err)
		}
		options = append(options, kgo.SASL(mechanism))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	return &kafka{client: client, topic: c.Topic, troubled: troubled}, nil
}

// mechanism returns how to authenticate. The client keeps the password, and shows it nowhere.
func (s *SASL) mechanism() (sasl.Mechanism, error) {
	password, err := s.Password.read()
	if err != nil {
		return nil, err
	}
	text := string(password.Expose())
	switch s.Mechanism {
	case "PLAIN":
		return plain.Auth{User: s.User, Pass: text}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: s.User, Pass: text}.AsSha256Mechanism(), nil
	}
	return scram.Auth{User: s.User, Pass: text}.AsSha512Mechanism(), nil
}

func (*kafka) lost() <-chan struct{}    { return nil }
func (*kafka) progress() (int64, int64) { return 0, 0 }

func (t *kafka) close() error {
	t.client.Close()
	return nil
}

func (t *kafka) deliver(ctx context.Context, _ uint64, records [][]byte) error {
	batch := make([]*kgo.Record, len(records))
	for i, r := range records {
		batch[i] = &kgo.Record{Topic: t.topic, Key: t.key(r), Value: r}
	}
	done := make(chan error, 1)
	go func() { done <- t.client.ProduceSync(ctx, batch...).FirstErr() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("producing: %w", err)
			}
			return nil
		case <-ctx.Done(): // the client would go on with what it has begun, until it is closed
			return ctx.Err()
		case <-time.After(overdue):
			t.askWhy(ctx)
		}
	}
}

// askWhy finds out what keeps the client from delivering, for people to see.
func (t *kafka) askWhy(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, overdue)
	defer cancel()
	if err := t.client.Ping(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.troubled(fmt.Errorf("no broker answers: %w", err))
	}
}

// key returns what a record's order is kept by.
func (t *kafka) key(record []byte) []byte {
	e := &t.event
	if e.Parse(record) != nil {
		return nil
	}
	key := e.Account
	if len(e.Resources) > 0 {
		key = e.Resources[0].Name
	}
	return append([]byte(nil), key...)
}
