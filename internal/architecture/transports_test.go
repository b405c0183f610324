package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// tcpOnly lists the tests of promises that need TCP, with the reason.
var tcpOnly = map[string]string{
	"FuzzTLS": "it tests TLS",
	"TestAuthorization_ExpiryAfterSleep_UsesWallClock": "it tests one function, without a connection",
	"TestHub_AfterLoad_NothingGrows":                   "it measures the memory of the process, which holds what a pipe holds",
	"TestRelay_Pipelined_AllocatesNothing":             "it counts allocations, and a pipe allocates",
	"TestServe_FileDescriptorsExhausted_Recovers":      "a pipe needs no file descriptor",
	"TestWebHandler_Credentials_ReachAuthenticate":     "it tests TLS",
	"TestSession_Detached_HoldsLittleMemory":           "it measures the memory of the process, which holds what a pipe holds",
	"TestShutdown_DuringTLSHandshake":                  "it tests TLS",
	"TestTLS_Messages_ArriveInOrder":                   "it tests TLS",
	"TestTLS_NoHandshake_IsDisconnected":               "it tests TLS",
	"TestTLS_StalledReceiver_IsDisconnected":           "it tests TLS",
}

// TestPromises_HoldInMemory checks that every test of package hub that docs/PROTOCOL.md names
// also runs in memory: it reaches memorypipe.NewListener, directly or through other functions and
// variables of the tests. The exceptions are in tcpOnly.
func TestPromises_HoldInMemory(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "PROTOCOL.md"))
	if err != nil {
		t.Fatal(err)
	}
	uses := parseUses(t, filepath.Join(root, "hub"))
	promised := make(map[string]bool)
	for _, match := range testName.FindAllSubmatch(page, -1) {
		promised[string(match[1])] = true
	}
	found := 0
	for test := range promised {
		if uses[test] == nil || uses.inCluster(test) {
			continue // of another package, or of what is between hubs
		}
		found++
		_, excepted := tcpOnly[test]
		switch inMemory := uses.reaches(test, "memorypipe.NewListener", make(map[string]bool)); {
		case inMemory && excepted:
			t.Errorf("%s runs in memory: remove it from the exceptions", test)
		case !inMemory && !excepted:
			t.Errorf("%s does not run in memory", test)
		}
	}
	if found < 100 {
		t.Errorf("found %d promised tests of package hub", found)
	}
	for test := range tcpOnly {
		if !promised[test] {
			t.Errorf("the exception %s is no test of a promise", test)
		}
	}
}

// notOverWebSocket lists the tests of promises of version 2 that do not run over WebSockets, with
// the reason.
var notOverWebSocket = map[string]string{
	"FuzzResume":                             "FuzzWebSocket sends arbitrary bytes over a WebSocket",
	"FuzzRestricted":                         "FuzzWebSocket sends arbitrary bytes over a WebSocket",
	"FuzzUnauthenticated":                    "FuzzWebSocket sends arbitrary bytes over a WebSocket",
	"TestHub_RejectedConn_GetsGoAwayBusy":    "a WebSocket is rejected before its upgrade: TestWebHandler_Limits_AnswerUnavailable",
	"TestSession_Detached_HoldsLittleMemory": "it measures the memory of the process",
}

// connectsV2 are the methods by which a test connects clients of version 2.
var connectsV2 = []string{".connectV2", ".connectHello", ".connectHelloRetry", ".connectToken", ".connectMaxBody", ".resume"}

// TestPromises_HoldOverWebSocket checks that every test of package hub that docs/PROTOCOL.md names
// and that connects clients of version 2 also runs over WebSockets: it reaches webSocketInMemory.
// The exceptions are in notOverWebSocket.
func TestPromises_HoldOverWebSocket(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "PROTOCOL.md"))
	if err != nil {
		t.Fatal(err)
	}
	uses := parseUses(t, filepath.Join(root, "hub"))
	connects := func(name string) bool { return slices.Contains(connectsV2, name) }
	promised, found := make(map[string]bool), 0
	for _, match := range testName.FindAllSubmatch(page, -1) {
		test := string(match[1])
		if promised[test] || !slices.ContainsFunc(uses[test], connects) || uses.inCluster(test) {
			continue
		}
		promised[test] = true
		found++
		_, excepted := notOverWebSocket[test]
		switch overWebSocket := uses.reaches(test, "webSocketInMemory", make(map[string]bool)); {
		case overWebSocket && excepted:
			t.Errorf("%s runs over WebSockets: remove it from the exceptions", test)
		case !overWebSocket && !excepted:
			t.Errorf("%s does not run over WebSockets", test)
		}
	}
	if found < 60 {
		t.Errorf("found %d promised tests of version 2", found)
	}
	for test := range notOverWebSocket {
		if !promised[test] {
			t.Errorf("the exception %s is no test of a promise of version 2", test)
		}
	}
}

// usesOf maps the name of a top-level function, method or variable to the names that it uses. The
// name of a method begins with a dot.
type usesOf map[string][]string

// parseUses parses the tests of a directory.
func parseUses(t *testing.T, dir string) usesOf {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	uses := make(usesOf)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			uses.add(decl)
		}
	}
	return uses
}

func (u usesOf) add(decl ast.Decl) {
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		name := decl.Name.Name
		if decl.Recv != nil {
			name = "." + name
		}
		u[name] = append(u[name], usedNames(decl.Body)...)
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			if vars, ok := spec.(*ast.ValueSpec); ok {
				for i, name := range vars.Names {
					if i < len(vars.Values) {
						u[name.Name] = append(u[name.Name], usedNames(vars.Values[i])...)
					}
				}
			}
		}
	}
}

// usedNames returns the names in node: "name", ".method", and "package.name".
func usedNames(node ast.Node) (names []string) {
	ast.Inspect(node, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			names = append(names, n.Name)
		case *ast.SelectorExpr:
			names = append(names, "."+n.Sel.Name)
			if x, ok := n.X.(*ast.Ident); ok {
				names = append(names, x.Name+"."+n.Sel.Name)
			}
			names = append(names, usedNames(n.X)...)
			return false
		}
		return true
	})
	return names
}

// inCluster reports whether a test runs in a cluster of hubs.
func (u usesOf) inCluster(test string) bool {
	return u.reaches(test, "membus.New", make(map[string]bool))
}

// reaches reports whether the function from uses target, directly or through others. It visits
// each function once.
func (u usesOf) reaches(from, target string, visited map[string]bool) bool {
	if visited[from] {
		return false
	}
	visited[from] = true
	for _, name := range u[from] {
		if name == target || u.reaches(name, target, visited) {
			return true
		}
	}
	return false
}
