package socketio_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What README.md names is there, and every case of a table of clauses is in it.
func TestReadme(t *testing.T) {
	page, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, cases := declared(t)
	for _, problem := range checkReadme(string(page), tests, cases) {
		t.Error(problem)
	}
	engine := len(cases["TestEngine"]) + len(cases["TestUpgrade"]) + len(cases["TestEngineAlone"])
	if socket := len(cases["TestSocket"]) + len(cases["TestCall"]); engine < 25 || socket < 32 {
		t.Errorf("%d cases of Engine.IO, want 25 and more; %d of Socket.IO, want 32 and more", engine, socket)
	}
}

// TestReadmeCanFail shows a page with a fault of each kind.
func TestReadmeCanFail(t *testing.T) {
	tests := map[string]bool{"TestEngine": true, "FuzzOne": true, "TestOther": true}
	cases := map[string][]string{"TestEngine": {"a/one", "a/two"}}
	page := "| section | cases of `TestEngine` |\n| --- | --- |\n| A | `a/one`<br>`a/two` |\n\n`TestOther`, `FuzzOne`.\n"
	if problems := checkReadme(page, tests, cases); len(problems) != 0 {
		t.Errorf("a page without a fault: %q", problems)
	}
	for _, row := range []struct{ old, new, why string }{
		{"`a/one`<br>", "", "TestEngine/a/one is not on the page"},
		{"`a/two`", "`a/two`<br>`a/three`", "TestEngine/a/three is no case"},
		{"`TestOther`", "`TestGone`", "TestGone is not there"},
		{"`FuzzOne`", "`FuzzTwo`", "FuzzTwo is not there"},
		{"cases of `TestEngine`", "cases", "TestEngine/a/one is not on the page"},
	} {
		problems := checkReadme(strings.Replace(page, row.old, row.new, 1), tests, cases)
		if !slices.Contains(problems, row.why) {
			t.Errorf("%q in place of %q: %q, not %q", row.new, row.old, problems, row.why)
		}
	}
}

var (
	tableOf  = regexp.MustCompile("cases of `(Test\\w+)`")
	quoted   = regexp.MustCompile("`([^`]+)`")
	testName = regexp.MustCompile(`^(Test|Fuzz|Example)\w+$`)
)

// checkReadme returns what is wrong with the page.
func checkReadme(page string, tests map[string]bool, cases map[string][]string) (problems []string) {
	named := map[string]bool{}
	table := ""
	for line := range strings.Lines(page) {
		if m := tableOf.FindStringSubmatch(line); m != nil {
			table = m[1]
		} else if !strings.HasPrefix(line, "|") {
			table = ""
		} else if cells := strings.SplitN(line, "|", 3); table != "" {
			for _, m := range quoted.FindAllStringSubmatch(cells[2], -1) {
				named[table+"/"+m[1]] = true
				if !slices.Contains(cases[table], m[1]) {
					problems = append(problems, table+"/"+m[1]+" is no case")
				}
			}
		}
		for _, m := range quoted.FindAllStringSubmatch(line, -1) {
			if testName.MatchString(m[1]) && !tests[m[1]] {
				problems = append(problems, m[1]+" is not there")
			}
		}
	}
	for test, names := range cases {
		for _, name := range names {
			if !named[test+"/"+name] {
				problems = append(problems, test+"/"+name+" is not on the page")
			}
		}
	}
	return problems
}

// declared returns this folder's tests, fuzz targets and examples, and the cases of each test that is a table of clauses:
// rows of a name and a function.
func declared(t *testing.T) (tests map[string]bool, cases map[string][]string) {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests, cases = map[string]bool{}, map[string][]string{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			tests[f.Name.Name] = true
			clauses := false // the table's rows have a field of that name
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.Field:
					clauses = clauses || len(n.Names) == 1 && n.Names[0].Name == "clause"
				case *ast.CompositeLit:
					if !clauses || len(n.Elts) != 2 {
						return true
					}
					name, isName := n.Elts[0].(*ast.BasicLit)
					if _, isFunc := n.Elts[1].(*ast.FuncLit); isName && isFunc {
						s, err := strconv.Unquote(name.Value)
						if err != nil {
							t.Fatal(err)
						}
						cases[f.Name.Name] = append(cases[f.Name.Name], s)
					}
				}
				return true
			})
		}
	}
	return tests, cases
}
