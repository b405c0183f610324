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

// logged is one line that a hub may log.
type logged struct{ level, message string }

// writes are the log lines in the sources, with the names of their attributes.
type writes map[logged]map[string]bool

// helper is a function that logs a message which its caller names.
type helper struct {
	level      string // "": its caller gives the method that logs, such as logger.Warn
	attributes []string
	parameter  int // that is the message
}

// levels are the methods of slog.Logger that write a line.
var levels = map[string]string{"Debug": "DEBUG", "Info": "INFO", "Warn": "WARN", "Error": "ERROR"}

// otherMethods are those which do so as well.
var otherMethods = regexp.MustCompile(`^(Log|LogAttrs|(Debug|Info|Warn|Error)Context)$`)

// othersLog are the sources of the other programs, which log for themselves.
var othersLog = regexp.MustCompile(`/(hubctl|embed|simulation)[^/]*\.go$|/internal/(simulation|documents|architecture)/`)

// TestEveryLogLineIsDocumented compares the table in OPERATIONS.md with what the sources of
// the hub and its server log.
func TestEveryLogLineIsDocumented(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := logLines(t, root)
	if len(found) < 20 {
		t.Fatalf("only %d log lines are found in the sources: %v", len(found), found)
	}
	row := regexp.MustCompile("(?m)^\\| (DEBUG|INFO|WARN|ERROR) \\| `([^`]+)` \\|([^|]*)\\|[^|]*\\|[^|]*\\|$")
	for _, match := range row.FindAllStringSubmatch(string(page), -1) {
		line := logged{match[1], match[2]}
		attributes, there := found[line]
		if !there {
			t.Errorf("%v is documented, perhaps twice, and nothing logs it", line)
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
			t.Errorf("%v is documented with %v, has %v", line, names, want)
		}
	}
	for line, attributes := range found {
		t.Errorf("not documented: | %s | `%s` | %v |", line.level, line.message, slices.Sorted(maps.Keys(attributes)))
	}
}

// logLines returns what the sources below root log. A message that is neither a constant nor
// handed on by a function to which its callers give constants fails the test: nobody could look
// it up.
func logLines(t *testing.T, root string) writes {
	t.Helper()
	found, helpers := make(writes), make(map[string]helper)
	functions := serverSources(t, root)
	for _, f := range functions {
		calls(f, func(c *ast.CallExpr) {
			if method, _ := c.Fun.(*ast.SelectorExpr); method != nil && otherMethods.MatchString(method.Sel.Name) {
				t.Errorf("%s logs by %s, which is not looked for here", f.Name.Name, method.Sel.Name)
			}
			level, ok := logMethod(c.Fun)
			if call, isName := c.Fun.(*ast.Ident); isName && isParameter(f, call.Name, "func") {
				ok = true
			}
			if !ok || len(c.Args) == 0 {
				return
			}
			message, constant := text(c.Args[0])
			name, _ := c.Args[0].(*ast.Ident)
			switch {
			case constant && level != "":
				found.add(logged{level, message}, attributes(c.Args[1:]))
			case name != nil && isParameter(f, name.Name, "string"):
				helpers[f.Name.Name] = helper{level, append(attributes(c.Args[1:]), appended(f)...), parameterAt(f, name.Name)}
			case level != "":
				t.Errorf("%s logs a message that is not a constant", f.Name.Name)
			}
		})
	}
	for _, f := range functions {
		calls(f, func(c *ast.CallExpr) { found.addHelped(c, helpers) })
	}
	return found
}

// appended returns the names of attributes that a helper adds to those of its caller.
func appended(f *ast.FuncDecl) (names []string) {
	calls(f, func(c *ast.CallExpr) {
		if name, _ := c.Fun.(*ast.Ident); name != nil && name.Name == "append" {
			names = append(names, attributes(c.Args[1:])...)
		}
	})
	return names
}

// addHelped adds what a call of a helper logs.
func (w writes) addHelped(c *ast.CallExpr, helpers map[string]helper) {
	called, _ := c.Fun.(*ast.SelectorExpr)
	if called == nil {
		return
	}
	h, ok := helpers[called.Sel.Name]
	if !ok || len(c.Args) <= h.parameter {
		return
	}
	message, constant := text(c.Args[h.parameter])
	if !constant {
		return // of another function with this name
	}
	level := h.level
	for _, arg := range c.Args {
		if given, ok := logMethod(arg); ok {
			level = given
		}
	}
	w.add(logged{level, message}, append(attributes(c.Args[h.parameter+1:]), h.attributes...))
}

func (w writes) add(line logged, attributes []string) {
	if w[line] == nil {
		w[line] = make(map[string]bool)
	}
	for _, name := range attributes {
		w[line][name] = true
	}
}

// serverSources returns the functions of which the hub and its server are made, without tests.
func serverSources(t *testing.T, root string) (functions []*ast.FuncDecl) {
	t.Helper()
	for _, folder := range []string{"hub", "wire", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || othersLog.MatchString(filepath.ToSlash(path)) {
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

// calls visits all calls in a function.
func calls(f *ast.FuncDecl, visit func(*ast.CallExpr)) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			visit(c)
		}
		return true
	})
}

// logMethod returns the level at which a method of a logger logs. By the rule of the house a
// logger is called so.
func logMethod(e ast.Expr) (level string, ok bool) {
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

// text returns the value of a string that stands in the source.
func text(e ast.Expr) (string, bool) {
	literal, _ := e.(*ast.BasicLit)
	if literal == nil || literal.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(literal.Value)
	return s, err == nil
}

// attributes returns the names among keys and values, in turn.
func attributes(args []ast.Expr) (names []string) {
	for i := 0; i < len(args); i += 2 {
		if name, ok := text(args[i]); ok {
			names = append(names, name)
		}
	}
	return names
}

// isParameter reports whether a function has a parameter of that name and kind.
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

// parameterAt returns which parameter of a function has that name.
func parameterAt(f *ast.FuncDecl, name string) int {
	at := 0
	for _, field := range f.Type.Params.List {
		for _, n := range field.Names {
			if n.Name == name {
				return at
			}
			at++
		}
	}
	return -1
}
