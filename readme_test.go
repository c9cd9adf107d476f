package chat_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the tree's pages show is so: the two commands are there, links lead somewhere, Go blocks build, and those that are
// tests pass. A block that begins with a package clause is a program or, in a package whose name ends in _test, a test file;
// the rest are statements, with what they need given. PROTOCOL.md has tests of its own.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"\n    go run ./examples/browserchat\n", "\n    go test ./...\n"} {
		if !strings.Contains(string(text), command) {
			t.Errorf("the README has no line %q", strings.TrimSpace(command))
		}
	}
	if _, err := os.Stat("examples/browserchat/main.go"); err != nil {
		t.Error(err)
	}
	first, _, _ := strings.Cut(string(text), "\n## ")
	for _, want := range []string{"```go\npackage main\n", `chat.NewRoom(`, `http.Handle("/ws"`} {
		if !strings.Contains(first, want) {
			t.Errorf("the README's first screen has no %q", want)
		}
	}
	dir, blocks := module(t), 0
	least := map[string]int{"README.md": 2, "TESTING.md": 4}
	for _, page := range pages(t) {
		problems, files := checkPage(page, dir, &blocks)
		for _, problem := range problems {
			t.Error(problem)
		}
		if files < least[page] {
			t.Errorf("%d programs and tests in %s", files, page)
		}
	}
	if out, err := vet(dir); err != nil {
		t.Errorf("a Go block: %v\n%s", err, out)
	}
}

// TestReadmeCanFail shows a page with a fault of each kind.
func TestReadmeCanFail(t *testing.T) {
	dir, blocks := module(t), 0
	page := filepath.Join(t.TempDir(), "PAGE.md")
	text := "[gone](gone.md) [here](PAGE.md) [part](PAGE.md#part) [away](https://example.com/)\n\n" +
		"```go\npackage main\n\nfunc main() { chat.NewRoom() }\n```\n" +
		"```go\nroom, err := chat.NewRoom(nil)\nif err != nil {\n\treturn err\n}\ndefer room.Close()\nroom.Nothing()\n```\n" +
		"```go\npackage x_test\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) { t.Error(\"it is red\") }\n```\n"
	if err := os.WriteFile(page, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	problems, files := checkPage(page, dir, &blocks)
	if len(problems) != 1 || !strings.Contains(problems[0], "gone.md") || files != 2 {
		t.Errorf("%d programs and tests, and %q: not one link that leads nowhere", files, problems)
	}
	out, err := vet(dir)
	for _, want := range []string{"undefined: chat", "room.Nothing", "it is red"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("three faults in Go blocks, of which %q is one: %v\n%s", want, err, out)
		}
	}
}

// pages lists the tree's Markdown, apart from what npm installs.
func pages(t *testing.T) []string {
	t.Helper()
	var pages []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git"):
			return fs.SkipDir
		case filepath.Ext(path) == ".md" && path != "PROTOCOL.md":
			pages = append(pages, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

var (
	links    = regexp.MustCompile(`\]\(([^):]+)\)`)
	goBlocks = regexp.MustCompile("(?ms)^```go\n(.*?)^```")
)

// checkPage returns what is wrong with a page's links, and puts its Go blocks into packages of the module in dir.
func checkPage(page, dir string, blocks *int) (problems []string, files int) {
	text, err := os.ReadFile(page)
	if err != nil {
		return []string{err.Error()}, 0
	}
	for _, link := range links.FindAllSubmatch(text, -1) {
		file, _, _ := strings.Cut(string(link[1]), "#")
		if file == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(page), file)); err != nil {
			problems = append(problems, fmt.Sprintf("%s: a link leads nowhere: %v", page, err))
		}
	}
	for _, block := range goBlocks.FindAllSubmatch(text, -1) {
		source, name := string(block[1]), "block.go"
		if clause, _, _ := strings.Cut(source, "\n"); strings.HasPrefix(clause, "package ") {
			files++
			if strings.HasSuffix(clause, "_test") {
				name = "block_test.go"
			}
		} else {
			source = "package block\n\nimport (\n\t\"context\"\n\n\t\"example.com/chat\"\n)\n\nvar _ chat.Event\n\n" +
				"func _(ctx context.Context) error {\n" + source + "\nreturn nil\n}\n"
		}
		*blocks++
		file := filepath.Join(dir, fmt.Sprintf("block%d", *blocks), name)
		err := os.MkdirAll(filepath.Dir(file), 0o777)
		if err == nil {
			err = os.WriteFile(file, []byte(source), 0o666)
		}
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	return problems, files
}

// vet builds and vets a module and runs its tests, without the network.
func vet(dir string) (string, error) {
	var all []byte
	var errs []error
	for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
		out, err := cmd.CombinedOutput()
		all, errs = append(all, out...), append(errs, err)
	}
	return string(all), errors.Join(errs...)
}

// module makes a module outside the tree that imports this one, as the README says to.
func module(t *testing.T) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	mod = []byte(strings.Replace(string(mod), "module example.com/chat", "module example.org/readme", 1) +
		"\nrequire example.com/chat v0.0.0\n\nreplace example.com/chat => " + root + "\n")
	for name, data := range map[string][]byte{"go.mod": mod, "go.sum": sum} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
