package chat_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode"
	"unicode/utf8"

	"example.com/chat"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/secure/precis"
)

func ExampleNickname() {
	for _, name := range []string{"Bob", "bob", "  Ｂｏｂ ", "Ana María", "evan", "еvan", "a\u200Bb", "\u2800"} {
		shown, key, err := chat.Nickname(name)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Printf("%s (%+q)\n", shown, key)
	}
	// Output:
	// Bob ("bob")
	// bob ("bob")
	// Bob ("bob")
	// Ana María ("ana mar\u00eda")
	// evan ("evan")
	// еvan ("\u0435van")
	// chat: name not allowed: U+200B isn't allowed there
	// chat: name not allowed: needs a letter, number or symbol that can be seen
}

// A page that writes names with innerHTML runs what is in them. This policy keeps
// markup out of names, and looks at shown, since the full-width "＜" becomes "<".
func ExampleNamePolicy() {
	var noMarkup chat.NamePolicy = func(name string) (shown, key string, err error) {
		shown, key, err = chat.Nickname(name)
		if err == nil && strings.ContainsAny(shown, `<>&"'`) {
			return "", "", chat.NameError{Reason: `has one of < > & " '`}
		}
		return shown, key, err
	}
	for _, name := range []string{"Bob", "<img src=x>", "＜ｉｍｇ　ｓｒｃ＝ｘ＞"} {
		shown, _, err := noMarkup(name)
		fmt.Printf("%q %v\n", shown, err)
	}
	// Output:
	// "Bob" <nil>
	// "" chat: name not allowed: has one of < > & " '
	// "" chat: name not allowed: has one of < > & " '
}

const (
	empty      = "empty"
	noInk      = "needs a letter, number or symbol that can be seen"
	badContext = "a character isn't allowed where it stands"
)

func TestNickname(t *testing.T) {
	for _, tt := range []struct {
		name   string
		shown  string
		key    string
		reason string // of the refusal; then shown and key are empty
		why    string
	}{
		{name: "Bob", shown: "Bob", key: "bob", why: "shown keeps its case, the key doesn't"},
		{name: "bob", shown: "bob", key: "bob", why: "the same name as Bob"},
		{name: " bob ", shown: "bob", key: "bob", why: "spaces at the ends go"},
		{name: "st  peter", shown: "st peter", key: "st peter", why: "a run of spaces becomes one"},
		{name: "st\u00A0peter", shown: "st peter", key: "st peter", why: "the no-break space is a space"},
		{name: "\u3000李\u3000雷\u3000", shown: "李 雷", key: "李 雷", why: "the ideographic space is a space"},
		{name: "stpeter", shown: "stpeter", key: "stpeter", why: "without the space it is another name"},
		{name: "42", shown: "42", key: "42", why: "a number is enough"},
		{name: "user_1-a.b", shown: "user_1-a.b", key: "user_1-a.b", why: "punctuation passes beside letters"},
		{name: "<b>&\"'", shown: "<b>&\"'", key: "<b>&\"'", why: "markup is a name like others: escaping is the page's"},

		{name: "Ｂｏｂ", shown: "Bob", key: "bob", why: "full-width letters are the plain ones"},
		{name: "＜b＞", shown: "<b>", key: "<b>", why: "so full-width signs become markup: a policy against it looks at shown"},
		{name: "ﾊﾟﾝﾀﾞ", shown: "パンダ", key: "パンダ", why: "half-width katakana and their marks are the plain ones"},
		{name: "𝓑𝓸𝓫", shown: "Bob", key: "bob", why: "mathematical letters are the plain ones"},
		{name: "Ⅳ", shown: "IV", key: "iv", why: "so is the Roman numeral sign"},
		{name: "ﬁsh", shown: "fish", key: "fish", why: "and the ligature"},
		{name: "²", shown: "2", key: "2", why: "and a raised digit"},
		{name: "\uFDFA", shown: "صلى الله عليه وسلم", key: "صلى الله عليه وسلم", why: "3 bytes grow to 33: the room counts both"},

		{name: "Zoe\u0308", shown: "Zo\u00EB", key: "zo\u00EB", why: "a combining mark joins its letter"},
		{name: "ZO\u00CB", shown: "ZO\u00CB", key: "zo\u00EB", why: "and is the same name as the letter made with it"},
		{name: "q\u0308", shown: "q\u0308", key: "q\u0308", why: "a mark passes where no such letter exists"},
		{name: "\u0308", reason: noInk, why: "a mark alone is no name"},
		{name: "\u00A8", reason: noInk, why: "the diaeresis sign is normalised to a space and a mark"},
		{name: "x" + strings.Repeat("\u0300", 30), shown: "x" + strings.Repeat("\u0300", 30),
			key: "x" + strings.Repeat("\u0300", 30), why: "thirty marks are the most that normalising leaves together"},
		{name: "x" + strings.Repeat("\u0300", 31), reason: badContext, why: "before the 31st it puts a joiner, which isn't allowed"},

		{name: "STRASSE", shown: "STRASSE", key: "strasse", why: "the comparison lowers case and"},
		{name: "straße", shown: "straße", key: "straße", why: "doesn't fold it: ß and ss are two names"},
		{name: "ΣΑΣ", shown: "ΣΑΣ", key: "σασ", why: "a sigma is lowered the same wherever it stands, so"},
		{name: "σας", shown: "σας", key: "σας", why: "the final sigma makes another name"},
		{name: "\u03F9", shown: "Σ", key: "σ", why: "the lunate sigma shows as Σ, and has the key of what it shows"},
		{name: "İ", shown: "İ", key: "i\u0307", why: "no language's rules: the dotted capital I isn't i, and the key is longer"},
		{name: "\u212A", shown: "K", key: "k", why: "the Kelvin sign is a K"},

		{name: "", reason: empty, why: "no name"},
		{name: " \u3000\u2003 ", reason: empty, why: "spaces are no name"},
		{name: "...", reason: noInk, why: "punctuation alone is no name"},
		{name: "\u2800", reason: noInk, why: "the Braille blank is a symbol that shows nothing"},
		{name: "\u2800.\u2800", reason: noInk, why: "nor do two with a dot"},
		{name: "a\u2800", shown: "a\u2800", key: "a\u2800", why: "beside a letter it passes, and looks like a and a space"},
		{name: "⠃", shown: "⠃", key: "⠃", why: "the other Braille patterns show"},
		{name: "\U0001D159", reason: noInk, why: "the null notehead is a symbol that shows nothing"},
		{name: "\U00013441\U00013442", reason: noInk, why: "the hieroglyphic blanks are letters that show nothing"},
		{name: "\u3164", reason: "U+3164 isn't allowed there", why: "the Hangul filler is a letter that shows nothing"},
		{name: "\u115F", reason: "U+115F isn't allowed there", why: "the old Hangul filler too"},
		{name: "\uFFFD", shown: "\uFFFD", key: "\uFFFD", why: "the replacement character is a symbol that shows"},

		{name: "Bo\u200Bb", reason: "U+200B isn't allowed there", why: "the zero-width space is refused, not taken out"},
		{name: "\uFEFFBob", reason: "U+FEFF isn't allowed there", why: "so is the byte order mark"},
		{name: "Bo\u00ADb", reason: "U+00AD isn't allowed there", why: "and the soft hyphen"},
		{name: "Bo\u2060b", reason: "U+2060 isn't allowed there", why: "and the word joiner"},
		{name: "Bo\u034Fb", reason: "U+034F isn't allowed there", why: "and the grapheme joiner"},
		{name: "Bo\u200Db", reason: "U+200D isn't allowed there", why: "and the zero-width joiner"},
		{name: "Bo\u200Cb", reason: "U+200C isn't allowed there", why: "and the zero-width non-joiner, but:"},
		{name: "क्\u200Dष", shown: "क्\u200Dष", key: "क्\u200Dष", why: "a joiner passes after an Indic virama,"},
		{name: "क्ष", shown: "क्ष", key: "क्ष", why: "and the name without it is another"},
		{name: "Bob\x00", reason: "U+0000 isn't allowed there", why: "a control character"},
		{name: "Bob\nAlice", reason: "U+000A isn't allowed there", why: "a line end is one"},
		{name: "Bob\t", reason: "U+0009 isn't allowed there", why: "a tab is one, and no space"},
		{name: "Bob\u0085", reason: "U+0085 isn't allowed there", why: "so is C1's line end"},
		{name: "Bob\u2028", reason: "U+2028 isn't allowed there", why: "the line separator is no space"},
		{name: "\u202EboB", reason: "U+202E isn't allowed there", why: "the right-to-left override turns the line around"},
		{name: "\u200FBob", reason: "U+200F isn't allowed there", why: "the right-to-left mark shows nothing"},
		{name: "\u2066Bob\u2069", reason: "U+2066 isn't allowed there", why: "bidi isolates show nothing"},
		{name: "Bob\U000E0042", reason: "U+E0042 isn't allowed there", why: "tags show nothing"},
		{name: "Bob\uE000", reason: "U+E000 isn't allowed there", why: "private use: nobody knows what it shows"},
		{name: "Bob\uFFFE", reason: "U+FFFE isn't allowed there", why: "a noncharacter"},
		{name: "Bob\u0378", reason: "U+0378 isn't allowed there", why: "an unassigned one"},
		{name: "Bob\xFF", reason: "not valid UTF-8", why: "a byte that UTF-8 doesn't have"},
		{name: "Bob\xC0\x80", reason: "not valid UTF-8", why: "an overlong zero"},
		{name: "Bob\xED\xA0\x80", reason: "not valid UTF-8", why: "half of a surrogate pair"},
		{name: "Bob\xE2\x80", reason: "not valid UTF-8", why: "a character cut short"},

		{name: "דָּוִד", shown: "דָּוִד", key: "דָּוִד", why: "right-to-left letters pass"},
		{name: "abcדוד1", shown: "abcדוד1", key: "abcדוד1", why: "mixed too: the Bidi Rule isn't applied"},

		{name: "😀", shown: "😀", key: "😀", why: "an emoji is a symbol"},
		{name: "👍🏽", shown: "👍🏽", key: "👍🏽", why: "a skin tone passes"},
		{name: "🇩🇪", shown: "🇩🇪", key: "🇩🇪", why: "so does a country's flag"},
		{name: "❤", shown: "❤", key: "❤", why: "and the heart in text form, but:"},
		{name: "❤\uFE0F", reason: "U+FE0F isn't allowed there", why: "a variation selector shows nothing"},
		{name: "1\uFE0F\u20E3", reason: "U+FE0F isn't allowed there", why: "a keycap has one"},
		{name: "👩\u200D💻", reason: "U+200D isn't allowed there", why: "an emoji made with a joiner"},

		{name: "evan", shown: "evan", key: "evan", why: "all Latin"},
		{name: "\u0435van", shown: "\u0435van", key: "\u0435van", why: "a Cyrillic letter first: looks the same, is another name"},
		{name: "ИВАН", shown: "ИВАН", key: "иван", why: "Cyrillic has case too"},
		{name: "卡尔·马克思", reason: "U+00B7 isn't allowed there", why: "the middle dot stands between two l only"},
		{name: "col·lega", shown: "col·lega", key: "col·lega", why: "as here"},
		{name: "卡尔・马克思", shown: "卡尔・马克思", key: "卡尔・马克思", why: "the katakana dot passes in Han, Hiragana and Katakana"},
		{name: "a・b", reason: badContext, why: "and not elsewhere"},
		{name: "٣3", shown: "٣3", key: "٣3", why: "Arabic-Indic digits beside others"},
		{name: "٣۳", reason: "U+0663 isn't allowed there", why: "but not both kinds, some of which look the same"},
	} {
		shown, key, err := chat.Nickname(tt.name)
		got := []any{shown, key, err}
		want := []any{tt.shown, tt.key, nil}
		if tt.reason != "" {
			want[2] = chat.NameError{Reason: tt.reason}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Nickname(%+q), %s (-want +got):\n%s", tt.name, tt.why, diff)
		}
	}
}

// Names that the two ways of taking a key would tell apart: two users would be shown
// as the same "Σ". RFC 8266 enforces and compares in separate runs over the input.
func TestNicknameKeyIsOfWhatIsShown(t *testing.T) {
	direct := func(name string) string {
		key, err := precis.Nickname.CompareKey(name)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	if direct("\u03F9") == direct("Σ") {
		t.Error("package precis gives one key by now: this test shows nothing any more")
	}
	lunate, key1, err1 := chat.Nickname("\u03F9")
	sigma, key2, err2 := chat.Nickname("Σ")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if lunate != sigma || key1 != key2 {
		t.Errorf("%q has the key %q and %q the key %q: shown the same, so must be one name", lunate, key1, sigma, key2)
	}
}

// Every character there is, alone and between others: what passes is a fixed point,
// and is never a lone mark, control or space. Of the long rows of Han, Hangul, private
// and unassigned ones, one in 64 stands for all.
func TestNicknameOfEveryCharacter(t *testing.T) {
	passed := 0
	for r := rune(0); r <= unicode.MaxRune; r++ {
		row := 0x3400 <= r && r <= 0x9FFF || 0xAC00 <= r && r <= 0xD7A3 || 0x20000 <= r && r <= 0x2F7FF ||
			0x30000 <= r && r < 0xE0000 || r >= 0xF0000
		if !utf8.ValidRune(r) || row && r%64 != 0 {
			continue
		}
		for _, name := range []string{string(r), "a" + string(r) + "B"} {
			if checkNickname(t, name) {
				passed++
			}
		}
		if unicode.In(r, unicode.M, unicode.C, unicode.Z) {
			if shown, _, err := chat.Nickname(string(r)); err == nil {
				t.Errorf("%U passes alone, as %+q", r, shown)
			}
		}
	}
	if passed < 75_000 { // Unicode 15 gives 80,120
		t.Errorf("%d names of one character passed: the rules refuse what they should let in", passed)
	}
}

func TestNicknameFromManyGoroutines(t *testing.T) {
	names := []string{"Bob", "Ｂｏｂ", "Zoe\u0308", "ΣΑΣ", "ﾊﾟﾝﾀﾞ", "क्\u200Dष", "a\u200Db", "\u00A8a"}
	type result struct {
		Shown, Key string
		Err        error
	}
	nickname := func(name string) result {
		shown, key, err := chat.Nickname(name)
		return result{shown, key, err}
	}
	want := make([]result, len(names))
	for i, name := range names {
		want[i] = nickname(name)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 * len(names) {
				i %= len(names)
				if got := nickname(names[i]); got != want[i] {
					t.Errorf("Nickname(%+q) = %+v beside others, %+v alone", names[i], got, want[i])
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestNameError(t *testing.T) {
	_, _, err := chat.Nickname("a\u200Bb")
	if !errors.Is(err, chat.ErrName) {
		t.Errorf("%v is not ErrName", err)
	}
	if want := (chat.NameError{Reason: "U+200B isn't allowed there"}); err != want {
		t.Errorf("got %#v, want %#v by value", err, want)
	}
	var ne chat.NameError
	if !errors.As(fmt.Errorf("login: %w", err), &ne) || ne != err {
		t.Errorf("wrapped: got %#v, want %#v", ne, err)
	}
}

func FuzzNickname(f *testing.F) {
	for _, name := range []string{
		"Bob", " bob ", "Ｂｏｂ", "\u03F9", "\u00A8", "Zoe\u0308", "\uFDFA", "\u1FDF\u0301", "ﾊﾟ", "\u2800",
		"क्\u200Dष", "l·l", "a・亜", "٣۳", "Bob\xE2\x80", "<b>", "x" + strings.Repeat("\u0300", 40),
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) { checkNickname(t, name) })
}

// checkNickname holds Nickname to the clauses of a NamePolicy, for one name, and
// reports whether the name passed.
func checkNickname(t *testing.T, name string) bool {
	t.Helper()
	shown, key, err := chat.Nickname(name)
	if err != nil {
		ne, ok := err.(chat.NameError)
		if !ok || shown != "" || key != "" || ne.Reason == "" || !utf8.ValidString(ne.Reason) || len(ne.Reason) > 80 {
			t.Errorf("N6: Nickname(%+q) = %+q, %+q, %#v", name, shown, key, err)
		}
		return false
	}
	switch {
	case !utf8.ValidString(name):
		t.Errorf("Nickname(%+q) let invalid UTF-8 pass", name)
	case shown == "" || key == "" || !utf8.ValidString(shown) || !utf8.ValidString(key):
		t.Errorf("N5: Nickname(%+q) = %+q, %+q", name, shown, key)
	case len(shown) > 11*len(name) || 2*len(key) > 3*len(shown):
		t.Errorf("Nickname(%+q): %d bytes are shown as %d, with a key of %d: more than documented",
			name, len(name), len(shown), len(key))
	}
	shown2, key2, err := chat.Nickname(shown)
	if err != nil || shown2 != shown || key2 != key {
		t.Errorf("N3: Nickname(%+q) = %+q, %+q; of what it shows = %+q, %+q, %v", name, shown, key, shown2, key2, err)
	}
	if _, key3, err := chat.Nickname(key); err != nil || key3 != key {
		t.Errorf("Nickname(%+q) has the key %+q, and that the key %+q, %v", name, key, key3, err)
	}
	return true
}
