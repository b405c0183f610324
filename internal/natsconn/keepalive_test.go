package natsconn

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeepAlive_AnswersOfServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := open(t, testConfig(t))
		start := time.Now()
		for range 10 {
			s.want("PING")
			s.send("PONG\r\n")
		}
		if c.Err() != nil || time.Since(start) != 10*time.Second {
			t.Errorf("%v after %v", c.Err(), time.Since(start))
		}
	})
}

// TestKeepAlive_ServerIsSilent checks when a server that reads and says nothing is lost.
func TestKeepAlive_ServerIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := open(t, testConfig(t))
		start := time.Now()
		s.want("PING", "PING")
		<-c.Done()
		if !errors.Is(c.Err(), ErrStale) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", c.Err(), time.Since(start))
		}
	})
}

// TestKeepAlive_FramesInsteadOfAnswers checks that a server is not lost whose answers come after
// many frames.
func TestKeepAlive_FramesInsteadOfAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		config.Handle = func([]byte) {}
		c, s := open(t, config)
		for range 10 {
			s.want("PING")
			s.send("MSG a 1 1\r\nx\r\n")
		}
		if err := c.Err(); err != nil {
			t.Error(err)
		}
	})
}

// TestKeepAlive_HubIsSlow checks that a server is not lost because the hub does not read.
func TestKeepAlive_HubIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		config.Handle = func([]byte) { time.Sleep(time.Minute) } // virtual time
		c, s := open(t, config)
		s.send("MSG a 1 1\r\nx\r\n")
		for range 30 {
			s.want("PING")
		}
		if err := c.Err(); err != nil {
			t.Error(err)
		}
	})
}

// TestKeepAlive_AnswersPings checks that the hub answers, and that it reads on while the server
// does not read the answer.
func TestKeepAlive_AnswersPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		config := testConfig(t)
		frames := 0
		config.Handle = func([]byte) { frames++ }
		c, s := open(t, config)
		s.send("PING\r\n")
		s.want("PONG")
		s.send("PING\r\n")
		synctest.Wait()
		s.send("PING\r\nPING\r\nMSG a 1 1\r\nx\r\nMSG a 1 1\r\nx\r\n")
		synctest.Wait()
		if frames != 2 {
			t.Errorf("%d frames", frames)
		}
		s.want("PONG", "PONG") // the first was being written
		if err := c.Err(); err != nil {
			t.Error(err)
		}
	})
}
