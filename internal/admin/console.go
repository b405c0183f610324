package admin

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
)

const (
	consoleRedirect = "/console"
	consolePath     = "/console/"
	consoleIndex    = "index.html"
)

// consoleFiles are the files of the console, built by js/console/build.sh.
//
//go:embed console
var consoleFiles embed.FS

// consoleHeader are the headers of all files of the console. The Content-Security-Policy allows
// what the page needs and nothing else: its own scripts, styles, icon and requests. No frame of
// another page can contain it, and no text can become code.
var consoleHeader = map[string]string{
	"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
	"X-Content-Type-Options":       "nosniff",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cache-Control":                "no-cache", // a new version of the hub has new files
	"Vary":                         "Accept-Encoding",
}

// consoleTypes are the types of the files by extension. The types of package mime depend on the
// machine.
var consoleTypes = map[string]string{
	".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain",
}

// consoleFile is a file of the console.
type consoleFile struct {
	kind    string // media type
	content []byte
	gzipped []byte
}

// loadConsole returns the files of the console by name. It compresses them once, when the first
// request for the console comes.
var loadConsole = sync.OnceValue(func() map[string]consoleFile {
	entries, err := consoleFiles.ReadDir("console")
	if err != nil {
		panic(err) // cannot happen: the folder is in the program
	}
	files := make(map[string]consoleFile, len(entries))
	for _, entry := range entries {
		content, err := consoleFiles.ReadFile("console/" + entry.Name())
		if err != nil {
			panic(err) // cannot happen: the file is in the program
		}
		kind := mime.FormatMediaType(consoleTypes[path.Ext(entry.Name())], map[string]string{"charset": "utf-8"})
		files[entry.Name()] = consoleFile{kind, content, compress(content)}
	}
	return files
})

// compress returns content in the format of gzip.
func compress(content []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, _ = w.Write(content)                               // a Buffer returns no error
	_ = w.Close()
	return b.Bytes()
}

// isConsoleFile reports whether a path is that of a file of the console.
func isConsoleFile(urlPath string) bool {
	name, ok := strings.CutPrefix(urlPath, consolePath)
	if !ok || name == "" {
		return ok || urlPath == consoleRedirect
	}
	_, ok = loadConsole()[name]
	return ok
}

func handleConsoleRedirect(w http.ResponseWriter, r *http.Request) {
	http.Redirect(w, r, consolePath, http.StatusPermanentRedirect)
}

// handleConsole serves a file of the console.
func handleConsole(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	if name == "" {
		name = consoleIndex
	}
	file, ok := loadConsole()[name]
	if !ok {
		writeError(w, http.StatusNotFound, fmt.Sprintf("the console has no file %q", name))
		return
	}
	for field, value := range consoleHeader {
		w.Header().Set(field, value)
	}
	w.Header().Set("Content-Type", file.kind)
	content := file.content
	if acceptsGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		content = file.gzipped
	}
	_, _ = w.Write(content) // an error means that the connection is lost
}

// acceptsGzip reports whether the sender of a request names gzip among its encodings, as all
// browsers do. One that forbids it by a weight of 0 gets the file as it is.
func acceptsGzip(r *http.Request) bool {
	for encoding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if name, parameters, _ := strings.Cut(encoding, ";"); strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return strings.TrimSpace(parameters) == ""
		}
	}
	return false
}
