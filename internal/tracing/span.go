package tracing

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// What the conventions for messaging have no name for.
const (
	receivers   = attribute.Key("messagehub.receivers")             // how many the message names
	written     = attribute.Key("messagehub.receivers.written")     // to how many it was written
	receiver    = attribute.Key("messagehub.receiver.id")           // of an event
	queuedAfter = attribute.Key("messagehub.receiver.queued_after") // in seconds since the message was read
)

// operations are what senders call it, by the version of the protocol.
var operations = map[int]string{1: "relay", 2: "send"}

// span makes one span of a trace, with an event for each receiver, named by its fate. Ids are text:
// they have 64 bits, and numbers here one less.
func (t *Tracer) span(tr *hub.Trace) {
	name := operations[tr.Version]
	attributes := []attribute.KeyValue{
		semconv.MessagingSystemKey.String("messagehub"),
		semconv.MessagingOperationTypeSend,
		semconv.MessagingOperationName(name),
		semconv.MessagingClientID(id(tr.Sender)),
		semconv.MessagingMessageBodySize(tr.Body),
		semconv.NetworkProtocolName("messagehub"),
		semconv.NetworkProtocolVersion(strconv.Itoa(tr.Version)),
		receivers.Int(len(tr.Receivers)),
	}
	if tr.Seq != 0 {
		attributes = append(attributes, semconv.MessagingMessageID(id(tr.Sender)+"/"+id(tr.Seq)))
	}
	_, s := t.spans.Start(context.Background(), name, trace.WithTimestamp(tr.Read),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
	end, n := tr.Read, 0
	for i := range tr.Receivers {
		r := &tr.Receivers[i]
		at := tr.Read.Add(r.Decided)
		if r.Decided == 0 { // nor will it be: this is how it stands
			at = time.Now()
		}
		if r.Fate == wire.FateWritten {
			n++
		}
		if at.After(end) {
			end = at
		}
		event(s, r, at)
	}
	s.SetAttributes(written.Int(n))
	if lost := len(tr.Receivers) - n; lost > 0 {
		s.SetStatus(codes.Error, fmt.Sprintf("not written to %d of %d receivers", lost, len(tr.Receivers)))
	}
	s.End(trace.WithTimestamp(end))
}

// event adds what became of the message for one receiver.
func event(s trace.Span, r *hub.Traced, at time.Time) {
	attributes := []attribute.KeyValue{receiver.String(id(r.ID))}
	if r.Queued != 0 {
		attributes = append(attributes, queuedAfter.Float64(r.Queued.Seconds()))
	}
	s.AddEvent(r.Fate.String(), trace.WithTimestamp(at), trace.WithAttributes(attributes...))
}

func id(n uint64) string { return strconv.FormatUint(n, 10) }
