package socketio

import (
	"encoding/json"
	"errors"
	"fmt"
)

// ErrValue means that a value is not what was asked for: an argument that is
// missing, or of another kind. It is wrapped with which.
var ErrValue = errors.New("socketio: unexpected value")

// Values are the arguments of an event or an acknowledgement as they came.
// They can be sent on as they are, as the only argument where AppendEvent takes
// arguments.
type Values struct {
	Args []json.RawMessage
	// Attachments are the binary ones; in Args, at any depth,
	// {"_placeholder":true,"num":i} stands for the i-th (Socket.IO protocol 5,
	// "Packet encoding").
	Attachments [][]byte
}

// Binary returns argument i if it is binary.
func (v Values) Binary(i int) ([]byte, bool) {
	if i < 0 || i >= len(v.Args) {
		return nil, false
	}
	n := placeholder(v.Args[i])
	if n < 0 || n >= len(v.Attachments) {
		return nil, false
	}
	return v.Attachments[n], true
}

// Decode reads the first arguments into what each of dst points to: a binary
// one into a *[]byte, others as package json does. It passes over an argument
// whose dst is nil, and those behind the last dst. It returns an error that
// wraps ErrValue, and json's, for the first that doesn't fit.
func (v Values) Decode(dst ...any) error {
	for i, d := range dst {
		if i >= len(v.Args) {
			return fmt.Errorf("%w: argument %d is missing", ErrValue, i)
		}
		switch d := d.(type) {
		case nil:
		case *[]byte:
			b, ok := v.Binary(i)
			if !ok {
				return fmt.Errorf("%w: argument %d is not binary", ErrValue, i)
			}
			*d = b
		default:
			if _, ok := v.Binary(i); ok {
				return fmt.Errorf("%w: argument %d is binary", ErrValue, i)
			}
			if err := json.Unmarshal(v.Args[i], d); err != nil {
				return fmt.Errorf("%w: argument %d: %w", ErrValue, i, err)
			}
		}
	}
	return nil
}
