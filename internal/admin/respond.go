package admin

import (
	"encoding/json"
	"net/http"
)

// errorResponse is the body of every error response.
type errorResponse struct {
	Error string `json:"error"` // text for people
}

// writeError writes an error response.
func writeError(w http.ResponseWriter, code int, message string) {
	writeJSON(w, code, errorResponse{message})
}

// writeJSON writes a response with value as JSON.
func writeJSON(w http.ResponseWriter, code int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // cannot happen: all types here have a JSON form
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // an error means that the connection is lost
}
