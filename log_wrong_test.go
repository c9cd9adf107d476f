package chat_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/chat"
)

// A wrongLog is a right one, apart from what is set.
type wrongLog struct {
	chat.Log
	append   func(ctx context.Context, e chat.Entry) (chat.Record, error)
	snapshot func(ctx context.Context) (chat.Snapshot, error)
	read     func(ctx context.Context, after chat.Position, max int) ([]chat.Record, error)
	follow   func(after chat.Position, apply func([]chat.Record, error)) (func(), error)
}

func (l *wrongLog) Append(ctx context.Context, e chat.Entry) (chat.Record, error) {
	if l.append != nil {
		return l.append(ctx, e)
	}
	return l.Log.Append(ctx, e)
}

func (l *wrongLog) Snapshot(ctx context.Context) (chat.Snapshot, error) {
	if l.snapshot != nil {
		return l.snapshot(ctx)
	}
	return l.Log.Snapshot(ctx)
}

func (l *wrongLog) Read(ctx context.Context, after chat.Position, max int) ([]chat.Record, error) {
	if l.read != nil {
		return l.read(ctx, after, max)
	}
	return l.Log.Read(ctx, after, max)
}

func (l *wrongLog) Follow(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
	if l.follow != nil {
		return l.follow(after, apply)
	}
	return l.Log.Follow(after, apply)
}

// wrongs are logs that break one clause each.
var wrongs = []struct {
	clause string
	why    string
	spoil  func(l *wrongLog)
}{
	{"A1 (dedupe first)", "the guard is looked at before the ID", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			if !holds(l.Log, e.Guard) {
				return chat.Record{}, chat.ErrConflict
			}
			return l.Log.Append(ctx, e)
		}
	}},
	{"A1 (dedupe first)", "IDs are not looked at", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			id := e.ID
			if len(id) > 0 && len(id) < 100 {
				e.ID += strconv.FormatUint(serial.Add(1), 36)
			}
			rec, err := l.Log.Append(ctx, e)
			rec.ID = id
			return rec, err
		}
	}},
	{"A1 (dedupe beyond retention)", "the ID goes with the record", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			rec, err := l.Log.Append(ctx, e)
			if s, _ := l.Log.Snapshot(ctx); err == nil && rec.Pos.Seq <= s.First.Seq {
				e.ID += "again"
				return l.Log.Append(ctx, e)
			}
			return rec, err
		}
	}},
	{"A2 (guard)", "the guard is not looked at", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			e.Guard = chat.Guard{}
			return l.Log.Append(ctx, e)
		}
	}},
	{"A2 (guard)", "a final record does not free its key", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			recs, _ := l.Log.Read(ctx, chat.Position{}, 1000)
			for _, rec := range recs {
				if rec.Final && rec.Key == e.Guard.Key && e.Guard.Seq == 0 {
					return chat.Record{}, chat.ErrConflict
				}
			}
			return l.Log.Append(ctx, e)
		}
	}},
	{"A2 (guard and adding are one step)", "somebody may come between", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			if !holds(l.Log, e.Guard) {
				return chat.Record{}, chat.ErrConflict
			}
			time.Sleep(time.Microsecond) // of virtual time: everybody else goes on
			e.Guard = chat.Guard{}
			return l.Log.Append(ctx, e)
		}
	}},
	{"A2 (no conflict but by the guard)", "contention is not retried", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			if serial.Add(1)%37 == 0 {
				return chat.Record{}, chat.ErrConflict
			}
			return l.Log.Append(ctx, e)
		}
	}},
	{"A3 (order)", "the record of the call before is returned", func(l *wrongLog) {
		var last atomic.Pointer[chat.Record]
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			rec, err := l.Log.Append(ctx, e)
			if before := last.Swap(&rec); before != nil && err == nil {
				return *before, nil
			}
			return rec, err
		}
	}},
	{"A4 (seen)", "followers are told a moment later", func(l *wrongLog) {
		l.follow = func(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
			queue, done := make(chan []chat.Record, 10_000), make(chan struct{})
			var stopped atomic.Bool
			stop, err := l.Log.Follow(after, func(recs []chat.Record, err error) { queue <- bytesOfTheirOwn(recs) })
			go func() {
				defer close(done)
				for recs := range queue {
					if !stopped.Load() {
						time.Sleep(time.Microsecond) // of virtual time: everybody else goes on
						apply(recs, nil)
					}
				}
			}()
			return func() {
				if !stopped.Swap(true) {
					stop()
					close(queue)
				}
				<-done
			}, err
		}
	}},
	{"A5 (too large)", "a long key is taken", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			e.Key = e.Key[:min(len(e.Key), 512)]
			return l.Log.Append(ctx, e)
		}
	}},
	{"A5 (refused is not there)", "what the guard refuses is added all the same", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			rec, err := l.Log.Append(ctx, e)
			if errors.Is(err, chat.ErrConflict) {
				e.Guard = chat.Guard{}
				_, _ = l.Log.Append(ctx, e)
			}
			return rec, err
		}
	}},
	{"A5 (an ended context is settled by a retry)", "the error of a context is not ErrUnknown", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			if err := ctx.Err(); err != nil {
				return chat.Record{}, err
			}
			return l.Log.Append(ctx, e)
		}
	}},
	{"A6 (copies)", "the caller's bytes are kept", func(l *wrongLog) {
		var mu sync.Mutex
		data := map[string][]byte{}
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			mu.Lock()
			defer mu.Unlock()
			rec, err := l.Log.Append(ctx, e)
			data[e.ID], rec.Data = e.Data, e.Data
			return rec, err
		}
	}},
	{"A6 (copies)", "the caller's bytes are changed", func(l *wrongLog) {
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			rec, err := l.Log.Append(ctx, e)
			for i := range e.Data {
				e.Data[i] = 0
			}
			return rec, err
		}
	}},
	{"S1 (snapshot)", "a snapshot that was made before is good enough", func(l *wrongLog) {
		old, err := l.Log.Snapshot(context.Background())
		l.snapshot = func(ctx context.Context) (chat.Snapshot, error) { return old, err }
	}},
	{"S1 (snapshot)", "it holds final records", func(l *wrongLog) {
		l.snapshot = func(ctx context.Context) (chat.Snapshot, error) {
			s, err := l.Log.Snapshot(ctx)
			recs, _ := l.Log.Read(ctx, s.First, 1000)
			for _, rec := range recs {
				if rec.Final {
					s.Records = append(s.Records, rec)
				}
			}
			return s, err
		}
	}},
	{"S1 (snapshot is of one position)", "At is read before the records", func(l *wrongLog) {
		l.snapshot = func(ctx context.Context) (chat.Snapshot, error) {
			s, err := l.Log.Snapshot(ctx)
			time.Sleep(time.Microsecond) // of virtual time: everybody else goes on
			later, _ := l.Log.Snapshot(ctx)
			s.Records = later.Records
			return s, err
		}
	}},
	{"S2 (trimming keeps keys)", "trimming removes them", func(l *wrongLog) {
		l.snapshot = func(ctx context.Context) (chat.Snapshot, error) {
			s, err := l.Log.Snapshot(ctx)
			for len(s.Records) > 0 && s.Records[0].Pos.Seq <= s.First.Seq {
				s.Records = s.Records[1:]
			}
			return s, err
		}
	}},
	{"Read (pages)", "it begins with the record asked after", func(l *wrongLog) {
		l.read = func(ctx context.Context, after chat.Position, max int) ([]chat.Record, error) {
			if after.Seq > 0 {
				after.Seq--
			}
			return l.Log.Read(ctx, after, max)
		}
	}},
	{"Read (errors)", "what is trimmed is skipped in silence", func(l *wrongLog) {
		l.read = func(ctx context.Context, after chat.Position, max int) ([]chat.Record, error) {
			recs, err := l.Log.Read(ctx, after, max)
			if s, _ := l.Log.Snapshot(ctx); errors.Is(err, chat.ErrTrimmed) {
				return l.Log.Read(ctx, s.First, max)
			}
			return recs, err
		}
	}},
	{"Read (errors)", "another life's positions are taken for this one's", func(l *wrongLog) {
		l.read = func(ctx context.Context, after chat.Position, max int) ([]chat.Record, error) {
			s, _ := l.Log.Snapshot(ctx)
			after.Epoch = s.At.Epoch
			return l.Log.Read(ctx, after, max)
		}
	}},
	{"Read (errors)", "beyond the end there is just nothing", func(l *wrongLog) {
		l.read = func(ctx context.Context, after chat.Position, max int) ([]chat.Record, error) {
			recs, err := l.Log.Read(ctx, after, max)
			if errors.Is(err, chat.ErrAhead) {
				err = nil
			}
			return recs, err
		}
	}},
	{"Follow (errors)", "it begins where it can", func(l *wrongLog) {
		l.follow = func(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
			stop, err := l.Log.Follow(after, apply)
			if err != nil {
				s, _ := l.Log.Snapshot(context.Background())
				return l.Log.Follow(s.At, apply)
			}
			return stop, nil
		}
	}},
	{"Follow (in order, each once, no gap)", "one record of many is given twice", func(l *wrongLog) {
		l.follow = func(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
			return l.Log.Follow(after, func(recs []chat.Record, err error) {
				apply(recs, err)
				if recs[0].Pos.Seq%97 == 0 {
					apply(recs[:1], nil)
				}
			})
		}
	}},
	{"Follow (in order, each once, no gap)", "one record of many is left out", func(l *wrongLog) {
		l.follow = func(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
			return l.Log.Follow(after, func(recs []chat.Record, err error) {
				if recs[0].Pos.Seq != 97 {
					apply(recs, err)
				}
			})
		}
	}},
	{"F2 (records may be kept)", "the bytes are those of a buffer", func(l *wrongLog) {
		l.follow = func(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
			buf := make([]byte, 100)
			return l.Log.Follow(after, func(recs []chat.Record, err error) {
				recs = bytesOfTheirOwn(recs)
				for i := range recs {
					recs[i].Data = buf[:copy(buf, recs[i].Data)]
				}
				apply(recs, err)
			})
		}
	}},
	{"F3 (no call without records)", "a refused append is told, as nothing", func(l *wrongLog) {
		var mu sync.Mutex
		var applies []func([]chat.Record, error)
		l.follow = func(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
			mu.Lock()
			defer mu.Unlock()
			applies = append(applies, apply)
			return l.Log.Follow(after, apply)
		}
		l.append = func(ctx context.Context, e chat.Entry) (chat.Record, error) {
			rec, err := l.Log.Append(ctx, e)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				for _, apply := range applies {
					apply(nil, nil)
				}
			}
			return rec, err
		}
	}},
	{"F4 (stop)", "stop does nothing", func(l *wrongLog) {
		l.follow = func(after chat.Position, apply func([]chat.Record, error)) (func(), error) {
			_, err := l.Log.Follow(after, apply)
			return func() {}, err
		}
	}},
}

var serial atomic.Uint64

// holds reports whether a guard holds now.
func holds(l chat.Log, g chat.Guard) bool {
	s, _ := l.Snapshot(context.Background())
	for _, rec := range s.Records {
		if rec.Key == g.Key {
			return rec.Pos.Seq == g.Seq
		}
	}
	return g.Seq == 0
}

func bytesOfTheirOwn(recs []chat.Record) []chat.Record {
	own := make([]chat.Record, len(recs))
	for i, rec := range recs {
		own[i] = rec
		own[i].Data = bytes.Clone(rec.Data)
	}
	return own
}

// What holds logs to their clauses finds those that break one. It runs in virtual time, where waiting for a record that
// never comes takes none.
func TestWrongLogsAreFound(t *testing.T) {
	for _, w := range wrongs {
		t.Run(strings.ReplaceAll(w.why, " ", "_"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				spoil := func(l chat.Log) chat.Log {
					wrong := &wrongLog{Log: l}
					w.spoil(wrong)
					return wrong
				}
				open := func() (a, b chat.Log) {
					l := spoil(chat.NewMemoryLog(nil))
					return l, l
				}
				tiny := func() chat.Log { return spoil(tinyMemoryLog()) }
				clause, _, _ := strings.Cut(w.clause, " ")
				err := checkLog(open, tiny, clause)
				if err == nil || !strings.Contains("\n"+err.Error(), "\n"+w.clause+": ") {
					t.Errorf("a log where %s passes %s; found: %v", w.why, w.clause, err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		if err := checkLog(openMemoryLog, tinyMemoryLog, ""); err != nil {
			t.Errorf("a right log: %v", err)
		}
	})
}
