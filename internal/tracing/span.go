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

// Attributes that the semantic conventions for messaging do not define.
const (
	receiversKey = attribute.Key("messagehub.receivers") // number of receivers of the message

	// writtenKey is the number of receivers to whose socket the message was written.
	writtenKey = attribute.Key("messagehub.receivers.written")

	// receiverKey, of an event, is the id of the receiver.
	receiverKey = attribute.Key("messagehub.receiver.id")

	// queuedAfterKey, of an event, is the time between reading the message and its place in the
	// queue of the receiver, in seconds.
	queuedAfterKey = attribute.Key("messagehub.receiver.queued_after")
)

// operationNames are the names of the operation by protocol version.
var operationNames = map[int]string{1: "relay", 2: "send"}

// recordSpan records a span for a trace, with an event for each receiver, named by its fate.
// Ids are strings, because attributes are signed 64-bit integers and ids are unsigned.
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
		if r.Decided == 0 { // undecided: the fate is that of now
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

// addEvent adds an event with the fate of the message for one receiver.
func addEvent(s trace.Span, r *hub.ReceiverTrace, at time.Time) {
	attributes := []attribute.KeyValue{receiverKey.String(formatID(r.ID))}
	if r.Queued != 0 {
		attributes = append(attributes, queuedAfterKey.Float64(r.Queued.Seconds()))
	}
	s.AddEvent(r.Fate.String(), trace.WithTimestamp(at), trace.WithAttributes(attributes...))
}

func formatID(n uint64) string { return strconv.FormatUint(n, 10) }
