package chat_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the tree's pages show is so: the two commands are there, links lead somewhere, Go blocks build. A block that begins
// with a package clause is a program; the rest are statements, with what they need given. PROTOCOL.md has tests of its own.
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
	for _, page := range pages(t) {
		problems, programs := checkPage(page, dir, &blocks)
		for _, problem := range problems {
			t.Error(problem)
		}
		if page == "README.md" && programs < 2 {
			t.Errorf("%d programs in the README", programs)
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
		"```go\nroom, err := chat.NewRoom(nil)\nif err != nil {\n\treturn err\n}\ndefer room.Close()\nroom.Nothing()\n```\n"
	if err := os.WriteFile(page, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	problems, programs := checkPage(page, dir, &blocks)
	if len(problems) != 1 || !strings.Contains(problems[0], "gone.md") || programs != 1 {
		t.Errorf("%d programs, and %q: not one link that leads nowhere", programs, problems)
	}
	out, err := vet(dir)
	if err == nil || !strings.Contains(out, "undefined: chat") || !strings.Contains(out, "room.Nothing") {
		t.Errorf("two faults in Go blocks: %v\n%s", err, out)
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
func checkPage(page, dir string, blocks *int) (problems []string, programs int) {
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
		source := string(block[1])
		if strings.HasPrefix(source, "package ") {
			programs++
		} else {
			source = "package block\n\nimport (\n\t\"context\"\n\n\t\"example.com/chat\"\n)\n\nvar _ chat.Event\n\n" +
				"func _(ctx context.Context) error {\n" + source + "\nreturn nil\n}\n"
		}
		*blocks++
		file := filepath.Join(dir, fmt.Sprintf("block%d", *blocks), "block.go")
		err := os.MkdirAll(filepath.Dir(file), 0o777)
		if err == nil {
			err = os.WriteFile(file, []byte(source), 0o666)
		}
		if err != nil {
			problems = append(problems, err.Error())
		}
	}
	return problems, programs
}

// vet builds and vets a module, without the network.
func vet(dir string) (string, error) {
	cmd := exec.Command("go", "vet", "./...")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	return string(out), err
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
