package chat_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every Go block of the README is a program that builds, every link leads somewhere, and the two commands are there.
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
	for _, link := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllSubmatch(text, -1) {
		if _, err := os.Stat(string(link[1])); err != nil {
			t.Errorf("a link leads nowhere: %v", err)
		}
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) < 2 {
		t.Fatalf("%d Go blocks", len(blocks))
	}
	dir := module(t)
	for i, block := range blocks {
		main := filepath.Join(dir, fmt.Sprintf("block%d", i), "main.go")
		if err := os.MkdirAll(filepath.Dir(main), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(main, block[1], 0o666); err != nil {
			t.Fatal(err)
		}
	}
	vet := exec.Command("go", "vet", "./...")
	vet.Dir = dir
	vet.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("a Go block of the README: %v\n%s", err, out)
	}
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
