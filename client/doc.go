// Package client is the client side of the message hub protocol. It connects to a hub, learns
// the id of the client, sends messages to other clients by their ids and receives their
// messages.
//
//	c, err := client.Dial(ctx, "localhost:9999", nil)
//	…
//	defer c.Close()
//
//	go func() {
//		for m, err := range c.Messages(ctx) {
//			if err != nil {
//				return // the client is closed
//			}
//			fmt.Printf("%d says %s\n", m.From, m.Body)
//			m.Ack()
//		}
//	}()
//
//	others, err := c.List(ctx)
//	…
//	report, err := c.SendReport(ctx, others, []byte("hello"), nil)
//	…
//	for i, fate := range report.Fates {
//		fmt.Println(others[i], fate) // "2 received", "3 gone"
//	}
//
// Messages of one sender arrive once and in the order in which that client sent them. The
// application receives them with Receive, with Messages or, at the lowest cost per message,
// with Options.OnMessage. Messages that the application has not received wait in a bounded
// inbox. When the inbox is full, the hub slows down the senders, and at last disconnects a
// client that never receives.
//
// Send hands a message to the hub and reports nothing about its delivery. SendReport and
// SendFunc report the fate of the message for each receiver: written (to the connection of the
// receiver), received (the application of the receiver has the message), processed (that
// application called Message.Ack), gone (the receiver had disconnected before), or uncertain
// (the hub cannot know).
//
// A client that loses its connection reconnects by itself. Within the resume window of the hub
// the client resumes its session: it keeps its id, no message is lost, duplicated or reordered,
// and only Options.OnEvent shows the interruption. After the resume window the client gets a
// new id, and Event and Options.Resend say which messages are affected.
//
// All of this is version 2 of the protocol. A client that meets a hub of version 1 speaks
// version 1: Send, List and receiving work, reports do not exist, and the client ends with its
// connection.
//
// On the path of a message, the package stands at both ends: between the application and
// package internal/socket, which reads and writes frames. Package internal/outbox holds them
// until they are written, and package wire encodes and decodes them. The package does not
// import the hub.
package client
