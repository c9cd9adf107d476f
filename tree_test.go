package chat_test

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The tree is the architecture: which folder may know which. A new folder gets a line
// here when it needs more than the root, which is what it may have without one.
var folders = map[string]folder{
	".": {
		files: map[string][]string{"transport_ws.go": {"internal/fanout"}},
		why:   "the root is the domain: it knows no folder, apart from the WebSocket adapter, which stands in one file",
	},
	"chattest": {
		own: []string{"."},
		cmp: true,
		why: "a kit holds what others write to the root's contract, and may rest on nothing that is held itself",
	},
	"socketio": {
		own: []string{"internal/fanout"},
		why: "it knows nothing of chat, so that a program without a room can use it",
	},
	"internal/fanout": {
		ws:  "conn.go",
		why: "both adapters stand on it, so it can't know either, nor the root",
	},
	"examples": {
		own: []string{".", "chattest", "socketio"},
		why: "an example shows the public packages: what it can't import, nobody can",
	},
}

// A folder says what the packages of a folder of the tree may import. Their tests may
// import any public package besides.
type folder struct {
	own   []string            // folders of this module
	files map[string][]string // those that one file alone may import
	cmp   bool                // it is for tests, and may compare
	ws    string              // the one file that may import the WebSocket library, tests aside; empty: none
	why   string              // what is wrong with more
}

// What the module may require, and who may import it. Another line here is another
// line in the go.sum of everybody who imports the root.
const (
	websocketModule = "nhooyr.io/websocket"
	textModule      = "golang.org/x/text"
	cmpModule       = "github.com/google/go-cmp"
)

const (
	maxLines       = 700 // of a file
	maxMedianLines = 350 // of the Go files
	maxDocLines    = 61  // of go doc -short on the root
)

// longFiles may be longer, each for its reason.
var longFiles = map[string]bool{
	"socketio/client.js": true, // a page loads it by one name, and it is read without a build step
}

func TestTheTreeIsTheArchitecture(t *testing.T) {
	for _, problem := range checkTree(t, os.DirFS(".")) {
		t.Error(problem)
	}
}

// checkTree returns what is wrong with a tree, a line each, sorted.
func checkTree(t *testing.T, tree fs.FS) []string {
	t.Helper()
	c := &treeChecker{tree: tree, fset: token.NewFileSet(), packages: map[string][]*ast.File{}}
	c.goMod()
	c.walk()
	for _, dir := range sortedKeys(c.packages) {
		c.imports(dir, c.packages[dir])
		c.packageDoc(dir, c.packages[dir])
	}
	c.median()
	c.shortDoc()
	slices.Sort(c.problems)
	return c.problems
}

type treeChecker struct {
	tree     fs.FS
	fset     *token.FileSet
	module   string                 // the root's module path
	packages map[string][]*ast.File // by directory, nested modules aside
	lengths  []int                  // of Go files, in lines
	problems []string
}

func (c *treeChecker) problemf(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// goMod reads the module path and holds the requirements to those allowed.
func (c *treeChecker) goMod() {
	text, err := fs.ReadFile(c.tree, "go.mod")
	if err != nil {
		c.problemf("go.mod: %v", err)
		return
	}
	want := []string{cmpModule, textModule, websocketModule}
	var got []string
	block := ""
	for line := range strings.Lines(string(text)) {
		code, comment, _ := strings.Cut(line, "//")
		f := strings.Fields(code)
		switch {
		case len(f) == 0:
			continue
		case len(f) == 1 && f[0] == ")":
			block = ""
			continue
		case len(f) == 2 && f[1] == "(":
			block = f[0]
			continue
		case block != "":
			f = append([]string{block}, f...)
		}
		switch {
		case f[0] == "module":
			c.module = f[1]
		case f[0] == "require" && strings.TrimSpace(comment) != "indirect":
			got = append(got, f[1])
		case f[0] == "replace" || f[0] == "exclude":
			c.problemf("go.mod: has %s %s: it counts only here, so whoever imports the module builds something else", f[0], f[1])
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		c.problemf("go.mod: requires %v, not %v: everybody who imports the root pays for each; what needs more is a module of its own", got, want)
	}
}

// walk parses every Go file of the module and counts the lines of every text.
func (c *treeChecker) walk() {
	err := fs.WalkDir(c.tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if d.IsDir() {
			if name != "." && (base == ".git" || base == "node_modules" || base == "testdata") {
				return fs.SkipDir
			}
			return nil
		}
		if !slices.Contains([]string{".go", ".js", ".mjs", ".html", ".css", ".md", ".sh"}, path.Ext(name)) || base == "CHANGELOG.md" {
			return nil
		}
		text, err := fs.ReadFile(c.tree, name)
		if err != nil {
			return err
		}
		lines := bytes.Count(text, []byte("\n"))
		if lines >= maxLines && !longFiles[name] {
			c.problemf("%s: has %d lines: a file stays under %d, so that it can be read in one go", name, lines, maxLines)
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		c.lengths = append(c.lengths, lines)
		dir := path.Dir(name)
		if c.nested(dir) || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
			return nil
		}
		file, err := parser.ParseFile(c.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		c.packages[dir] = append(c.packages[dir], file)
		return nil
	})
	if err != nil {
		c.problemf("walk: %v", err)
	}
}

// nested reports whether dir is in a module of its own, or where the go command
// doesn't look.
func (c *treeChecker) nested(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if _, err := fs.Stat(c.tree, path.Join(dir, "go.mod")); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return true
		}
		if base := path.Base(dir); base[0] == '.' || base[0] == '_' {
			return true
		}
	}
	return false
}

// folderOf returns the folder of the tree that a directory is in: the first element
// of its path, or the first two below internal.
func folderOf(dir string) string {
	parts := strings.SplitN(dir, "/", 3)
	if parts[0] == "internal" && len(parts) > 1 {
		return parts[0] + "/" + parts[1]
	}
	return parts[0]
}

func (c *treeChecker) imports(dir string, files []*ast.File) {
	home := folderOf(dir)
	rule, ok := folders[home]
	if !ok {
		rule = folder{own: []string{"."}, why: "folders depend on the root or on nothing: they are apart so that each can be left out"}
	}
	for _, file := range files {
		name := c.fset.Position(file.Package).Filename
		base := path.Base(name)
		test := strings.HasSuffix(base, "_test.go")
		for _, spec := range file.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				c.problemf("%s: import %s: %v", name, spec.Path.Value, err)
				continue
			}
			if own, ok := c.ownFolder(imp); ok {
				switch {
				case own == home, slices.Contains(rule.own, own), slices.Contains(rule.files[base], own):
				case own == "internal/fanout":
					c.problemf("%s: imports %s: it is for the two adapters alone, transport_ws.go and socketio; others get its speed through them", name, imp)
				case test && !strings.HasPrefix(own, "internal/"):
				default:
					c.problemf("%s: imports %s: %s", name, imp, rule.why)
				}
				continue
			}
			switch first, _, _ := strings.Cut(imp, "/"); {
			case imp == "C":
				c.problemf("%s: imports C: the module builds everywhere that Go does, without a C compiler", name)
			case !strings.Contains(first, "."): // the standard library
			case within(imp, textModule):
			case within(imp, cmpModule):
				if !test && !rule.cmp {
					c.problemf("%s: imports %s: it is for tests; it panics on what it can't compare and says so itself", name, imp)
				}
			case within(imp, websocketModule):
				if !test && (base != rule.ws || dir != home) {
					c.problemf("%s: imports %s: its line continues under another path, so that what uses it is one named file, where the swap is one line",
						name, imp)
				}
			default:
				c.problemf("%s: imports %s: the root module rests on the standard library, %s and %s; what needs more is a module of its own",
					name, imp, textModule, websocketModule)
			}
		}
	}
}

// ownFolder returns the folder of the tree that an import path leads to.
func (c *treeChecker) ownFolder(imp string) (string, bool) {
	if imp == c.module {
		return ".", true
	}
	rest, ok := strings.CutPrefix(imp, c.module+"/")
	return folderOf(rest), ok
}

func within(imp, module string) bool { return imp == module || strings.HasPrefix(imp, module+"/") }

// packageDoc asks for one package comment a directory.
func (c *treeChecker) packageDoc(dir string, files []*ast.File) {
	var names []string
	code := slices.DeleteFunc(slices.Clone(files), func(f *ast.File) bool {
		return strings.HasSuffix(c.fset.Position(f.Package).Filename, "_test.go")
	})
	if len(code) == 0 { // a directory of tests alone says what they are about
		code = files
	}
	for _, file := range code {
		if text := file.Doc.Text(); text != "" {
			names = append(names, c.fset.Position(file.Package).Filename)
			if file.Name.Name != "main" && !strings.HasPrefix(text, "Package "+file.Name.Name+" ") {
				c.problemf("%s: its package comment doesn't begin with %q, which is where readers and tools look",
					names[len(names)-1], "Package "+file.Name.Name+" ")
			}
		}
	}
	switch {
	case len(names) == 0:
		c.problemf("%s: no file has a package comment: it is the contract of the package", dir)
	case len(names) > 1:
		c.problemf("%s: %s have package comments: go doc joins them in no order that was meant, so the contract is in one place", dir, strings.Join(names, " and "))
	}
}

func (c *treeChecker) median() {
	if len(c.lengths) == 0 {
		return
	}
	slices.Sort(c.lengths)
	if m := c.lengths[len(c.lengths)/2]; m >= maxMedianLines {
		c.problemf("the median Go file has %d lines: it stays under %d, or the tree can't be read in an afternoon", m, maxMedianLines)
	}
}

// shortDoc counts the lines of go doc -short on the root: one for each declaration
// group of constants or variables, each function and each type.
func (c *treeChecker) shortDoc() {
	var files []*ast.File
	for _, file := range c.packages["."] {
		if !strings.HasSuffix(c.fset.Position(file.Package).Filename, "_test.go") {
			files = append(files, file)
		}
	}
	if len(files) == 0 {
		c.problemf("the root has no package")
		return
	}
	p, err := doc.NewFromFiles(c.fset, files, c.module)
	if err != nil {
		c.problemf("go doc: %v", err)
		return
	}
	lines := len(p.Consts) + len(p.Vars) + len(p.Funcs)
	for _, typ := range p.Types {
		lines += 1 + len(typ.Consts) + len(typ.Vars) + len(typ.Funcs)
	}
	if lines >= maxDocLines {
		c.problemf("go doc -short of the root has %d lines: it stays under %d, so that it can be taken in at a look", lines, maxDocLines)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Each rule is broken once, in a small tree that is right apart from that.
func TestTreeRulesCanFail(t *testing.T) {
	right := map[string]string{
		"go.mod": "module example.org/talk // renamed\n\ngo 1.25.0\n\nrequire (\n\tgithub.com/google/go-cmp v0.7.0\n" +
			"\tgolang.org/x/text v0.1.0\n)\nrequire nhooyr.io/websocket v1.0.0\nrequire example.net/deep v1.0.0 // indirect\n",
		"doc.go":                       "// Package chat is a room.\npackage chat\n",
		"user.go":                      "package chat\nimport (\n\t_ \"strings\"\n\t_ \"golang.org/x/text/secure/precis\"\n)\n",
		"transport_ws.go":              "package chat\nimport _ \"example.org/talk/internal/fanout\"\n",
		"room_test.go":                 "package chat_test\nimport (\n\t_ \"example.org/talk/chattest\"\n\t_ \"example.org/talk/socketio\"\n\t_ \"github.com/google/go-cmp/cmp\"\n)\n",
		"chattest/kit.go":              "// Package chattest is a kit.\npackage chattest\nimport (\n\t_ \"example.org/talk\"\n\t_ \"github.com/google/go-cmp/cmp\"\n)\n",
		"socketio/doc.go":              "// Package socketio speaks it.\npackage socketio\nimport _ \"example.org/talk/internal/fanout\"\n",
		"socketio/websocket.go":        "package socketio\nimport _ \"example.org/talk/internal/fanout\"\n",
		"internal/fanout/conn.go":      "// Package fanout is shared.\npackage fanout\nimport _ \"nhooyr.io/websocket\"\n",
		"internal/fanout/peer_test.go": "package fanout_test\nimport (\n\t_ \"example.org/talk/internal/fanout\"\n\t_ \"nhooyr.io/websocket\"\n)\n",
		"examples/page/main.go":        "// Page shows it.\npackage main\nimport (\n\t_ \"example.org/talk\"\n\t_ \"example.org/talk/socketio\"\n)\n",
		"natslog/go.mod":               "module example.org/talk/natslog\n",
		"natslog/log.go":               "package natslog\nimport _ \"example.net/nats\"\n",
		"testdata/wrong.go":            "this isn't Go",
	}
	long := strings.Repeat("//\n", 699)
	for _, tt := range []struct {
		why  string
		add  map[string]string // files laid over those above; "" takes one away
		want []string          // how each problem begins, and a part of the reason
	}{
		{why: "the tree as it should be"},
		{why: "the root knows no folder",
			add:  map[string]string{"user.go": "package chat\nimport _ \"example.org/talk/chattest\"\n"},
			want: []string{"user.go: imports example.org/talk/chattest: the root is the domain"}},
		{why: "the fan-out is for one file of the root",
			add:  map[string]string{"user.go": "package chat\nimport _ \"example.org/talk/internal/fanout\"\n"},
			want: []string{"user.go: imports example.org/talk/internal/fanout: it is for the two adapters alone"}},
		{why: "nor is it for a test of the root",
			add:  map[string]string{"x_test.go": "package chat_test\nimport _ \"example.org/talk/internal/fanout\"\n"},
			want: []string{"x_test.go: imports example.org/talk/internal/fanout: it is for the two adapters alone"}},
		{why: "a folder knows no sibling",
			add:  map[string]string{"socketio/doc.go": "// Package socketio speaks it.\npackage socketio\nimport _ \"example.org/talk/chattest\"\n"},
			want: []string{"socketio/doc.go: imports example.org/talk/chattest: it knows nothing of chat"}},
		{why: "socketio doesn't know the root either",
			add:  map[string]string{"socketio/doc.go": "// Package socketio speaks it.\npackage socketio\nimport _ \"example.org/talk\"\n"},
			want: []string{"socketio/doc.go: imports example.org/talk: it knows nothing of chat"}},
		{why: "a new folder may know the root alone",
			add: map[string]string{"redislog/a.go": "// Package redislog is new.\npackage redislog\nimport (\n\t_ \"example.org/talk\"\n\t_ \"example.org/talk/socketio\"\n)\n"},
			want: []string{
				"redislog/a.go: imports example.org/talk/socketio: folders depend on the root or on nothing"}},
		{why: "a folder below another is a part of it",
			add:  map[string]string{"chattest/pipe/a.go": "// Package pipe is in memory.\npackage pipe\nimport _ \"example.org/talk/socketio\"\n"},
			want: []string{"chattest/pipe/a.go: imports example.org/talk/socketio: a kit holds what others write"}},
		{why: "examples show public packages",
			add:  map[string]string{"examples/page/main.go": "// Page shows it.\npackage main\nimport _ \"example.org/talk/internal/fanout\"\n"},
			want: []string{"examples/page/main.go: imports example.org/talk/internal/fanout: it is for the two adapters alone"}},
		{why: "the WebSocket library in a second file of its folder",
			add:  map[string]string{"internal/fanout/frame.go": "package fanout\nimport _ \"nhooyr.io/websocket/wsjson\"\n"},
			want: []string{"internal/fanout/frame.go: imports nhooyr.io/websocket/wsjson: its line continues under another path"}},
		{why: "the WebSocket library in a file of that name in another folder",
			add:  map[string]string{"internal/fanout/more/conn.go": "// Package more is more.\npackage more\nimport _ \"nhooyr.io/websocket\"\n"},
			want: []string{"internal/fanout/more/conn.go: imports nhooyr.io/websocket: its line continues under another path"}},
		{why: "the WebSocket library in a folder that has no file for it",
			add:  map[string]string{"chattest/kit.go": "// Package chattest is a kit.\npackage chattest\nimport _ \"nhooyr.io/websocket\"\n"},
			want: []string{"chattest/kit.go: imports nhooyr.io/websocket: its line continues under another path"}},
		{why: "a library that isn't among the three",
			add:  map[string]string{"user_test.go": "package chat_test\nimport _ \"github.com/stretchr/testify/assert\"\n"},
			want: []string{"user_test.go: imports github.com/stretchr/testify/assert: the root module rests on"}},
		{why: "golang.org/x is not all one",
			add:  map[string]string{"user.go": "package chat\nimport _ \"golang.org/x/time/rate\"\n"},
			want: []string{"user.go: imports golang.org/x/time/rate: the root module rests on"}},
		{why: "comparing is for tests",
			add:  map[string]string{"user.go": "package chat\nimport _ \"github.com/google/go-cmp/cmp\"\n"},
			want: []string{"user.go: imports github.com/google/go-cmp/cmp: it is for tests"}},
		{why: "nor is an adapter a test",
			add:  map[string]string{"socketio/websocket.go": "package socketio\nimport _ \"github.com/google/go-cmp/cmp\"\n"},
			want: []string{"socketio/websocket.go: imports github.com/google/go-cmp/cmp: it is for tests"}},
		{why: "no C",
			add:  map[string]string{"user.go": "package chat\nimport \"C\"\n"},
			want: []string{"user.go: imports C: the module builds everywhere"}},
		{why: "a fourth requirement, and a replacement",
			add: map[string]string{"go.mod": right["go.mod"] + "require example.net/nats v1.0.0\nreplace example.net/nats => ../nats\n"},
			want: []string{
				"go.mod: has replace example.net/nats: it counts only here",
				"go.mod: requires [example.net/nats github.com/google/go-cmp golang.org/x/text nhooyr.io/websocket], not [github"}},
		{why: "no package comment",
			add:  map[string]string{"chattest/kit.go": "//lint:ignore U1000 this is none\n\npackage chattest\n"},
			want: []string{"chattest: no file has a package comment"}},
		{why: "two package comments",
			add:  map[string]string{"user.go": "// Package chat has users.\npackage chat\n"},
			want: []string{".: doc.go and user.go have package comments"}},
		{why: "a comment against the package clause that isn't one of the package",
			add: map[string]string{"socketio/websocket.go": "// The WebSocket side.\npackage socketio\n"},
			want: []string{
				"socketio/websocket.go: its package comment doesn't begin with \"Package socketio \"",
				"socketio: socketio/doc.go and socketio/websocket.go have package comments"}},
		{why: "a file too long, in a module of its own too",
			add: map[string]string{"natslog/log.go": "package natslog\n" + long, "socketio/page.js": long + "x\n"},
			want: []string{
				"natslog/log.go: has 700 lines: a file stays under 700",
				"socketio/page.js: has 700 lines: a file stays under 700"}},
		{why: "the median",
			add: map[string]string{"user.go": "package chat\n" + long[:3*349], "doc.go": "// Package chat is a room.\npackage chat\n" + long[:3*349],
				"room_test.go": "package chat_test\n" + long[:3*349], "chattest/kit.go": "// Package chattest is a kit.\npackage chattest\n" + long[:3*349],
				"socketio/doc.go":       "// Package socketio speaks it.\npackage socketio\n" + long[:3*349],
				"examples/page/main.go": "// Page shows it.\npackage main\n" + long[:3*349]},
			want: []string{"the median Go file has 350 lines"}},
		{why: "more in the root than can be taken in",
			add: map[string]string{"user.go": "package chat\n" + declare(59) + "const (\n\tA = 1\n\tB = 2\n)\n"}},
		{why: "and one more",
			add:  map[string]string{"user.go": "package chat\n" + declare(60) + "const (\n\tA = 1\n\tB = 2\n)\n"},
			want: []string{"go doc -short of the root has 61 lines"}},
		{why: "what can't be parsed isn't passed over",
			add:  map[string]string{"user.go": "package\n"},
			want: []string{"walk: user.go:"}},
	} {
		t.Run(strings.ReplaceAll(tt.why, " ", "_"), func(t *testing.T) {
			dir := t.TempDir()
			files := map[string]string{}
			for _, layer := range []map[string]string{right, tt.add} {
				for name, text := range layer {
					files[name] = text
				}
			}
			for name, text := range files {
				name = filepath.Join(dir, filepath.FromSlash(name))
				if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, []byte(text), 0o666)); err != nil {
					t.Fatal(err)
				}
			}
			got := checkTree(t, os.DirFS(dir))
			for i, want := range tt.want { // compare the beginnings alone, and all of what has none
				if i < len(got) && strings.HasPrefix(got[i], want) {
					got[i] = want
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// declare returns n lines of go doc -short: a type, what makes one, and functions.
func declare(n int) string {
	var b strings.Builder
	b.WriteString("type T struct{}\nfunc NewT() *T { return nil }\nfunc (*T) Method() {}\nvar Default = NewT()\n")
	for i := range n - 3 {
		fmt.Fprintf(&b, "func F%d() {}\n", i)
	}
	return b.String()
}
