package pipeline

import (
	"log/slog"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/metrics"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/steps"
	"github.com/keywright/keywright/internal/tracing"
	"github.com/keywright/keywright/internal/wire"
)

// parent returns the span of whoever sent the request.
func (x *exchange) parent() tracing.Parent {
	w3c, _ := sigv4.First(x.req.Header, tracing.TraceParent)
	amzn, _ := sigv4.First(x.req.Header, tracing.AmznTraceID)
	return tracing.Join(w3c, amzn)
}

// callersTrace returns the id of the trace of the request, for lines of the server's log: its caller's, or the one that
// begins here.
func (x *exchange) callersTrace() string {
	if x.traced {
		return x.span.TraceID()
	}
	return x.parent().TraceID()
}

// trace begins the span of the request, if it is to have one, and returns where its steps are noted.
func (x *exchange) trace(at time.Time) *steps.Log {
	if x.pipeline.tracer == nil {
		return nil
	}
	if x.span, x.traced = x.pipeline.tracer.Start(x.parent(), at); !x.traced {
		return nil
	}
	x.ctx = steps.With(x.ctx, &x.steps)
	return &x.steps
}

// storeOf returns the key store of a key, by where its material comes from.
func storeOf(o key.Origin) metrics.KeyStore {
	switch o {
	case key.OriginAWSKMS, key.OriginExternal:
		return metrics.Software
	case "AWS_CLOUDHSM":
		return metrics.CloudHSM
	case "EXTERNAL_KEY_STORE":
		return metrics.External
	}
	return metrics.NoKey
}

// observe counts and logs what became of the request, and ends its span.
func (x *exchange) observe(resp *Response, failure *wire.Error, took time.Duration) {
	counts, code := x.address.service.unknown, ""
	if x.op != nil {
		counts = x.op.counts
	}
	if failure != nil {
		code = string(failure.Code)
	}
	counts.Observe(storeOf(x.origin), code, took)
	if !x.traced && failure == nil {
		return
	}
	operation := ""
	if x.op != nil {
		operation = x.op.Name
	}
	service := x.address.service.SigningName
	if failure != nil && slog.Default().Enabled(x.ctx, slog.LevelDebug) {
		// Not the error's message: it can hold what the caller sent.
		slog.Debug("a request was refused", "requestId", resp.RequestID, "traceId", x.callersTrace(), "service", service, "operation", operation,
			"code", code, "took", took)
	}
	if x.traced {
		x.span.End(tracing.Outcome{
			Service: service, Operation: operation, RequestID: resp.RequestID, Code: code, Fault: resp.Status >= 500, Status: resp.Status,
			KeyARN: x.keyARN, Steps: x.steps.Steps(),
		})
	}
}
