package simulation

import (
	"encoding/json"
	"errors"
	"os"
)

// resultsFile is the file that a report is written to. The file is opened before the work
// begins, to detect a path that cannot be written before hours of work are lost. The old
// content is kept until the new report is written.
type resultsFile struct {
	file    *os.File // nil: no results file
	created bool     // the file did not exist before; discard removes it
}

// openResultsFile opens the file at path. If path is empty, the resultsFile discards the
// report.
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

// write replaces the content of the file by report, as JSON, and closes the file.
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

// discard closes the file if no report was written to it, and removes a file that
// openResultsFile has created. After write, discard does nothing.
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
