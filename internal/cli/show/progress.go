package show

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Progress shows how far a transfer is: a bar on a terminal, a line every few seconds elsewhere. Its methods may be
// called from several goroutines.
type Progress struct {
	mu    sync.Mutex
	w     io.Writer
	label string
	quiet int64         // a total below this is not worth showing
	after time.Duration // what takes less is not worth showing
	now   func() time.Time

	total, done int64
	began, said time.Time
	bars        *mpb.Progress
	bar         *mpb.Bar
}

const sayEvery = 5 * time.Second

// NewProgress begins nothing yet; Total does. Totals below quiet bytes are not shown.
func NewProgress(w io.Writer, label string, quiet int64, now func() time.Time) *Progress {
	return &Progress{w: w, label: label, quiet: quiet, now: now}
}

// After makes it show nothing of what takes less than d.
func (p *Progress) After(d time.Duration) *Progress {
	p.after = d
	return p
}

// Total says how many bytes there are. Calling it again with another number begins anew.
func (p *Progress) Total(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total, p.done, p.began, p.said = n, 0, p.now(), time.Time{}
	switch {
	case n < p.quiet || p.after > 0:
	case Terminal(p.w):
		p.draw()
	default:
		p.say(Size(n))
	}
}

// say writes a line, draw begins a bar.
func (p *Progress) say(text string) {
	p.said = p.now()
	fmt.Fprintf(p.w, "%s %s\n", p.label, text)
}

func (p *Progress) draw() {
	p.bars = mpb.New(mpb.WithOutput(p.w), mpb.WithWidth(40))
	p.bar = p.bars.AddBar(p.total,
		mpb.PrependDecorators(decor.Name(p.label+" "), decor.CountersKiloByte("% .1f / % .1f")),
		mpb.AppendDecorators(decor.Percentage(), decor.Name("  "), decor.AverageETA(decor.ET_STYLE_GO)),
	)
	_ = p.bar.DecoratorAverageAdjust(p.began) // fails of a bar that is over
	p.bar.SetCurrent(p.done)
}

// Add says that n more bytes are through.
func (p *Progress) Add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	switch {
	case p.bar != nil:
		p.bar.IncrInt64(n)
	case p.total < p.quiet || p.now().Sub(p.began) < p.after:
	case Terminal(p.w):
		p.draw()
	case p.now().Sub(p.said) >= sayEvery:
		p.say(Size(p.done) + " of " + Size(p.total))
	}
}

// End takes the bar away, finished or not.
func (p *Progress) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		if !p.bar.Completed() {
			p.bar.Abort(true)
		}
		p.bars.Wait()
		p.bar, p.bars = nil, nil
	}
}
