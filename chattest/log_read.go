package chattest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/chat"
)

func snapshotOfKeys(p *logProbe) {
	a, _ := p.open()
	s := p.snapshot(a)
	if len(s.Records) != 0 || s.At.Seq != 0 || s.First != s.At || s.At.Epoch == 0 {
		p.errorf("of an empty log: %+v", s)
	}
	var recs []chat.Record
	for i, e := range []chat.Entry{
		{Key: "a"}, {Key: "b"}, {}, {Key: "c"}, {Key: "a"},
		{Key: "b", Final: true}, {Key: "d", Final: true}, {Key: "c", Final: true}, {Key: "c"},
	} {
		e.ID, e.Data = fmt.Sprint(i), []byte{byte(i)}
		recs = append(recs, p.append(a, e))
	}
	p.diff("the snapshot", chat.Snapshot{At: recs[8].Pos, First: s.First, Records: []chat.Record{recs[4], recs[8]}}, p.snapshot(a))
	ended, cancel := context.WithCancel(p.ctx)
	cancel()
	var err error
	p.call("Snapshot", func() { _, err = a.Snapshot(ended) })
	if !errors.Is(err, context.Canceled) {
		p.errorf("with an ended context: %v", err)
	}
}

func snapshotOfOnePosition(p *logProbe) {
	a, b := p.open()
	p.eight(a, b, func(n int, l chat.Log) {
		for i := range 25 {
			p.append(l, chat.Entry{ID: fmt.Sprintf("%d-%d", n, i), Key: fmt.Sprint((n + i) % 10), Final: i%3 == 0})
			s := p.snapshot(l)
			var upTo []chat.Record
			for _, rec := range p.all(l) {
				if rec.Pos.Seq <= s.At.Seq {
					upTo = append(upTo, rec)
				}
			}
			p.diff("the snapshot against the keys of the log up to it", lastOfKeys(upTo), s.Records)
		}
	})
}

// lastOfKeys is what a snapshot means.
func lastOfKeys(recs []chat.Record) []chat.Record {
	var last []chat.Record
	for _, rec := range recs {
		if rec.Key != "" {
			last = slices.DeleteFunc(last, func(r chat.Record) bool { return r.Key == rec.Key })
			if !rec.Final {
				last = append(last, rec)
			}
		}
	}
	return last
}

func snapshotIsFresh(p *logProbe) {
	a, b := p.open()
	p.eight(a, b, func(n int, l chat.Log) {
		other, key := []chat.Log{b, a}[n%2], fmt.Sprint("own", n)
		for i := range 25 {
			rec := p.append(l, chat.Entry{ID: fmt.Sprintf("%d-%d", n, i), Key: key})
			s := p.snapshot(other)
			if s.At.Seq < rec.Pos.Seq {
				p.errorf("%v was returned, and a snapshot after that is of %v", rec.Pos, s.At)
			}
			if !slices.ContainsFunc(s.Records, func(r chat.Record) bool { return r.Pos == rec.Pos }) {
				p.errorf("%v was returned, and a snapshot after that has not got it", rec.Pos)
			}
		}
	})
}

func trimmingKeepsKeys(p *logProbe) {
	l := p.tiny()
	p.append(l, chat.Entry{ID: "1", Key: "ended", Data: []byte("1")})
	live := p.append(l, chat.Entry{ID: "2", Key: "live", Data: []byte("2")})
	p.append(l, chat.Entry{ID: "3", Key: "ended", Final: true})
	for i := range 200 {
		p.append(l, chat.Entry{ID: fmt.Sprint("t", i)})
	}
	kept := slices.DeleteFunc(p.snapshot(l).Records, func(r chat.Record) bool { return r.Key != "live" })
	p.diff("what a snapshot has under a key that is not final", []chat.Record{live}, kept)
}

func snapshotSaysFirst(p *logProbe) {
	l := p.tiny()
	var recs []chat.Record
	for i := range 200 {
		recs = append(recs, p.append(l, chat.Entry{ID: fmt.Sprint(i)}))
	}
	s := p.snapshot(l)
	first := slices.IndexFunc(recs, func(r chat.Record) bool { return r.Pos == s.First })
	if first < 200-64-1 || s.At != recs[199].Pos {
		p.fatalf("of 200 records, of which 64 are kept at most, the last at %v: At is %v, and First is %v, the record %d",
			recs[199].Pos, s.At, s.First, first)
	}
	kept, err := p.tryRead(l, s.First, 1000)
	if err != nil {
		p.errorf("Read(First): %v", err)
	}
	p.diff("what follows First", recs[first+1:], kept)
}

func readsPages(p *logProbe) {
	a, b := p.open()
	recs := p.read(b, chat.Position{}, 10)
	p.diff("an empty log", 0, len(recs))
	for i := range 10 {
		recs = append(recs, p.append(a, chat.Entry{ID: fmt.Sprint(i), Key: "k", Final: i == 3, Data: []byte{byte(i)}}))
		if tm := recs[i].Time; tm.Location() != time.UTC || strings.Contains(tm.String(), "m=") || time.Since(tm).Abs() > time.Hour {
			p.errorf("time %v: not UTC, not plain, or not now", tm)
		}
	}
	for _, after := range []chat.Position{{}, {Epoch: recs[0].Pos.Epoch}} {
		p.diff("from the start", recs, p.read(b, after, 1000))
	}
	for i := range recs {
		p.diff("a page", recs[i+1:min(i+4, 10)], p.read(b, recs[i].Pos, 3))
	}
	p.diff("none asked for", 0, len(p.read(a, chat.Position{}, 0)))
	p.diff("less than none asked for", 0, len(p.read(a, chat.Position{}, -1)))
	ended, cancel := context.WithCancel(p.ctx)
	cancel()
	var err error
	p.call("Read", func() { _, err = a.Read(ended, chat.Position{}, 1) })
	if !errors.Is(err, context.Canceled) {
		p.errorf("with an ended context: %v", err)
	}
}

func readRefuses(p *logProbe) {
	for _, row := range p.badPositions() {
		recs, err := p.tryRead(row.log, row.after, 10)
		if !errors.Is(err, row.err) || len(recs) > 0 {
			p.errorf("Read(%v): %d records and %v, not %v: %s", row.after, len(recs), err, row.err, row.why)
		}
	}
}

type badPosition struct {
	log   chat.Log
	after chat.Position
	err   error
	why   string
}

// badPositions are those that Read and Follow refuse.
func (p *logProbe) badPositions() []badPosition {
	a, _ := p.open()
	at := p.append(a, chat.Entry{ID: "1"}).Pos
	tiny := p.tiny()
	var recs []chat.Record
	for i := range 100 {
		recs = append(recs, p.append(tiny, chat.Entry{ID: fmt.Sprint(i)}))
	}
	trimmed := recs[34].Pos // at most the last 64 are kept, so that the next one is gone
	return []badPosition{
		{a, chat.Position{Epoch: at.Epoch + 1, Seq: at.Seq}, chat.ErrEpoch, "another life"},
		{a, chat.Position{Epoch: at.Epoch ^ 1, Seq: 0}, chat.ErrEpoch, "the start of another life"},
		{a, chat.Position{Epoch: 0, Seq: at.Seq}, chat.ErrEpoch, "a sequence of no life"},
		{a, chat.Position{Epoch: at.Epoch, Seq: at.Seq + 1}, chat.ErrAhead, "the next one, which is not there yet"},
		{a, chat.Position{Epoch: at.Epoch, Seq: at.Seq + 100}, chat.ErrAhead, "beyond the end"},
		{tiny, chat.Position{}, chat.ErrTrimmed, "the start is gone"},
		{tiny, chat.Position{Epoch: trimmed.Epoch}, chat.ErrTrimmed, "the start of this life is gone"},
		{tiny, recs[0].Pos, chat.ErrTrimmed, "most of what followed is gone"},
		{tiny, trimmed, chat.ErrTrimmed, "one record after it is gone"},
	}
}

func readsFromTheTrim(p *logProbe) {
	l := p.tiny()
	var recs []chat.Record
	for i := range 100 {
		recs = append(recs, p.append(l, chat.Entry{ID: fmt.Sprint(i)}))
	}
	kept := 0
	for i, rec := range recs {
		page, err := p.tryRead(l, rec.Pos, 1000)
		switch {
		case errors.Is(err, chat.ErrTrimmed) && kept == 0:
		case err != nil:
			p.errorf("Read after the record %d: %v; %d pages before it were read", i, err, kept)
		default:
			kept++
			p.diff(fmt.Sprint("what follows the record ", i), recs[i+1:], page)
		}
	}
	if kept == 0 {
		p.errorf("nothing is kept, not even the end of the log")
	}
}
