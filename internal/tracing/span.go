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
	receiversKey   = attribute.Key("messagehub.receivers")             // how many the message names
	writtenKey     = attribute.Key("messagehub.receivers.written")     // to how many it was written
	receiverKey    = attribute.Key("messagehub.receiver.id")           // of an event
	queuedAfterKey = attribute.Key("messagehub.receiver.queued_after") // in seconds since the message was read
)

// operationNames are what senders call it, by the version of the protocol.
var operationNames = map[int]string{1: "relay", 2: "send"}

// recordSpan makes one span of a trace, with an event for each receiver, named by its fate. Ids are text:
// they have 64 bits, and numbers here one less.
func (t *Tracer) recordSpan(tr *hub.Trace) {
	name := operationNames[tr.Version]
	attributes := []attribute.KeyValue{
		semconv.MessagingSystemKey.String("messagehub"),
		semconv.MessagingOperationTypeSend,
		semconv.MessagingOperationName(name),
		semconv.MessagingClientID(formatID(tr.Sender)),
		semconv.MessagingMessageBodySize(tr.BodyLen),
		semconv.NetworkProtocolName("messagehub"),
		semconv.NetworkProtocolVersion(strconv.Itoa(tr.Version)),
		receiversKey.Int(len(tr.Receivers)),
	}
	if tr.Seq != 0 {
		attributes = append(attributes, semconv.MessagingMessageID(formatID(tr.Sender)+"/"+formatID(tr.Seq)))
	}
	_, s := t.tracer.Start(context.Background(), name, trace.WithTimestamp(tr.ReadAt),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attributes...))
	end, n := tr.ReadAt, 0
	for i := range tr.Receivers {
		r := &tr.Receivers[i]
		at := tr.ReadAt.Add(r.Decided)
		if r.Decided == 0 { // nor will it be: this is how it stands
			at = time.Now()
		}
		if r.Fate == wire.FateWritten {
			n++
		}
		if at.After(end) {
			end = at
		}
		addEvent(s, r, at)
	}
	s.SetAttributes(writtenKey.Int(n))
	if failed := len(tr.Receivers) - n; failed > 0 {
		s.SetStatus(codes.Error, fmt.Sprintf("not written to %d of %d receivers", failed, len(tr.Receivers)))
	}
	s.End(trace.WithTimestamp(end))
}

// addEvent adds what became of the message for one receiver.
func addEvent(s trace.Span, r *hub.ReceiverTrace, at time.Time) {
	attributes := []attribute.KeyValue{receiverKey.String(formatID(r.ID))}
	if r.Queued != 0 {
		attributes = append(attributes, queuedAfterKey.Float64(r.Queued.Seconds()))
	}
	s.AddEvent(r.Fate.String(), trace.WithTimestamp(at), trace.WithAttributes(attributes...))
}

func formatID(n uint64) string { return strconv.FormatUint(n, 10) }
