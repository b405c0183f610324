package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logLine is a line that the server can log.
type logLine struct{ level, message string }

// logLineSet has the log lines in the sources, with the names of their attributes.
type logLineSet map[logLine]map[string]bool

// logHelper is a function that logs a message given by its caller.
type logHelper struct {
	level        string // "": the caller passes a logging method, such as logger.Warn
	attributes   []string
	messageParam int // index of the parameter with the message
}

// levels has the level of each method of slog.Logger that findLogLines supports.
var levels = map[string]string{"Debug": "DEBUG", "Info": "INFO", "Warn": "WARN", "Error": "ERROR"}

// unsupportedMethods matches the other methods of slog.Logger that log.
var unsupportedMethods = regexp.MustCompile(`^(Log|LogAttrs|(Debug|Info|Warn|Error)Context)$`)

// otherPrograms matches the sources of other programs, whose log lines are not in the table.
var otherPrograms = regexp.MustCompile(`/internal/(simulation|documents|architecture)/|/internal/command/(hubctl|simulation)/`)

// TestLogLines_Documented compares the table of log lines in OPERATIONS.md with the calls of
// loggers in the sources of the hub and its server.
func TestLogLines_Documented(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := findLogLines(t, root)
	if len(found) < 20 {
		t.Fatalf("found only %d log lines in the sources: %v", len(found), found)
	}
	row := regexp.MustCompile("(?m)^\\| (DEBUG|INFO|WARN|ERROR) \\| `([^`]+)` \\|([^|]*)\\|[^|]*\\|[^|]*\\|$")
	for _, match := range row.FindAllStringSubmatch(string(page), -1) {
		line := logLine{match[1], match[2]}
		attributes, ok := found[line]
		if !ok {
			t.Errorf("%v is documented twice, or no source logs it", line)
			continue
		}
		delete(found, line)
		documented := regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(match[3], -1)
		var names []string
		for _, name := range documented {
			names = append(names, name[1])
		}
		slices.Sort(names)
		if want := slices.Sorted(maps.Keys(attributes)); !slices.Equal(names, want) {
			t.Errorf("%v is documented with the attributes %v, want %v", line, names, want)
		}
	}
	for line, attributes := range found {
		t.Errorf("not documented: | %s | `%s` | %v |", line.level, line.message, slices.Sorted(maps.Keys(attributes)))
	}
}

// findLogLines returns the log lines in the sources below root. A message must be a constant,
// or the parameter of a logHelper whose callers pass constants. Any other message fails the
// test, because an operator cannot look it up.
func findLogLines(t *testing.T, root string) logLineSet {
	t.Helper()
	found, helpers := make(logLineSet), make(map[string]logHelper)
	functions := serverFuncs(t, root)
	for _, f := range functions {
		visitCalls(f, func(c *ast.CallExpr) {
			if method, _ := c.Fun.(*ast.SelectorExpr); method != nil && unsupportedMethods.MatchString(method.Sel.Name) {
				t.Errorf("%s logs by %s, which this test does not support", f.Name.Name, method.Sel.Name)
			}
			level, ok := logLevel(c.Fun)
			if call, isName := c.Fun.(*ast.Ident); isName && isParameter(f, call.Name, "func") {
				ok = true
			}
			if !ok || len(c.Args) == 0 {
				return
			}
			message, constant := stringValue(c.Args[0])
			name, _ := c.Args[0].(*ast.Ident)
			switch {
			case constant && level != "":
				found.add(logLine{level, message}, attributeNames(c.Args[1:]))
			case name != nil && isParameter(f, name.Name, "string"):
				helpers[f.Name.Name] = logHelper{level, append(attributeNames(c.Args[1:]), appendedAttributes(f)...), parameterIndex(f, name.Name)}
			case level != "":
				t.Errorf("%s logs a message that is not a constant", f.Name.Name)
			}
		})
	}
	for _, f := range functions {
		visitCalls(f, func(c *ast.CallExpr) { found.addHelperCall(c, helpers) })
	}
	return found
}

// appendedAttributes returns the names of the attributes that a helper appends to those of its
// caller.
func appendedAttributes(f *ast.FuncDecl) (names []string) {
	visitCalls(f, func(c *ast.CallExpr) {
		if name, _ := c.Fun.(*ast.Ident); name != nil && name.Name == "append" {
			names = append(names, attributeNames(c.Args[1:])...)
		}
	})
	return names
}

// addHelperCall adds the log line of a call of a helper.
func (w logLineSet) addHelperCall(c *ast.CallExpr, helpers map[string]logHelper) {
	called, _ := c.Fun.(*ast.SelectorExpr)
	if called == nil {
		return
	}
	h, ok := helpers[called.Sel.Name]
	if !ok || len(c.Args) <= h.messageParam {
		return
	}
	message, constant := stringValue(c.Args[h.messageParam])
	if !constant {
		return // a call of another function with the same name
	}
	level := h.level
	for _, arg := range c.Args {
		if given, ok := logLevel(arg); ok {
			level = given
		}
	}
	w.add(logLine{level, message}, append(attributeNames(c.Args[h.messageParam+1:]), h.attributes...))
}

func (w logLineSet) add(line logLine, attributes []string) {
	if w[line] == nil {
		w[line] = make(map[string]bool)
	}
	for _, name := range attributes {
		w[line][name] = true
	}
}

// serverFuncs returns the functions of the hub and its server, without tests.
func serverFuncs(t *testing.T, root string) (functions []*ast.FuncDecl) {
	t.Helper()
	for _, folder := range []string{"hub", "natscluster", "wire", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || otherPrograms.MatchString(filepath.ToSlash(path)) {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, d := range f.Decls {
				if d, ok := d.(*ast.FuncDecl); ok && d.Body != nil {
					functions = append(functions, d)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return functions
}

// visitCalls calls visit for all calls in a function.
func visitCalls(f *ast.FuncDecl, visit func(*ast.CallExpr)) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			visit(c)
		}
		return true
	})
}

// logLevel returns the level of a logging method, such as x.logger.Warn. It recognizes loggers
// by their name, which is "logger" by convention.
func logLevel(e ast.Expr) (level string, ok bool) {
	method, _ := e.(*ast.SelectorExpr)
	if method == nil {
		return "", false
	}
	owner := ""
	switch x := method.X.(type) {
	case *ast.Ident:
		owner = x.Name
	case *ast.SelectorExpr:
		owner = x.Sel.Name
	}
	level, ok = levels[method.Sel.Name]
	return level, ok && strings.EqualFold(owner, "logger")
}

// stringValue returns the value of a string literal.
func stringValue(e ast.Expr) (string, bool) {
	literal, _ := e.(*ast.BasicLit)
	if literal == nil || literal.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(literal.Value)
	return s, err == nil
}

// attributeNames returns the names in a list of alternating names and values.
func attributeNames(args []ast.Expr) (names []string) {
	for i := 0; i < len(args); i += 2 {
		if name, ok := stringValue(args[i]); ok {
			names = append(names, name)
		}
	}
	return names
}

// isParameter reports whether a function has a parameter with that name and type. The kind "func"
// stands for all function types.
func isParameter(f *ast.FuncDecl, name, kind string) bool {
	for _, field := range f.Type.Params.List {
		for _, n := range field.Names {
			if n.Name != name {
				continue
			}
			_, function := field.Type.(*ast.FuncType)
			other, _ := field.Type.(*ast.Ident)
			return kind == "func" && function || other != nil && other.Name == kind
		}
	}
	return false
}

// parameterIndex returns the index of the parameter with that name, or -1.
func parameterIndex(f *ast.FuncDecl, name string) int {
	index := 0
	for _, field := range f.Type.Params.List {
		for _, n := range field.Names {
			if n.Name == name {
				return index
			}
			index++
		}
	}
	return -1
}
