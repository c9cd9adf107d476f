package chat_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What PROMISES.md names is there, and what is there it names: each promise with its tests, each sentinel with who sees it.
func TestPromisesPage(t *testing.T) {
	page, err := os.ReadFile("PROMISES.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, sentinels := declared(t)
	for _, problem := range checkPromises(string(page), tests, sentinels) {
		t.Error(problem)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	code := comments(t)
	for n := 1; n <= promises; n++ {
		if !strings.Contains(string(doc), fmt.Sprintf("\n//  %d. ", n)) {
			t.Errorf("doc.go has no promise %d", n)
		}
		if !regexp.MustCompile(fmt.Sprintf(`promises? (\d+ and )?%d\b`, n)).MatchString(code) {
			t.Errorf("no comment says where the code keeps promise %d", n)
		}
	}
}

// TestPromisesPageCanFail shows pages with a fault of each kind.
func TestPromisesPageCanFail(t *testing.T) {
	tests := map[string]bool{"TestOther": true}
	page := ""
	for n := 1; n <= promises; n++ {
		test := fmt.Sprintf("TestPromise%02dHolds", n)
		tests[test] = true
		page += fmt.Sprintf("| %d | it holds | `%s` | `TestOther` |\n", n, test)
	}
	page += "| `ErrOne` | when | who | what |\n"
	sentinels := map[string]bool{"ErrOne": true}
	if problems := checkPromises(page, tests, sentinels); len(problems) != 0 {
		t.Errorf("a page without a fault: %q", problems)
	}
	for _, row := range []struct{ old, new, why string }{
		{"| 7 | it holds |", "| | it holds |", "no row for promise 7"},
		{"`TestPromise07Holds`", "", "no test of promise 7"},
		{"`TestOther`", "`TestGone`", "TestGone is no test"},
		{"| `ErrOne` |", "| |", "no row for ErrOne"},
		{"| `ErrOne` |", "| `ErrOne` `ErrGone` |", "ErrGone is no sentinel"},
	} {
		problems := checkPromises(strings.Replace(page, row.old, row.new, 1), tests, sentinels)
		if !strings.Contains(strings.Join(problems, "\n"), row.why) {
			t.Errorf("%q in place of %q: %q, not %q", row.new, row.old, problems, row.why)
		}
	}
}

// promises is how many there are.
const promises = 14

var (
	promiseRow  = regexp.MustCompile(`(?m)^\| (\d+) \|.*$`)
	pageTests   = regexp.MustCompile("`(Test\\w+)`")
	pageErrors  = regexp.MustCompile("`(Err\\w+)`")
	promiseTest = regexp.MustCompile(`^TestPromise(\d\d)`)
)

// checkPromises returns what is wrong with the page.
func checkPromises(page string, tests, sentinels map[string]bool) (problems []string) {
	rows := map[string]string{}
	for _, row := range promiseRow.FindAllStringSubmatch(page, -1) {
		rows[row[1]] = row[0]
	}
	for n := 1; n <= promises; n++ {
		row := rows[fmt.Sprint(n)]
		if row == "" {
			problems = append(problems, fmt.Sprintf("no row for promise %d", n))
		} else if !strings.Contains(row, fmt.Sprintf("`TestPromise%02d", n)) {
			problems = append(problems, fmt.Sprintf("no test of promise %d", n))
		}
	}
	for test := range tests {
		if m := promiseTest.FindStringSubmatch(test); m != nil {
			if row := rows[strings.TrimLeft(m[1], "0")]; !strings.Contains(row, "`"+test+"`") {
				problems = append(problems, test+" is not in its promise's row")
			}
		}
	}
	for _, m := range pageTests.FindAllStringSubmatch(page, -1) {
		if !tests[m[1]] {
			problems = append(problems, m[1]+" is no test")
		}
	}
	for _, m := range pageErrors.FindAllStringSubmatch(page, -1) {
		if !sentinels[m[1]] {
			problems = append(problems, m[1]+" is no sentinel")
		}
	}
	for s := range sentinels {
		if !regexp.MustCompile("(?m)^\\| `" + s + "` \\|").MatchString(page) {
			problems = append(problems, "no row for "+s)
		}
	}
	return problems
}

// declared returns the names of this folder's tests, and of the sentinels of errors.go.
func declared(t *testing.T) (tests, sentinels map[string]bool) {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	tests, sentinels = map[string]bool{}, map[string]bool{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv == nil && strings.HasPrefix(decl.Name.Name, "Test") {
					tests[decl.Name.Name] = true
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					value, ok := spec.(*ast.ValueSpec)
					if ok && name == "errors.go" && decl.Tok == token.VAR && strings.HasPrefix(value.Names[0].Name, "Err") {
						sentinels[value.Names[0].Name] = true
					}
				}
			}
		}
	}
	return tests, sentinels
}

// comments returns those of this folder's code, tests and the package documentation aside.
func comments(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "doc.go" {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range file.Comments {
			all.WriteString(c.Text())
		}
	}
	return all.String()
}
