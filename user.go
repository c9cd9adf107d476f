package chat

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
)

// A NameError is a refused name. It is comparable, is returned by value, and
// [errors.Is] with [ErrName] holds for it.
type NameError struct {
	// Reason says what is wrong with the name, in English and for people: short,
	// and never with the name or a part of it, a code point in the form U+200B aside.
	// It is safe to send to the client that asked.
	Reason string
}

func (e NameError) Error() string { return ErrName.Error() + ": " + e.Reason }

// Unwrap returns [ErrName].
func (e NameError) Unwrap() error { return ErrName }

// A User is somebody in a room, or the author of a message. Users are plain values
// and may be compared with ==.
type User struct {
	// Name is the name as it is shown: what the room's [NamePolicy] made of what
	// was asked for. Inside a room no two users hold names with the same key at a time.
	Name string

	// ID is the importing program's own, such as an account number. The room hands
	// it on unread. Empty means that the program gave none.
	ID string
}

// A NamePolicy decides which names a room lets in and which of them are the same.
// It takes what a client asked for and returns the form that is shown to everybody
// and the key under which names are compared; or an error, and then nobody logs in
// under that name. [Nickname] is the default.
//
// Whoever writes one keeps these clauses:
//
//   - N1. It is pure: the same name gives the same result, whenever, and on every
//     node of a room. (A table that is read is a reason to restart all of them.)
//   - N2. It is safe to call from many goroutines at once. The room holds no lock
//     while it does.
//   - N3. Its own result is a fixed point: asked for shown, it returns the same shown
//     and the same key. So a client that comes back under the name it was shown is
//     who it was.
//   - N4. Names that people would take for the same have the same key. Two that have
//     the same key are one name: the second to ask is refused while the first is in.
//   - N5. shown and key are valid UTF-8 and not empty.
//   - N6. A refusal is a [NameError], or wraps [ErrName].
//
// Length is not its business: the room counts the bytes of what was asked for
// before it calls the policy, and those of shown afterwards, against the same
// limit. So a policy never sees an unbounded name, and may return one that grew.
type NamePolicy func(name string) (shown, key string, err error)

// Nickname is the default [NamePolicy]: the Nickname profile of PRECIS (RFC 8266,
// on the FreeformClass of RFC 8264 section 4.3), and one rule more.
//
// Shown is the name after enforcement (RFC 8266 section 2.3): every space becomes an
// ASCII space, those at the ends go, runs of them become one, and the rest is
// normalised to NFKC. Letters keep their case. Key is the name after the comparison
// rules (section 2.4), which lower its case besides. So "Bob", "bob", " bob " and the
// full-width "Ｂｏｂ" are one name, and the last is shown as "Bob". The rules are
// applied until they change nothing, and a name that they never leave alone is refused.
//
// The rule more: a name has at least one letter, number or symbol that leaves ink
// (Unicode categories L, N and S), since PRECIS lets through names of nothing but
// accents, and the Braille blank U+2800, which looks like no name at all. Three more
// blanks that are letters or symbols by category don't count either: U+1D159, U+13441
// and U+13442. Beside something visible all of them may stand.
//
// Refused, and never silently taken out, is what PRECIS disallows: invalid UTF-8,
// control characters, zero-width and bidi controls, other characters that show
// nothing, unassigned ones, and those in a place that RFC 5892 appendix A doesn't
// give them. This also catches some that mean no harm:
//
//   - emoji made with a joiner (U+200D) or a variation selector (U+FE0F), such as a
//     family or a red heart; simple ones, flags of countries and skin tones pass;
//   - the middle dot U+00B7 of "卡尔·马克思", which may stand only between two l; the
//     katakana dot U+30FB in its place passes;
//   - more than thirty combining marks on end.
//
// What it doesn't do:
//
//   - It doesn't see look-alikes. "evan" and the "еvan" that begins with a Cyrillic
//     letter are two names, and so are "Bill" and "BiII", "ß" and "ss", "σ" and "ς".
//   - A joiner (U+200C, U+200D) passes after an Indic virama, as it must there, and
//     two names that differ in it alone look the same.
//   - The Bidi Rule of RFC 5893 isn't applied. A page should put each name into an
//     element of its own direction, such as HTML's <bdi>.
//   - It doesn't escape. "<b>" is a name, and "＜b＞" becomes it. A page that writes
//     names with innerHTML needs a policy that refuses <, >, &, " and ' in shown, not
//     in what was asked for; the example shows how to wrap this one.
//   - It doesn't look at length, see [NamePolicy]. A name may grow elevenfold: U+FDFA
//     is 3 bytes, and 33 when it is shown. The key may be half as long again as shown.
//
// Its tables are those of golang.org/x/text for the Go release that the program is
// built with: build all nodes of a room with the same one.
//
// The error is a [NameError].
func Nickname(name string) (shown, key string, err error) {
	if !utf8.ValidString(name) {
		return "", "", NameError{"not valid UTF-8"}
	}
	if shown, err = settle(precis.Nickname.String, name); err != nil {
		return "", "", refusal(name, err)
	}
	if !strings.ContainsFunc(shown, leavesInk) {
		return "", "", NameError{"needs a letter, number or symbol that can be seen"}
	}
	// From shown and not from name, so that the key is a function of what others see.
	if key, err = settle(precis.Nickname.CompareKey, shown); err != nil {
		return "", "", refusal(shown, err)
	}
	return shown, key, nil
}

// errUnsettled is the end of a name that the rules change each time.
var errUnsettled = errors.New("the rules for names never leave it alone")

// settle applies the rules of a profile and shows that doing so again changes
// nothing. RFC 8266 section 2.1 asks for up to three more times and then for a
// refusal; package precis does the first, apart from names in ASCII, which settle at
// once, and leaves the second to us.
func settle(apply func(string) (string, error), s string) (string, error) {
	once, err := apply(s)
	if err != nil || once == s {
		return once, err
	}
	twice, err := apply(once)
	if err == nil && twice != once {
		err = errUnsettled
	}
	return twice, err
}

// refusal makes a NameError of err. It names the character at fault where that one
// is refused without its neighbours too.
func refusal(name string, err error) NameError {
	if err == errUnsettled {
		return NameError{err.Error()}
	}
	if strings.TrimFunc(name, func(r rune) bool { return unicode.Is(unicode.Zs, r) }) == "" {
		return NameError{"empty"}
	}
	allowed := precis.Nickname.Allowed()
	for _, r := range name {
		if !allowed.Contains(r) {
			return NameError{fmt.Sprintf("%U isn't allowed there", r)}
		}
	}
	return NameError{"a character isn't allowed where it stands"}
}

// leavesInk reports whether r is a letter, number or symbol that shows something.
func leavesInk(r rune) bool {
	switch r {
	case 0x2800, // Braille pattern blank, a symbol
		0x1D159,          // musical symbol null notehead, a symbol
		0x13441, 0x13442: // Egyptian hieroglyph full blank and half blank, letters
		return false
	}
	return unicode.In(r, unicode.L, unicode.N, unicode.S)
}
