// Package keyfile reads files of keys, certificates and tokens as editors and other programs write
// them: with a byte order mark, and with text around what is in PEM. What the parts mean is the
// caller's business. All functions may be called concurrently.
package keyfile

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// MaxBytes is how many bytes a file of keys or certificates may have: the authorities that a
// system trusts take a quarter of a megabyte.
const MaxBytes = 16 << 20

// errUTF16 says that a file is in an encoding of two bytes for each character.
var errUTF16 = errors.New("it is text in UTF-16: save it as UTF-8 or ASCII")

// Read returns what is in a file of at most maxBytes, without a byte order mark. Its errors name
// the file; those of the file system are of type *os.PathError.
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
		return nil, fmt.Errorf("%s: it has more than %d bytes", file, maxBytes)
	}
	if text, err = Text(text); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return text, nil
}

// Text is Read for what a file holds. The result shares memory with text.
func Text(text []byte) ([]byte, error) {
	if bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) {
		return nil, errUTF16
	}
	return bytes.TrimPrefix(text, []byte("\ufeff")), nil
}

// pemBegin is how each block of PEM begins, on a line of its own.
var pemBegin = []byte("-----BEGIN ")

// IsPEM reports whether text holds the beginning of a block of PEM.
func IsPEM(text []byte) bool {
	return bytes.HasPrefix(text, pemBegin) || bytes.Contains(text, append([]byte("\n"), pemBegin...))
}

// Blocks returns the blocks of PEM in text, and how many others begin and cannot be decoded. Text
// around them is no part of them.
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

// Undecoded says that so many blocks of PEM cannot be decoded.
func Undecoded(broken int) string {
	if broken == 1 {
		return "1 block of PEM cannot be decoded"
	}
	return fmt.Sprintf("%d blocks of PEM cannot be decoded", broken)
}
