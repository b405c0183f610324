// Package keyfile reads files with keys, certificates and tokens in the forms that editors and
// other programs write: with a byte order mark, and with text around PEM blocks. It does not
// interpret the keys, and it is not on the path of a message. All functions can be called
// concurrently.
package keyfile

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// MaxBytes is the maximum size of a file with keys or certificates, in bytes. For comparison,
// the trusted authorities of a system take a quarter of a megabyte.
const MaxBytes = 16 << 20

// errUTF16 is returned for a file in UTF-16.
var errUTF16 = errors.New("encoded as UTF-16, want UTF-8 or ASCII")

// Read returns the content of a file of at most maxBytes, without a byte order mark. Its
// errors name the file; errors of the file system are of type *os.PathError.
func Read(file string, maxBytes int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > maxBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes", file, maxBytes)
	}
	if text, err = Text(text); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return text, nil
}

// Text returns text without a byte order mark, or an error if text is UTF-16. The result
// shares memory with text.
func Text(text []byte) ([]byte, error) {
	if bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) {
		return nil, errUTF16
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// pemBegin is the beginning of the first line of a PEM block.
var pemBegin = []byte("-----BEGIN ")

// IsPEM reports whether text contains the first line of a PEM block.
func IsPEM(text []byte) bool {
	return bytes.HasPrefix(text, pemBegin) || bytes.Contains(text, append([]byte("\n"), pemBegin...))
}

// Blocks returns the PEM blocks in text, and the number of further blocks that begin but
// cannot be decoded. It ignores text around the blocks.
func Blocks(text []byte) (blocks []*pem.Block, broken int) {
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, pemBegin) {
			broken++
		}
	}
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return blocks, max(0, broken-len(blocks))
		}
		blocks, text = append(blocks, block), rest
	}
}

// Undecoded returns an error text about broken PEM blocks that cannot be decoded.
func Undecoded(broken int) string {
	if broken == 1 {
		return "1 PEM block cannot be decoded"
	}
	return fmt.Sprintf("%d PEM blocks cannot be decoded", broken)
}
