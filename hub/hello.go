package hub

import (
	"fmt"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/internal/relay"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// helloHandler handles the HELLO of a connection, which makes the connection one of version 2.
// It resumes the session that HELLO names, or begins a new one.
type helloHandler struct {
	conn    *conn
	flusher *outbox.Flusher // has WELCOME written, at the end of the read batch
	hello   wire.Hello
	refused bool // the hub of the session has said that it has none
	keptID  bool // the new session has the id of HELLO
}

// handleHello handles a HELLO with that payload.
func handleHello(c *conn, payload []byte, flusher *outbox.Flusher) error {
	h, err := wire.ParseHello(payload)
	if err != nil {
		return &goAway{code: wire.GoAwayProtocol, reason: CloseMalformed, err: err}
	}
	if h.Version != wire.Version2 {
		return &goAway{code: wire.GoAwayVersion, reason: CloseVersion,
			err: fmt.Errorf("protocol version %d is not supported, want %d", h.Version, wire.Version2)}
	}
	c.registerOnce.Do(func() {}) // the client is registered once its id is known
	handler := helloHandler{conn: c, flusher: flusher, hello: h}
	if err := handler.tryTunnel(payload); err != nil {
		return err
	}
	c.sock.EnableAcks(c.hub.config.Window, h.Skip)
	c.setMaxDeliver(h.MaxBody, c.hub.config.MaxBody)
	c.account.Reclaim = reclaimable{c}.dropUnackedIfUseful
	if err := c.authenticate(wire.Version2, h.Token); err != nil {
		return err
	}
	if resumed, err := handler.tryResume(); resumed || err != nil {
		return err
	}
	return handler.beginSession()
}

// beginSession begins a new session.
func (h *helloHandler) beginSession() error {
	c := h.conn
	if isClosed(c.hub.closing) { // it may have just ended the session that the client wants to resume
		return socket.ErrInterrupted
	}
	if c.is(flagTunnel) {
		return errNoSession
	}
	if c.provisional {
		prev := h.connToReplace()
		if prev == nil {
			return c.hub.admission.rejectProvisional(c, true)
		}
		if err := c.hub.admission.giveSlot(c, prev); err != nil {
			return err
		}
	}
	c.unregister() // as a version 1 client, if HELLO came late
	c.assignID()
	if h.keepsID() {
		c.id.Store(h.hello.ID)
		h.keptID = true
	}
	s := newSession(c)
	if !h.sendWelcome(s, 0, false) { // before any sender can offer a DELIVER
		return errConnClosed
	}
	v2 := newConnV2(c, s, h.hello.Name)
	v2.unconfirmed = h.hello.Confirms
	c.hub.conns.setV2(c, v2)
	c.registerClient()
	if h.keptID {
		c.hub.member.Load().hubs.Publish() // the id does not say at which hub the client is
	}
	c.hub.config.Logger.Debug("client uses protocol version 2", "client", s.id, "name", v2.name)
	return nil
}

// keepsID reports whether the client keeps the id of its session, which is gone: a hub of this
// cluster has given it the id, and no other client has it. The id that it was granted, if any, must
// be the same.
func (h *helloHandler) keepsID() bool {
	c, id := h.conn, h.hello.ID
	if granted := c.grantedID(); granted != 0 {
		return granted == id && c.hub.secrets().verify(id, c.subject(), h.hello.Resume)
	}
	_, assigned := cluster.NodeOf(id)
	return assigned && c.hub.secrets().verify(id, c.subject(), h.hello.Resume) && h.isFree(id)
}

// isFree reports whether no client has the id: none that this hub knows, and, unless the hub of the
// session has said that it has none, none of a hub that has assigned the id and is up.
func (h *helloHandler) isFree(id uint64) bool {
	if h.refused {
		return h.conn.hub.find(id) == nil
	}
	var found [1]relay.Destination
	h.conn.hub.findDestinations([]uint64{id}, found[:])
	return found[0] == nil
}

// connToReplace returns the connection that has the id that the client was granted, or nil.
func (h *helloHandler) connToReplace() *conn {
	if id := h.conn.grantedID(); id != 0 {
		return h.conn.hub.lookup(id)
	}
	return nil
}

// sendWelcome answers HELLO. No later frame overtakes WELCOME, which is written at the end of
// the read batch: a client that has read WELCOME is a version 2 client for all others. It
// reports whether the connection is still open.
func (h *helloHandler) sendWelcome(s *session, retransmitted int, resumed bool) bool {
	c := h.conn
	config := &c.hub.config
	w := wire.Welcome{
		Version: wire.Version2, ID: s.id, Resume: s.secret, Resumed: resumed, KeptID: h.keptID, Again: retransmitted, Seq: s.lastSeq, Acked: s.loadQueuedSeq(),
		Hub: "go-message-hub", Epoch: c.hub.epoch, Cluster: c.hub.secrets().clusterName(), GrantsIDs: c.hub.auth.grantsIDs(),
		MaxBody: c.maxBody(), MaxDeliver: c.maxDeliver(config.MaxBody), MaxReceivers: wire.MaxReceivers, MaxReports: config.MaxReports,
		Credit: config.Credit, ReceiverCost: relay.ReceiverCost, Window: config.Window, Keepalive: int(config.KeepAlive.Milliseconds()),
		MaxReportTimeout: config.MaxReportTimeout.Milliseconds(), Expires: c.expiresMillis(config.now()), Renew: c.hub.auth.renews(),
	}
	batch := c.newBatch(wire.AppendWelcome(nil, &w), &priorityOptions)
	defer batch.Buffer.Release()
	return c.sock.Offer(&batch, h.flusher) == outbox.Queued
}
