package control

import (
	"regexp"
	"unicode/utf8"
)

// nameForm is a form of names with their greatest length, in characters. A counted repetition in the expression would say the
// same, and take milliseconds of every start of the program.
type nameForm struct {
	form *regexp.Regexp
	most int
}

func newNameForm(form string, most int) nameForm { return nameForm{regexp.MustCompile(form), most} }

// MatchString tells whether a name has the form.
func (p nameForm) MatchString(name string) bool {
	return len(name) <= utf8.UTFMax*p.most && utf8.RuneCountInString(name) <= p.most && p.form.MatchString(name)
}
