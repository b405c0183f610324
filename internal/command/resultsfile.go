package command

import (
	"encoding/json"
	"errors"
	"os"
)

// resultsFile is the file that a report is written to. It is opened before the work
// whose report it takes, so that a path that cannot be written is noticed before
// and not after hours of it; and what it held stays until there is something
// better.
type resultsFile struct {
	file    *os.File // nil: nobody wants it
	created bool     // by us: it goes away if nothing is written
}

// openResultsFile opens a file for results. The empty path is for nobody who wants
// them.
func openResultsFile(path string) (*resultsFile, error) {
	if path == "" {
		return &resultsFile{}, nil
	}
	_, err := os.Stat(path)
	created := errors.Is(err, os.ErrNotExist)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	return &resultsFile{file: file, created: created}, nil
}

// write replaces what the file held by report, as JSON, and closes it.
func (r *resultsFile) write(report any) error {
	if r.file == nil {
		return nil
	}
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	if info, err := r.file.Stat(); err == nil && info.Mode().IsRegular() {
		if err := r.file.Truncate(0); err != nil {
			return err
		}
	}
	_, err = r.file.Write(append(text, '\n'))
	err = errors.Join(err, r.file.Close())
	r.file = nil
	return err
}

// discard closes the file if nothing was written to it. It is harmless after
// write.
func (r *resultsFile) discard() {
	if r.file == nil {
		return
	}
	r.file.Close()
	if r.created {
		os.Remove(r.file.Name())
	}
	r.file = nil
}
