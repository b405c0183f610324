package natsconn

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// serverInfo is what a hub needs of INFO.
type serverInfo struct {
	Nonce        string `json:"nonce"`
	Headers      bool   `json:"headers"`
	TLSRequired  bool   `json:"tls_required"`
	TLSAvailable bool   `json:"tls_available"`
}

// connectOptions are the argument of CONNECT. The server sends neither +OK nor the hub's own
// frames, and, because of protocol 1, INFO when something changes.
type connectOptions struct {
	Verbose      bool   `json:"verbose"`
	Pedantic     bool   `json:"pedantic"`
	JWT          string `json:"jwt,omitempty"`
	NKey         string `json:"nkey,omitempty"`
	Signature    string `json:"sig,omitempty"`
	User         string `json:"user,omitempty"`
	Password     string `json:"pass,omitempty"`
	Token        string `json:"auth_token,omitempty"`
	TLSRequired  bool   `json:"tls_required"`
	Name         string `json:"name"`
	Language     string `json:"lang"`
	Version      string `json:"version"`
	Protocol     int    `json:"protocol"`
	Echo         bool   `json:"echo"`
	Headers      bool   `json:"headers"`
	NoResponders bool   `json:"no_responders"`
}

// handshake connects and subscribes. It runs before the goroutines of c.
func (c *Conn) handshake(ctx context.Context) error {
	op, err := c.in.next()
	if err != nil {
		return err
	}
	var info serverInfo
	switch op.kind {
	case kindInfo:
	case kindError:
		return &ServerError{Text: string(op.text)}
	default:
		return fmt.Errorf("no INFO at first: %w", errProtocol)
	}
	if err := json.Unmarshal(op.text, &info); err != nil {
		return fmt.Errorf("INFO: %w", err)
	}
	if !info.Headers {
		return errors.New("the NATS server does not permit headers")
	}
	if err := c.startTLS(ctx, info); err != nil {
		return err
	}
	line, err := c.connectLine(info.Nonce)
	if err != nil {
		return err
	}
	if err := c.exchange(line); err != nil {
		return err
	}
	return c.subscribe()
}

// startTLS makes c a connection over TLS if its configuration says so.
func (c *Conn) startTLS(ctx context.Context, info serverInfo) error {
	switch {
	case c.config.TLS == nil && info.TLSRequired:
		return errors.New("the NATS server requires TLS")
	case c.config.TLS == nil:
		return nil
	case !info.TLSRequired && !info.TLSAvailable:
		return errors.New("the NATS server offers no TLS")
	case c.in.start != c.in.end: // bytes without TLS would pass for bytes with TLS
		return fmt.Errorf("more than INFO before TLS: %w", errProtocol)
	}
	nc := tls.Client(c.raw, c.config.TLS)
	if err := nc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS: %w", err)
	}
	c.nc = nc
	return nil
}

// connectLine returns CONNECT.
func (c *Conn) connectLine(nonce string) ([]byte, error) {
	auth := &c.config.Auth
	options := connectOptions{
		JWT: auth.JWT, NKey: auth.NKey, User: auth.User, Password: auth.Password, Token: auth.Token,
		TLSRequired: c.config.TLS != nil, Name: c.config.Name, Language: "go", Version: c.config.Version,
		Protocol: 1, Headers: true,
	}
	if auth.JWT != "" || auth.NKey != "" {
		signature, err := auth.Sign([]byte(nonce))
		if err != nil {
			return nil, fmt.Errorf("sign the nonce of the NATS server: %w", err)
		}
		options.Signature = base64.RawURLEncoding.EncodeToString(signature)
	}
	arguments, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "CONNECT %s\r\n", arguments), nil
}

// subscribe subscribes to the subjects, and publishes a probe to each of them.
func (c *Conn) subscribe() error {
	var lines []byte
	for i, subject := range c.config.Subjects {
		lines = appendSub(lines, subject, i+1)
		lines = appendProbe(lines, subject)
	}
	return c.exchange(lines)
}

// exchange writes lines and a ping, and returns the errors that the server tells before its
// answer to the ping. Frames that arrive meanwhile are lost.
func (c *Conn) exchange(lines []byte) error {
	if _, err := c.nc.Write(append(lines, pingLine...)); err != nil {
		return err
	}
	var told serverErrors
	for {
		op, err := c.in.next()
		if err != nil {
			if len(told) > 0 { // the server has told why it closes the connection
				return told
			}
			return err
		}
		switch op.kind {
		case kindError:
			told.add(&ServerError{Text: string(op.text)})
		case kindPing:
			if _, err := c.nc.Write(pongLine); err != nil {
				return err
			}
		case kindPong:
			if len(told) > 0 {
				return told
			}
			return nil
		}
	}
}
