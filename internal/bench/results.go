package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
)

// results is all that was measured.
type results struct {
	plan      plan
	workloads []workload
	all       map[string]map[string][]figure // by column, then rival: one a round
	missing   map[string]map[string]error    // by workload, then rival: why there is none
}

func (res *results) add(w workload, r *rival, s sheet, err error) {
	for key, f := range s {
		if res.all[key] == nil {
			res.all[key] = make(map[string][]figure)
		}
		res.all[key][r.name] = append(res.all[key][r.name], f)
	}
	if err != nil {
		if res.missing[w.name] == nil {
			res.missing[w.name] = make(map[string]error)
		}
		res.missing[w.name][r.name] = err
	}
}

// A summary is what the rounds of one measure give together.
type summary struct {
	median float64
	ratio  float64 // the median of the ratios to another rival's of the same round; 0: there is none
	void   bool    // in one round at least something was wrong
}

// of sums up a rival's rounds, and compares them with those of another. ok is false if it was not measured.
func (res *results) of(key, rival, to string) (sum summary, ok bool) {
	rounds, others := res.all[key][rival], res.all[key][to]
	if len(rounds) == 0 {
		return summary{}, false
	}
	var values, ratios []float64
	for i, f := range rounds {
		values = append(values, f.value)
		sum.void = sum.void || f.void != ""
		if i < len(others) && others[i].value > 0 {
			ratios = append(ratios, f.value/others[i].value)
		}
	}
	sum.median = median(values)
	if len(ratios) > 0 {
		sum.ratio = median(ratios)
	}
	return sum, true
}

func median(values []float64) float64 {
	slices.Sort(values)
	if n := len(values); n%2 == 0 {
		return (values[n/2-1] + values[n/2]) / 2
	}
	return values[len(values)/2]
}

// print prints a table for each workload, what was wrong below it, and the targets.
func (res *results) print(out io.Writer) {
	for _, w := range res.workloads {
		fmt.Fprintf(out, "### %s\n\n%s.\n\n| server |", w.name, strings.ToUpper(w.what[:1])+w.what[1:])
		for _, c := range w.columns {
			fmt.Fprintf(out, " %s |", c.head)
			if c.ratio {
				fmt.Fprintf(out, " × %s |", rivals[0].name)
			}
		}
		fmt.Fprint(out, "\n| --- |")
		for _, c := range w.columns {
			fmt.Fprint(out, " ---: |")
			if c.ratio {
				fmt.Fprint(out, " ---: |")
			}
		}
		fmt.Fprintln(out)
		var remarks []string
		for _, r := range rivals {
			row, more := res.row(w, r.name)
			fmt.Fprint(out, row)
			remarks = append(remarks, more...)
		}
		fmt.Fprintln(out)
		for _, remark := range remarks {
			fmt.Fprintf(out, "- %s\n", remark)
		}
		if len(remarks) > 0 {
			fmt.Fprintln(out)
		}
	}
	res.printTargets(out)
}

// row is a rival's line of a table, and the remarks that belong to it. Both are empty if it has no place in the table.
func (res *results) row(w workload, rival string) (row string, remarks []string) {
	err := res.missing[w.name][rival]
	if err != nil {
		remarks = append(remarks, fmt.Sprintf("%s: %v", rival, err))
	}
	measured := err != nil
	var void []string
	var b strings.Builder
	fmt.Fprintf(&b, "| %s |", rival)
	for _, c := range w.columns {
		sum, ok := res.of(c.key, rival, rivals[0].name)
		measured = measured || ok
		b.WriteString(" " + res.cell(c.format, sum.median, sum.void, ok, err) + " |")
		if c.ratio {
			b.WriteString(" " + res.cell("%.2f", sum.ratio, sum.void, ok && sum.ratio > 0, err) + " |")
		}
		for round, f := range res.all[c.key][rival] {
			if f.void != "" {
				void = append(void, fmt.Sprintf("%s round %d: %s", c.head, round+1, f.void))
			}
			if f.note != "" {
				remarks = append(remarks, fmt.Sprintf("%s: %s", rival, f.note))
			}
		}
	}
	if len(void) > 0 {
		remarks = append(remarks, fmt.Sprintf("%s is void: %s", rival, strings.Join(void, "; ")))
	}
	if !measured {
		return "", nil
	}
	return b.String() + "\n", remarks
}

func (res *results) cell(format string, value float64, void, ok bool, err error) string {
	switch {
	case ok && void:
		return "(" + fmt.Sprintf(format, value) + ")"
	case ok:
		return fmt.Sprintf(format, value)
	case errors.Is(err, errNotRun):
		return "not run"
	case err != nil:
		return "error"
	}
	return ""
}

// machine says what this ran on.
func machine(apart bool) string {
	model := "an unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(info), "model name\t: "); ok {
			model, _, _ = strings.Cut(rest, "\n")
		}
	}
	where := "server and driver on a processor each"
	if !apart {
		where = "server and driver on one processor: no figures to quote"
	}
	release := "?"
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		release = strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("%s, %d processors, Linux %s, %s; %s. In brackets: void, for the reason below.",
		model, runtime.NumCPU(), release, runtime.Version(), where)
}
