package chat

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// No name is known that the rules change for ever, so rules of the test's own show
// that one would be refused.
func TestNameThatNeverSettles(t *testing.T) {
	grow := func(s string) (string, error) { return s + "x", nil }
	if got, err := settle(grow, "a"); err != errUnsettled {
		t.Errorf("rules that never end gave %q, %v", got, err)
	}
	once := func(string) (string, error) { return "b", nil }
	if got, err := settle(once, "a"); got != "b" || err != nil {
		t.Errorf("rules that end gave %q, %v", got, err)
	}
	want := NameError{"the rules for names never leave it alone"}
	if diff := cmp.Diff(want, refusal("a", errUnsettled)); diff != "" {
		t.Error(diff)
	}
}
