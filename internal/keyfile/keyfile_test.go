package keyfile_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/keyfile"
)

func TestRead(t *testing.T) {
	for _, test := range []struct{ in, want, problem string }{
		{"", "", ""},
		{"plain\n", "plain\n", ""},
		{"\ufeffmarked", "marked", ""},
		{"\xff\xfem\x00", "", "UTF-16"},
		{"\xfe\xff\x00m", "", "UTF-16"},
		{strings.Repeat("x", 10), strings.Repeat("x", 10), ""},
		{strings.Repeat("x", 11), "", "larger than 10 bytes"},
	} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(test.in), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := keyfile.Read(file, 10)
		if string(got) != test.want || (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
			t.Errorf("%q: %q, %v, want %q, %q", test.in, got, err, test.want, test.problem)
		}
	}
	if _, err := keyfile.Read("nothing", 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestBlocks(t *testing.T) {
	one := string(pem.EncodeToMemory(&pem.Block{Type: "ONE", Bytes: []byte("1")}))
	two := string(pem.EncodeToMemory(&pem.Block{Type: "TWO", Bytes: bytes.Repeat([]byte("2"), 100)}))
	for name, test := range map[string]struct {
		text   string
		types  string
		broken int
	}{
		"nothing":            {"", "", 0},
		"text":               {"Subject: CN=x\n", "", 0},
		"two":                {one + two, "ONE TWO", 0},
		"text around both":   {"Bag Attributes\n" + one + "and then\n" + two + "the end", "ONE TWO", 0},
		"lines of Windows":   {strings.ReplaceAll(one+two, "\n", "\r\n"), "ONE TWO", 0},
		"one that is broken": {strings.Replace(one, "MQ==", "!!!!", 1) + two, "TWO", 1},
		"one that ends":      {two + one[:20], "TWO", 1},
	} {
		blocks, broken := keyfile.Blocks([]byte(test.text))
		var types []string
		for _, b := range blocks {
			types = append(types, b.Type)
		}
		if got := strings.Join(types, " "); got != test.types || broken != test.broken {
			t.Errorf("%s: %q and %d broken, want %q and %d", name, got, broken, test.types, test.broken)
		}
		if keyfile.IsPEM([]byte(test.text)) != (len(blocks)+broken > 0) {
			t.Errorf("%s: IsPEM is wrong", name)
		}
	}
}
